"""Batches of a run that its config leaves open: what fits the devices at hand."""

from dataclasses import replace

import jax

from jaxdesc.config import AUTO, Config
from jaxdesc.models.encoder import Namer
from jaxdesc.models.target import Target
from jaxdesc.runtime.compiled import Compiled
from jaxdesc.runtime.memory import capacity
from jaxdesc.stages.programs import Size, largest, programs

# Larger batches fill no device better; a CPU takes a few images at a time anyway.
MOST, MOST_ON_CPU = 256, 64


def fitting(config: Config, target: Target, namer: Namer, images: int) -> Config:
    """Replace batches of `auto` by the largest power of two that fits each device, up to `MOST`.

    The programs are compiled to see what they need; a run keeps them (`commands.inputs`).
    """
    devices = jax.local_devices()
    most = MOST_ON_CPU if devices[0].platform == "cpu" else MOST
    open_batches = {
        "activate": config.images.batch == AUTO,
        "embed": config.clip.batch == AUTO,
    }
    if not any(open_batches.values()):
        return config
    tried = with_batches(config, most)
    found = dict.fromkeys(open_batches, most)
    for program in programs(tried, target, namer, Size(images, 1, {}), devices):
        if open_batches.get(program.stage):
            fits = largest(program, Compiled.of(program.lower()), capacity(devices[0]))
            found[program.stage] = min(found[program.stage], 1 << max(0, fits.bit_length() - 1))
    return with_batches(config, *found.values())


def with_batches(config: Config, images: int, clip: int = 0) -> Config:
    """Replace batches of `auto` by these; both by the first if there is one."""
    return replace(
        config,
        images=replace(config.images, batch=config.images.batch or images),
        clip=replace(config.clip, batch=config.clip.batch or clip or images),
    )
