"""Every kind of bad input: one exact sentence, and nothing else.

The rows are in the modules `images` to `calls`, one per case: its name, a function that makes the
input and gives it to the library or to a script, and the whole message.
"""

import os
import subprocess
import sys

import jaxtyping
import pytest

import jaxdesc as jd
from tests.conftest import ROOT
from tests.faults import calls, choices, images, networks, weights, words
from tests.faults.place import PHOTOS, Place, agrees

TABLES = (images, words, choices, networks, weights, calls)
CASES = {name: row for table in TABLES for name, row in table.case.items()}


@pytest.fixture
def place(tmp_path, monkeypatch, capsys):
    # As a user runs the library: no annotation is an assertion.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    return Place(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_exact_sentence(name, place):
    run, message = CASES[name]
    with pytest.raises(jd.InputError) as refused:
        run(place)
    assert agrees(str(refused.value), message, place.folder), str(refused.value)
    assert "\n" not in str(refused.value)


def test_every_row_counts():
    assert len(CASES) == sum(len(table.case) for table in TABLES)


@pytest.mark.parametrize(
    "name", ["script: no config", "script: unknown key", "script: config divides by zero"]
)
def test_the_same_from_a_shell(name, place, monkeypatch):
    """A separate process: exit code 2, the sentence alone, no traceback."""
    commands = {
        "script: no config": [],
        "script: unknown key": [PHOTOS, "--config.score.kapa=4"],
        "script: config divides by zero": [place.config("def get_config(): return 1 / 0")],
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "launch.describe", *commands[name]],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert agrees(done.stderr, f"error: {CASES[name][1]}\n", place.folder), done.stderr
