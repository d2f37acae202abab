"""launch.plan on this machine's CPU, and what it refuses."""

import re

import pytest

FLAGS = {"config": "scenes", "devices": "cpu", "images": 128, "config.images.batch": "auto"}


@pytest.mark.full
def test_a_plan_for_this_machine(command, tmp_path):
    page = tmp_path / "scale.md"
    page.write_text("before\n<!-- plan float32 -->\n<!-- end -->\nafter\n")
    code, printed, _ = command("plan", FLAGS | {"page": page, "cores": 4}, "--quiet")
    assert not code, printed
    for stage in ("activate: attention maps", "embed: image tower", "words: CLIP judge"):
        assert re.search(rf"^\| {stage}", printed, re.MULTILINE), stage
    assert "host, 4 cores" in printed
    assert re.search(r"The run takes at least [\d.]+ \w+, with the full engine", printed)
    assert re.search(r"fits: images\.batch [\d,]+, clip\.batch [\d,]+\.", printed)
    assert (
        page.read_text()
        == f"before\n<!-- plan float32 -->\n\n{printed.strip()}\n\n<!-- end -->\nafter\n"
    )


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"devices": "v9"}, "Unknown device 'v9': expected cpu or one of v4, v5e, v5p, v6e, h100"),
        ({"devices": "v5e:2x4"}, "The compiler for TPU v5e is not installed: run pip install"),
        ({"devices": "cpu", "page": "/nowhere/scale.md"}, "/nowhere/scale.md can't be read"),
        ({}, "--devices is missing: expected some of cpu, v4"),
    ],
)
def test_what_it_refuses(command, flags, sentence):
    code, _, error = command("plan", {"config": "scenes", **flags})
    assert code == 2
    assert error.startswith(f"error: {sentence}")
    assert error.count("\n") == 1
