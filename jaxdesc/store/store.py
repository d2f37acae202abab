"""The artifacts of a working directory: one folder a stage, named by what it depends on."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxdesc.runtime import fingerprint
from jaxdesc.store.artifact import MANIFEST, Artifact, Manifest, read_records, tidy, write_record
from jaxdesc.store.draft import Draft
from jaxdesc.store.lock import Lock
from jaxdesc.store.place import Place
from jaxdesc.store.processes import ALONE, Processes

Drafts = Mapping[str, Draft]


@dataclass
class Store:
    """The artifacts of one working directory.

    Reading what is finished changes nothing there, so that it may be read-only. Before something is
    computed, the directory is locked for as long as `held` is open.

    Attributes:
        root: where they lie; made when something is written. A path becomes a `Place`.
        processes: those that work on it together.
        committed: called after each shard that this process commits.
    """

    root: Any
    processes: Processes = ALONE
    committed: Callable[[], None] = lambda: None
    _lock: Lock = field(init=False)
    _depth: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.root, Place):
            self.root = Place(Path(self.root))
        self._lock = Lock(self.root)

    @contextmanager
    def held(self) -> Iterator[None]:
        """While this is open, what was locked to compute something stays locked."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._lock.release()

    def lock(self) -> None:
        """Lock it, until `held` ends.

        Raises:
            InputError: another run is at work on it, or it can't be written.
        """
        if self.processes.leads:
            self._lock.acquire()

    def has(self, name: str, inputs: Mapping[str, Any]) -> bool:
        """Whether an artifact is finished; whether it is still sound isn't looked at."""
        return _finished(self.root.at(f"{name}-{fingerprint.of_inputs(inputs)}"))

    def stages(
        self,
        name: str,
        inputs: Mapping[str, Mapping[str, Any]],
        compute: Callable[[Drafts], None],
        finish: Callable[[Draft], None] | None = None,
    ) -> dict[str, Artifact]:
        """Return several artifacts of a stage, computing together those that are not there.

        Of an artifact of which something is damaged, only the damaged shards are computed again.

        Args:
            name: of the stage.
            inputs: of each artifact, by a key of the caller's, everything its output depends on but
                the code, for `fingerprint.of_inputs`; no two alike.
            compute: writes the missing artifacts, in drafts by the same keys; not called where none
                is missing. Without `finish` one process does; with it all do, each the shards that
                `Draft.missing` gives it.
            finish: adds to a draft what follows from all its shards together; one process does.

        Returns:
            The finished artifacts by key.

        Raises:
            InputError: another run is at work here, or the directory can't be read or written.
        """
        places = {
            key: self.root.at(f"{name}-{fingerprint.of_inputs(own)}") for key, own in inputs.items()
        }
        with self.held():
            if self.processes.leads:
                for place in places.values():
                    self._repair(place)
            self.processes.sync(" ".join(place.name for place in places.values()))
            missing = {key: place for key, place in places.items() if not _finished(place)}
            self.processes.sync(f"{name} begun")
            if missing:
                self._compute(name, {key: inputs[key] for key in missing}, missing, compute, finish)
        return {key: _opened(place, key in missing) for key, place in places.items()}

    def _compute(
        self,
        name: str,
        inputs: Mapping[str, Mapping[str, Any]],
        places: Mapping[str, Place],
        compute: Callable[[Drafts], None],
        finish: Callable[[Draft], None] | None,
    ) -> None:
        self.lock()
        self.processes.sync(f"{name} locked")
        own = self.processes.index, self.processes.count
        drafts = {
            key: Draft(place, *own, committed=self.committed) for key, place in places.items()
        }
        try:
            if finish or self.processes.leads:
                compute(drafts)
            self.processes.sync(f"{name} computed")
            if self.processes.leads:
                for key, draft in drafts.items():
                    draft.check_complete()
                    if finish:
                        finish(draft)
                    draft.finish(inputs[key])
        except BaseException:
            if self.processes.count == 1:
                _drop_useless(places.values())
            raise
        self.processes.sync(f"{name} finished")
        self.committed()

    def _repair(self, place: Place) -> None:
        """Of a finished artifact that is damaged, leave what is sound as an unfinished one."""
        if place.read(MANIFEST) is None:
            return
        manifest = Manifest.read(place)
        damaged = manifest.damaged(place) if manifest else [MANIFEST]
        if manifest and not damaged:
            if place.files("shards/"):  # a kill came between the manifest and the tidying up
                self.lock()
                tidy(place, manifest.checksums)
            return
        self.lock()
        logging.getLogger(__name__).warning(
            "%s: %s is not as it was written; what is damaged is computed again.", place, damaged[0]
        )
        for number, shard in (manifest.shards if manifest else {}).items():
            if not set(damaged) & set(shard.files):
                write_record(place, number, shard)
        for name in {*damaged, MANIFEST}:
            place.delete(name)


def _drop_useless(places: Iterable[Place]) -> None:
    """Of what was begun, delete that of which nothing was committed."""
    for place in places:
        if place.read(MANIFEST) is None and not read_records(place):
            place.delete_all()


def _finished(place: Place) -> bool:
    return place.read(MANIFEST) is not None


def _opened(place: Place, computed: bool) -> Artifact:
    manifest = Manifest.read(place)
    assert manifest is not None  # it was finished, or looked at, a moment ago
    return Artifact(place, manifest.values, computed)
