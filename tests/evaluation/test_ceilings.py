"""The vocabularies' ceilings that the method states, from the real vocabularies and names."""

import numpy as np
import pytest

from jaxdesc.evaluation.metrics import ceilings
from jaxdesc.vocabulary import wordnet
from jaxdesc.vocabulary.vocabulary import load_classes, load_vocabulary
from tests import noun_file
from tests.reference import metrics as reference
from tests.vocabulary.test_vocabulary import BRODEN

# Hit Rate and F1 in percent; method: Metrics, Ceiling.
STATED = {
    ("broden", "www"): (12.2, 9.1),
    ("wordnet", "www"): (100.0, 73.4),
    ("wordnet", ""): (100.0, 82.6),
    ("imagenet", ""): (100.0, 100.0),
}


@pytest.fixture(autouse=True)
def labels(tmp_path, monkeypatch):
    """The file of Broden's labels; where it or WordNet is absent, both are made up."""
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    if wordnet._DEBIAN.exists() and BRODEN.exists():
        return BRODEN
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    noun_file.write_imagenet(tmp_path / "data.noun")
    (tmp_path / "labels.txt").write_text("kind 0\nbird\nkind 3\nkind 3\nclass 5\n")
    return tmp_path / "labels.txt"


@pytest.mark.parametrize(("vocabulary", "compat"), STATED)
def test_ceilings_are_those_that_the_method_states(vocabulary, compat, labels):
    spec = f"broden:{labels}" if vocabulary == "broden" else vocabulary
    concepts, names = load_vocabulary(spec, compat).concepts, load_classes("imagenet")
    found = ceilings(concepts, names, {}).estimates
    percent = tuple(round(100 * found[metric].mean, 1) for metric in ("hit", "f1"))
    if labels == BRODEN:
        assert percent == STATED[vocabulary, compat]
    # And for some classes by trying every selection.
    some = [0, 1, 133, 134, 517, *range(800, 1000, 20)]
    wanted = reference.ceilings(list(concepts), [list(names[index]) for index in some])
    values = ceilings(concepts, [names[index] for index in some], {}).values
    for metric, expected in zip(("hit", "f1"), wanted, strict=True):
        np.testing.assert_allclose(values[metric], expected, atol=1e-12)
