"""The page of a report, which opens from disk without a network, and its sheets of thumbnails.

Text from outside (concepts, names of classes and images, paths) reaches the page only as text:
through Jinja's autoescape, or as JSON whose `<`, `>` and `&` are escaped, which the script puts
into the document as text. A content security policy forbids everything but the page's own script,
style and sheets.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from jaxdesc.errors import InputError
from jaxdesc.evaluation.metrics import METRICS, f1, hit
from jaxdesc.report.files import Saved
from jaxdesc.report.pictures import CELL, COLUMNS, LEVELS, Picture, in_thousandths, sheet
from jaxdesc.report.tables import similarity_name
from jaxdesc.result import UNSURE, Neuron, Result
from jaxdesc.store.workdir import is_output

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

# Characters that could end a script element or an attribute, or were line ends in JavaScript.
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Method:
    """One way of describing a layer, as the page shows it.

    Attributes:
        name: its heading.
        result: its neurons.
        summary: mean, standard error and ceiling of each metric, as `Result.metrics_dict`.
        facts: its config, versions, fingerprints.
        asked: exemplars per neuron that were asked for; 0 if that isn't known.
    """

    name: str
    result: Result
    summary: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    asked: int = 0

    @classmethod
    def of(cls, saved: Saved) -> "Method":
        """The method of a run that was read from its working directory."""
        config, score = saved.config, saved.config.score
        name = f"{config.crop.view} view, {similarity_name(score.kappa, score.similarity)}"
        about = config.to_dict() | {"version": saved.versions}
        facts = _flat(about | {"fingerprint": saved.result.fingerprints})
        return cls(name, saved.result, saved.summary, facts, score.exemplars)


def files(
    title: str, methods: Sequence[Method], pictures: Mapping[int, Picture]
) -> Iterator[tuple[str, bytes]]:
    """Make the report's files: relative paths and contents.

    The sheets of thumbnails come first, and finally index.html, which says how large they are.
    `methods` are for the same neurons and images, and the first is listed; `pictures` has every
    exemplar of every method, by its index.
    """
    first, *others = [[(n.layer, n.unit, n.names) for n in method.result] for method in methods]
    for method, neurons in zip(methods[1:], others, strict=True):
        if neurons != first:
            raise InputError(
                f"{method.name!r} describes other neurons than {methods[0].name!r}: expected the "
                "same layer of the same network on both sides."
            )
    rankings = dict.fromkeys(_ranking(neuron) for method in methods for neuron in method.result)
    sheets = {ranking: number for number, ranking in enumerate(filter(None, rankings))}
    size = 0
    for ranking, number in sheets.items():
        thumbnails = sheet([pictures[image].thumbnail for image in ranking])
        size += len(thumbnails)
        yield f"sheets/{number}.webp", thumbnails
    yield "index.html", _html(title, methods, content(methods, pictures, sheets), size).encode()


def content(
    methods: Sequence[Method],
    pictures: Mapping[int, Picture],
    sheets: Mapping[tuple[int, ...], int],
) -> dict[str, Any]:
    """Collect the data of the page's script, as compact as JSON allows.

    A concept is [text, score], or [text, score, stability, q] as far as these were measured; an
    exemplar is [position among images, activation, box in thousandths]; a neuron with maps of its
    own has one for each. `sheets` has the number of
    the file that holds each ranking of exemplars.
    """
    everyone = (neuron for method in methods for neuron in method.result)
    names = dict(sorted({e.index: e.image for n in everyone for e in n.exemplars}.items()))
    positions = {image: position for position, image in enumerate(names)}
    shown = [pictures[image] for image in names]
    explained = dict.fromkeys(picture.explained for picture in shown)
    classes = {name: number for number, name in enumerate(explained)}
    return {
        "cell": CELL,
        "columns": COLUMNS,
        "levels": LEVELS,
        "layer": methods[0].result[0].layer,
        "units": [neuron.unit for neuron in methods[0].result],
        "labels": [neuron.names for neuron in methods[0].result],
        "images": {
            "names": list(names.values()),
            "sizes": [picture.size for picture in shown],
            "heats": [picture.heat for picture in shown],
            "areas": [in_thousandths(p.area, p.size) if p.heat or p.heats else [] for p in shown],
            "explained": [classes[picture.explained] for picture in shown],
        },
        "classes": list(classes),
        "meanings": MEANINGS,
        "methods": [_method(method, positions, pictures, sheets) for method in methods],
    }


def _method(
    method: Method,
    positions: Mapping[int, int],
    pictures: Mapping[int, Picture],
    sheets: Mapping[tuple[int, ...], int],
) -> dict[str, Any]:
    result, neurons, flags = method.result, [], []
    for neuron in result:
        measured = [neuron.stability, neuron.q]
        concepts = [
            [text, *map(_short, (score, *(values[rank] for values in measured if values)))]
            for rank, (text, score) in enumerate(neuron.concepts)
        ]
        exemplars = [
            [
                positions[e.index],
                _short(e.activation),
                *in_thousandths(e.box, pictures[e.index].size),
            ]
            for e in neuron.exemplars
        ]
        listed: dict[str, Any] = {
            "concepts": concepts,
            "maximum": _short(neuron.maximum),
            "threshold": _short(neuron.threshold),
            "sheet": sheets.get(_ranking(neuron)),
            "exemplars": exemplars,
        }
        heats = [pictures[e.index].heats.get(neuron.unit, "") for e in neuron.exemplars]
        neurons.append(listed | ({"heats": heats} if any(heats) else {}))
        texts = [text for text, _ in neuron.concepts]
        disagree = bool(texts and neuron.names) and not hit(texts, neuron.names)
        unstable = min(neuron.stability[:1], default=1.0) < UNSTABLE
        doubts = {"disagree": disagree, "unstable": unstable}
        flags.append([*neuron.flags, *(flag for flag, holds in doubts.items() if holds)])
    best = [_short(neuron.stability[0]) if neuron.stability else None for neuron in result]
    return {
        "name": method.name,
        # A neuron may be active on fewer images than were asked for.
        "asked": method.asked or max(len(neuron.exemplars) for neuron in result),
        "neurons": neurons,
        "flags": flags,
        "measures": _measures(result),
        "stability": best if any(neuron.stability for neuron in result) else [],
    }


def _measures(result: Result) -> dict[str, list[float]]:
    """F1 with the label, by which the page sorts, and each neuron's other metrics."""
    if not all(neuron.names for neuron in result):
        return {}
    agreement = [f1([text for text, _ in neuron.concepts], neuron.names) for neuron in result]
    metrics = {"f1": agreement} | dict(result.metrics.values if result.metrics else {})
    return {METRICS[kind].title: [*map(_short, values)] for kind, values in metrics.items()}


def _ranking(neuron: Neuron) -> tuple[int, ...]:
    return tuple(exemplar.index for exemplar in neuron.exemplars)


def _short(number: float) -> float:
    return float(f"{number:.4g}")


def _template(name: str) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # only pages need it

    environment = Environment(
        loader=PackageLoader("jaxdesc.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _own(name: str) -> tuple[str, str]:
    """One of our files, and the hash by which a page's policy allows it."""
    text = (resources("jaxdesc.report") / "templates" / name).read_text("utf-8")
    return text, f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def index(title: str, results: Mapping[str, Result], addresses: Mapping[str, str]) -> str:
    """Make a page that names some layers, each a link to its page at a relative address."""
    style, style_hash = _own("page.css")
    rows = [
        {
            "layer": layer,
            "address": addresses[layer],
            "neurons": len(result),
            "dead": sum("dead" in neuron.flags for neuron in result),
            "unnamed": result.unnamed,
        }
        for layer, result in results.items()
    ]
    policy = f"default-src 'none'; style-src {style_hash}; base-uri 'none'; form-action 'none'"
    html: str = _template("layers.html").render(title=title, policy=policy, style=style, rows=rows)
    return html


def _html(title: str, methods: Sequence[Method], data: Mapping[str, Any], size: int) -> str:
    (script, script_hash), (style, style_hash) = map(_own, ("page.js", "page.css"))
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    keys = dict.fromkeys(key for method in methods for key in method.facts)
    rows = [(key, [method.facts.get(key, "–") for method in methods]) for key in keys]
    html: str = _template("page.html").render(
        title=title,
        policy=(
            f"default-src 'none'; script-src {script_hash}; style-src {style_hash}; "
            "img-src 'self' file:; base-uri 'none'; form-action 'none'"
        ),
        script=script,
        style=style,
        data=text.translate(_ESCAPES),
        layer=data["layer"],
        neurons=len(data["units"]),
        images=len(data["images"]["names"]),
        megabytes=f"{size / 1e6:.1f}",
        methods=methods,
        metrics=[(kind, METRICS[kind].title) for kind in methods[0].summary],
        remarks=_remarks(methods),
        # One value if all methods have the same.
        facts=[(key, values[:1] if len(set(values)) == 1 else values) for key, values in rows],
        skipped=sorted({image for method in methods for image in method.result.skipped}),
    )
    return html


def _remarks(methods: Sequence[Method]) -> list[str]:
    """List what a reader has to know first: top-1, notes, why there are no metrics."""
    remarks: dict[str, str] = {}
    for method in methods:
        result = method.result
        lines = [f"The target: {result.top1}."] if result.top1 else []
        lines += [f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in result.notes]
        lines += [f"There are no metrics: {result.unmeasured}."] if result.unmeasured else []
        remarks |= {line: method.name for line in lines if line not in remarks}
    several = len(methods) > 1 and len({method.result.top1 for method in methods}) > 1
    return [f"{name}: {line}" if several else line for line, name in remarks.items()]


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


def check_replaceable(folder: Path) -> None:
    """Refuse a folder whose index.html is not a page of ours."""
    if (folder / "index.html").exists() and not is_output(folder):
        raise InputError(
            f"{folder / 'index.html'} is not a report of jaxdesc and would be replaced: give "
            "another folder."
        )


def write(folder: Path, made: Iterable[tuple[str, bytes]]) -> int:
    """Write the report's files, index.html last, and return their size in bytes.

    Sheets of an earlier report are deleted; a folder with another page is refused.
    """
    check_replaceable(folder)
    sheets, size = folder / "sheets", 0
    sheets.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").unlink(missing_ok=True)  # it would show new sheets as old exemplars
    for old in sheets.glob("*.webp"):
        old.unlink()
    for name, content in made:
        (folder / name).write_bytes(content)
        size += len(content)
    return size
