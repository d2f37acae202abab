"""Presence of concepts by truth, by labels and WordNet, and by an encoder."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from jaxdesc.evaluation.judging import presence as module
from jaxdesc.evaluation.judging.presence import (
    PUBLISHED,
    by_labels,
    by_scorer,
    by_truth,
    fitted,
    sigmoid_of,
)

CLASSES = (("tabby", "tabby cat"), ("beagle",), ("crane", "bird"))
WNIDS = ("n02123045", "n02088364", "n02012849")
SYNSETS = {
    "n1": ("cat", "true cat"), "n2": ("dog",), "n3": ("animal", "beast"),
    **dict(zip(WNIDS, CLASSES, strict=True)),
}  # fmt: skip
ABOVE = {"n02123045": ("n1",), "n02088364": ("n2",), "n1": ("n3",), "n2": ("n3",)}


@pytest.fixture
def wordnet(monkeypatch):
    monkeypatch.setattr(module.wordnet, "noun_synsets", lambda: SYNSETS)
    monkeypatch.setattr(module.wordnet, "hypernyms", lambda: ABOVE)


def test_labels_know_classes_and_their_hypernyms(wordnet):
    presence = by_labels(np.array([0, 1, -1, 0, 9]), CLASSES, WNIDS)
    assert presence.known.tolist() == [True, True, False, True, False]
    rows = presence.of(["Tabby Cat", "dog", "animal", "true_cat", "crane", "striped"])
    assert rows[:4].tolist() == [[1, 0, 1], [0, 1, 0], [1, 1, 1], [1, 0, 1]]
    assert np.isnan(rows[4:]).all()  # a class without images, and what no class is called


def test_labels_without_wordnet_know_classes_alone():
    presence = by_labels(np.array([0, 1]), CLASSES)
    assert presence.of(["beagle"]).tolist() == [[0, 1]]
    assert np.isnan(presence.of(["dog"])).all()


def test_truth_that_no_image_shows_can_not_be_judged():
    rows = np.array([[1, 0, 1], [0, 0, 1], [np.nan] * 3], np.float32)
    presence = by_truth(lambda concepts: rows, np.array([True, True, False]))
    assert presence.of(["a", "b", "c"])[0].tolist() == [1, 0]
    assert np.isnan(presence.of(["a", "b", "c"])[1:]).all()


def test_a_scorer_encodes_each_concept_once():
    asked = []

    def encode(texts):
        asked.append(list(texts))
        return np.eye(2, dtype=np.float32)[[len(text) % 2 for text in texts]]

    presence = by_scorer(np.eye(2, dtype=np.float32), encode, PUBLISHED)
    presence.of(["a", "bb", "a"])
    rows = presence.of(["bb", "c"])
    assert asked == [["a", "bb"], ["c"]]
    np.testing.assert_allclose(rows, [expit([43.5, -14.5]), expit([-14.5, 43.5])], atol=1e-6)


def test_a_sigmoid_is_fitted_to_labels():
    rng = np.random.default_rng(0)
    labels = rng.integers(20, size=3000)
    cosines = rng.normal(0.2, 0.03, size=(3000, 20)).astype(np.float32)
    cosines[np.arange(3000), labels] += 0.06
    found = fitted(cosines, labels)
    # The log-odds of two normal distributions of one width are linear in the cosine.
    a = 0.06 / 0.03**2
    b = -(0.2 + 0.03) + np.log(1 / 19) / a
    assert found.a == pytest.approx(a, rel=0.05)
    assert found.b == pytest.approx(b, abs=0.003)
    same, far = found(np.array([0.4, 0.0], np.float32))
    assert same > 0.999 > 0.001 > far


def test_where_chances_come_from(clip):
    features, labels = np.eye(3, dtype=np.float32), np.array([0, 1, -1])
    siglip = replace(clip, logit_scale=100.0, logit_bias=-10.0)
    assert sigmoid_of(siglip, features, labels, None) == ((100.0, -0.1), ())
    clip = replace(clip, logit_bias=None)
    found, (note,) = sigmoid_of(clip, features, labels, np.eye(3, dtype=np.float32))
    assert found != PUBLISHED
    assert "fitted on 2 labelled images" in note
    found, (note,) = sigmoid_of(clip, features, np.array([-1] * 3), None)
    assert found == PUBLISHED
    assert "no image has a label" in note
