"""The report of a device, on a machine that lacks what only runs on images need."""

import math
import os
import re
import subprocess
import sys

import pytest

from jaxdesc.benchmark import bench, device
from jaxdesc.errors import InputError
from tests.conftest import ROOT

LACKING = """
import sys

class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"grain", "tensorflow_datasets", "ml_collections"}:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Lacking())
"""
TITLES = [
    "Device",
    "Parity in float32",
    "Effect of bfloat16 on concepts",
    "Throughput per stage",
    "Scoring",
]


def sections(file):
    """Text of each section, by its title."""
    _, *parts = re.split(r"^## \d\. (.*)\n", file.read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def rows(section):
    """Rows of a section's table as dicts."""
    head, _, *found = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    return [dict(zip(head, cells, strict=True)) for cells in found]


def number(text):
    """A finite positive number."""
    value = float(text.replace(",", ""))
    assert math.isfinite(value)
    assert value > 0
    return value


@pytest.mark.full
def test_every_section(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(LACKING)
    output = tmp_path / "made" / "report.md"
    paths = f"{tmp_path}{os.pathsep}{ROOT}"
    done = subprocess.run(
        [sys.executable, "-m", "launch.device_report", f"--output={output}", "--size=small"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = sections(output)
    assert list(found) == TITLES
    versions = {row[""]: row["value"] for row in rows(found["Device"])}
    assert versions.keys() >= {"device", "jax", "torch", "python", "roofline"}
    parity = {row[""]: row["largest difference / largest value"] for row in rows(found[TITLES[1]])}
    assert len(parity) == 4
    assert all(float(difference) < 1e-4 for difference in parity.values())
    effect = {row["bfloat16 against float32"]: row["value"] for row in rows(found[TITLES[2]])}
    assert sum(0 <= float(value) <= 1 for name, value in effect.items() if "of" not in value) == 3
    speed = rows(found["Throughput per stage"])
    assert len({(row["stage"], row["precision"], row["batch"]) for row in speed}) == 4 * 2
    scored = rows(found["Scoring"])
    assert [row["engine"] for row in scored] == ["full", "screened"]
    for row in speed + scored:
        for name in device.HEAD:
            if name != "PyTorch's way":
                number(row[name])


def fail(*_):
    raise RuntimeError("the cable\nis loose")


def test_a_section_that_fails_holds_its_error(tmp_path, monkeypatch):
    planted = {"First": fail, device.LAST: lambda _: "late", "Third": lambda _: "fine"}
    monkeypatch.setattr(device, "SECTIONS", planted)
    output = tmp_path / "report.md"
    with pytest.raises(InputError, match=r"^First failed: .*report\.md says why"):
        device.write(output, "small", 1)
    found = {title: text.strip() for title, text in sections(output).items()}
    assert found["First"] == "**First failed** (RuntimeError): the cable is loose"
    assert (found[device.LAST], found["Third"]) == ("late", "fine")


def test_what_no_longer_fits_is_left_out(tmp_path, monkeypatch):
    output = tmp_path / "report.md"
    device.write(output, "small", 0)
    assert all("Left out: the 0 minutes" in text for text in sections(output).values())
    # A row does not begin if the longest one so far would not fit.
    short = bench.Bench("small", 1, tmp_path)
    short.longest = 100.0
    monkeypatch.setattr(device, "_stages", lambda *_: [device.Stage("maps", "float32", None, None)])
    text = device._throughput(short)
    assert "Left out for want of time (--minutes): maps, float32, batch 8;" in text


def test_pytorch_falls_back_and_says_so(tmp_path):
    """The fastest way that works is taken; if none does, the error is raised."""
    pytest.importorskip("torch")
    small, notes = bench.Bench("full", 1, tmp_path), []
    _, theirs, way = device._raced(
        small, float, {"torch.compile": fail, "eager": int}, notes, "maps"
    )
    assert (theirs > 0, way) == (True, "eager")
    (note,) = notes
    assert note == "maps: PyTorch's torch.compile failed (RuntimeError: the cable is loose)."
    with pytest.raises(RuntimeError, match="loose"):
        device._raced(small, float, {"eager": fail}, notes, "maps")


@pytest.mark.full
def test_compiled_ways_agree_with_eager_ones(tmp_path):
    torch = pytest.importorskip("torch")
    small = bench.Bench("small", 1, tmp_path)
    for precision in ("float32", "bfloat16"):
        for stage in device._stages(small, precision, 4):
            found = [way().float() for way in stage.ways().values()]
            tolerance = (1e-5 if precision == "float32" else 0.05) * found[0].abs().max()
            for other in found[1:]:
                torch.testing.assert_close(other, found[0], rtol=0, atol=float(tolerance))
