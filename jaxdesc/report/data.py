"""The data of a page's script: an index of all neurons, and pieces of the rest.

The page holds the index, by which it lists, sorts, filters and searches. What only a neuron's card
or its row's pictures need is in pieces of a few neurons, files that the page reads when they are
needed, so that a page of 50,000 neurons opens at once.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from jaxdesc.errors import InputError
from jaxdesc.evaluation.metrics import METRICS, f1, hit
from jaxdesc.report.files import Saved
from jaxdesc.report.judged import Verdict
from jaxdesc.report.pictures import CELL, COLUMNS, LEVELS, Picture, in_thousandths
from jaxdesc.report.tables import similarity_name
from jaxdesc.result import PROPERTIES, UNSURE, Neuron, Result

PIECE = 64  # neurons
UNSTABLE = 0.5  # below it a neuron's best concept is flagged
# Meaning of each flag of a neuron.
MEANINGS = {
    "dead": "its activation is the same on every image",
    "tied": "its exemplars are drawn from more images with the same, largest activation",
    "few exemplars": "it is active on too few images for a name to be certain",
    "weak": "its last exemplar hardly excites it",
    "no concept": "no concept scores above zero, or it has no exemplar",
    UNSURE: "its concepts score no better than those of random images",
    "disagree": "none of its concepts is a name of its class",
    "unstable": "most resamples of its exemplars lose its best concept",
}


@dataclass(frozen=True)
class Method:
    """One way of describing a layer, as the page shows it.

    Attributes:
        name: its heading.
        result: its neurons.
        summary: mean, standard error and ceiling of each metric, as `Result.metrics_dict`.
        facts: its config, versions, fingerprints.
        asked: exemplars per neuron that were asked for; 0 if that isn't known.
        verdict: how good its labels and others are, if they were judged.
    """

    name: str
    result: Result
    summary: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    asked: int = 0
    verdict: Verdict | None = None

    @classmethod
    def of(cls, saved: Saved, verdict: Verdict | None = None) -> "Method":
        """The method of a run that was read from its working directory."""
        config, score = saved.config, saved.config.score
        name = f"{config.crop.view} view, {similarity_name(score.kappa, score.similarity)}"
        about = config.to_dict() | {"version": saved.versions}
        facts = _flat(about | {"fingerprint": saved.result.fingerprints})
        return cls(name, saved.result, saved.summary, facts, score.exemplars, verdict)


def check_same(methods: Sequence[Method]) -> None:
    """Refuse methods that describe different neurons."""
    first, *others = [[(n.layer, n.unit, n.names) for n in method.result] for method in methods]
    for method, neurons in zip(methods[1:], others, strict=True):
        if neurons != first:
            raise InputError(
                f"{method.name!r} describes other neurons than {methods[0].name!r}: expected the "
                "same layer of the same network on both sides."
            )


def index_of(methods: Sequence[Method], pictures: Mapping[int, Picture]) -> dict[str, Any]:
    """Collect what the page lists, as compact as JSON allows.

    A concept is [position among texts, score]. Numbers that were not measured are None.
    """
    everyone = list(chain.from_iterable(method.result for method in methods))
    texts = list(dict.fromkeys(text for neuron in everyone for text, _ in neuron.concepts))
    places = {text: place for place, text in enumerate(texts)}
    return {
        "cell": CELL,
        "columns": COLUMNS,
        "levels": LEVELS,
        "piece": PIECE,
        "layer": methods[0].result[0].layer,
        "units": [neuron.unit for neuron in methods[0].result],
        "labels": [neuron.names for neuron in methods[0].result],
        "texts": texts,
        "meanings": MEANINGS,
        "heated": any(picture.heat or picture.heats for picture in pictures.values()),
        "boxed": any(exemplar.box for neuron in everyone for exemplar in neuron.exemplars),
        "methods": [_indexed(method, places) for method in methods],
        "judged": [method.verdict.heads if method.verdict else [] for method in methods],
    }


def _indexed(method: Method, places: Mapping[str, int]) -> dict[str, Any]:
    result = method.result
    columns: dict[str, list[Any]] = {
        "stability": [neuron.stability[0] if neuron.stability else None for neuron in result],
        "q": [min(neuron.q) if neuron.q else None for neuron in result],
        "exemplars": [len(neuron.exemplars) for neuron in result],
    }
    columns |= {name: [n.properties.get(name) for n in result] for name in PROPERTIES}
    return {
        "name": method.name,
        # A neuron may be active on fewer images than were asked for.
        "asked": method.asked or max(columns["exemplars"]),
        "concepts": [[[places[t], _short(s)] for t, s in neuron.concepts] for neuron in result],
        "maximum": [_short(neuron.maximum) for neuron in result],
        "flags": [_flags(neuron) for neuron in result],
        "measures": _measures(result),
        "columns": {
            name: [None if value is None else _short(value) for value in values]
            for name, values in columns.items()
            if any(value is not None for value in values)
        },
    }


def _flags(neuron: Neuron) -> list[str]:
    texts = [text for text, _ in neuron.concepts]
    doubts = {
        "disagree": bool(texts and neuron.names) and not hit(texts, neuron.names),
        "unstable": min(neuron.stability[:1], default=1.0) < UNSTABLE,
    }
    return [*neuron.flags, *(flag for flag, holds in doubts.items() if holds)]


def _measures(result: Result) -> dict[str, list[float]]:
    """F1 with the label, by which the page sorts, and each neuron's other metrics."""
    if not all(neuron.names for neuron in result):
        return {}
    agreement = [f1([text for text, _ in neuron.concepts], neuron.names) for neuron in result]
    metrics = {"f1": agreement} | dict(result.metrics.values if result.metrics else {})
    return {METRICS[kind].title: [*map(_short, values)] for kind, values in metrics.items()}


def piece_of(
    number: int, methods: Sequence[Method], pictures: Mapping[int, Picture]
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Collect a piece, and the exemplars of each of its sheets of thumbnails, by name.

    An exemplar is [position among the piece's images, activation, box in thousandths]; a neuron
    with maps of its own has one for each. A neuron has a sheet if all its exemplars have pictures.
    """
    some = slice(number * PIECE, (number + 1) * PIECE)
    groups = [method.result.neurons[some] for method in methods]
    names = {e.index: e.image for group in groups for n in group for e in n.exemplars}
    names = dict(sorted(names.items()))
    positions = {image: position for position, image in enumerate(names)}
    shown = [pictures.get(image, _NONE) for image in names]
    classes = {
        name: place for place, name in enumerate(dict.fromkeys(each.explained for each in shown))
    }
    sheets = {
        sheet_name(neuron): tuple(exemplar.index for exemplar in neuron.exemplars)
        for group in groups
        for neuron in group
        if has_sheet(neuron, pictures)
    }
    piece = {
        "images": {
            "names": list(names.values()),
            "sizes": [picture.size for picture in shown],
            "heats": [picture.heat for picture in shown],
            "areas": [in_thousandths(p.area, p.size) if p.heat or p.heats else [] for p in shown],
            "explained": [classes[picture.explained] for picture in shown],
        },
        "classes": list(classes),
        "methods": [
            [
                _detailed(neuron, positions, pictures) | _judged(neuron, method.verdict)
                for neuron in group
            ]
            for method, group in zip(methods, groups, strict=True)
        ],
    }
    return piece, sheets


_NONE = Picture(b"", (1, 1))  # of an image that is not shown


def _detailed(
    neuron: Neuron, positions: Mapping[int, int], pictures: Mapping[int, Picture]
) -> dict[str, Any]:
    measured = [values for values in (neuron.stability, neuron.q) if values]
    drawn = has_sheet(neuron, pictures)
    exemplars = [
        [
            positions[e.index],
            _short(e.activation),
            *(in_thousandths(e.box, pictures[e.index].size) if drawn else ()),
        ]
        for e in neuron.exemplars
    ]
    listed: dict[str, Any] = {
        "sure": [[_short(values[rank]) for values in measured] for rank in _ranks(neuron)],
        "threshold": _short(neuron.threshold),
        "sheet": sheet_name(neuron) if drawn else None,
        "exemplars": exemplars,
    }
    heats = [
        pictures[e.index].heats.get(neuron.unit, "") if drawn else "" for e in neuron.exemplars
    ]
    return listed | ({"heats": heats} if any(heats) else {})


def _judged(neuron: Neuron, verdict: Verdict | None) -> dict[str, Any]:
    """Each source's label of a neuron, with a score per measure."""
    if verdict is None:
        return {}
    rows = verdict.labels.get(neuron.unit, ())
    return {
        "judged": [
            [source, label, [None if value is None else _short(value) for value in scores]]
            for source, label, scores in rows
        ]
    }


def _ranks(neuron: Neuron) -> range:
    return range(len(neuron.concepts))


def has_sheet(neuron: Neuron, pictures: Collection[int]) -> bool:
    """Return True if a neuron has exemplars, all of them with pictures."""
    return bool(neuron.exemplars) and all(e.index in pictures for e in neuron.exemplars)


def sheet_name(neuron: Neuron) -> str:
    """Name of the sheet of a neuron's exemplars, the same for all with the same ones."""
    ranking = " ".join(str(exemplar.index) for exemplar in neuron.exemplars)
    return hashlib.sha256(ranking.encode()).hexdigest()[:16]


def _short(number: float) -> float:
    return float(f"{number:.4g}")


def _flat(values: Mapping[str, Any], where: str = "") -> dict[str, str]:
    """Nested settings as key.key: value, without empty values."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{where}{key}.")
        elif value not in ("", (), []):
            listed = isinstance(value, list | tuple)
            flat[f"{where}{key}"] = ", ".join(map(str, value)) if listed else str(value)
    return flat
