"""The benchmark script from a shell: its tables."""

import json
import subprocess
import sys

import pytest

from jaxdesc.benchmark import networks
from tests.conftest import ROOT

SIZES = {"neurons": 3, "exemplars": 5, "images": 15, "concepts": 600, "width": 32}


def benchmark(output, **flags):
    """Its tables, and what it prints."""
    given = [
        f"--{name}={value}" for name, value in ({"output": output, "repeats": 1} | flags).items()
    ]
    command = [sys.executable, "-W", "ignore", "-m", "launch.benchmark", *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text())["tables"], done.stdout


@pytest.mark.full
def test_every_subject(tmp_path):
    """Leave out the rivals that PyTorch has to compile, which would take longest."""
    subjects = "scoring,sweep,averaging,bfloat16,disk,latents,networks,probe,layers,windows"
    subjects += ",photos,roofline"
    output = tmp_path / "made" / "benchmark.json"
    tables, printed = benchmark(output, subjects=subjects, batch=8, **SIZES)
    tables = {table["title"]: table for table in tables}
    assert len(tables) == 15
    assert tables["Scoring"]["sizes"].items() >= SIZES.items()
    ours = {f"jaxdesc, {name}" for name in ("full", "screened", "auto", "certainty")}
    assert tables["Scoring"]["medians"].keys() == {"the bare product"} | ours
    assert all(value > 0 for table in tables.values() for value in table["medians"].values())
    assert all(floor > 0 for floor in tables["Roofline"]["floors"].values())
    facts = tables["Photos to activations, attention windows"]["facts"]
    several = tables["Photos to activations of several layers, centre windows"]["medians"]
    assert list(several) == ["one layer", "5 layers"]
    windows = tables["Photos to encoded windows"]
    assert list(windows["medians"]) == list(networks.WINDOWS)
    assert windows["facts"]["windows of the class, encoded"] <= windows["sizes"]["photos"]
    assert 0 <= facts["device idle, share of the pass"] <= 1
    assert all(f"**{title}**" in printed for title in tables)
    assert output.with_suffix(".md").exists()


@pytest.mark.full
def test_rivals_are_timed_on_the_same_images(tmp_path):
    flags = {"subjects": "networks,probe", "rival": "torch", "batch": 4, "count": 12}
    tables, _ = benchmark(tmp_path / "benchmark.json", **flags)
    assert tables[-1]["sizes"]["photos"] == 12
    medians = {table["title"]: table["medians"] for table in tables}
    assert all("jaxdesc" in each and len(each) > 1 for each in medians.values())
    assert "as pytorch-grad-cam, as it comes" in medians["Grad-CAM"]
