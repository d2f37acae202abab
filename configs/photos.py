r"""A folder of photos, your own target and CLIP: the paper's method.

    jaxdesc describe --config=photos --workdir=out/photos --config.images.source=folder:PHOTOS

PHOTOS holds at least as many images as exemplars are asked for. To choose the rest add

        --config.vocabulary.source=file:CONCEPTS.txt \
        --config.target.source=RESNET50 --config.clip.source=CLIP_VIT_B_32

Without, the concepts are WordNet's. RESNET50 is a Hugging Face id such as timm/resnet50.tv2_in1k
(the default), a folder of that form, or torchvision's resnet50-11ad3fa6.pth; CLIP_VIT_B_32 is
openai/clip-vit-base-patch32 (the default) or a Hugging Face folder. An id is pinned with
`--config.target.revision=` and `--config.clip.revision=`. That CLIP is the judge too, and there is
no sentence cosine, unless `config.evaluation` names others. For WWW instead of the paper's method
add

        --config.crop.view=centre --config.score.kappa=0 --config.clip.input=image
"""

from ml_collections import ConfigDict

from jaxdesc.config import Config


def get_config() -> ConfigDict:
    """Build the paper's config: attention views, t-vMF, 40 exemplars, α = 0.95."""
    config = ConfigDict(Config().to_dict())
    config.vocabulary.source = "wordnet"
    config.evaluation.scorer = config.evaluation.sentence = ""
    return config
