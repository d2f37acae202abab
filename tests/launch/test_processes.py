"""The flags for several processes: their combinations, and what a cluster reports."""

import re

import jax
import pytest

from jaxdesc.commands import flags, processes
from jaxdesc.errors import InputError
from jaxdesc.store import Processes

ADDRESS = "--coordinator=localhost:9000"


@pytest.fixture
def joined(monkeypatch):
    """Parse flags, and return the arguments of `join`, which waits for nobody here."""
    given = []

    def join(*arguments):
        given.append(arguments)
        return Processes()

    monkeypatch.setattr(processes, "join", join)
    monkeypatch.setattr(flags, "_given", {})  # `parse` sets it for this test alone

    def joined(*arguments):
        flags.parse("describe", processes.FLAGS, arguments)
        assert processes.joined() == Processes()
        return given.pop()[:-1] if given else None

    return joined


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--processes=2", "--process=0"], "--processes and --process without --coordinator can't"),
        ([ADDRESS, "--processes=2"], "--processes=2 and --process=None do not fit --coordinator: "),
        ([ADDRESS, "--processes=2", "--process=2"], "--processes=2 and --process=2 do not fit "),
        (
            ["--coordinator=localhost", "--processes=2", "--process=0"],
            "--coordinator can't be used (localhost is not HOST:PORT with a port from 1 to 65535)",
        ),
        (["--coordinator=auto", "--processes=2"], "--coordinator=auto finds out how many process"),
        (
            ["--coordinator=auto"],
            "--coordinator=auto can't find out how the processes reach each other (no TPU VM, ",
        ),
    ],
)
def test_flags_that_do_not_fit(arguments, message, joined):
    with pytest.raises(InputError, match=f"^{re.escape(message)}"):
        joined(*arguments)


def test_flags_that_fit(joined):
    assert joined() is None
    arguments = joined(ADDRESS, "--processes=2", "--process=1", "--join_timeout=3")
    assert arguments == (("localhost", 9000), 1, 2, 3)


def test_slurm_is_asked_as_jax_asks_it(joined, monkeypatch):
    """Also for which GPU belongs to the process."""
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
    assert joined("--coordinator=auto") == (("node001", 61444), 3, 4, 300)
    assert settings == {"jax_cuda_visible_devices": "1", "jax_rocm_visible_devices": "1"}
    monkeypatch.setenv("SLURM_NTASKS", "four")
    with pytest.raises(InputError, match=r"each other \(ValueError: invalid literal for int"):
        joined("--coordinator=auto")
