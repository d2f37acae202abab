"""The files a run leaves in its working directory."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import version
from typing import Any

from jaxdesc.config import Config, differences
from jaxdesc.errors import InputError
from jaxdesc.result import Result, Skipped, write_whole
from jaxdesc.store import Place, write_rows
from jaxdesc.store.workdir import is_result

FREE = "images.max_skipped:"  # says when to stop, and changes nothing that is found
REASONS = 5  # that a line names
LIBRARIES = ("jaxdesc", "jax", "jaxlib", "flax", "numpy", "pillow", "transformers")


def claim(workdir: Place, config: Config, overwrite: bool = False) -> list[str]:
    """Make a working directory this config's, or refuse one that is another's.

    Its config.json is written here, before anything is computed, so that a run that was stopped
    keeps its claim; the fingerprints are added at the end.

    Args:
        workdir: the directory.
        config: the run's.
        overwrite: drop what another config's run has found. Its artifacts stay: those that depend
            on nothing that has changed are found again, and no other ever is.

    Returns:
        The files that were dropped.

    Raises:
        InputError: naming every key that differs and what `overwrite` would drop; or a directory
            that can't be written.
    """
    content = workdir.read("config.json")
    if content is None:
        _write_config(workdir, config, {})
        return []
    try:
        old = dict(json.loads(content)["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{workdir / 'config.json'} is no config of a run ({error!r}): give another working "
            "directory."
        ) from error
    found = differences(old, json.loads(json.dumps(config.to_dict())))
    changed = [text for text in found if not text.startswith(FREE)]
    if not changed:
        return []
    results = [name for name in workdir.files() if is_result(name)]
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


def write(workdir: Place, config: Config, result: Result) -> None:
    """Write concepts.jsonl, concepts.csv and metrics.json, and complete config.json."""
    _write_config(workdir, config, result.fingerprints)
    result.to_json(workdir / "concepts.jsonl")
    result.to_csv(workdir / "concepts.csv")
    _write_json(workdir / "metrics.json", _measured(result))


def _measured(result: Result) -> dict[str, Any]:
    """The metrics, or why there are none; the target's top-1; what else is to be known."""
    content = result.metrics_dict() or {"unmeasured": result.unmeasured}
    if result.top1:
        content["target"] = {"top1": result.top1.share} | result.top1._asdict()
    return content | ({"notes": list(result.notes)} if result.notes else {})


def write_skipped(workdir: Place, skipped: Iterable[Skipped]) -> None:
    """Write skipped.csv, a row for each image that is left out: image, reason, source.

    It is written where there are none too, so that an earlier run's list never stands for this one.
    """
    write_rows(workdir / "skipped.csv", Skipped._fields, sorted(skipped))


def left_out(skipped: Collection[Skipped]) -> str:
    """A line that counts the images of skipped.csv by reason."""
    counts = Counter(own.reason for own in skipped).most_common()
    reasons = "; ".join(f"{count} {reason}" for reason, count in counts[:REASONS])
    more = sum(count for _, count in counts[REASONS:])
    return (
        f"images left out, listed in skipped.csv: {len(skipped)} ({reasons}"
        f"{f'; {more} for other reasons' if more else ''})"
    )


def _write_config(workdir: Place, config: Config, fingerprints: Mapping[str, str]) -> None:
    content = {
        "config": config.to_dict(),
        "versions": {name: version(name) for name in LIBRARIES},
        "fingerprints": dict(fingerprints),
    }
    _write_json(workdir / "config.json", content)


def _write_json(path: str, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False)
    write_whole(path, lambda file: print(text, file=file))
