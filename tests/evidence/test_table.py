import json

import numpy as np
import pytest

from jaxdesc.evaluation.statistics import Bounds, bootstrap, mcnemar, paired
from jaxdesc.evidence.table import Table, differences, means

ROWS = (("a", 0.5, Bounds(1, 0.25, 2), 3), ("b", 0.5, None, 4))
TABLE = Table("t", ("name", "share", "mean", "count"), ROWS)


def test_a_table_goes_through_json():
    assert Table.from_dict(json.loads(json.dumps(TABLE.to_dict()))) == TABLE


def test_a_cell_is_found_by_its_row():
    assert TABLE.at("count", name="b", share=0.5) == 4
    with pytest.raises(ValueError, match="0 rows of table 't' have"):
        TABLE.at("count", name="c")
    with pytest.raises(ValueError, match="2 rows of table 't' have"):
        TABLE.at("count", share=0.5)


def test_neurons_are_averaged_over_probe_sets_first(rng):
    first, second = (
        [{"hit": rng.integers(0, 2, 9) * 1.0, "f1": rng.random(9)} for _ in range(3)]
        for _ in range(2)
    )
    averaged = [
        [np.mean([values[kind] for values in side], axis=0) for kind in ("hit", "f1")]
        for side in (first, second)
    ]
    assert means(first) == tuple(map(bootstrap, averaged[0]))
    *gaps, p = differences(first, second)
    assert gaps == list(map(paired, *averaged))
    assert p == mcnemar(first[0]["hit"] > 0, second[0]["hit"] > 0).p
    assert differences(first, first) == (None, None, None)
