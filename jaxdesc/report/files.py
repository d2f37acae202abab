"""The files that a run leaves in its working directory, written and read back."""

import csv
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from jaxdesc.config import Config, differences
from jaxdesc.errors import InputError
from jaxdesc.evaluation.metrics import METRICS, Metrics
from jaxdesc.evaluation.top1 import Top1
from jaxdesc.result import CERTAINTY, Exemplar, Neuron, Result, Skipped
from jaxdesc.stages.batches import with_batches
from jaxdesc.store import Place, write_file, write_rows
from jaxdesc.store.workdir import folder_of, is_result

# May differ in a run that goes on: they change no result.
CHANGEABLE = ("images.max_skipped:", "images.workers:")
REASONS = 5  # reasons that a line names
LIBRARIES = ("jaxdesc", "jax", "jaxlib", "flax", "numpy", "pillow", "transformers")


def resumed(workdir: Place, config: Config) -> Config:
    """Take the batches that a config leaves open from the run that is there, if any."""
    content = workdir.read("config.json")
    with suppress(ValueError, KeyError, TypeError):  # `claim` refuses such a file
        old = json.loads(content or "")["config"]
        return with_batches(config, int(old["images"]["batch"]), int(old["clip"]["batch"]))
    return config


def claim(workdir: Place, config: Config, overwrite: bool = False) -> list[str]:
    """Make a working directory this config's, or refuse one that is another's.

    Its config.json is written here, before anything is computed, so that a run that was stopped
    keeps its claim; the fingerprints are added at the end. `overwrite` drops the results of a run
    with another config and returns their names. Its artifacts stay: those that depend on nothing
    that has changed are used again, and no others ever are.
    """
    content = workdir.read("config.json")
    if content is None:
        _write_config(workdir, config, {})
        return []
    try:
        old = dict(json.loads(content)["config"])
        layers = dict(old.get("target", {})).get("layers", ())
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{workdir / 'config.json'} is not a config of a run ({error!r}): give another working "
            "directory."
        ) from error
    keys = differences(old, json.loads(json.dumps(_values(config))))
    changed = [text for text in keys if not text.startswith(CHANGEABLE)]
    if not changed:
        return []
    folders = [f"{folder_of(layer)}/" for layer in layers]
    results = [name for name in workdir.files() if is_result(_within(name, folders))]
    if not overwrite:
        raise InputError(
            f"{workdir} holds a run with another config ({'; '.join(changed)}): give another "
            f"working directory, or the same config, or --overwrite, which drops "
            f"{', '.join(results)} and keeps the artifacts that still fit."
        )
    for name in results:
        workdir.delete(name)
    _write_config(workdir, config, {})
    return results


def _within(name: str, folders: Iterable[str]) -> str:
    """Path of a file in the first of these folders that it is in; its own if in none."""
    return next((name.removeprefix(f) for f in folders if name.startswith(f)), name)


def _values(config: Config) -> dict[str, Any]:
    """A config as config.json holds it: `target.layers` is there if there are several."""
    values = config.to_dict()
    if not config.target.layers:
        del values["target"]["layers"]
    return values


def write(workdir: Place, config: Config, result: Result) -> None:
    """Write concepts.jsonl, concepts.csv and metrics.json, and complete config.json."""
    _write_config(workdir, config, result.fingerprints)
    result.to_json(workdir / "concepts.jsonl")
    result.to_csv(workdir / "concepts.csv")
    measured = result.metrics_dict() or {"unmeasured": result.unmeasured}
    if result.top1:
        measured["target"] = {"top1": result.top1.share} | result.top1._asdict()
    if result.notes:
        measured["notes"] = list(result.notes)
    _write_json(workdir / "metrics.json", measured)


def write_skipped(workdir: Place, skipped: Iterable[Skipped]) -> None:
    """Write skipped.csv, even without images, so that it can't be an earlier run's list."""
    write_rows(workdir / "skipped.csv", Skipped._fields, sorted(skipped))


def left_out(skipped: Collection[Skipped]) -> str:
    """A line that counts the images of skipped.csv by reason."""
    counts = Counter(image.reason for image in skipped).most_common()
    reasons = [f"{count} {reason}" for reason, count in counts[:REASONS]]
    if more := sum(count for _, count in counts[REASONS:]):
        reasons.append(f"{more} for other reasons")
    return f"images left out, listed in skipped.csv: {len(skipped)} ({'; '.join(reasons)})"


def _write_config(workdir: Place, config: Config, fingerprints: Mapping[str, str]) -> None:
    content = {
        "config": _values(config),
        "versions": {name: version(name) for name in LIBRARIES},
        "fingerprints": dict(fingerprints),
    }
    _write_json(workdir / "config.json", content)


def _write_json(path: str, content: Mapping[str, Any]) -> None:
    write_file(path, f"{json.dumps(content, indent=1, ensure_ascii=False)}\n".encode())


def layers_in(workdir: Path) -> tuple[str, ...]:
    """Layers of a working directory of several, whose results are in `folder_of` each; else ()."""
    with suppress(OSError, LookupError, TypeError, ValueError):  # `read` refuses such a file
        about = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
        return Config.from_dict(about["config"]).target.layers
    return ()


@dataclass(frozen=True)
class Saved:
    """A run's files; `summary` has the mean, standard error, neurons and ceiling of each metric.

    The result has neurons with their metrics, skipped images and fingerprints.
    """

    config: Config
    versions: Mapping[str, str]
    result: Result
    summary: Mapping[str, Mapping[str, float]]


def read(workdir: Path) -> Saved:
    """Read the files of `write` and `write_skipped`."""
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
            f"The results in {workdir} are none of this version ({error!r}): describe again in "
            "another working directory."
        ) from error


def _read(workdir: Path) -> Saved:
    about = json.loads((workdir / "config.json").read_text(encoding="utf-8"))
    # Not splitlines: a string may contain U+2028 and the like.
    text = (workdir / "concepts.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.split("\n") if line]
    if not lines:
        raise ValueError("concepts.jsonl is empty")
    kinds = [kind for kind in lines[0].get("metrics", {}) if kind in METRICS]
    values = {kind: np.array([line["metrics"][kind] for line in lines]) for kind in kinds}
    measured = dict(json.loads((workdir / "metrics.json").read_text(encoding="utf-8")))
    target, skipped = measured.get("target"), workdir / "skipped.csv"
    images: tuple[Skipped, ...] = ()
    if skipped.exists():  # a run that was made from Python may have no such list
        with skipped.open(newline="", encoding="utf-8") as file:
            images = tuple(Skipped(**row) for row in csv.DictReader(file))
    return Saved(
        config=Config.from_dict(about["config"]),
        versions=dict(about["versions"]),
        result=Result(
            neurons=tuple(_neuron(line) for line in lines),
            metrics=Metrics(values) if values else None,
            skipped=images,
            fingerprints=dict(about["fingerprints"]),
            top1=Top1(*(target[name] for name in Top1._fields)) if target else None,
            notes=tuple(measured.get("notes", ())),
        ),
        summary={name: value for name, value in measured.items() if name in METRICS},
    )


def _neuron(line: Mapping[str, Any]) -> Neuron:
    concepts = line["concepts"]
    return Neuron(
        layer=str(line["layer"]),
        unit=int(line["unit"]),
        concepts=tuple((str(concept["text"]), float(concept["score"])) for concept in concepts),
        maximum=float(line["max"]),
        threshold=float(line["threshold"]),
        exemplars=tuple(
            Exemplar(e["image"], float(e["activation"]), tuple(e["box"]), int(e["index"]))
            for e in line["exemplars"]
        ),
        flags=tuple(line["flags"]),
        names=tuple(line.get("names", ())),
        **{name: tuple(float(c[name]) for c in concepts if name in c) for name in CERTAINTY},
        properties={name: float(value) for name, value in line.get("properties", {}).items()},
    )
