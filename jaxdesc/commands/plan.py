r"""Say what a run needs before anything is rented: time, memory and largest batch on a device.

    jaxdesc plan --config=photos --config.images.source=folder:PHOTOS --devices=v5e:2x4,h100
    jaxdesc plan --config=resnet50_imagenet --config.precision=bfloat16 --images=50000 \
        --devices=v5e:2x4

The run's programs, without the ablation, are compiled for the device, which need not be there, and
their arithmetic and traffic are counted; this takes minutes. Times are the least that the maker's
figures allow. Devices are v4, v5e, v5p, v6e, h100 and h200, each with or without a topology, and
cpu, this machine. Compilers come with pip install 'jaxdesc[aot]'.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxdesc.benchmark import plan
from jaxdesc.commands import flags, inputs
from jaxdesc.config import Config
from jaxdesc.errors import InputError
from jaxdesc.evaluation.metrics import distinct_words
from jaxdesc.images.split import open_images
from jaxdesc.models.encoder import Namer
from jaxdesc.models.target import LOGITS, Target
from jaxdesc.runtime.chips import CHIPS, Chip, described, host_of
from jaxdesc.runtime.progress import Progress
from jaxdesc.stages.batches import MOST, with_batches
from jaxdesc.stages.check import check_names
from jaxdesc.stages.programs import Size, programs
from jaxdesc.vocabulary.vocabulary import prompts

_DEVICES = flags.DEFINE_list("devices", [], "What to plan for, such as v5e:2x4,h100,cpu.")
_IMAGES = flags.DEFINE_integer("images", 0, "Images; config.images.source's by default.", 0)
_CORES = flags.DEFINE_integer("cores", 0, "Cores of all hosts; the usual ones by default.", 0)
_RATE = flags.DEFINE_float(
    "photos_per_core", plan.PHOTOS, "Photos that a core decodes and cuts per second.", 1e-3
)
_PAGE = flags.DEFINE_path(
    "page",
    None,
    "A Markdown file with a place for it, from <!-- plan PRECISION --> to <!-- end -->.",
)
FLAGS = (inputs.CONFIG, inputs.QUIET, _DEVICES, _IMAGES, _CORES, _RATE, _PAGE)


class Networks(NamedTuple):
    """The networks of a run on some platform, and the size of the run."""

    target: Target
    clip: Namer
    judges: Mapping[str, Any]
    size: Size


def main() -> None:
    """Compile the run's programs for each device, and print what they need."""
    config, specs = with_batches(inputs.read_config(), MOST), _DEVICES.value
    check_names(config)
    if not specs:
        raise InputError(f"--devices is missing: expected some of cpu, {', '.join(CHIPS)}.")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # JAX looks for no other device
    chips = [
        plan.this_machine() if spec == "cpu" else (described(spec)[0], *host_of(spec))
        for spec in specs
    ]
    page = plan.Page(Path(_PAGE.value), config.precision) if _PAGE.value else None
    opened: dict[bool, Networks] = {}
    sections = []
    for spec, (chip, devices, hosts) in zip(specs, chips, strict=True):
        on_cpu = chip.platform == "cpu"  # networks of float32 have other parameters there
        if on_cpu not in opened:
            opened[on_cpu] = _networks(config, chip.platform)
        found = _planned(config, spec, chip, devices, hosts, opened[on_cpu])
        sections.append(found.markdown())
        print(sections[-1], end="\n\n", flush=True)
    if page:
        page.write("\n\n".join(sections))


def _networks(config: Config, platform: str) -> Networks:
    """Load what the programs depend on."""
    images = _IMAGES.value or len(open_images(config.images))
    vocabulary = inputs.open_vocabulary(config, config.vocabulary.source)
    target, clip = inputs.open_target(config, platform), inputs.open_clip(config)
    texts = clip.text_batches(prompts(vocabulary, config.vocabulary.template))
    judges: dict[str, Any] = {}
    words: list[str] = []
    if target.classes and LOGITS in config.target.described:
        loaded = inputs.open_judges(config, clip)
        judges = {"CLIP judge": loaded["scorer"], "sentence judge": loaded["sentence"]}
        judges = {name: judge for name, judge in judges.items() if judge}
        words = distinct_words([vocabulary.concepts, *target.classes])
    judged = {name: judge.text_batches(words).shapes for name, judge in judges.items()}
    size = Size(images, len(vocabulary.concepts), texts.shapes, judged=judged)
    return Networks(target, clip, judges, size)


def _planned(
    config: Config,
    spec: str,
    chip: Chip,
    devices: Sequence[jax.Device],
    hosts: int,
    networks: Networks,
) -> plan.Plan:
    target, clip, judges, size = networks
    every = plan.usual_lengths(programs(config, target, clip, size, devices, judges))
    rows = []
    displays = inputs.displays()
    with Progress(len(every), f"compile for {spec}", displays, "program") as bar:
        for row in plan.planned(every, chip, hosts):
            rows.append(row)
            bar.update(1)
    embeds = [row.program for row in rows if row.program.stage == "embed"]
    embedded = sum(program.calls * program.items for program in embeds)
    looks = [row.program for row in rows if row.program.stage == "look"]
    looked = sum(min(size.images, program.calls * program.items) for program in looks)
    count = len(devices) * hosts
    cores = _CORES.value or chip.cores * count
    return plan.Plan(
        spec=spec,
        chip=chip,
        devices=count,
        host=plan.Host.of(cores, hosts, config.images.workers, _RATE.value),
        photos={"activate": size.images, "look": looked, "embed": embedded},
        rows=rows,
    )
