"""The programs that are compiled, at full size and for devices that are not there.

A ResNet-50 and CLIP as abstract weights, 1,000 neurons with 40 exemplars, 67,186 concepts, and
batches of 256 per chip. Networks are compiled in bfloat16 for every device and in float32 for two,
for a TPU with the least effort; everything else is float32. Of several chips, only the programs
that they share; of a pod of four hosts, those of one host, since every process runs JAX on its own
chips.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdesc.config import Config
from jaxdesc.images.preprocess import PRESETS
from jaxdesc.models import checkpoint
from jaxdesc.models.clip import CLIP
from jaxdesc.models.clip_config import CLIPConfig
from jaxdesc.models.encoder import Namer, Tower
from jaxdesc.models.resnet import ResNet, fold_batch_norm
from jaxdesc.models.resnet_config import TIMM_SIZES
from jaxdesc.models.target import Target
from jaxdesc.runtime.chips import Chip, described, host_of
from jaxdesc.runtime.compiled import Compiled
from jaxdesc.stages.programs import Program, Size, programs
from tests.compiled.checks import NETWORKS

GOLDEN = Path(__file__).with_name("golden.json")
DEVICES = "v5e", "v5e:2x4", "v5e:4x4", "v6e", "h100"
IN_BOTH = "v5e", "h100"  # networks in float32 too, and CLIP with patches of 16
SIZE = Size(50_000, 67_186, {(512, 8): 140}, 40_000)
BATCH = 256
# Without it a float32 network takes three to six minutes to compile for a TPU, instead of seconds,
# and moves a tenth of the bytes.
LEAST_EFFORT = {"exec_time_optimization_effort": -1.0}


class Case(NamedTuple):
    """A program of a device, by the precision of the networks and the patches of CLIP."""

    device: str
    precision: str
    patch: int
    stage: str
    name: str

    @property
    def title(self) -> str:
        """Its name in golden.json and in the tests."""
        patch = "" if self.patch == 32 else f", patches of {self.patch}"
        return f"{self.device} {self.precision} {self.stage}: {self.name}{patch}"

    def compiled(self) -> tuple[Program, Compiled, Chip]:
        """Return the program, what its chip's compiler makes of it, and the chip."""
        program = listed(self.device, self.precision, self.patch)[self.stage, self.name]
        chip = devices(self.device)[0]
        options = dict(chip.compiler)
        if chip.platform == "tpu" and self.precision == "float32" and self.stage in NETWORKS:
            options |= LEAST_EFFORT
        return program, Compiled.of(program.lower(), options), chip


@cache
def cases() -> tuple[Case, ...]:
    """Return what is compiled."""
    return tuple(_cases())


def _cases() -> Iterator[Case]:
    for device in DEVICES:
        several = len(devices(device)[1]) > 1
        for (stage, name), program in listed(device, "bfloat16").items():
            if several and program.devices == 1 and name != "spread of exemplars":
                continue
            if stage not in NETWORKS or device in IN_BOTH:
                yield Case(device, "float32", 32, stage, name)
            if stage in NETWORKS:
                yield Case(device, "bfloat16", 32, stage, name)
            if stage == "embed" and device in IN_BOTH:
                yield Case(device, "bfloat16", 16, stage, name)


@cache  # each call would make new devices, which do not go together
def devices(spec: str) -> tuple[Chip, Sequence[jax.Device]]:
    """Return a chip and the devices that one process compiles for."""
    return described(spec)[0], host_of(spec)[0]


@cache
def listed(device: str, precision: str, patch: int = 32) -> dict[tuple[str, str], Program]:
    """List the programs of a run by stage and name."""
    each = {"batch": BATCH}
    config = Config.from_dict({"images": each, "clip": each})
    networks = target(precision), namer(precision, patch)
    found = programs(config, *networks, SIZE, devices(device)[1])
    return {(program.stage, program.name): program for program in found}


def target(precision: str) -> Target:
    """Return a ResNet-50 whose weights are shapes."""
    network = fold_batch_norm(checkpoint.abstract(ResNet, TIMM_SIZES["resnet50"]))
    graph, params = nnx.split(network)
    return Target(
        params=_typed(params, precision),
        apply=lambda params, pixels, tap: nnx.merge(graph, params)(pixels, tap),
        preprocess=PRESETS["imagenet"],
        attention="layer4",
    )


def namer(precision: str, patch: int) -> Namer:
    """Return a CLIP ViT-B whose weights are shapes."""
    config = CLIPConfig(vision=replace(CLIPConfig().vision, patch_size=patch))
    graph, params = nnx.split(checkpoint.abstract(CLIP, config))
    return Namer(
        params=_typed(params, precision),
        images=Tower(graph, "encode_images"),
        texts=Tower(graph, "encode_texts"),
        tokenizer=None,
        length=77,
        padding=0,
        preprocess=PRESETS["openai"],
    )


def _typed(params: Any, precision: str) -> Any:
    dtype = jnp.dtype(precision)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), params)


def golden() -> dict[str, Any]:
    """Read the recorded numbers of every program, and the versions of the compilers."""
    found: dict[str, Any] = json.loads(GOLDEN.read_text())
    return found


def versions() -> dict[str, str]:
    """Return the versions of the installed compilers."""
    return {name: version(name) for name in ("jax", "libtpu", "jax-cuda12-plugin")}


def missing() -> str:
    """Say what is not installed; empty if everything is."""
    absent = [name for name in ("libtpu", "jax_cuda12_plugin") if find_spec(name) is None]
    if not absent:
        return ""
    return (
        f"The compilers {' and '.join(absent)} are not installed: run make .venv/.aot and add "
        "PYTHONPATH=.venv/aot, as make test does."
    )
