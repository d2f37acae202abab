"""The page of a report, which opens from disk without a network, its pieces and its sheets.

Text from outside (concepts, names of classes and images, paths) reaches the page only as text:
through Jinja's autoescape, or as JSON whose `<`, `>` and `&` are escaped, which the script puts
into the document as text. A content security policy forbids everything but the page's own script
and style and the files next to it: sheets of thumbnails, and pieces of data, which are classic
scripts, since a page from disk may fetch nothing.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from jaxdesc.errors import InputError, shown
from jaxdesc.evaluation.metrics import METRICS
from jaxdesc.report import data
from jaxdesc.report.data import Method
from jaxdesc.report.pictures import Picture, sheet
from jaxdesc.result import Result
from jaxdesc.store.workdir import is_output

SHEETS, PIECES = "sheets", "units"  # folders

# Characters that could end a script element or an attribute, or were line ends in JavaScript.
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def files(
    title: str, methods: Sequence[Method], pictures: Mapping[int, Picture]
) -> Iterator[tuple[str, bytes]]:
    """Make the report's files: relative paths and contents.

    The sheets of thumbnails and the pieces come first, and finally index.html, which says how large
    they are. `methods` are for the same neurons and images, and the first is listed; `pictures` has
    the exemplars of the neurons that get thumbnails, by their index.
    """
    data.check_same(methods)
    size, count = 0, len(methods[0].result)
    for name, content in pieces(range(-(-count // data.PIECE)), methods, pictures):
        size += len(content) if name.startswith(SHEETS) else 0
        yield name, content
    index = data.index_of(methods, pictures)
    yield "index.html", _html(title, methods, index, size, len(pictures)).encode()


def pieces(
    numbers: Iterable[int], methods: Sequence[Method], pictures: Mapping[int, Picture]
) -> Iterator[tuple[str, bytes]]:
    """Make some of the pieces, each before its sheets; no sheet comes twice."""
    made = set[str]()
    for number in numbers:
        piece, sheets = data.piece_of(number, methods, pictures)
        yield f"{PIECES}/{number}.js", f"addPiece({number},{_json(piece)});\n".encode()
        for name, ranking in sheets.items():
            if name not in made:
                made.add(name)
                thumbnails = sheet([pictures[image].thumbnail for image in ranking])
                yield f"{SHEETS}/{name}.webp", thumbnails


def drawn(folder: Path, number: int) -> list[int]:
    """Places of the neurons of a written piece that have thumbnails in some method."""
    file = folder / PIECES / f"{number}.js"
    try:
        text = file.read_text(encoding="utf-8")
        piece = json.loads(text[text.index("{") : text.rindex(")")])
        groups = zip(*piece["methods"], strict=True)
        places = [any(neuron["sheet"] for neuron in group) for group in groups]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{file} can't be read ({shown(error)}): write the whole report first, without "
            "--thumbnails."
        ) from error
    return [number * data.PIECE + place for place, has in enumerate(places) if has]


def _json(content: Any) -> str:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


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


def _html(
    title: str, methods: Sequence[Method], index: Mapping[str, Any], size: int, images: int
) -> str:
    (script, script_hash), (style, style_hash) = map(_own, ("page.js", "page.css"))
    keys = dict.fromkeys(key for method in methods for key in method.facts)
    rows = [(key, [method.facts.get(key, "–") for method in methods]) for key in keys]
    html: str = _template("page.html").render(
        title=title,
        policy=(
            f"default-src 'none'; script-src {script_hash} 'self' file:; style-src {style_hash}; "
            "img-src 'self' file:; base-uri 'none'; form-action 'none'"
        ),
        script=script,
        style=style,
        data=_json(index),
        layer=index["layer"],
        neurons=len(index["units"]),
        images=images,
        megabytes=f"{size / 1e6:.1f}",
        methods=methods,
        metrics=[(kind, METRICS[kind].title) for kind in methods[0].summary],
        verdicts=[method.verdict for method in methods if method.verdict],
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
    (folder / "index.html").unlink(missing_ok=True)  # it would show new sheets as old exemplars
    for kind, suffix in ((SHEETS, "webp"), (PIECES, "js")):
        for old in (folder / kind).glob(f"*.{suffix}"):
            old.unlink()
    return add(folder, made)


def add(folder: Path, made: Iterable[tuple[str, bytes]]) -> int:
    """Write files of a report, whose others stay, and return their size in bytes."""
    size = 0
    for kind in (SHEETS, PIECES):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name, content in made:
        (folder / name).write_bytes(content)
        size += len(content)
    return size
