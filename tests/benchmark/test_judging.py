"""The benchmark of judging on a small problem: it compares with NumPy as it goes."""

from jaxdesc.benchmark.judging import judging


def test_a_small_problem():
    table = judging(concepts=60, width=16, count=20, images=400)
    assert table.sizes["measures"] == 5
    assert set(table.seconds) >= {"all measures", "best of the vocabulary", "linear explanations"}
    assert table.facts["mean held-out correlation, linear explanations"] > 0.5
