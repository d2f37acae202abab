"""Tables: looking cells up, JSON and back."""

import json

import pytest

from jaxdesc.evaluation.statistics import Bounds
from jaxdesc.evidence.table import Table

TABLE = Table(
    "sizes",
    ("view", "kappa", "Hit Rate", "p"),
    (("centre", 0.0, Bounds(0.5, 0.4, 0.6), None), ("centre", 16.0, Bounds(0.7, 0.6, 0.8), 0.01)),
)


def test_a_cell_is_found_by_the_others_of_its_row():
    assert TABLE.at("Hit Rate", view="centre", kappa=16.0) == Bounds(0.7, 0.6, 0.8)
    assert TABLE.at("p", kappa=0.0) is None


@pytest.mark.parametrize(("where", "count"), [({"view": "centre"}, 2), ({"kappa": 1.0}, 0)])
def test_one_row_must_fit(where, count):
    with pytest.raises(ValueError, match=f"^{count} rows of table 'sizes' have .*, not one.$"):
        TABLE.at("p", **where)


def test_rows_have_a_cell_for_each_column():
    with pytest.raises(ValueError, match="a row of table 'sizes' has 1 cells, but there are 2 col"):
        Table("sizes", ("view", "p"), (("centre",),))


def test_json_gives_it_back():
    assert Table.from_dict(json.loads(json.dumps(TABLE.to_dict()))) == TABLE
