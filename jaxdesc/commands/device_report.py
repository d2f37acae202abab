"""Measure this machine's device: parity with PyTorch, bfloat16, and speed next to PyTorch's.

    jaxdesc device_report --output=h100.md --minutes=8
    jaxdesc device_report --output=small.md --size=small

Writes one Markdown file, and needs no data: a ResNet-50 and a CLIP ViT-B/32 get random weights.
Every speed is given with the arithmetic, traffic and least time of the compiled programs. A section
that fails holds the error instead, and the exit code is then 2. PyTorch and the GPU's JAX must be
installed; --size=small takes the embedded world's sizes, seconds on a CPU.
"""

import os
from pathlib import Path

from jaxdesc.commands import flags
from jaxdesc.errors import InputError

_OUTPUT = flags.DEFINE_path("output", None, "The Markdown file to write.")
_SIZE = flags.DEFINE_enum("size", "full", ["small", "full"], "Size of networks and problems.")
_MINUTES = flags.DEFINE_float(
    "minutes", 8.0, "Time to spend; sections and rows that no longer fit are left out.", 0.0
)
FLAGS = (_OUTPUT, _SIZE, _MINUTES)


def main() -> None:
    """Write the report."""
    # PyTorch shares the device's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from jaxdesc.benchmark import device

    if not _OUTPUT.value:
        raise InputError("--output is missing: give the Markdown file to write.")
    device.write(Path(_OUTPUT.value), _SIZE.value, _MINUTES.value)
    print(f"report in {_OUTPUT.value}")
