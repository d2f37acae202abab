import numpy as np
import pytest

from jaxdesc.benchmark.features import KINDS, concepts, lifted, made_up, resampled, unit


def mean_cosine(arrays):
    """Between different exemplars of a neuron."""
    views = arrays.images[arrays.exemplars].astype(np.float64)
    pairs = np.einsum("nof,npf->nop", views, views)
    return pairs[:, ~np.eye(views.shape[1], dtype=bool)].mean()


def test_features_are_unit_vectors_of_their_kinds():
    texts, base = concepts(500, 512)
    cosine = {}
    for kind in KINDS:
        arrays = made_up(kind, texts, base, neurons=20, exemplars=10, images=200)
        assert arrays.exemplars.shape == (20, 10)
        assert 120 <= len(arrays.images) <= 200
        assert 0 <= arrays.exemplars.min() <= arrays.exemplars.max() < len(arrays.images)
        for features in (arrays.images, arrays.texts, arrays.base[None]):
            np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
        cosine[kind] = mean_cosine(arrays)
    assert cosine["narrow"] > cosine["mixed"] > cosine["wide"] > cosine["random"]
    assert cosine["random"] == pytest.approx(0, abs=0.02)


def test_narrow_features_have_the_cosines_of_a_pretrained_clip():
    texts, base = concepts(2000, 512)
    arrays = made_up("narrow", texts, base, neurons=50, exemplars=20, images=1000)
    assert 0.6 < mean_cosine(arrays) < 0.8
    between = arrays.images[::20] @ arrays.images[::20].T
    assert 0.3 < between[np.triu_indices(50, 1)].mean() < 0.6
    to_texts = arrays.images @ texts.T
    assert 0.1 < to_texts.mean() < 0.25
    assert 0.2 < to_texts.max(axis=1).mean() < 0.4
    # Neurons share classes where images are few.
    few = made_up("narrow", texts, base, neurons=20, exemplars=10, images=50)
    assert len(few.images) <= 50
    assert mean_cosine(few) > 0.6


def test_resampled_features_have_the_same_mean_and_covariance():
    given, _ = concepts(3000, 16)
    texts, base = resampled(given, 20_000)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(base, unit(given.mean(axis=0)), atol=1e-6)
    np.testing.assert_allclose(texts.mean(axis=0), given.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(np.cov(texts.T), np.cov(given.T), atol=0.01)


def test_lifted_features_have_the_same_cosines():
    texts, _ = concepts(30, 24)
    wide = lifted(texts, 64)
    assert wide.shape == (30, 64)
    np.testing.assert_allclose(wide @ wide.T, texts @ texts.T, atol=1e-6)
