"""The tables of windows of units against runs of their own."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.attention import attention_maps
from jaxdesc.config import Config
from jaxdesc.evaluation.statistics import bootstrap, paired
from jaxdesc.evidence import units
from jaxdesc.evidence.world import SETTING
from jaxdesc.images.sources import open_source
from jaxdesc.models.taps import recorded
from tests.evidence.conftest import PHRASES

PROBES = tuple(f"scenes:split=probe,seed={seed},count=48" for seed in (6, 7))
FIELD, FEW = 0.65, ("class", "unit", "unit and whole image")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "WINDOWS", {name: units.WINDOWS[name] for name in FEW})
        return units.tables(
            tmp_path_factory.mktemp("units"),
            worlds={"probe": PROBES},
            networks={"classes": "scenes"},
            fields=(FIELD,),
        )


def hits(**options):
    """Share of probe sets on which each class is among its neuron's concepts."""
    right = []
    target, clip = jd.load_target("scenes"), jd.load_clip("scenes")
    for probe in PROBES:
        found = jd.describe(
            target, clip, images=probe, concepts=PHRASES, config=SETTING, quiet=True, **options
        )
        right.append([bool({t for t, _ in n.concepts} & set(n.names)) for n in found])
    return np.mean(right, axis=0)


@pytest.mark.full
def test_rows_are_runs_of_their_own(tables):
    windows, gaps = tables
    assert len(windows.rows) == (len(FEW) + 1) * len(units.KAPPAS)
    own, whole = hits(of="unit", view="attention"), hits(view="full")
    row = {"world": "probe", "network": "classes", "kappa": 16.0}
    for window, field, values in (("unit", FIELD, own), ("whole image", None, whole)):
        cell = windows.at("all", window=window, field=field, **row)
        np.testing.assert_allclose(cell, bootstrap(values), atol=1e-6)
    gap = gaps.at("− whole image", window="unit", field=FIELD, **row)
    np.testing.assert_allclose(gap, paired(own, whole), atol=1e-6)
    assert gaps.at("− class", window="class", field=FIELD, **row) is None


def test_kinds_of_windows_are_configs():
    assert set(units.NETWORKS) == {"attributes", "sparse", "classes", "ViT"}
    for changes in units.WINDOWS.values():
        Config.from_dict(changes)
    assert not set(units.WORLDS["validation"]) & set(units.WORLDS["probe"])


def test_sparse_units_fire_on_few_images():
    """They are the attribute network's logits of a cell, cut at a threshold of each unit."""
    network = jd.load_target("scenes:attributes")
    images = "scenes:split=validation,seed=4,count=40"
    found = units.sparse(network, images)
    assert found.shapes["latents"] == (*network.shapes["layer4"][:2], 60)
    source = open_source(images)
    views = np.stack([network.preprocess.squash(source[index].image) for index in range(40)])
    activations = np.asarray(found.logits(views))
    assert ((activations > 0).sum(axis=0) == 2).all()  # 5 % of 40
    pixels = jnp.asarray(network.preprocess.normalise(views[:3]))
    _, values = recorded(network.apply, network.params, pixels, ["layer4"])
    maps = np.asarray(values["layer4"])
    kernel = np.asarray(network.params["fc"]["kernel"][...], np.float64)
    cells = np.moveaxis(np.float64(maps) @ kernel, 0, 2)
    wanted = np.maximum(cells - found.params["threshold"], 0).max(axis=(0, 1))
    np.testing.assert_allclose(activations[:3], wanted, rtol=1e-4, atol=1e-4)
    # The map of a unit is its own.
    image, unit = np.unravel_index(wanted.argmax(), wanted.shape)
    map_, _ = attention_maps(found, views[image : image + 1], np.array([unit]))
    expected = np.maximum(cells[..., image, unit] - found.params["threshold"][unit], 0)
    np.testing.assert_allclose(
        np.asarray(map_)[0] / map_.max(), expected / expected.max(), atol=1e-4
    )
