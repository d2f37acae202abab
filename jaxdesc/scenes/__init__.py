"""The embedded world: rendered scenes with known truth, and the networks trained on them.

It needs no download: the renderer is seeded, and the trained networks ship with the package in the
formats that real ones come in (`networks/target`: timm's `config.json` and torchvision's tensor
names; `networks/clip` and `networks/vit`: Hugging Face folders of a CLIP and of a ViT). It enters
the library through the registries, as any other data does; importing this module registers it.
"""

from collections.abc import Sequence
from pathlib import Path

from jaxdesc.images.example import Source
from jaxdesc.images.sources import SOURCES
from jaxdesc.models.source import PACKAGED
from jaxdesc.vocabulary.vocabulary import VOCABULARIES

NETWORKS = Path(__file__).parent / "networks"


def _source(options: str) -> Source:
    from jaxdesc.scenes.source import Scenes

    return Scenes(options)


def _vocabulary() -> Sequence[str]:
    from jaxdesc.scenes.captions import vocabulary

    return vocabulary()


SOURCES["scenes"] = _source
VOCABULARIES["scenes"] = _vocabulary
PACKAGED["scenes"] = NETWORKS
