"""The artifacts of a working directory: one folder per stage, named by what it depends on."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jaxdesc.runtime import fingerprint
from jaxdesc.store.artifact import (
    MANIFEST,
    Artifact,
    Draft,
    checksums,
    is_finished,
    read_manifest,
    read_records,
    tidy,
    write_record,
)
from jaxdesc.store.lock import locked
from jaxdesc.store.place import Place
from jaxdesc.store.processes import ALONE, Processes

Key = TypeVar("Key")


@dataclass
class Store:
    """The artifacts of one working directory, a path or a `Place` that is created when written to.

    Reading finished artifacts changes nothing, so the directory may be read-only. Before something
    is computed, the directory is locked for as long as `held` is open. `committed` is called after
    each shard that this process commits.
    """

    root: Any
    processes: Processes = ALONE
    committed: Callable[[], None] = lambda: None
    _depth: int = 0
    _lock: ExitStack | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.root, Place):
            self.root = Place(Path(self.root))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep a lock that is taken within, until the outermost `held` ends."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._lock and not self._depth:
                self._lock.close()
                self._lock = None

    def lock(self) -> None:
        """Lock the directory, unless another run is at work in it, until `held` ends."""
        if self.processes.leads and not self._lock:
            lock = ExitStack()
            lock.enter_context(locked(self.root))
            self._lock = lock

    def has(self, name: str, inputs: Mapping[str, Any]) -> bool:
        """True if an artifact is finished; it is not checked for damage."""
        return is_finished(self._place(name, inputs))

    def stages(
        self,
        name: str,
        inputs: Mapping[Key, Mapping[str, Any]],
        compute: Callable[[Mapping[Key, Draft]], None],
        finish: Callable[[Draft], None] | None = None,
    ) -> dict[Key, Artifact]:
        """Return several artifacts of a stage; those that are missing are computed together.

        If an artifact is damaged, only its damaged shards are computed again.

        Args:
            name: the stage.
            inputs: everything that each artifact's output depends on, except the code, for
                `fingerprint.of_inputs`; under keys that the caller chooses, no two alike.
            compute: writes the missing artifacts into drafts with the same keys; not called if none
                is missing. Without `finish` one process does it; with it all do, and each computes
                the shards that `Draft.missing` gives it.
            finish: adds to a draft what follows from all its shards; one process does it.
        """
        places = {key: self._place(name, each) for key, each in inputs.items()}
        with self.held():
            if self.processes.leads:
                for place in places.values():
                    self._repair(place)
            self.processes.sync(" ".join(place.name for place in places.values()))
            missing = {key: place for key, place in places.items() if not is_finished(place)}
            self.processes.sync(f"{name} begun")
            if missing:
                self._compute(name, inputs, missing, compute, finish)
        artifacts = {}
        for key, place in places.items():
            manifest = read_manifest(place)
            assert manifest is not None  # it was written or checked a moment ago
            artifacts[key] = Artifact(place, manifest["values"], key in missing)
        return artifacts

    def _place(self, name: str, inputs: Mapping[str, Any]) -> Place:
        place: Place = self.root.at(f"{name}-{fingerprint.of_inputs(inputs)}")
        return place

    def _compute(
        self,
        name: str,
        inputs: Mapping[Key, Mapping[str, Any]],
        places: Mapping[Key, Place],
        compute: Callable[[Mapping[Key, Draft]], None],
        finish: Callable[[Draft], None] | None,
    ) -> None:
        self.lock()
        processes = self.processes
        processes.sync(f"{name} locked")
        drafts = {
            key: Draft(place, processes.index, processes.count, committed=self.committed)
            for key, place in places.items()
        }
        try:
            if finish or processes.leads:
                compute(drafts)
            processes.sync(f"{name} computed")
            if processes.leads:
                for key, draft in drafts.items():
                    draft.check_complete()
                    if finish:
                        finish(draft)
                    draft.finish(inputs[key])
        except BaseException:
            if processes.count == 1:  # delete drafts without a committed shard
                for place in places.values():
                    if not is_finished(place) and not read_records(place):
                        place.delete_all()
            raise
        processes.sync(f"{name} finished")
        self.committed()

    def _repair(self, place: Place) -> None:
        """Turn a damaged artifact into a draft of its sound shards."""
        if not is_finished(place):
            return
        manifest = read_manifest(place)
        expected = checksums(manifest) if manifest else {MANIFEST: ""}
        found = place.checksums(expected)
        damaged = [name for name, checksum in expected.items() if found[name] != checksum]
        if not damaged:
            if place.files("shards/"):  # a kill came between the manifest and the tidying up
                self.lock()
                tidy(place, expected)
            return
        self.lock()
        logging.getLogger(__name__).warning(
            "%s: %s is not as it was written; what is damaged is computed again.", place, damaged[0]
        )
        for number, shard in (manifest["shards"] if manifest else {}).items():
            if not set(damaged) & set(shard["files"]):
                write_record(place, number, shard)
        for name in {*damaged, MANIFEST}:
            place.delete(name)
