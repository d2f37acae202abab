"""ResNet-50's 1,000 class neurons on ImageNet's validation set, named from WordNet.

    python -m launch.describe --config=configs/resnet50_imagenet.py --workdir=out/resnet50

torchvision's V2 weights, CLIP ViT-B/32 to discover, ViT-B/16 and all-mpnet-base-v2 to judge, each
by its Hugging Face id; a local folder in its place, as `--config.target.source=FOLDER`, needs no
network. Images: the TFDS set `imagenet2012` (see BUILD.md), or `folder:PATH` with
`--config.images.source`. WordNet 3.0 must be installed, which names the classes too. Not run yet on
the real weights, which were not available; the paper's own numbers for it are
Hit Rate 69.8 and F1 45.77 (`configs/paper.py` puts measured and printed side by side).
"""

from ml_collections import ConfigDict

from jaxdesc.config import Config


def get_config() -> ConfigDict:
    """Build the paper's method at full size."""
    config = ConfigDict(Config().to_dict())
    config.target.classes = "imagenet"
    config.images.source = "tfds:imagenet2012/validation"
    config.vocabulary.source = "wordnet"
    return config
