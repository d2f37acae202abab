"""Memory: the peak of this process, stage by stage, and what a device has."""

import os
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path

import jax


def capacity(device: jax.Device) -> int:
    """Bytes of a device's memory that programs may take; for a CPU all of the machine's."""
    with suppress(NotImplementedError, jax.errors.JaxRuntimeError):
        stats = device.memory_stats()
        if stats and "bytes_limit" in stats:
            return int(stats["bytes_limit"])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def reset_peak() -> None:
    """Start a new measurement, if the system can (Linux, proc(5): clear_refs)."""
    with suppress(OSError):  # elsewhere the peak stays that of the whole process
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Return the most bytes that were resident since `reset_peak`."""
    with suppress(OSError):
        status = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(status[1]) * 1024 if status else 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
