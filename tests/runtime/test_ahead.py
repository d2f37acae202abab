import pytest

from jaxdesc.runtime.ahead import ahead


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_ahead_draws_one_more_than_it_hands_out(count):
    drawn, seen = [], []
    for item in ahead(drawn.append(i) or i for i in range(count)):
        seen.append(item)
        assert len(drawn) == min(len(seen) + 1, count)
    assert seen == drawn == list(range(count))
