"""The benchmark script: its tables, and bad input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIZES = {"neurons": 3, "exemplars": 5, "images": 15, "concepts": 600, "width": 32}
PROGRAM = [sys.executable, "-W", "ignore", "-m", "launch.benchmark"]


def run(*flags):
    return subprocess.run([*PROGRAM, *flags], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.full
def test_every_subject(tmp_path):
    """All except the rivals that PyTorch has to compile, which would take longest."""
    options = [f"--{name}={value}" for name, value in SIZES.items()]
    output = tmp_path / "made" / "benchmark.json"
    subjects = "scoring,sweep,averaging,bfloat16,disk,networks,probe,roofline"
    options += [f"--subjects={subjects}", "--repeats=1", "--batch=8"]
    done = run(*options, f"--output={output}")
    assert done.returncode == 0, done.stderr
    written = json.loads(output.read_text())
    tables = {table["title"]: table for table in written["tables"]}
    assert len(tables) == 10
    assert tables["Scoring"]["sizes"].items() >= SIZES.items()
    names = {"the bare product", "jaxdesc, full", "jaxdesc, screened", "jaxdesc, auto"}
    assert tables["Scoring"]["medians"].keys() == names
    assert all(value > 0 for table in tables.values() for value in table["medians"].values())
    assert all(floor > 0 for floor in tables["Roofline"]["floors"].values())
    facts = tables["Photos to activations, attention windows"]["facts"]
    assert 0 <= facts["device idle, share of the pass"] <= 1
    assert all(f"**{title}**" in done.stdout for title in tables)
    assert output.with_suffix(".md").exists()


@pytest.mark.full
def test_rivals_are_timed_on_the_same_images(tmp_path):
    output = tmp_path / "benchmark.json"
    flags = ["--subjects=networks,probe", "--rival=torch", "--repeats=1", "--batch=4", "--count=12"]
    done = run(*flags, f"--output={output}")
    assert done.returncode == 0, done.stderr
    tables = json.loads(output.read_text())["tables"]
    assert tables[-1]["sizes"]["photos"] == 12
    tables = {table["title"]: table["medians"] for table in tables}
    assert all("jaxdesc" in medians and len(medians) > 1 for medians in tables.values())
    assert "as pytorch-grad-cam, as it comes" in tables["Grad-CAM"]


def test_bad_input_is_one_sentence(command, tmp_path):
    (tmp_path / "file").touch()
    for flags, message in (
        ({"subjects": "speed"}, "error: Unknown subject 'speed': expected one of scoring, sweep, "),
        (
            {"subjects": "averaging", "repeats": 1, "output": f"{tmp_path}/file/b.json"},
            f"error: {tmp_path}/file/b.json can't be written (",
        ),
    ):
        code, _, error = command("benchmark", flags)
        assert code == 2
        assert error.splitlines()[-1].startswith(message)
