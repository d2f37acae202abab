"""Latents that fire on few images: named by these, or flagged."""

import numpy as np
import pytest

from jaxdesc.evidence import sparse
from jaxdesc.evidence.sparse import CODES, FLOORS, Study, tables

STUDY = Study(classes=25, fires=(3, 20), concepts=500)


@pytest.fixture(scope="module")
def table():
    (found,) = tables("unused", STUDY)
    assert len(found.rows) == len(CODES) * len(FLOORS) * len(STUDY.fires)
    return found


@pytest.mark.full
def test_labels_are_right_or_flagged_in_any_order_of_images(table):
    unflagged = []
    for code, floor, fires, latents, right, known, wrong in table.rows:
        assert latents == 50  # in two orders
        assert known.mean >= 0.95, (code, floor, fires)
        if fires == 20 and floor != "noise":
            assert right.mean >= 0.95, (code, floor, fires)
        unflagged.append(wrong.mean)
    assert np.mean(unflagged) <= 0.01


@pytest.mark.full
def test_noise_that_is_never_tied_leaves_strange_exemplars_and_a_flag(table):
    for code in {row[0] for row in table.rows}:
        where = {"code": code, "floor": "noise", "fires on": 3}
        assert table.at("right", **where).mean < 0.4
        assert table.at("right or flagged", **where).mean == 1


def test_codes_are_what_they_are_called():
    labels = np.arange(1250) // 50
    for code in CODES:
        values = sparse._latents(STUDY, code, "none", 5, labels)
        assert ((values > 0).sum(axis=0) == 5).all()
        assert all(set(labels[column > 0]) == {i} for i, column in enumerate(values.T))
        assert (values.min() < 0) == (code == "signed")
        noisy = sparse._latents(STUDY, code, "noise", 5, labels)
        np.testing.assert_array_equal(noisy[values != 0], values[values != 0])
        assert 0 < np.abs(noisy[values == 0]).max() < 1e-5
        constant = sparse._latents(STUDY, code, "constant", 5, labels)
        assert set(constant[values == 0]) == {np.float32(1e-6)}
