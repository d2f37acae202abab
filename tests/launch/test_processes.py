"""The flags for several processes: what fits together, and what a cluster tells."""

import re

import jax
import pytest

from jaxdesc.commands import flags, processes
from jaxdesc.errors import InputError
from jaxdesc.store import Processes

ADDRESS = "--coordinator=localhost:9000"


def joined(*arguments):
    flags.parse("describe", processes.FLAGS, arguments)
    return processes.joined()


@pytest.fixture(autouse=True)
def met(monkeypatch):
    """What `join` was given; nobody is waited for."""
    given = []

    def join(*arguments):
        given.append(arguments)
        return Processes()

    monkeypatch.setattr(processes, "join", join)
    monkeypatch.setattr(flags, "_given", {})  # what `parse` sets is for this test alone
    return given


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--processes=2", "--process=0"],
            "--processes and --process without --coordinator can't be used: add "
            "--coordinator=HOST:PORT, or leave what is meant for several processes out.",
        ),
        (["--join_timeout=3"], r"--join_timeout without --coordinator can't be used: add "),
        ([ADDRESS], "--processes=None and --process=None do not fit --coordinator: give how "),
        ([ADDRESS, "--processes=2"], "--processes=2 and --process=None do not fit "),
        ([ADDRESS, "--processes=2", "--process=2"], "--processes=2 and --process=2 do not fit "),
        ([ADDRESS, "--processes=0", "--process=-1"], "--processes=0 and --process=-1 do not "),
        (
            ["--coordinator=localhost", "--processes=2", "--process=0"],
            "--coordinator=localhost can't be used (the port is missing): give HOST:PORT of the "
            "first process, such as localhost:9000 or [::1]:9000, or auto.",
        ),
        (
            ["--coordinator=auto", "--processes=2"],
            "--coordinator=auto finds out how many processes there are, and which this is: leave ",
        ),
        (
            ["--coordinator=auto"],
            "--coordinator=auto can't find out how the processes reach each other (no TPU VM, "
            "Slurm, Open MPI or Kubernetes was found): give --coordinator=HOST:PORT, ",
        ),
    ],
)
def test_flags_that_do_not_fit(arguments, message, met):
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        joined(*arguments)
    assert not met


def test_flags_that_fit(met):
    assert joined() == Processes()
    assert not met
    joined(ADDRESS, "--processes=2", "--process=1", "--join_timeout=3")
    assert met.pop()[:-1] == (("localhost", 9000), 1, 2, 3)


def test_slurm_tells(met, monkeypatch):
    """As JAX reads it, also which GPU is whose."""
    settings = {}
    monkeypatch.setattr(jax.config, "update", settings.__setitem__)
    for name, value in {
        "JOB_ID": "4100",
        "STEP_NODELIST": "node[001-002]",
        "NTASKS": "4",
        "PROCID": "3",
        "LOCALID": "1",
    }.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    joined("--coordinator=auto")
    assert met.pop()[:-1] == (("node001", 61444), 3, 4, 300)
    assert settings == {"jax_cuda_visible_devices": "1", "jax_rocm_visible_devices": "1"}
    monkeypatch.setenv("SLURM_NTASKS", "four")
    with pytest.raises(InputError, match=r"each other \(ValueError: invalid literal for int"):
        joined("--coordinator=auto")
