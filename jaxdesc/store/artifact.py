"""Artifacts: a stage's output on a disk or in a bucket, written shard by shard.

Every file of an artifact is listed with its checksum: the files of a shard in the shard's record,
and once all shards are there, all files in the manifest. A draft becomes an artifact when its
manifest is written.
"""

import hashlib
import json
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxdesc.errors import InputError
from jaxdesc.store.place import Place

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Artifact:
    """A finished stage: arrays by name, and a few JSON values.

    `computed` says that this run computed a part of it, rather than finding it done.
    """

    place: Place
    values: dict[str, Any]
    computed: bool = False

    @classmethod
    def at(cls, place: Place) -> "Artifact":
        """The finished artifact at a place, outside of a run."""
        return cls(place, (read_manifest(place) or {"values": {}})["values"])

    @property
    def name(self) -> str:
        """Stage and fingerprint."""
        return self.place.name

    @property
    def stage(self) -> str:
        """Stage that made it."""
        return self.name.rpartition("-")[0]

    def __contains__(self, array: str) -> bool:
        """True if it has an array of this name."""
        return self.place.read(f"{array}/zarr.json") is not None

    def read(self, array: str) -> np.ndarray:
        """Read a whole array."""
        return self.place.get(self.place.open(array))

    def rows(self, array: str, batch: int) -> Iterator[np.ndarray]:
        """Read an array in pieces of at most `batch` rows, in order."""
        stored = self.place.open(array)
        for start in range(0, stored.shape[0], batch):
            yield self.place.get(stored, slice(start, min(start + batch, stored.shape[0])))


@dataclass(frozen=True)
class Shards:
    """`total` rows, cut into shards of `each` rows; the last may be smaller."""

    total: int
    each: int

    def __len__(self) -> int:
        return -(-self.total // self.each)

    def rows(self, shard: int) -> range:
        """Rows of a shard."""
        return range(shard * self.each, min((shard + 1) * self.each, self.total))


def read_manifest(place: Place) -> dict[str, Any] | None:
    """Read an artifact's manifest; None if it is missing or damaged.

    It has the inputs, values, shards (as `write_record` takes them) and checksums of other files.
    """
    manifest: dict[str, Any] | None = _unsealed(place.read(MANIFEST))
    return manifest


def checksums(manifest: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of all files of an artifact by name."""
    groups = [manifest["files"], *(shard["files"] for shard in manifest["shards"].values())]
    return {name: checksum for files in groups for name, checksum in files.items()}


def is_finished(place: Place) -> bool:
    """True if a folder has a manifest, sound or not."""
    return place.read(MANIFEST) is not None


def write_record(place: Place, number: int | str, shard: Mapping[str, Any]) -> None:
    """Commit one shard of a draft: `files`, SHA-256 by name, and `values` noted meanwhile."""
    place.write(f"shards/{number}.json", _sealed(shard))


def read_records(place: Place) -> dict[int, dict[str, Any]]:
    """Committed shards of a draft by number, without damaged records."""
    shards = {}
    for name in place.files("shards/"):
        content = _unsealed(place.read(name))
        if content is not None:
            shards[int(name.removeprefix("shards/").removesuffix(".json"))] = content
    return dict(sorted(shards.items()))


def tidy(place: Place, kept: Container[str]) -> None:
    """Delete what a finished artifact does not list; records last: they show that this is due."""
    others = {name.partition("/")[0] for name in place.files() if name not in kept}
    for name in sorted(others - {MANIFEST, "shards"}):
        place.at(name).delete_all()
    place.at("shards").delete_all()


def _sealed(content: Mapping[str, Any]) -> bytes:
    """JSON with its own checksum."""
    return f"{json.dumps({**content, 'sha256': _checksum(content)}, indent=1)}\n".encode()


def _unsealed(sealed: bytes | None) -> Any:
    """The content that was sealed; None if it is missing or has changed."""
    try:
        content = json.loads(sealed or b"")
        seal = content.pop("sha256")
    except (ValueError, AttributeError, KeyError, TypeError):
        return None
    return content if seal == _checksum(content) else None


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass
class Draft:
    """An artifact being written by process `process` of `processes`.

    `values` are JSON values of the whole artifact; `committed` is called after each commit.
    """

    place: Place
    process: int = 0
    processes: int = 1
    values: dict[str, Any] = field(default_factory=dict)
    committed: Callable[[], None] = lambda: None
    _arrays: dict[str, Any] = field(default_factory=dict)
    _dropped: set[str] = field(default_factory=set)
    _count: int = 0

    def write(self, array: str, values: np.ndarray) -> None:
        """Write a whole array."""
        self._put(array, values, Shards(len(values), len(values)))

    def read(self, array: str) -> np.ndarray:
        """Read back a whole array."""
        return self.place.get(self.place.open(array))

    def missing(self, count: int) -> list[int]:
        """Shards, out of `count`, that this process has to compute and that are not there yet.

        Shard k belongs to process k modulo the number of processes, so they need not negotiate.
        """
        self._count = count
        done = read_records(self.place)
        return [k for k in range(self.process, count, self.processes) if k not in done]

    def commit(
        self,
        shard: int,
        arrays: Mapping[str, np.ndarray],
        shards: Shards | None = None,
        values: Mapping[str, Any] | None = None,
        alone: Mapping[str, np.ndarray] = {},
    ) -> None:
        """Write one shard; once this returns, no kill undoes it.

        Args:
            shard: its number.
            arrays: its rows of arrays that all shards share; without `shards`, as `alone`.
            shards: how the rows are cut.
            values: JSON values for `shard_values`.
            alone: arrays of this shard alone, with unique names.
        """
        files: list[str] = []
        parts = [(name, rows, shards) for name, rows in arrays.items()]
        for name, rows, cut in (*parts, *((name, rows, None) for name, rows in alone.items())):
            number = shard if cut else 0
            self._put(name, rows, cut or Shards(len(rows), len(rows)), number)
            files.append(f"{name}/zarr.json")
            if rows.size:
                files.append(f"{name}/c/{'/'.join([str(number), *['0'] * (rows.ndim - 1)])}")
        written = {n: c for n, c in self.place.checksums(files).items() if c is not None}
        write_record(self.place, shard, {"files": written, "values": dict(values or {})})
        self.committed()

    def shard_values(self) -> Iterator[dict[str, Any]]:
        """The values committed with each shard, ordered by shard number."""
        return (shard["values"] for shard in read_records(self.place).values())

    def drop(self, array: str) -> None:
        """Leave an array out of the finished artifact; finishing deletes it."""
        self._dropped.add(array)

    def check_complete(self) -> None:
        """Raise `InputError` if a shard is missing, because its process writes elsewhere."""
        absent = set(range(self._count)) - set(read_records(self.place))
        if absent:
            raise InputError(
                f"{self.place} lacks {len(absent)} of {self._count} shards, the first of them "
                f"number {min(absent)}: make all processes of the run write there, and start again."
            )

    def finish(self, inputs: Mapping[str, Any]) -> None:
        """Make it an artifact: write the manifest, and delete what is not part of it."""
        records = read_records(self.place)
        gone = {"shards", *self._dropped}
        files = {name for name in self.place.files() if name.partition("/")[0] not in gone}
        # A shard whose arrays are dropped can't be checked for damage any more.
        shards = {str(n): each for n, each in records.items() if files.issuperset(each["files"])}
        in_shards = {name for shard in shards.values() for name in shard["files"]}
        rest = self.place.checksums(sorted(files - in_shards))
        others = {name: checksum for name, checksum in rest.items() if checksum}
        manifest = {"inputs": inputs, "values": self.values, "shards": shards, "files": others}
        self.place.write(MANIFEST, _sealed(manifest))
        tidy(self.place, files)

    def _put(self, array: str, rows: np.ndarray, shards: Shards, shard: int = 0) -> None:
        if array not in self._arrays:
            shape = (shards.total, *rows.shape[1:])
            chunk = tuple(max(1, length) for length in (shards.each, *rows.shape[1:]))
            self._arrays[array] = self.place.create(array, rows.dtype, shape, chunk)
        self.place.put(self._arrays[array], shard * shards.each, rows)
