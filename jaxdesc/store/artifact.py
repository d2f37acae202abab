"""A finished stage, and how it is found whole or damaged."""

import hashlib
import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdesc.store.place import Place

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Artifact:
    """A finished stage: arrays by name, and a few JSON values.

    Attributes:
        place: where it lies.
        values: the JSON values.
        computed: whether this run computed something of it, rather than finding it done.
    """

    place: Place
    values: dict[str, Any]
    computed: bool = False

    @property
    def name(self) -> str:
        """Stage and fingerprint."""
        return self.place.name

    @property
    def stage(self) -> str:
        """Stage that made it."""
        return self.name.rpartition("-")[0]

    def read(self, array: str) -> np.ndarray:
        """Read one array whole."""
        return self.place.get(self.place.open(array))

    def rows(self, array: str, batch: int) -> Iterator[np.ndarray]:
        """Read one array in pieces of at most `batch` rows, in order."""
        stored = self.place.open(array)
        for start in range(0, stored.shape[0], batch):
            stop = min(start + batch, stored.shape[0])
            yield self.place.get(stored, slice(start, stop))


@dataclass(frozen=True)
class Shard:
    """Some files of an artifact that were computed together, and what was noted meanwhile.

    Attributes:
        files: SHA-256 by name.
        values: JSON values.
    """

    files: dict[str, str]
    values: dict[str, Any]


@dataclass(frozen=True)
class Manifest:
    """What an artifact holds; its presence says that the artifact is whole.

    Attributes:
        inputs: all that its output depends on, but the code.
        values: its JSON values.
        shards: by their numbers.
        files: all others, SHA-256 by name.
    """

    inputs: Mapping[str, Any]
    values: dict[str, Any]
    shards: dict[int, Shard]
    files: dict[str, str]

    def write(self, place: Place) -> None:
        """Write it, with a checksum of its own."""
        content = {
            "inputs": self.inputs,
            "values": self.values,
            "shards": {str(number): vars(shard) for number, shard in self.shards.items()},
            "files": self.files,
        }
        place.write(MANIFEST, _sealed(content))

    def damaged(self, place: Place) -> list[str]:
        """Names of the files that are missing, or not as they were written."""
        wanted = self.checksums
        found = place.checksums(wanted)
        return [name for name, checksum in wanted.items() if found[name] != checksum]

    @property
    def checksums(self) -> dict[str, str]:
        """Of all files."""
        own = [self.files, *(shard.files for shard in self.shards.values())]
        return {name: checksum for files in own for name, checksum in files.items()}

    @classmethod
    def read(cls, place: Place) -> "Manifest | None":
        """Read it; nothing where there is none, or one that isn't as it was written."""
        content = _unsealed(place.read(MANIFEST))
        if content is None:
            return None
        shards = {int(number): Shard(**own) for number, own in content["shards"].items()}
        return cls(content["inputs"], content["values"], shards, content["files"])


def write_record(place: Place, number: int, shard: Shard) -> None:
    """Commit one shard of an artifact that is not finished yet."""
    place.write(f"shards/{number}.json", _sealed(vars(shard)))


def read_records(place: Place) -> dict[int, Shard]:
    """The shards that are committed, by number; a record that isn't whole is none."""
    found = {}
    for name in place.files("shards/"):
        content = _unsealed(place.read(name))
        if content is not None:
            found[int(name.removeprefix("shards/").removesuffix(".json"))] = Shard(**content)
    return dict(sorted(found.items()))


def tidy(place: Place, kept: Container[str]) -> None:
    """Delete what a finished artifact does not hold; the records last, which tell that there is."""
    others = {name.partition("/")[0] for name in place.files() if name not in kept}
    for name in sorted(others - {MANIFEST, "shards"}):
        place.at(name).delete_all()
    place.at("shards").delete_all()


def _sealed(content: Mapping[str, Any]) -> bytes:
    """JSON that carries a checksum of itself."""
    return f"{json.dumps({**content, 'sha256': _checksum(content)}, indent=1)}\n".encode()


def _unsealed(sealed: bytes | None) -> Any:
    """What `_sealed` was given; nothing where it is not as it was."""
    try:
        content = json.loads(sealed or b"")
        seal = content.pop("sha256")
    except (ValueError, AttributeError, KeyError, TypeError):
        return None
    return content if seal == _checksum(content) else None


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
