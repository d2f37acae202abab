"""Several processes for one run, on one host or several."""

import os
import sys
from functools import partial

import jax

from jaxdesc.commands import flags
from jaxdesc.errors import InputError
from jaxdesc.store import Processes
from jaxdesc.store.processes import join
from jaxdesc.store.rendezvous import Address

_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "HOST:PORT of the first of several processes, or 'auto' if the cluster says (TPU pods).",
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are.")
_PROCESS = flags.DEFINE_integer("process", None, "Which of them this one is, from 0.")
_JOIN_TIMEOUT = flags.DEFINE_integer(
    "join_timeout", 300, "Seconds to wait for the other processes.", lower_bound=1
)
FLAGS = (_COORDINATOR, _PROCESSES, _PROCESS, _JOIN_TIMEOUT)


def joined() -> Processes:
    """Join the other processes that the flags name; without flags, be the only one.

    From then on, only the first prints.
    """
    coordinator, count, index = _COORDINATOR.value, _PROCESSES.value, _PROCESS.value
    if coordinator is None:
        given = [f"--{flag.name}" for flag in (_PROCESSES, _PROCESS, _JOIN_TIMEOUT) if flag.present]
        if given:
            raise InputError(
                f"{' and '.join(given)} without --coordinator can't be used: add "
                "--coordinator=HOST:PORT, or leave out what is meant for several processes."
            )
        return Processes()
    if coordinator == "auto":
        coordinator, count, index = _detected()
    elif count is None or index is None or not 0 <= index < count:
        raise InputError(
            f"--processes={count} and --process={index} do not fit --coordinator: give how "
            "many processes there are, and which of them this is, from 0."
        )
    try:
        address = Address.parse(coordinator)
    except ValueError as error:
        raise InputError(
            f"--coordinator can't be used ({error}): give the address of the first process, such "
            "as localhost:9000 or [::1]:9000, or auto."
        ) from error
    tell = partial(print, file=sys.stderr, flush=True)
    together = join(address, index, count, _JOIN_TIMEOUT.value, tell)
    if not together.leads:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    return together


def _detected() -> tuple[str, int, int]:
    """The first process's address, the number of processes and this one's index, by the cluster."""
    # `jax.distributed.initialize()` asks the same: TPU VMs, Slurm, Open MPI, Kubernetes.
    from jax._src.clusters import ClusterEnv

    if _PROCESSES.value is not None or _PROCESS.value is not None:
        raise InputError(
            "--coordinator=auto finds out how many processes there are, and which this is: leave "
            "--processes and --process out, or give --coordinator=HOST:PORT."
        )
    reason = "no TPU VM, Slurm, Open MPI or Kubernetes was found"
    try:
        address, count, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, _JOIN_TIMEOUT.value
        )
    except Exception as error:  # its type depends on the cluster
        address, reason = None, f"{type(error).__name__}: {error}"
    if address is None or count is None or index is None:
        raise InputError(
            f"--coordinator=auto can't find out how the processes reach each other ({reason}): "
            "give --coordinator=HOST:PORT, --processes and --process."
        )
    if devices is not None:  # if several processes share a host, each gets one GPU
        for kind in ("cuda", "rocm"):
            jax.config.update(f"jax_{kind}_visible_devices", ",".join(map(str, devices)))
    return address, count, index
