"""A folder, on a disk or in a bucket, whose files are whole or not there (TensorStore)."""

import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from jaxdesc.errors import InputError

# Files that are read at a time when all of a folder's are checked.
_AT_ONCE = 32

# A bucket has to answer its first request within so many seconds and retries. Later ones have
# TensorStore's own patience, a quarter of an hour, and end no run for a short outage.
_PATIENCE = 30.0
_RETRIES = 4

_reached: set[str] = set()


class Place:
    """A folder.

    A file is written under another name and renamed when it is on the disk, or uploaded in one
    request, so that no reader and no kill ever meets a part of one.

    Args:
        url: a local path, whose `~` is expanded, or a bucket's `gs://BUCKET/PATH`; made when
            something is written.

    Raises:
        InputError: an address that TensorStore does not know, or a bucket that can't be reached.
    """

    def __init__(self, url: str | Path):
        self.local = None if "://" in str(url) else _local(url)
        self.url = str(self.local or str(url).rstrip("/"))
        if self.local:
            self._spec = {"driver": "file", "path": f"{self.url}/"}
        else:
            self._spec = _remote(self.url)
            _reach(self.url, self._spec)
        self._files = ts.KvStore.open(self._spec).result()

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> str:
        """Address of a file in it."""
        return f"{self.url}/{name}"

    @property
    def name(self) -> str:
        """Last part of its address."""
        return self.url.rpartition("/")[2]

    def at(self, name: str) -> "Place":
        """A folder in it."""
        return Place(f"{self.url}/{name}")

    def read(self, name: str) -> bytes | None:
        """Read a file whole; nothing where there is none.

        Raises:
            InputError: one that can't be read.
        """
        with self._told("read"):
            found = self._files.read(name).result()
            return bytes(found.value) if found.state == "value" else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file; one that holds just this already is left alone.

        Raises:
            InputError: it can't be written: the disk is full, the folder read-only.
        """
        with self._told("written"):
            if self.read(name) != content:
                self._files.write(name, content).result()

    def generation(self, name: str) -> bytes:
        """What tells one writing of a file from another; that of a missing file is its own."""
        with self._told("read"):
            return self._files.read(name).result().stamp.generation

    def write_if(self, name: str, content: bytes | None, generation: bytes) -> bytes:
        """Write a file, or delete it, if nobody has written it since `generation`.

        Returns:
            The new generation; nothing where somebody has.
        """
        with self._told("written"):
            written = self._files.write(name, content, if_equal=generation).result()
            return written.generation

    def delete(self, name: str) -> None:
        """Delete a file, if there is one."""
        with self._told("written"):
            self._files.write(name, None).result()

    def delete_all(self) -> None:
        """Delete it, with all that it holds."""
        with self._told("written"):
            if self.local:
                shutil.rmtree(self.local, ignore_errors=True)
            else:
                self._files.delete_range(ts.KvStore.KeyRange()).result()

    def files(self, folder: str = "") -> list[str]:
        """Names of all files in a folder of it, and in folders within."""
        within = ts.KvStore.KeyRange(folder, f"{folder[:-1]}0") if folder else ts.KvStore.KeyRange()
        with self._told("read"):
            return sorted(key.decode() for key in self._files.list(within).result())

    def unused(
        self, stem: str, suffix: str, same: Callable[[bytes], bool] = lambda _: False
    ) -> str:
        """Find a name under which nothing else is replaced.

        Args:
            stem: of the file's name.
            suffix: what the file's name ends with.
            same: whether a file holds what is to be written, so that it may be replaced.

        Returns:
            The first of `stem`, `stem-2`, `stem-3` … with no file of that suffix, or with the same.
        """
        for number in count(1):
            name = stem if number == 1 else f"{stem}-{number}"
            content = self.read(f"{name}{suffix}")
            if content is None or same(content):
                return name
        raise AssertionError("numbers don't end")

    def checksums(self, names: Iterable[str]) -> dict[str, str | None]:
        """SHA-256 of files as they lie there, in hexadecimal; nothing for one that is missing."""
        found: dict[str, str | None] = {}
        names = list(names)
        with self._told("read"):
            for start in range(0, len(names), _AT_ONCE):
                own = names[start : start + _AT_ONCE]
                reads = [self._files.read(name) for name in own]
                for name, read in zip(own, reads, strict=True):
                    file = read.result()
                    there = file.state == "value"
                    found[name] = hashlib.sha256(file.value).hexdigest() if there else None
        return found

    def create(self, array: str, dtype: Any, shape: tuple[int, ...], chunk: tuple[int, ...]) -> Any:
        """Make a Zarr array, or open the one of that shape which is there.

        Its chunks are as tall as `chunk`, and carry a checksum of their own.

        Raises:
            InputError: it can't be written.
        """
        metadata = {
            "shape": shape,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "data_type": ts.dtype(dtype).name,
            "codecs": [{"name": "bytes"}, {"name": "crc32c"}],
        }
        spec = self._array(array) | {"metadata": metadata, "store_data_equal_to_fill_value": True}
        with self._told("written"):
            return ts.open(spec, create=True, open=True).result()

    def put(self, array: Any, start: int, rows: np.ndarray) -> None:
        """Write rows of an array that `create` has made."""
        with self._told("written"):
            array[start : start + len(rows)].write(rows).result()

    def open(self, array: str) -> Any:
        """Open a Zarr array to read."""
        with self._told("read"):
            return ts.open(self._array(array), open=True).result()

    def get(self, array: Any, rows: slice = slice(None)) -> np.ndarray:
        """Read rows of an array that `open` has opened.

        Raises:
            InputError: it can't be read, or is not as it was written.
        """
        with self._told("read"):
            return np.asarray(array[rows].read().result())

    def _array(self, name: str) -> dict[str, Any]:
        kvstore = self._spec | {"path": f"{self._spec['path']}{name}/"}
        return {"driver": "zarr3", "kvstore": kvstore}

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        """What TensorStore or the system says becomes a sentence."""
        try:
            yield
        except InputError:
            raise
        except (ValueError, OSError) as error:  # TensorStore's are ValueErrors of many kinds
            raise InputError(
                f"{self.url} can't be {done} ({_reason(error)}): {_remedy(error)}; what was "
                "finished is kept."
            ) from error


def _local(path: str | Path) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise InputError(
            f"{str(path)!r} is in the home directory of a user that this machine does not know: "
            "give the path itself."
        ) from error


def _remote(url: str) -> dict[str, Any]:
    try:
        return ts.KvStore.open(f"{url}/").result().spec().to_json()
    except ValueError as error:
        reason = str(error).rpartition('/": ')[2]
        raise InputError(
            f"{url!r} is not the address of a folder ({reason}): give a local path, or "
            "gs://BUCKET/PATH."
        ) from error


def _reach(url: str, spec: dict[str, Any]) -> None:
    """Ask a bucket for a small file when it is first named, whether there is one or not."""
    bucket = "/".join(url.split("/")[:3])
    if bucket in _reached or spec["driver"] not in ("gcs", "s3", "http"):
        return
    retries = {f"{spec['driver']}_request_retries": {"max_retries": _RETRIES}}
    try:
        files = ts.KvStore.open(spec | {"context": retries}).result(timeout=_PATIENCE)
        files.read("lock").result(timeout=_PATIENCE)
    except (ValueError, OSError) as error:
        late = isinstance(error, TimeoutError)
        reason = f"no answer within {_PATIENCE:g} s" if late else _reason(error)
        raise InputError(
            f"{url} can't be reached ({reason}): see to the network, to the name of the bucket and "
            "to credentials that may read and write it, or give a local folder."
        ) from error
    _reached.add(bucket)


def _reason(error: Exception) -> str:
    """What is wrong, without TensorStore's codes; the system's own words where there are any."""
    text, bracket, rest = " ".join(str(error).split()).partition(" [")
    if rest.startswith("os_error_code"):
        return text.rpartition(": ")[2]
    return text.partition(": ")[2] if bracket else text


def _remedy(error: Exception) -> str:
    if re.search("No space|quota|too large|RESOURCE_EXHAUSTED", str(error)):
        return "make room and start again"
    return "give a folder that can be, or see to this one and start again"


def read_file(path: str | Path) -> bytes | None:
    """Read a file, on a disk or in a bucket; nothing where there is none.

    Raises:
        InputError: as `Place.read`.
    """
    folder, name = _parted(path)
    return folder.read(name)


def write_file(path: str | Path, content: bytes) -> None:
    """Write a file, on a disk or in a bucket, as `Place.write` does.

    Raises:
        InputError: as `Place.write`.
    """
    folder, name = _parted(path)
    folder.write(name, content)


def _parted(path: str | Path) -> tuple[Place, str]:
    if "://" not in str(path):
        path = _local(path)
    folder, _, name = str(path).rpartition("/")
    return Place(folder or "/"), name
