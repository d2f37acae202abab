"""What a run found: each neuron with its concepts, scores, exemplars and flags."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.store import write_file

COLUMNS = ("layer", "unit", "rank", "concept", "score")
SHOWN = 20  # neurons of a notebook's display


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
                {
                    "image": e.image,
                    "activation": e.activation,
                    "box": list(e.box),
                    "index": e.index,
                }
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

    def where(self, concept: str) -> tuple[Neuron, ...]:
        """Find the neurons that a concept was selected for, best score first; case is ignored."""
        wanted = concept.casefold()
        found = [
            (score, neuron)
            for neuron in self
            for text, score in neuron.concepts
            if text.casefold() == wanted
        ]
        best = sorted(found, key=lambda own: -own[0])
        return tuple(dict.fromkeys(neuron for _, neuron in best))

    def columns(self) -> dict[str, list[Any]]:
        """Lay the concepts out as columns, a row a concept, as `pandas.DataFrame` takes them."""
        rows = [
            (neuron.layer, neuron.unit, rank, text, score)
            for neuron in self
            for rank, (text, score) in enumerate(neuron.concepts, 1)
        ]
        return {name: [row[i] for row in rows] for i, name in enumerate(COLUMNS)}

    def to_csv(self, path: str | Path) -> None:
        """Write one row a concept: layer, unit, rank, concept, score."""

        def rows(file: io.TextIOBase) -> None:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for *where, score in zip(*self.columns().values(), strict=True):
                writer.writerow([*where, f"{score:.6g}"])

        write_whole(path, rows)

    def to_parquet(self, path: str | Path) -> None:
        """Write `columns` as Parquet: text, whole numbers and float64."""
        import pyarrow  # a quarter of a second: for those who write such a file
        from pyarrow import parquet

        types = (pyarrow.string(), pyarrow.int64(), pyarrow.int64(), pyarrow.string())
        schema = pyarrow.schema(zip(COLUMNS, (*types, pyarrow.float64()), strict=True))
        content = io.BytesIO()
        parquet.write_table(pyarrow.table(self.columns(), schema), content)
        write_file(path, content.getvalue())

    def to_json(self, path: str | Path) -> None:
        """Write one JSON object a line and neuron (JSON Lines), with the neuron's own metrics."""
        values = self.metrics.values if self.metrics else {}

        def lines(file: io.TextIOBase) -> None:
            for place, neuron in enumerate(self):
                own = {name: float(each[place]) for name, each in values.items()}
                line = neuron.to_dict() | ({"metrics": own} if own else {})
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

        write_whole(path, lines)

    def _repr_html_(self) -> str:
        """Show the metrics and the first neurons in a notebook."""
        rows = "".join(_html_row(neuron) for neuron in self.neurons[:SHOWN])
        metrics = ", ".join(
            f"{name} {100 * value['mean']:.1f} ± {100 * value['standard_error']:.1f}"
            for name, value in self.metrics_dict().items()
        )
        more = f"<p>… and {len(self) - SHOWN} more neurons</p>" if len(self) > SHOWN else ""
        return (
            f"<p>{len(self)} neurons{f'; × 100: {escape(metrics)}' if metrics else ''}</p>"
            "<table><thead><tr><th>neuron</th><th>label</th><th>concepts</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>{more}"
        )

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


def _html_row(neuron: Neuron) -> str:
    concepts = ", ".join(f"{text} ({score:.3f})" for text, score in neuron.concepts)
    cells = (
        f"{neuron.layer}[{neuron.unit}]",
        ", ".join(neuron.names),
        concepts or ", ".join(neuron.flags),
    )
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


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
