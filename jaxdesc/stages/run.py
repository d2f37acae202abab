"""A run: its config, inputs and notes."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxdesc.attention.cams import suited
from jaxdesc.config import Config
from jaxdesc.errors import printable
from jaxdesc.evaluation import metrics
from jaxdesc.evaluation.top1 import Top1
from jaxdesc.images.example import Source
from jaxdesc.images.labels import matched
from jaxdesc.models.encoder import Namer
from jaxdesc.models.target import LOGITS, Target
from jaxdesc.result import Skipped
from jaxdesc.runtime import memory
from jaxdesc.runtime.progress import Bar, Display, Lines, Progress, State
from jaxdesc.store import Artifact, Draft, Store
from jaxdesc.vocabulary.vocabulary import Vocabulary

Key = TypeVar("Key")


@dataclass(frozen=True)
class Inputs:
    """Inputs of a run, besides its config; the source's labels are matched with the target.

    Attributes:
        target: the network whose neurons are described.
        clip: compares views with concepts.
        source: the probe images.
        vocabulary: the concepts.
        scorer: the CLIP of the metric CLIP cos.
        sentence: encodes texts for the metric sentence cosine, which is left out if None.
    """

    target: Target
    clip: Namer
    source: Source
    vocabulary: Vocabulary
    scorer: Namer
    sentence: metrics.Encoder | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", matched(self.source, self.target))


def settled(config: Config, target: Target) -> Config:
    """Return a config in which what depends on the network is named.

    That is the kind of map, and whose windows, their rank and the pooling, which differ for latents
    of dictionaries, if nothing else is described.
    """
    crop, options = config.crop, config.target
    latents = target.only_latents(options.described)
    return replace(
        config,
        target=replace(options, pooling=options.pooling or ("max" if latents else "mean")),
        crop=replace(
            crop,
            cam=suited(target, crop.cam),
            of=crop.of or ("unit" if latents else "class"),
            rank=crop.rank or ("image" if latents else "window"),
        ),
    )


@runtime_checkable
class Listener(Protocol):
    """Receiver of a run's progress and results."""

    def display(self, run: "Run", state: State) -> Display:
        """Return a display of the progress of a stage that begins in this state."""

    def computed(self, run: "Run", stage: str) -> None:
        """Receive a computed stage; the run has noted its time and memory."""

    def measured(self, values: Mapping[str, Mapping[str, float]]) -> None:
        """Receive the metrics, as in `Result.metrics_dict`."""

    def close(self) -> None:
        """Finish, at the end of the run."""


@dataclass
class Run:
    """One pass of the pipeline: its config, inputs and store, and its notes.

    Attributes:
        quiet, lines: hide progress, or show it as plain lines instead of bars.
        listener: receives progress and computed stages.
        seconds: time that each stage took to compute.
        memory: peak of resident bytes while each stage was computed.
        idle: share of the time of `activate` in which the device had nothing queued.
        began: start of the process that led to the run, by `time.perf_counter`.
        first_batch: seconds from there to the first activated batch; 0 if there was none.
        skipped: images that are left out, as far as known.
        top1s: the target's top-1, by the source of the images, if they have labels.
        notes: sentences for the reader of the results.
    """

    config: Config
    inputs: Inputs
    store: Store
    quiet: bool = False
    lines: bool = False
    listener: Listener | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    idle: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)
    first_batch: float = 0.0
    skipped: set[Skipped] = field(default_factory=set)
    top1s: dict[str, Top1] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.config = settled(self.config, self.inputs.target)

    def note(self, sentence: str) -> None:
        """Keep a sentence for the reader, and print it once."""
        if sentence not in self.notes:
            self.notes.append(sentence)
            self.tell(f"note: {sentence}")

    def tell(self, line: str) -> None:
        """Print a line on stderr; of several processes, only the leading one does."""
        if self.store.processes.leads:
            print(printable(line), file=sys.stderr, flush=True)

    def alone(self, layer: str) -> "Run":
        """Return a run of one of its layers, with the same notes."""
        target = replace(self.config.target, layer=layer, layers=())
        return replace(self, config=replace(self.config, target=target))

    def stage(
        self, name: str, inputs: Mapping[str, Any], compute: Callable[[Draft], None]
    ) -> Artifact:
        """Find or compute an artifact without shards, and note its time and memory."""
        return self.stages(name, {name: inputs}, lambda drafts: compute(drafts[name]))[name]

    def stages(
        self,
        name: str,
        inputs: Mapping[Key, Mapping[str, Any]],
        compute: Callable[[Mapping[Key, Draft]], None],
        finish: Callable[[Draft], None] | None = None,
    ) -> dict[Key, Artifact]:
        """Find or compute several artifacts, as `Store.stages` does, and note time and memory."""
        began = time.perf_counter()
        memory.reset_peak()
        artifacts = self.store.stages(name, inputs, compute, finish)
        if any(artifact.computed for artifact in artifacts.values()):
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
            self.memory[name] = max(self.memory.get(name, 0), memory.peak())
            if self.listener:
                self.listener.computed(self, name)
        return artifacts

    def bar(self, total: int, stage: str, unit: str = "img", delay: float = 0) -> Progress:
        """Progress over images or another unit, shown after `delay` seconds."""
        displays: list[Callable[[State], Display]] = []
        if not self.quiet:
            displays.append(partial(Lines if self.lines else Bar, delay=delay))
        if self.listener:
            displays.append(partial(self.listener.display, self))
        return Progress(total, stage, displays, unit)

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Class names of the neurons, if those of a layer are classes."""
        return self.inputs.target.classes if LOGITS in self.config.target.described else ()

    @property
    def views(self) -> list[str]:
        """Views that one pass cuts: the run's, and the ablation's if the run is part of it.

        For windows of units, the whole image comes first.
        """
        options = self.config.ablation
        source = self.config.images.source
        asked = options.views if options.kappas and source in (options.probes or (source,)) else ()
        crop = self.config.crop
        return list(dict.fromkeys(replace(crop, view=v).first for v in (crop.view, *asked)))
