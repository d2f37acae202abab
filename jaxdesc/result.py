"""What a run found: each neuron with its concepts, scores, exemplars and flags."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.store import write_file


class Skipped(NamedTuple):
    """An image that could not be used.

    Attributes:
        image: its name in its source.
        reason: why.
        source: the source's specification.
    """

    image: str
    reason: str
    source: str


@dataclass(frozen=True)
class Exemplar:
    """One of a neuron's most activating views.

    Attributes:
        image: the image's name in its source.
        activation: of the neuron on the view.
        box: the view's (left, top, right, bottom) in pixels of the image, or nothing where the
            result came from bare activations.
        index: of the image in its source.
    """

    image: str
    activation: float
    box: tuple[float, ...] = ()
    index: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Neuron:
    """One neuron and what it responds to.

    Attributes:
        layer, unit: which neuron.
        concepts: (text, score), best first.
        maximum: its best score over the whole vocabulary.
        threshold: α × maximum; concepts score above it.
        exemplars: best first.
        flags: "dead" (constant activation), "no concept" (its best score is not positive,
            it is dead, or α = 1).
        names: of its class, where it is a class's logit.
    """

    layer: str
    unit: int
    concepts: tuple[tuple[str, float], ...]
    maximum: float
    threshold: float
    exemplars: tuple[Exemplar, ...]
    flags: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Build the neuron's line of `concepts.jsonl`."""
        line: dict[str, Any] = {
            "layer": self.layer,
            "unit": self.unit,
            "concepts": [{"text": text, "score": score} for text, score in self.concepts],
            "max": self.maximum,
            "threshold": self.threshold,
            "exemplars": [
                {"image": e.image, "activation": e.activation, "box": list(e.box)}
                for e in self.exemplars
            ],
            "flags": list(self.flags),
        }
        return line | ({"names": list(self.names)} if self.names else {})


@dataclass(frozen=True)
class Result(Sequence[Neuron]):
    """A run's neurons in order, `result[446].concepts`, with its metrics.

    Attributes:
        neurons: all of the layer's.
        metrics: per neuron, where the neurons are classes with known names.
        ceilings: the best metrics any method could reach with the vocabulary.
        fallbacks: images whose attention map was empty, or that have no box for the view "box", so
            that their view is the centre.
        skipped: images that could not be used, and are nobody's exemplar.
        seconds: of each stage that this run computed; a stage found done is absent.
        memory: most bytes that were resident while each of them ran.
        fingerprints: of each stage's artifact.
    """

    neurons: tuple[Neuron, ...]
    metrics: Metrics | None = None
    ceilings: Metrics | None = None
    fallbacks: int = 0
    skipped: tuple[Skipped, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.neurons)

    def __getitem__(self, unit: Any) -> Any:
        """Return one neuron, or a tuple of them for a slice."""
        return self.neurons[unit]

    def __iter__(self) -> Iterator[Neuron]:
        return iter(self.neurons)

    def to_csv(self, path: str | Path) -> None:
        """Write one row a concept: layer, unit, rank, concept, score."""

        def rows(file: io.TextIOBase) -> None:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["layer", "unit", "rank", "concept", "score"])
            for neuron in self:
                for rank, (text, score) in enumerate(neuron.concepts, 1):
                    writer.writerow([neuron.layer, neuron.unit, rank, text, f"{score:.6g}"])

        write_whole(path, rows)

    def to_json(self, path: str | Path) -> None:
        """Write one JSON object a line and neuron (JSON Lines)."""

        def lines(file: io.TextIOBase) -> None:
            for neuron in self:
                file.write(json.dumps(neuron.to_dict(), ensure_ascii=False) + "\n")

        write_whole(path, lines)

    def metrics_dict(self) -> dict[str, Any]:
        """Build the content of `metrics.json`: each metric's mean, standard error and ceiling."""
        if self.metrics is None or self.ceilings is None:
            return {}
        best = self.ceilings.estimates
        return {
            name: {
                "mean": value.mean,
                "standard_error": value.error,
                "neurons": value.count,
                "ceiling": best[name].mean,
            }
            for name, value in self.metrics.estimates.items()
        }


def write_whole(path: str | Path, write: Callable[[io.TextIOBase], None]) -> None:
    """Write a text file, on a disk or in a bucket, so that it is the old one or the whole new one.

    Raises:
        InputError: it can't be written.
    """
    text = io.StringIO(newline="")
    write(text)
    write_file(path, text.getvalue().encode())


def build_neurons(
    *,
    layer: str,
    concepts: Sequence[Sequence[tuple[str, float]]],
    maximum: np.ndarray,
    threshold: np.ndarray,
    dead: np.ndarray,
    exemplars: Sequence[Sequence[Exemplar]],
    names: Sequence[tuple[str, ...]] = (),
) -> tuple[Neuron, ...]:
    """Assemble neurons from per-neuron sequences."""
    neurons = []
    for unit, found in enumerate(concepts):
        flags = [flag for flag, holds in (("dead", dead[unit]), ("no concept", not found)) if holds]
        neurons.append(
            Neuron(
                layer=layer,
                unit=unit,
                concepts=tuple(found),
                maximum=float(maximum[unit]),
                threshold=float(threshold[unit]),
                exemplars=tuple(exemplars[unit]),
                flags=tuple(flags),
                names=names[unit] if names else (),
            )
        )
    return tuple(neurons)
