"""An artifact being written, shard by shard."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxdesc.errors import InputError
from jaxdesc.store.artifact import Manifest, Shard, read_records, tidy, write_record
from jaxdesc.store.place import Place


@dataclass(frozen=True)
class Shards:
    """Rows, cut into shards of equal size; the last may be smaller.

    Attributes:
        total: how many rows there are.
        each: how many of them a shard has.
    """

    total: int
    each: int

    def __len__(self) -> int:
        return -(-self.total // self.each)

    def rows(self, shard: int) -> range:
        """Which rows a shard has."""
        return range(shard * self.each, min((shard + 1) * self.each, self.total))


@dataclass
class Draft:
    """An artifact being written.

    Attributes:
        place: where.
        process: which of the processes that write it this is.
        processes: how many there are.
        values: JSON values of the whole artifact.
        committed: called after a shard is committed.
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
        """Write one array whole."""
        self._put(array, 0, values, len(values), len(values))

    def read(self, array: str) -> np.ndarray:
        """Read back one array that was written whole."""
        return self.place.get(self.place.open(array))

    def missing(self, count: int) -> list[int]:
        """Which of `count` shards are this process's, and not there yet.

        Shard k belongs to process k modulo their number, so that processes need not agree on more.
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
    ) -> None:
        """Write one shard; once this returns, no kill undoes it.

        Args:
            shard: its number.
            arrays: its rows of arrays that all shards share, or, without `shards`, arrays of its
                own, which need names of their own.
            shards: how the rows are cut.
            values: JSON values for `shard_values`.
        """
        files: dict[str, bool] = {}
        for name, rows in arrays.items():
            start = shards.rows(shard).start if shards else 0
            total, each = (shards.total, shards.each) if shards else (len(rows), len(rows))
            self._put(name, start, rows, total, each)
            chunk = [f"{name}/c/{start // max(1, each)}", *["0"] * (rows.ndim - 1)]
            files |= {f"{name}/zarr.json": True, "/".join(chunk): rows.size > 0}
        kept = [name for name, any_there in files.items() if any_there]
        checksums = {n: c for n, c in self.place.checksums(kept).items() if c is not None}
        write_record(self.place, shard, Shard(checksums, dict(values or {})))
        self.committed()

    def shard_values(self) -> Iterator[dict[str, Any]]:
        """The values that were committed with each shard, in the order of their numbers."""
        return (shard.values for shard in read_records(self.place).values())

    def drop(self, array: str) -> None:
        """Leave an array out of the finished artifact; it is deleted once that is finished."""
        self._dropped.add(array)

    def check_complete(self) -> None:
        """Look whether every shard that was asked for is there.

        Raises:
            InputError: one is not, since its process works elsewhere.
        """
        absent = set(range(self._count)) - set(read_records(self.place))
        if absent:
            raise InputError(
                f"{self.place} lacks {len(absent)} of {self._count} shards, the first of them "
                f"number {min(absent)}: see to it that all processes of the run write there, and "
                "start again."
            )

    def finish(self, inputs: Mapping[str, Any]) -> None:
        """Write the manifest: from here on, it is an artifact."""
        records = read_records(self.place)
        gone = {"shards", *self._dropped}
        there = {name for name in self.place.files() if name.partition("/")[0] not in gone}
        # A shard whose arrays are dropped can't be told sound or damaged any more.
        shards = {n: shard for n, shard in records.items() if there.issuperset(shard.files)}
        known = {name for shard in shards.values() for name in shard.files}
        rest = self.place.checksums(sorted(there - known))
        files = {name: checksum for name, checksum in rest.items() if checksum}
        Manifest(inputs, self.values, shards, files).write(self.place)
        tidy(self.place, there)

    def _put(self, array: str, start: int, rows: np.ndarray, total: int, each: int) -> None:
        if array not in self._arrays:
            shape = (total, *rows.shape[1:])
            chunk = tuple(max(1, length) for length in (each, *rows.shape[1:]))
            self._arrays[array] = self.place.create(array, rows.dtype, shape, chunk)
        self.place.put(self._arrays[array], start, rows)
