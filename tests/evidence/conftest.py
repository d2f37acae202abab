import pytest

from jaxdesc.evidence import world
from jaxdesc.scenes import captions
from jaxdesc.scenes.attributes import NAMES
from jaxdesc.vocabulary.vocabulary import load_vocabulary

NEARLY = {"animal", "red cat", "cat on grass", "cat near a bush"}
KEPT = NEARLY.union(captions.vocabulary()[::25], *NAMES)
PHRASES = [text for text in captions.vocabulary() if text in KEPT]


@pytest.fixture(scope="module", autouse=True)
def _few_phrases():
    """Names and some other phrases of the embedded world; all 1,827 would take long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "load_vocabulary", lambda _: load_vocabulary(PHRASES))
        yield
