"""How much memory this process held at most, stage by stage."""

import re
import resource
import sys
from contextlib import suppress
from pathlib import Path


def reset_peak() -> None:
    """Start counting anew, where the system can (Linux, proc(5): clear_refs)."""
    with suppress(OSError):  # elsewhere the peak stays that of the whole process
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Bytes that were resident at most since `reset_peak`."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0
