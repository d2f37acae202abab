"""Every program of a run, compiled at full size, against its checks and its recorded numbers."""

import pytest

from tests.compiled import cases, checks

# Compiled by `make test` too: those that take a second or two.
QUICK = {
    *("v5e float32 score (pairs): cosines", "v5e float32 score (pairs): scores"),
    *("v5e float32 certainty: nearest", "v5e:2x4 float32 score (screened): a block of concepts"),
    *("h100 float32 score (full): a block of concepts", "h100 bfloat16 activate: activations"),
    *("h100 float32 certainty: random sets", "h100 float32 certainty: scores"),
}
RECORDED = cases.golden()["programs"]


@pytest.mark.full
def test_every_program_is_recorded():
    assert [case.title for case in cases.cases()] == list(RECORDED)


@pytest.mark.parametrize(
    "title",
    [pytest.param(t, marks=() if t in QUICK else pytest.mark.full) for t in RECORDED],
)
def test_a_program(title):
    case = next(case for case in cases.cases() if case.title == title)
    program, compiled, chip = case.compiled()
    checks.check(program, compiled, chip, bfloat16=case.precision == "bfloat16")
    same = cases.golden()["versions"] == cases.versions()
    checks.is_as_recorded(checks.per_item(program, compiled), RECORDED[title], same)


@pytest.mark.full
@pytest.mark.parametrize("device", ["v5e", "v5e:2x4", "h100"])
def test_no_program_is_compiled_twice(device):
    checks.are_different(list(cases.listed(device, "bfloat16").values()))
