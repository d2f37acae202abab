"""Every kind of bad input is refused by one sentence: what, where, what was expected, the remedy.

The rows are in the modules `images` to `calls`. Each is the sentence, as `says` reads it, and a
function that makes the input in a `Place` and gives it to the library or to a script.
"""

import os
import subprocess
import sys

import jaxtyping
import pytest

import jaxdesc as jd
from tests.conftest import ROOT
from tests.faults import calls, images, namers, networks, weights, words
from tests.faults.place import Place, says

TABLES = images, words, networks, namers, weights, calls
CASES = [case for table in TABLES for case in table.ROWS.items()]


@pytest.fixture
def place(tmp_path, monkeypatch, capsys):
    # As a user runs the library: no annotation is an assertion.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    return Place(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(("sentence", "run"), CASES, ids=[sentence for sentence, _ in CASES])
def test_bad_input_is_one_sentence(sentence, run, place):
    with pytest.raises(jd.InputError) as refused:
        run(place)
    message = str(refused.value)
    assert says(message, sentence, place.folder), message
    assert message.isprintable()
    assert message.endswith((".", "?"))


def test_the_same_from_a_shell(place):
    """A separate process: exit code 2, the sentence alone, no traceback."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "launch.describe", place.config("1 / 0")],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert says(done.stderr, "error: The config '<here>/config.py' can't be ...", place.folder)
