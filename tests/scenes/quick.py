"""One quick training of both networks, shared by every test that wants networks in folders."""

import fcntl
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import jaxdesc as jd
from jaxdesc.models.encoder import Namer
from tests.conftest import ROOT


@cache
def quick_networks(folder: Path) -> Path:
    """Run the launch script as a user would; returns the folder with `target` and `clip`.

    Once for all workers: whoever comes second waits. In processes of their own, since absl flags
    belong to a process, and both at once. XLA compiles without optimising, which halves the time of
    a training that is all compilation.
    """
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    workdir = shared / "quick_networks"
    with (shared / "quick_networks.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (workdir / "done").exists():
            _train(workdir)
            (workdir / "done").touch()
    return workdir / "quick"


def _train(workdir: Path) -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()
    command = [sys.executable, "-m", "launch.train_scenes", f"--workdir={workdir}", "--quick"]
    trainings = [
        subprocess.Popen(
            [*command, f"--network={network}"],
            cwd=ROOT, env=os.environ | {"XLA_FLAGS": flags}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for network in ("target", "clip")
    ]  # fmt: skip
    for training in trainings:
        said, _ = training.communicate(timeout=600)
        assert training.returncode == 0, said


@cache
def quick_target(folder: Path) -> jd.Target:
    """The target of `quick_networks`, one object for all tests: its programs compile once."""
    return jd.load_target(str(folder / "target"))


@cache
def quick_clip(folder: Path) -> Namer:
    """The CLIP of `quick_networks`."""
    return jd.load_clip(str(folder / "clip"))
