"""A run: its choices, what it works on, and what it notes on its way."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Protocol, runtime_checkable

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


@dataclass(frozen=True)
class Inputs:
    """What a run works on, beside its config.

    Attributes:
        target: the network whose neurons are described.
        clip: compares views with concepts.
        source: the probe images; their labels become the target's classes.
        vocabulary: the concepts.
        scorer: the CLIP of the metric CLIP cos.
        sentence: encodes texts for the metric sentence cosine; left out where None.
    """

    target: Target
    clip: Namer
    source: Source
    vocabulary: Vocabulary
    scorer: Namer
    sentence: metrics.Encoder | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", matched(self.source, self.target))


@runtime_checkable
class Listener(Protocol):
    """Whoever keeps a record of a run while it goes on."""

    def display(self, run: "Run", state: State) -> Display:
        """Follow the progress of a stage that begins in this state."""

    def computed(self, run: "Run", stage: str) -> None:
        """A stage was computed; what it took is noted in the run."""

    def measured(self, values: Mapping[str, Mapping[str, float]]) -> None:
        """These are the metrics, as `Result.metrics_dict` gives them."""

    def close(self) -> None:
        """The run is over."""


@dataclass
class Run:
    """One pass of the pipeline: its config, inputs and store, and what it notes on its way.

    Attributes:
        config: every choice.
        inputs: networks, images, vocabulary.
        store: of the artifacts.
        quiet: no progress is shown.
        lines: progress is shown as plain lines rather than bars.
        listener: is told of progress and of stages that were computed.
        seconds: how long each stage took to compute.
        memory: most bytes that were resident while each stage was computed.
        idle: share of the time of `activate` in which the device had nothing queued.
        began: when, by `time.perf_counter`, whatever led to it began.
        first_batch: seconds from there to the first activated batch; 0 where there was none.
        skipped: the images that are left out, as far as it has met them.
        top1s: the target's, by the source of the images, as far as they have labels.
        notes: what a reader of its results has to know, a sentence each.
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

    def note(self, sentence: str) -> None:
        """Keep what a reader has to know, and print it once."""
        if sentence not in self.notes:
            self.notes.append(sentence)
            self.tell(f"note: {sentence}")

    def tell(self, line: str) -> None:
        """Print a line on stderr; of several processes one does."""
        if self.store.processes.leads:
            print(printable(line), file=sys.stderr, flush=True)

    def stage(
        self, name: str, inputs: Mapping[str, Any], compute: Callable[[Draft], None]
    ) -> Artifact:
        """Find or compute one artifact that is no shards', and note what it took."""
        return self.stages(name, {name: inputs}, lambda drafts: compute(drafts[name]))[name]

    def stages(
        self,
        name: str,
        inputs: Mapping[str, Mapping[str, Any]],
        compute: Callable[[Mapping[str, Draft]], None],
        finish: Callable[[Draft], None] | None = None,
    ) -> dict[str, Artifact]:
        """Find or compute several artifacts, as `Store.stages` does, and note what it took."""
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
        """Progress, over images if not said otherwise, shown if it takes `delay` seconds."""
        displays: list[Callable[[State], Display]] = []
        if not self.quiet:
            displays.append(partial(Lines if self.lines else Bar, delay=delay))
        if self.listener:
            displays.append(partial(self.listener.display, self))
        return Progress(total, stage, displays, unit)

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Class names of the layer's neurons, where they are classes."""
        return self.inputs.target.classes if self.config.target.layer == LOGITS else ()

    @property
    def views(self) -> list[str]:
        """Its own view, and those of the ablation that it is part of: one pass cuts them all."""
        own, options = self.config.crop.view, self.config.ablation
        source = self.config.images.source
        asked = options.views if options.kappas and source in (options.probes or (source,)) else ()
        return list(dict.fromkeys([own, *asked]))
