"""Several processes for one run, on one host or on many (`jax.distributed`)."""

import faulthandler
import os
import sys

import jax

from jaxdesc.commands import flags
from jaxdesc.errors import InputError
from jaxdesc.store import Place, Processes

_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "HOST:PORT of the first of several processes, or 'auto' where the cluster tells (TPU pods).",
)
_PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are.")
_PROCESS = flags.DEFINE_integer("process", None, "Which of them this one is, from 0.")
FLAGS = (_COORDINATOR, _PROCESSES, _PROCESS)

# Seconds without a sign of life after which JAX ends a process that the run's own watch missed.
# Where the first process dies, JAX ends all others at once: it keeps their connections.
_DEAD = 60


def joined() -> Processes:
    """Join the other processes that the flags tell of; one alone without them.

    Only the first prints from here on.

    Raises:
        InputError: flags that do not fit together, or no coordinator that answers.
    """
    if _COORDINATOR.value is None:
        if _PROCESSES.value is not None or _PROCESS.value is not None:
            raise InputError("--processes and --process need --coordinator=HOST:PORT.")
        return Processes()
    if not jax.distributed.is_initialized():
        faulthandler.disable()  # JAX says why it ends a process; a dump would hide its sentence
        _initialize()
    together = Processes(jax.process_index(), jax.process_count())
    if not together.leads:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    return together


def _initialize() -> None:
    try:
        if _COORDINATOR.value == "auto":
            jax.distributed.initialize(heartbeat_timeout_seconds=_DEAD)
            return
        count, index = _PROCESSES.value, _PROCESS.value
        if count is None or index is None or not 0 <= index < count:
            raise InputError(
                f"--processes={count} and --process={index} do not fit --coordinator: give how "
                "many processes there are, and which of them this is, from 0."
            )
        jax.distributed.initialize(
            _COORDINATOR.value, count, index, heartbeat_timeout_seconds=_DEAD
        )
    except (RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The other processes can't be joined at --coordinator={_COORDINATOR.value} ({error}): "
            "start all of them, with the same address of the first."
        ) from error


def nowhere() -> Place:
    """A working directory that nobody sees: of processes that tell nothing."""
    return Place("memory://results")
