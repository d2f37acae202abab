"""Which engine is taken, as a function of sizes and of what a sample leaves."""

import pytest
from jaxdesc.scoring.cost import Left, Sizes

from jaxdesc.scoring import cost

NARROW = Left(0.004, 0.0001)


def share(left, **changes):
    """What screening takes of the full engine's time."""
    sizes = Sizes(1000, 40_000, 67_186, 512, 1, (40,))._replace(**changes)
    return cost.screened(sizes, (left,) * len(sizes.counts)) / cost.full(sizes)


@pytest.mark.parametrize("images", [4000, 10_000, 40_000])
@pytest.mark.parametrize("concepts", [20_000, 67_186])
@pytest.mark.parametrize("kappas", [1, 8])
@pytest.mark.parametrize("counts", [(40,), (10, 20, 40)])
def test_screening_pays_where_little_is_left(images, concepts, kappas, counts):
    assert share(NARROW, images=images, concepts=concepts, kappas=kappas, counts=counts) < 1


@pytest.mark.parametrize("images", [4000, 10_000, 40_000])
def test_it_does_not_pay_where_all_is_left(images):
    assert share(Left(1.0, 1.0), images=images) > 1


def test_it_does_not_pay_where_concepts_are_few():
    assert share(Left(0.0, 0.0), concepts=200) > 1  # exemplars are summarised all the same


def test_more_left_costs_more():
    for changes in ({}, {"counts": (10, 40)}, {"images": 4000}):
        shares = [share(Left(x, x / 10), **changes) for x in (0, 0.001, 0.01, 0.1, 1)]
        assert shares == sorted(shares)


def test_a_closer_look_pays_for_many_pairs_alone():
    sizes = Sizes(1000, 40_000, 67_186, 512, 1, (40,))
    assert not cost.closer_pays(sizes, 40, 1000)
    assert cost.closer_pays(sizes, 40, 1_000_000)
