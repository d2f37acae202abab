"""The report: one page that opens from disk, with no network, and sheets of thumbnails beside it.

Whatever comes from outside (concepts, names of classes and images, paths) reaches the page as text
alone: through Jinja's autoescape, or as JSON whose `<`, `>` and `&` are escaped, which the script
puts into the document as text. A content security policy forbids everything but the page's own
script, style and sheets.
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
from jaxdesc.evaluation.metrics import f1, hit
from jaxdesc.report.files import Saved
from jaxdesc.report.pictures import CELL, COLUMNS, LEVELS, Picture, in_thousandths, sheet
from jaxdesc.report.tables import TITLES, similarity_name
from jaxdesc.result import UNSURE, Neuron, Result
from jaxdesc.store.workdir import is_output

UNSTABLE = 0.5  # below it a neuron's best concept is flagged
# What each flag of a neuron means.
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
TEMPLATES = "templates"

# All that could end a script element or an attribute, and what JavaScript once took for a new line.
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Method:
    """One way of describing a layer, as the page shows it.

    Attributes:
        name: for its heading.
        result: what it found.
        summary: of each metric its mean, standard error and ceiling, as `Result.metrics_dict`.
        facts: whatever else is worth knowing of it: its config, versions, fingerprints.
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
        config = saved.config
        name = f"{config.crop.view} view, {similarity_name(config.score.kappa)}"
        about = config.to_dict() | {"version": saved.versions}
        facts = _flat(about | {"fingerprint": saved.result.fingerprints})
        return cls(name, saved.result, saved.summary, facts, config.score.exemplars)

    @property
    def exemplars(self) -> int:
        """Number of exemplars per neuron, unless it is active on fewer images."""
        return self.asked or max(len(neuron.exemplars) for neuron in self.result)

    @property
    def stability(self) -> list[float | None]:
        """Of each neuron's best concept, None where it has none; empty where none was measured."""
        found = [next(iter(neuron.stability), None) for neuron in self.result]
        return found if any(neuron.stability for neuron in self.result) else []


def files(
    title: str, methods: Sequence[Method], pictures: Mapping[int, Picture]
) -> Iterator[tuple[str, bytes]]:
    """Make the report's files.

    Args:
        title: of the page.
        methods: of the same neurons on the same images; the first is the one that is listed.
        pictures: of every exemplar of every method, by its index.

    Yields:
        Relative paths and contents: the sheets of thumbnails, and at last index.html, which tells
        how large they are.

    Raises:
        InputError: methods whose neurons are not the same.
    """
    _check(methods)
    rankings = [_ranking(neuron) for method in methods for neuron in method.result]
    sheets = {ranking: place for place, ranking in enumerate(dict.fromkeys(filter(None, rankings)))}
    total = 0
    for ranking, place in sheets.items():
        content = sheet([pictures[image].thumbnail for image in ranking])
        total += len(content)
        yield f"sheets/{place}.webp", content
    yield "index.html", _html(title, methods, pictures, sheets, total).encode()


def _check(methods: Sequence[Method]) -> None:
    first, *others = methods
    own = [(neuron.layer, neuron.unit, neuron.names) for neuron in first.result]
    for other in others:
        if [(neuron.layer, neuron.unit, neuron.names) for neuron in other.result] != own:
            raise InputError(
                f"{other.name!r} describes other neurons than {first.name!r}: expected the same "
                "layer of the same network on both sides."
            )


def _ranking(neuron: Neuron) -> tuple[int, ...]:
    return tuple(exemplar.index for exemplar in neuron.exemplars)


def content(
    methods: Sequence[Method],
    pictures: Mapping[int, Picture],
    sheets: Mapping[tuple[int, ...], int],
) -> dict[str, Any]:
    """Collect what the page's script shows, as compact as JSON allows.

    A concept is [text, score], or [text, score, stability, q] as far as these were measured, an
    exemplar [place among images, activation, box in thousandths].

    Args:
        methods: of the same neurons.
        pictures: of every exemplar, by its index.
        sheets: which file holds each ranking of exemplars.
    """
    names = _image_names(methods)
    places = {image: place for place, image in enumerate(names)}
    shown = [pictures[image] for image in names]
    classes = list(dict.fromkeys(picture.explained for picture in shown))
    order = {name: place for place, name in enumerate(classes)}
    return {
        "cell": CELL,
        "columns": COLUMNS,
        "levels": LEVELS,
        "layer": methods[0].result[0].layer,
        "units": [neuron.unit for neuron in methods[0].result],
        "labels": [neuron.names for neuron in methods[0].result],
        "images": {
            "names": list(names.values()),
            "sizes": [own.size for own in shown],
            "heats": [own.heat for own in shown],
            "areas": [in_thousandths(own.area, own.size) if own.heat else [] for own in shown],
            "explained": [order[picture.explained] for picture in shown],
        },
        "classes": classes,
        "meanings": MEANINGS,
        "methods": [
            {
                "name": method.name,
                "asked": method.exemplars,
                "neurons": [_neuron(own, places, pictures, sheets) for own in method.result],
                "flags": [_flags(method, place) for place in range(len(method.result))],
                "measures": _measures(method.result),
                "stability": [v if v is None else _short(v) for v in method.stability],
            }
            for method in methods
        ],
    }


def _image_names(methods: Sequence[Method]) -> dict[int, str]:
    """The name of each image that is an exemplar, by its index."""
    neurons = (neuron for method in methods for neuron in method.result)
    found = {e.index: e.image for neuron in neurons for e in neuron.exemplars}
    return dict(sorted(found.items()))


def _neuron(
    neuron: Neuron,
    places: Mapping[int, int],
    pictures: Mapping[int, Picture],
    sheets: Mapping[tuple[int, ...], int],
) -> dict[str, Any]:
    return {
        "concepts": [
            [text, *map(_short, (score, *neuron.stability[place:][:1], *neuron.q[place:][:1]))]
            for place, (text, score) in enumerate(neuron.concepts)
        ],
        "maximum": _short(neuron.maximum),
        "threshold": _short(neuron.threshold),
        "sheet": sheets.get(_ranking(neuron)),
        "exemplars": [
            [places[e.index], _short(e.activation), *in_thousandths(e.box, pictures[e.index].size)]
            for e in neuron.exemplars
        ],
    }


def _flags(method: Method, place: int) -> list[str]:
    """A neuron's own flags, and what its label and its stability say of its concepts."""
    neuron = method.result[place]
    texts = [text for text, _ in neuron.concepts]
    disagree = bool(texts and neuron.names) and not hit(texts, neuron.names)
    unstable = next(iter(neuron.stability), 1.0) < UNSTABLE
    added = {"disagree": disagree, "unstable": unstable}
    return [*neuron.flags, *(flag for flag, holds in added.items() if holds)]


def _measures(result: Result) -> dict[str, list[float]]:
    """F1 with the label, by which the page sorts, and all else that was measured of each neuron."""
    if not all(neuron.names for neuron in result):
        return {}
    own = [f1([text for text, _ in neuron.concepts], neuron.names) for neuron in result]
    more = result.metrics.values if result.metrics else {}
    measured = {TITLES[kind]: [_short(v) for v in values] for kind, values in more.items()}
    return {TITLES["f1"]: [_short(value) for value in own]} | measured


def _short(number: float) -> float:
    return float(f"{number:.4g}")


def _html(
    title: str,
    methods: Sequence[Method],
    pictures: Mapping[int, Picture],
    sheets: Mapping[tuple[int, ...], int],
    total: int,
) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # for those who write a page

    environment = Environment(
        loader=PackageLoader("jaxdesc.report", TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = (_resource(name) for name in ("page.js", "page.css"))
    return environment.get_template("page.html").render(
        title=title,
        policy=_policy(script, style),
        script=script,
        style=style,
        data=as_data(content(methods, pictures, sheets)),
        layer=methods[0].result[0].layer,
        neurons=len(methods[0].result),
        images=len(_image_names(methods)),
        megabytes=f"{total / 1e6:.1f}",
        methods=methods,
        metrics=[(kind, TITLES[kind]) for kind in methods[0].summary],
        remarks=_remarks(methods),
        facts=_rows([method.facts for method in methods]),
        skipped=sorted({own for method in methods for own in method.result.skipped}),
    )


def _remarks(methods: Sequence[Method]) -> list[str]:
    """List what a reader has to know first: the target's top-1, notes, why there are no metrics."""
    found: dict[str, str] = {}
    for method in methods:
        result = method.result
        lines = [f"The target: {result.top1}."] if result.top1 else []
        lines += [f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in result.notes]
        lines += [f"There are no metrics: {result.unmeasured}."] if result.unmeasured else []
        found |= {line: method.name for line in lines if line not in found}
    several = len(methods) > 1 and len({method.result.top1 for method in methods}) > 1
    return [f"{name}: {line}" if several else line for line, name in found.items()]


def as_data(value: Any) -> str:
    """Write JSON that may stand within a script element, whatever its strings hold."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


def _policy(script: str, style: str) -> str:
    """Nothing but this script, this style and images that lie beside the page."""
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "img-src 'self' file:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _resource(name: str) -> str:
    return (resources("jaxdesc.report") / TEMPLATES / name).read_text(encoding="utf-8")


def _flat(values: Mapping[str, Any], where: str = "") -> dict[str, str]:
    """Nested settings as key.key: value; what is empty is left out."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{where}{key}.")
        elif value not in ("", (), []):
            listed = isinstance(value, list | tuple)
            found[f"{where}{key}"] = ", ".join(map(str, value)) if listed else str(value)
    return found


def _rows(facts: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """Facts side by side: one value where all methods have the same."""
    keys = dict.fromkeys(key for own in facts for key in own)
    rows = [(key, [own.get(key, "–") for own in facts]) for key in keys]
    return [(key, values[:1] if len(set(values)) == 1 else values) for key, values in rows]


def write(folder: Path, made: Iterable[tuple[str, bytes]]) -> int:
    """Write the report's files, index.html last; sheets of an earlier report disappear.

    Returns:
        Their size in bytes.

    Raises:
        InputError: the folder holds another page.
    """
    if (folder / "index.html").exists() and not is_output(folder):
        raise InputError(
            f"{folder / 'index.html'} is not a report of jaxdesc and would be replaced: give "
            "another folder."
        )
    sheets, total = folder / "sheets", 0
    sheets.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").unlink(missing_ok=True)  # it would show new sheets as old exemplars
    for old in sheets.glob("*.webp"):
        old.unlink()
    for name, own in made:
        (folder / name).write_bytes(own)
        total += len(own)
    return total
