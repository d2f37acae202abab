"""The table of localisation against maps and boxes taken one by one."""

import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.attention import attention_maps
from jaxdesc.evaluation.localisation import localisation
from jaxdesc.evaluation.statistics import bootstrap, paired
from jaxdesc.evidence import localisation as evidence
from jaxdesc.images.sources import open_source
from tests import plain_target

COUNT, SLOW = 12, 5
STUDY = evidence.Study(
    probes=tuple(f"scenes:split=probe,seed={seed},count={COUNT}" for seed in (7, 8)),
    slow=(1, SLOW),
)
MAPS = {"plain": ("grad_cam", "layer_cam", "score_cam"), "ViT": ("grad_cam", "class_attention")}


@pytest.fixture(scope="module")
def targets():
    plain = plain_target.plain_target(plain_target.parameters(neurons=32))
    return {"plain": plain, "ViT": jd.load_target("scenes:vit")}


@pytest.fixture(scope="module")
def table(targets, tmp_path_factory):
    return evidence.tables(tmp_path_factory.mktemp("maps"), STUDY, targets, MAPS)[0]


def looked(target, cam, sets, count):
    examples = [open_source(probe)[i] for probe in STUDY.probes[:sets] for i in range(count)]
    pixels = np.stack([target.preprocess.squash(example.image) for example in examples])
    maps, _ = attention_maps(target, target.preprocess.normalise(pixels), cam=cam)
    boxes = [example.box / np.tile(example.image.size, 2) for example in examples]
    return localisation(np.asarray(maps), np.array(boxes))


@pytest.mark.full
def test_rows_equal_maps_and_boxes(targets, table):
    assert [row[:2] for row in table.rows] == [(n, cam) for n, cams in MAPS.items() for cam in cams]
    for network, cam, *shares, pointing, energy, empty, images in table.rows:
        sets, count = (1, SLOW) if cam == "score_cam" else (2, COUNT)
        found, usual = (looked(targets[network], c, sets, count) for c in (cam, "grad_cam"))
        mapped = ~np.isnan(found.energy)
        for bounds, values in zip(
            shares, (found.pointing, found.energy[mapped], found.chance), strict=True
        ):
            np.testing.assert_allclose(bounds, bootstrap(values), atol=1e-5)
        assert (empty, images) == (1 - mapped.mean(), sets * count)
        if cam == "grad_cam":
            assert (pointing, energy) == (None, None)
            continue
        np.testing.assert_allclose(pointing, paired(found.pointing, usual.pointing), atol=1e-5)
        both = mapped & ~np.isnan(usual.energy)
        expected = paired(found.energy[both], usual.energy[both])
        np.testing.assert_allclose(energy, expected, atol=1e-5)


def test_a_map_that_does_not_suit_a_network_is_refused(targets, tmp_path):
    plain = {"plain": targets["plain"]}
    with pytest.raises(jd.InputError, match="offers no attention probabilities"):
        evidence.tables(tmp_path, STUDY, plain, {"plain": ("legrad",)})
