"""The vocabularies' ceilings that the method states, from the real vocabularies and names."""

import pytest

from jaxdesc.evaluation.metrics import ceilings
from jaxdesc.vocabulary import wordnet
from jaxdesc.vocabulary.vocabulary import load_classes, load_vocabulary
from tests.vocabulary.test_vocabulary import BRODEN

# Hit Rate and F1 in percent; method: Metrics, Ceiling.
STATED = {
    (f"broden:{BRODEN}", "www"): (12.2, 9.1),
    ("wordnet", "www"): (100.0, 73.4),
    ("wordnet", ""): (100.0, 82.6),
    ("imagenet", ""): (100.0, 100.0),
}


@pytest.mark.skipif(
    not (wordnet._DEBIAN.exists() and BRODEN.exists()), reason="WordNet or Broden is absent"
)
@pytest.mark.parametrize(("vocabulary", "compat"), STATED)
def test_ceilings_are_those_that_the_method_states(vocabulary, compat, monkeypatch):
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    concepts, names = load_vocabulary(vocabulary, compat).concepts, load_classes("imagenet")
    found = ceilings(concepts, names, {}).estimates
    percent = tuple(round(100 * found[metric].mean, 1) for metric in ("hit", "f1"))
    assert percent == STATED[vocabulary, compat]
