"""Latents of dictionaries, packed: what a run of them finds is what a dense layer's gives."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.attention.units import NOWHERE
from jaxdesc.exemplars import exemplars
from jaxdesc.models.dictionary import Coding, Dictionary
from jaxdesc.pipeline import describe, describe_each
from jaxdesc.stages import latents
from jaxdesc.stages.latents import (
    Packer,
    activations_of,
    are_packed,
    packed_blocks,
    packed_peaks,
)
from tests import plain_target
from tests.album import Album
from tests.runs import CONFIG, IMAGES, SIX, artifact, begin, changed


class Damaged(Album):
    """Two of its pictures can't be used."""

    def __getitem__(self, index):
        if index in (3, 17):
            raise jd.UnusableImage("is damaged")
        return super().__getitem__(index)


LATENTS = 40
LAYER = "patches/sae"
OF_SAE = changed(CONFIG, target={"layer": LAYER})


def dictionary(width=10):
    """Some latents fire often, some seldom, some never, and one always."""
    rng = np.random.default_rng(3)
    encoder = rng.normal(size=(width, LATENTS)).astype(np.float32)
    bias = (-0.5 + rng.uniform(-1.5, 0.5, LATENTS)).astype(np.float32)
    bias[0], bias[1] = 20, -100
    params = {"W_enc": encoder, "b_enc": bias, "W_dec": encoder.T}
    return Dictionary(Coding("relu"), params | {"b_dec": np.zeros(width, np.float32)})


@pytest.fixture(params=["one block", "several"])
def target(request, monkeypatch):
    """A network with latents, whose shards are read in one block, or one by one."""
    if request.param == "several":
        monkeypatch.setattr(latents, "_ROWS", 1)
    return plain_target.plain_target(classes=SIX).with_dictionary("patches", dictionary())


def dense(target):
    """The same network, its latents taken for any channels."""
    return replace(target, sparse=())


def unpacked(activated):
    blocks = [block.toarray() for _, block in packed_blocks(activated)]
    return np.concatenate(blocks)


def both(tmp_path, target, clip, config, source=None):
    """Results of a run of packed latents, and of one of dense channels with the same options."""
    source = source or Album(IMAGES)
    sparse = begin(tmp_path / "sparse", config, target, clip, source)
    options = {"target": {"pooling": sparse.config.target.pooling, "kept": 0}}
    options |= {"crop": {"of": sparse.config.crop.of, "rank": sparse.config.crop.rank}}
    whole = begin(tmp_path / "dense", changed(config, **options), dense(target), clip, source)
    return describe(sparse), describe(whole)


def test_latents_have_defaults_of_their_own(target, clip, tmp_path):
    run = begin(tmp_path, OF_SAE, target, clip, Album(IMAGES))
    crop = run.config.crop
    assert (run.config.target.pooling, crop.of, crop.rank) == ("max", "unit", "image")
    mixed = changed(CONFIG, target={"layers": ("patches", LAYER)})
    run = begin(tmp_path, mixed, target, clip, Album(IMAGES))
    crop = run.config.crop
    assert (run.config.target.pooling, crop.of, crop.rank) == ("mean", "class", "window")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"crop": {"rank": "window"}},
        {"crop": {"of": "class"}, "target": {"pooling": "mean"}},
        {"crop": {"view": "centre"}},
    ],
)
def test_a_run_finds_what_a_dense_one_finds(options, target, clip, tmp_path):
    """Two of the images can't be used."""
    source = Damaged(IMAGES)
    config = changed(OF_SAE, images={"max_skipped": 0.2}, **options)
    one, other = both(tmp_path, target, clip, config, source)
    assert one.neurons == other.neurons
    flags = {flag for neuron in one for flag in neuron.flags}
    assert {"dead", "few exemplars"} <= flags
    if config.crop.view == "attention" and not options.get("crop", {}).get("of"):
        assert len({e.box for neuron in one for e in neuron.exemplars}) > 5


def test_stored_latents_are_the_activations(target, clip, tmp_path):
    config = changed(OF_SAE, crop={"view": "centre"})
    result = describe(begin(tmp_path, config, target, clip, Album(IMAGES)))
    plain = begin(tmp_path / "dense", config, dense(target), clip, Album(IMAGES))
    plain.config = changed(plain.config, target={"pooling": "max"})
    expected = artifact(tmp_path / "dense", describe(plain), "activate").read("activations")
    stored = artifact(tmp_path, result, "activate")
    np.testing.assert_array_equal(unpacked(stored), expected)
    np.testing.assert_array_equal(activations_of(stored, [3, 0]), expected[:, [3, 0]])
    assert are_packed(stored)
    assert "activations" not in stored
    few = exemplars(expected, 5)
    for name, values in few._asdict().items():
        np.testing.assert_array_equal(artifact(tmp_path, result, "select").read(name), values)


def test_only_the_largest_are_kept(target, clip, tmp_path):
    whole = describe(begin(tmp_path / "all", OF_SAE, target, clip, Album(IMAGES)))
    config = changed(OF_SAE, target={"kept": 3})
    result = describe(begin(tmp_path / "few", config, target, clip, Album(IMAGES)))
    every, kept = (
        unpacked(artifact(tmp_path / name, found, "activate"))
        for name, found in (("all", whole), ("few", result))
    )
    assert (kept > 0).sum(axis=1).max() == 3
    assert not [note for note in whole.notes if "config.target.kept" in note]
    (note,) = (note for note in result.notes if "config.target.kept" in note)
    assert note.startswith(f"of {((kept > 0).sum(axis=1) == 3).sum()} images only the 3 largest")
    for row, few in zip(every, kept, strict=True):
        largest = np.argsort(-row, kind="stable")[:3]
        np.testing.assert_array_equal(few, np.where(np.isin(np.arange(LATENTS), largest), row, 0))


@pytest.mark.parametrize("most", [0, 4])
def test_packing(most, monkeypatch):
    """Images have up to 12 latents, and 2 are packed at first."""
    monkeypatch.setattr(latents, "FIRST", 2)
    rng = np.random.default_rng(0)
    values = np.where(rng.random((7, 30)) < 0.2, rng.normal(size=(7, 30)), 0).astype(np.float32)
    values[2], values[3, :12] = 0, 1 + np.arange(12)
    peaks = rng.integers(0, 49, values.shape).astype(np.uint16)
    packer, used = Packer(most), np.array([True] * 5 + [False])  # the last image is padding
    dense = jnp.asarray(values), jnp.asarray(peaks)
    for _ in range(2):  # the second time there are slots enough
        found = packer.finish(packer.start(*dense), *dense, used)
        place = 0
        for row, count in enumerate(found.counts):
            above = np.flatnonzero(values[row] > 0)
            if most:
                above = np.sort(above[np.argsort(-values[row, above], kind="stable")][:most])
            above = above if used[row] else above[:0]
            own = slice(place, place + count)
            np.testing.assert_array_equal(found.latents[own], above)
            np.testing.assert_array_equal(found.values[own], values[row, above])
            np.testing.assert_array_equal(found.peaks[own], peaks[row, above])
            place += count
        assert place == len(found.latents)
    assert packer.slots == (4 if most else 16)


def test_peaks_of_pairs(target, clip, tmp_path):
    result = describe(begin(tmp_path, OF_SAE, target, clip, Album(IMAGES)))
    stored = artifact(tmp_path, result, "activate")
    matrix = unpacked(stored)
    images, units = (grid.ravel() for grid in np.indices(matrix.shape))
    order = np.random.default_rng(0).permutation(len(images))
    found = np.empty(len(images), np.uint16)
    found[order] = packed_peaks(stored, images[order], units[order])
    np.testing.assert_array_equal(found == NOWHERE, matrix.ravel() == 0)
    whole = begin(tmp_path / "dense", OF_SAE, dense(target), clip, Album(IMAGES))
    whole.config = changed(whole.config, target={"pooling": "max"}, crop={"of": "unit"})
    peaks = artifact(tmp_path / "dense", describe(whole), "activate").read("peaks")
    np.testing.assert_array_equal(found.reshape(matrix.shape)[matrix > 0], peaks[matrix > 0])


def test_one_pass_for_channels_and_latents(target, clip, tmp_path):
    config = changed(CONFIG, target={"layers": ("patches", LAYER)})
    each = describe_each(begin(tmp_path / "both", config, target, clip, Album(IMAGES)))
    found = {part.config.target.layer: result for part, result in each}
    for layer, result in found.items():
        options = {"layer": layer, "pooling": "mean"}
        one = changed(CONFIG, target=options, crop={"of": "class", "rank": "window"})
        alone = describe(begin(tmp_path / "alone", one, target, clip, Album(IMAGES)))
        assert alone.neurons == result.neurons
        assert alone.fingerprints == result.fingerprints


@pytest.mark.parametrize(("bias", "share"), [(50, "100%"), (-500, "0%")])
def test_latents_of_another_layer_are_doubted(bias, share, clip, tmp_path, capsys):
    other = dictionary()
    other.params["b_enc"][:] = bias
    network = plain_target.plain_target(classes=SIX).with_dictionary("patches", other)
    describe(begin(tmp_path, OF_SAE, network, clip, Album(IMAGES)))
    assert f"doubt: {share} of the latents of {LAYER} are above zero" in capsys.readouterr().err


def test_latents_that_are_not_finite_are_refused(clip, tmp_path):
    broken = dictionary()
    broken.params["b_enc"][5] = np.inf
    target = plain_target.plain_target(classes=SIX).with_dictionary("patches", broken)
    with pytest.raises(jd.InputError, match="gives NaN or infinity"):
        describe(begin(tmp_path, OF_SAE, target, clip, Album(IMAGES)))
