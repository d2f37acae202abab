"""The result of a run: each neuron with its concepts, their certainty, exemplars and flags."""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdesc.errors import InputError, printable
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.evaluation.top1 import Top1
from jaxdesc.scoring.null import LEVEL
from jaxdesc.store import write_file, write_rows

CERTAINTY = ("stability", "z", "q")  # of each concept, if it was measured
PROPERTIES = ("density", "mean", "highest", "clarity", "redundancy", "polysemanticity")
COLUMNS = (
    *("layer", "unit", "rank", "concept", "score", *CERTAINTY, "exemplars", "flags"),
    *PROPERTIES,
)
UNSURE = "no significant concept"
SHOWN = 20  # neurons of a notebook's display
BEST = 10  # neurons of a printed summary, and hubs
CONCEPTS, LETTERS = 3, 40  # concepts per neuron there, and letters of a name at most


class Skipped(NamedTuple):
    """An image that could not be used: its name in its source, why, and the source's spec."""

    image: str
    reason: str
    source: str


@dataclass(frozen=True)
class Exemplar:
    """One of a neuron's most activating views.

    Attributes:
        image: the image's name in its source.
        activation: the neuron's activation on the view.
        box: the view's (left, top, right, bottom) in pixels of the image; empty if the result came
            from bare activations.
        index: the image's index in its source.
    """

    image: str
    activation: float
    box: tuple[float, ...] = ()
    index: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Neuron:
    """One neuron and what it responds to.

    Attributes:
        layer, unit: layer of the neuron, and its index there.
        concepts: (text, score), best first.
        maximum: its best score over the whole vocabulary.
        threshold: α × maximum; concepts score above it.
        exemplars: best first.
        flags: doubts about its exemplars: "dead" (constant activation), "tied" (drawn from more
            images with the same activation), "few exemplars", "weak" (the last exemplar hardly
            excites it); "no concept" (its best score is not positive, it is dead, or α = 1);
            "no significant concept" (q > 0.05 for each).
        names: names of its class, if it is a class's logit.
        stability: for each concept, the share of resamples of the exemplars that select it again.
        z: for each concept, the distance of its score from the mean over random sets of exemplar
            views, in their standard deviations.
        q: for each concept, the smallest false discovery rate at which it counts as found.
        properties: of `PROPERTIES`, as far as they were measured: density, the share of images on
            which it is above zero; its mean activation and its highest; and, of its exemplars,
            those of `evaluation.properties`.

    Stability, z and q are empty if they were not measured: stability for a neuron with few
    exemplars; z and q for one that has all images of the pool, so that only one random set exists.
    """

    layer: str
    unit: int
    concepts: tuple[tuple[str, float], ...]
    maximum: float
    threshold: float
    exemplars: tuple[Exemplar, ...]
    flags: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    stability: tuple[float, ...] = ()
    z: tuple[float, ...] = ()
    q: tuple[float, ...] = ()
    properties: Mapping[str, float] = field(default_factory=dict, hash=False)

    def certainty(self, rank: int) -> dict[str, float]:
        """Stability, z and q of its concept at a rank from 0, as far as they were measured."""
        measured = {name: getattr(self, name) for name in CERTAINTY}
        return {name: values[rank] for name, values in measured.items() if values}

    def __repr__(self) -> str:
        """Show the neuron in one line: class, top concepts with scores, exemplars and flags."""
        label = f" {_short(', '.join(self.names))}" if self.names else ""
        best = self.concepts[:CONCEPTS]
        concepts = ", ".join(f"{_short(text)} {score:.3f}" for text, score in best) or "no concept"
        more = f", {len(self.concepts) - CONCEPTS} more" if len(self.concepts) > CONCEPTS else ""
        count = f"{len(self.exemplars)} exemplar{'' if len(self.exemplars) == 1 else 's'}"
        about = "; ".join((count, *self.flags))
        return f"{printable(self.layer)}[{self.unit}]{label}: {concepts}{more} ({about})"

    def to_dict(self) -> dict[str, Any]:
        """Build the neuron's line of `concepts.jsonl`."""
        boxed = (vars(exemplar) | {"box": list(exemplar.box)} for exemplar in self.exemplars)
        line: dict[str, Any] = {
            "layer": self.layer,
            "unit": self.unit,
            "concepts": [
                {"text": text, "score": score} | self.certainty(rank)
                for rank, (text, score) in enumerate(self.concepts)
            ],
            "max": self.maximum,
            "threshold": self.threshold,
            "exemplars": list(boxed),
            "flags": list(self.flags),
        }
        line |= {"properties": dict(self.properties)} if self.properties else {}
        return line | ({"names": list(self.names)} if self.names else {})


@dataclass(frozen=True)
class Result(Sequence[Neuron]):
    """A run's neurons in order, `result[446].concepts`, with its metrics.

    Attributes:
        neurons: all of the layer's.
        metrics: per neuron, if the neurons are classes with known names.
        ceilings: the best metrics any method could reach with the vocabulary.
        fallbacks: number of images whose view is the centre, because their attention map was empty,
            or they have no box for the view "box".
        skipped: images that could not be used, or were passed over, and are no neuron's exemplar.
        seconds, memory: time and largest number of resident bytes of each stage that this run
            computed; stages found done are absent.
        fingerprints: name of each stage's artifact.
        hubs: concepts selected for far more random sets of exemplar views than chance, each with
            its share of sets, largest first.
        top1: share of images whose class the target predicts, if the classes are known.
        notes: what else a reader has to know, in sentences: what was assumed, what is doubtful.
        similarities: cosine of a text with each neuron's mean exemplar feature, minus that of the
            base template; None for a result that was read from files, or came from bare arrays.
    """

    neurons: tuple[Neuron, ...]
    metrics: Metrics | None = None
    ceilings: Metrics | None = None
    fallbacks: int = 0
    skipped: tuple[Skipped, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    hubs: Mapping[str, float] = field(default_factory=dict)
    top1: Top1 | None = None
    notes: tuple[str, ...] = ()
    similarities: Callable[[str], np.ndarray] | None = field(
        default=None, repr=False, compare=False
    )

    def __len__(self) -> int:
        return len(self.neurons)

    def __getitem__(self, unit: Any) -> Any:
        """Return one neuron, or a tuple of them for a slice."""
        return self.neurons[unit]

    def __iter__(self) -> Iterator[Neuron]:
        return iter(self.neurons)

    @property
    def unnamed(self) -> float | None:
        """Share of neurons, including dead ones, without a significant concept (q ≤ 0.05).

        None if q was not measured for some concept.
        """
        if any(neuron.concepts and not neuron.q for neuron in self):
            return None
        return sum(min(neuron.q, default=1.0) > LEVEL for neuron in self) / len(self)

    def where(self, concept: str) -> tuple[Neuron, ...]:
        """Find the neurons that a concept was selected for, best score first; case is ignored."""
        wanted = concept.casefold()
        found = [
            (score, neuron)
            for neuron in self
            for text, score in neuron.concepts
            if text.casefold() == wanted
        ]
        best = sorted(found, key=lambda pair: -pair[0])
        return tuple(dict.fromkeys(neuron for _, neuron in best))

    def search(self, text: str, count: int = 10) -> list[tuple[Neuron, float]]:
        """Find the neurons whose exemplars look most like a text, by features and not by labels.

        The text need not be a concept of the vocabulary. The score is the cosine of the text's
        prompt with the neuron's mean exemplar feature, less that of the base template: SemanticLens
        (Dreyer et al., "Mechanistic understanding and validation of large AI models with
        SemanticLens", 2025). Neurons without exemplars are left out.

        Returns:
            At most `count` neurons with their scores, best first.

        Raises:
            InputError: a text that can't be encoded, or a result without features.
        """
        if self.similarities is None:
            raise InputError(
                "this result has no features to search, since it was read from files or came from "
                "bare activations: describe again, with the same workdir to compute nothing twice."
            )
        scores = self.similarities(text)
        order = np.argsort(-scores, kind="stable")[:count].tolist()
        return [(self[i], float(scores[i])) for i in order if np.isfinite(scores[i])]

    def columns(self) -> dict[str, list[Any]]:
        """Lay the concepts out as columns, one row per concept, as `pandas.DataFrame` takes them.

        Each row has the neuron's number of exemplars and its flags, separated by "; ". What was not
        measured is None.
        """
        rows = list(self._rows())
        return {name: [row[index] for row in rows] for index, name in enumerate(COLUMNS)}

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        for neuron in self:
            for rank, (text, score) in enumerate(neuron.concepts):
                certainty = map(neuron.certainty(rank).get, CERTAINTY)
                about = len(neuron.exemplars), "; ".join(neuron.flags)
                properties = map(neuron.properties.get, PROPERTIES)
                row = neuron.layer, neuron.unit, rank + 1, text, score, *certainty, *about
                yield *row, *properties

    def to_csv(self, path: str | Path) -> None:
        """Write `columns` as CSV; what was not measured is left empty."""
        write_rows(path, COLUMNS, self._rows(), ".6g")

    def to_parquet(self, path: str | Path) -> None:
        """Write `columns` as Parquet: text, whole numbers and float64."""
        import pyarrow  # not at the top: it takes a quarter of a second
        from pyarrow import parquet

        texts, whole, real = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
        types = (texts, whole, whole, texts, *(real,) * 4, whole, texts)
        types += (real,) * len(PROPERTIES)
        schema = pyarrow.schema(zip(COLUMNS, types, strict=True))
        content = io.BytesIO()
        parquet.write_table(pyarrow.table(self.columns(), schema), content)
        write_file(path, content.getvalue())

    def to_json(self, path: str | Path) -> None:
        """Write one JSON object per line and neuron (JSON Lines), with the neuron's metrics."""
        values, lines = self.metrics.values if self.metrics else {}, []
        for row, neuron in enumerate(self):
            line = neuron.to_dict()
            if values:
                line["metrics"] = {name: float(metric[row]) for name, metric in values.items()}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
        write_file(path, "".join(lines).encode())

    def __repr__(self) -> str:
        """Show what a reader has to know first, and the best-named neurons."""
        named = [neuron for neuron in self if neuron.concepts]
        best = sorted(named, key=lambda neuron: (bool(neuron.flags), -neuron.concepts[0][1]))
        shown = ["best named:", *(f"  {neuron!r}" for neuron in best[:BEST])] if best else []
        return "\n  ".join((*self._summary(), *shown))

    def _summary(self) -> list[str]:
        """Facts about the whole layer, one per line."""
        if not self.neurons:
            return ["no neurons"]
        counts = Counter(flag for neuron in self for flag in neuron.flags)
        flags = ", ".join(f"{count} {flag}" for flag, count in counts.most_common()) or "none"
        hubs = [f"{_short(hub)} ({share:.0%})" for hub, share in self.hubs.items()]
        more = f" and {len(hubs) - BEST} more" if len(hubs) > BEST else ""
        metrics = f"none, since {self.unmeasured}"
        if self.metrics:
            ceilings = self.ceilings.estimates if self.ceilings else {}
            metrics = ", ".join(
                f"{name} {100 * value.mean:.1f} +/- {100 * value.error:.1f}"
                + (f" (ceiling {100 * ceilings[name].mean:.1f})" if name in ceilings else "")
                for name, value in self.metrics.estimates.items()
            )
        facts = {
            "flagged": flags,
            "target": str(self.top1 or ""),
            "metrics x 100" if self.metrics else "metrics": metrics,
            "without a significant concept": "" if self.unnamed is None else f"{self.unnamed:.1%}",
            "concepts that chance selects too often": ", ".join(hubs[:BEST]) + more,
            "views that fell back to the centre": str(self.fallbacks or ""),
            "images left out": str(len(self.skipped) or ""),
            "note": "; ".join(map(printable, self.notes)),
        }
        head = f"{len(self)} neurons of layer {printable(self[0].layer)}"
        return [head, *(f"{name}: {fact}" for name, fact in facts.items() if fact)]

    def _repr_html_(self) -> str:
        """Show the summary and the first neurons in a notebook."""
        rows = ""
        for neuron in self.neurons[:SHOWN]:
            kept = [f", stability {share:.2f}" for share in neuron.stability]
            pairs = zip(neuron.concepts, kept or repeat(""), strict=False)
            concepts = ", ".join(f"{text} ({score:.3f}{sure})" for (text, score), sure in pairs)
            cells = (
                f"{neuron.layer}[{neuron.unit}]",
                ", ".join(neuron.names),
                "; ".join(filter(None, (concepts, ", ".join(neuron.flags)))),
                str(len(neuron.exemplars)),
            )
            rows += f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        more = f"<p>… and {len(self) - SHOWN} more neurons</p>" if len(self) > SHOWN else ""
        heads = "".join(f"<th>{head}</th>" for head in ("neuron", "label", "concepts", "exemplars"))
        return (
            f"<p>{'<br>'.join(map(escape, self._summary()))}</p>"
            f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{more}"
        )

    @property
    def unmeasured(self) -> str:
        """Reason for the lack of metrics; empty if there are some."""
        if self.metrics is not None:
            return ""
        if self[0].layer == "fc":
            return "the target's classes have no names to compare concepts with"
        return f"the neurons of {self[0].layer} are not classes, so no name is known to be right"

    def metrics_dict(self) -> dict[str, Any]:
        """Build the content of `metrics.json`: each metric's mean, standard error and ceiling."""
        if self.metrics is None or self.ceilings is None:
            return {}
        metrics = {}
        for name, value in self.metrics.estimates.items():
            about = {"mean": value.mean, "standard_error": value.error, "neurons": value.count}
            metrics[name] = about | {"ceiling": self.ceilings.estimates[name].mean}
        return metrics


def _short(text: str) -> str:
    return printable(text if len(text) <= LETTERS else f"{text[: LETTERS - 3]}...")


def build_neurons(
    *,
    layer: str,
    concepts: Sequence[Sequence[tuple[str, float]]],
    maximum: np.ndarray,
    threshold: np.ndarray,
    exemplars: Sequence[Sequence[Exemplar]],
    flags: Sequence[tuple[str, ...]],
    names: Sequence[tuple[str, ...]] = (),
    certainty: Mapping[str, np.ndarray],
    properties: Mapping[str, np.ndarray] = {},
) -> tuple[Neuron, ...]:
    """Assemble neurons from sequences with one entry per neuron.

    `certainty` has, for each name in CERTAINTY, a value for every concept of the first neuron, then
    of the second, and so on; NaN for neurons whose certainty was not measured. `properties` has,
    for each name in PROPERTIES, a value for every neuron; NaN likewise.
    """
    ends = np.cumsum([len(selected) for selected in concepts])[:-1]
    split = {name: np.split(values, ends) for name, values in certainty.items()}
    neurons = []
    for unit, selected in enumerate(concepts):
        measured = {
            name: tuple(values[unit].tolist())
            for name, values in split.items()
            if not np.isnan(values[unit]).any()
        }
        unsure = min(measured.get("q", ()), default=0.0) > LEVEL
        doubts = {"no concept": not selected, UNSURE: unsure}
        neurons.append(
            Neuron(
                layer=layer,
                unit=unit,
                concepts=tuple(selected),
                maximum=float(maximum[unit]),
                threshold=float(threshold[unit]),
                exemplars=tuple(exemplars[unit]),
                flags=(*flags[unit], *(flag for flag, holds in doubts.items() if holds)),
                names=names[unit] if names else (),
                properties={
                    name: float(values[unit])
                    for name, values in properties.items()
                    if not np.isnan(values[unit])
                },
                **measured,
            )
        )
    return tuple(neurons)
