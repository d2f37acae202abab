"""The paper's tables 1 and 2: both methods, three vocabularies, every combination in between.

    python -m launch.tables --config=configs/paper.py --workdir=out/paper

Needs what `configs/resnet50_imagenet.py` needs, and Broden's `label.csv` (NetDissect's data set) in
this folder; elsewhere, or without it:

    --config.ablation.vocabularies="('imagenet', 'broden:PATH', 'wordnet')"

WWW is centre views and the cosine, with CLIP looking at the whole image; the paper's method is
attention views and t-vMF, whose κ it does not state: 16 is t-vMF's own default. Duplicates stay in
the vocabularies, as in WWW. One pass over the images cuts both views. Expected numbers: those that
the tables print next to what is measured. Not run yet on the real weights.
"""

from ml_collections import ConfigDict

from jaxdesc.commands import configs


def get_config() -> ConfigDict:
    """Build the config of both tables."""
    config = configs.load("resnet50_imagenet")
    config.vocabulary.compat = "www"
    config.clip.input = "method"
    config.ablation.views = ("centre", "attention")
    config.ablation.kappas = (0.0, 16.0)
    config.ablation.vocabularies = ("imagenet", "broden:label.csv", "wordnet")
    return config
