"""What a run left in its working directory, read back."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxdesc.config import Config
from jaxdesc.errors import InputError
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.evaluation.top1 import Top1
from jaxdesc.report.tables import TITLES
from jaxdesc.result import CERTAINTY, Exemplar, Neuron, Result, Skipped


@dataclass(frozen=True)
class Saved:
    """A run's files.

    Attributes:
        config: every choice.
        versions: of the libraries that computed.
        result: its neurons, with each one's own metrics, skipped images and fingerprints.
        summary: of each metric its mean, standard error, neurons and ceiling.
    """

    config: Config
    versions: Mapping[str, str]
    result: Result
    summary: Mapping[str, Mapping[str, float]]


def read(workdir: Path) -> Saved:
    """Read the files that `files.write` and `files.write_skipped` wrote.

    Raises:
        InputError: a working directory without results, or with files of another version.
    """
    if not (workdir / "concepts.jsonl").exists():
        raise InputError(
            f"{workdir} holds no results: run describe with this --workdir first, or give another."
        )
    try:
        return _read(workdir)
    except InputError:
        raise
    except (OSError, LookupError, TypeError, ValueError, csv.Error) as error:
        raise InputError(
            f"The results in {workdir} are none of this version ({error!r}): describe anew in "
            "another working directory."
        ) from error


def _read(workdir: Path) -> Saved:
    about = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
    # Not splitlines: U+2028 and its like may stand within a string.
    text = (workdir / "concepts.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.split("\n") if line]
    if not lines:
        raise ValueError("concepts.jsonl is empty")
    measured = dict(json.loads((workdir / "metrics.json").read_text(encoding="utf-8")))
    target = measured.get("target")
    return Saved(
        config=Config.from_dict(about["config"]),
        versions=dict(about["versions"]),
        result=Result(
            neurons=tuple(_neuron(line) for line in lines),
            metrics=_metrics(lines),
            skipped=_skipped(workdir / "skipped.csv"),
            fingerprints=dict(about["fingerprints"]),
            top1=Top1(*(target[name] for name in Top1._fields)) if target else None,
            notes=tuple(measured.get("notes", ())),
        ),
        summary={name: own for name, own in measured.items() if name in TITLES},
    )


def _neuron(line: Mapping[str, Any]) -> Neuron:
    return Neuron(
        layer=str(line["layer"]),
        unit=int(line["unit"]),
        concepts=tuple((str(own["text"]), float(own["score"])) for own in line["concepts"]),
        maximum=float(line["max"]),
        threshold=float(line["threshold"]),
        exemplars=tuple(
            Exemplar(own["image"], float(own["activation"]), tuple(own["box"]), int(own["index"]))
            for own in line["exemplars"]
        ),
        flags=tuple(line["flags"]),
        names=tuple(line.get("names", ())),
        **{
            name: tuple(float(own[name]) for own in line["concepts"] if name in own)
            for name in CERTAINTY
        },
    )


def _metrics(lines: Sequence[Mapping[str, Any]]) -> Metrics | None:
    kinds = lines[0].get("metrics", {})
    values = {kind: np.array([own["metrics"][kind] for own in lines]) for kind in kinds}
    return Metrics(values) if values else None


def _skipped(path: Path) -> tuple[Skipped, ...]:
    """The images that were left out; a run that was made from Python may have no such list."""
    if not path.exists():
        return ()
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(Skipped(**row) for row in csv.DictReader(file))
