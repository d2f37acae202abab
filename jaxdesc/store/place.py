"""Folders on a disk or in a bucket, read and written with TensorStore.

TensorStore writes a file under another name and renames it once it is on the disk, or uploads it in
one request, so no reader and no kill ever meets a part of a file.
"""

import csv
import hashlib
import io
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from jaxdesc.errors import InputError

# Files that are read at the same time when a folder is checked.
_AT_ONCE = 32

# Limits of a bucket's first answer, in seconds and retries. Later requests have TensorStore's own,
# a quarter of an hour, so that a short outage does not end a run.
_PATIENCE = 30.0
_RETRIES = 4

_reached: set[str] = set()

# A spreadsheet runs cells that begin like this; the last four are full-width.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class Place:
    """A folder whose files are whole or not there, created when something is written.

    `url` is a local path, whose `~` is expanded, or a bucket's `gs://BUCKET/PATH`.

    Raises:
        InputError: an address that TensorStore does not know, a bucket that can't be reached; and
            from every method, what can't be read (damaged, say) or written (full, read-only).
    """

    def __init__(self, url: str | Path):
        self.local = None if "://" in str(url) else _local(url)
        self.url = str(self.local or str(url).rstrip("/"))
        if self.local:
            self._spec = {"driver": "file", "path": f"{self.url}/"}
        else:
            self._spec = _bucket(self.url)
        self._files = ts.KvStore.open(self._spec).result()

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> str:
        """Address of a file in the folder."""
        return f"{self.url}/{name}"

    @property
    def name(self) -> str:
        """Last part of the address."""
        return self.url.rpartition("/")[2]

    def at(self, name: str) -> "Place":
        """A folder inside this one."""
        return Place(f"{self.url}/{name}")

    def read(self, name: str) -> bytes | None:
        """Read a whole file; None if there is none."""
        with self._errors("read"):
            file = self._files.read(name).result()
            return bytes(file.value) if file.state == "value" else None

    def write(self, name: str, content: bytes) -> None:
        """Write a file, unless it already has this content."""
        with self._errors("written"):
            if self.read(name) != content:
                self._files.write(name, content).result()

    def generation(self, name: str) -> bytes:
        """Version tag of a file; missing files have a tag too."""
        with self._errors("read"):
            return self._files.read(name).result().stamp.generation

    def write_if(self, name: str, content: bytes | None, generation: bytes) -> bytes:
        """Write a file, or delete it if `content` is None, unless its version tag has changed.

        Returns its new tag; empty if it had changed.
        """
        with self._errors("written"):
            return self._files.write(name, content, if_equal=generation).result().generation

    def delete(self, name: str) -> None:
        """Delete a file, if there is one."""
        with self._errors("written"):
            self._files.write(name, None).result()

    def delete_all(self) -> None:
        """Delete the folder and everything in it."""
        with self._errors("written"):
            if self.local:
                shutil.rmtree(self.local, ignore_errors=True)
            else:
                self._files.delete_range(ts.KvStore.KeyRange()).result()

    def files(self, folder: str = "") -> list[str]:
        """Names of all files here, or below one of its folders such as "shards/"."""
        within = ts.KvStore.KeyRange(folder, f"{folder[:-1]}0") if folder else ts.KvStore.KeyRange()
        with self._errors("read"):
            return sorted(key.decode() for key in self._files.list(within).result())

    def unused(
        self, stem: str, suffix: str, same: Callable[[bytes], bool] = lambda _: False
    ) -> str:
        """Find the first of `stem`, `stem-2`, `stem-3` … that replaces no other content.

        That is the first without a file of that name and `suffix`, or whose content is the `same`.
        """
        for number in count(1):
            name = stem if number == 1 else f"{stem}-{number}"
            content = self.read(f"{name}{suffix}")
            if content is None or same(content):
                return name
        raise AssertionError("unreachable")

    def checksums(self, names: Iterable[str]) -> dict[str, str | None]:
        """SHA-256 of files in hexadecimal; None if a file is missing."""
        checksums: dict[str, str | None] = {}
        names = list(names)
        with self._errors("read"):
            for start in range(0, len(names), _AT_ONCE):
                reads = {name: self._files.read(name) for name in names[start : start + _AT_ONCE]}
                for name, read in reads.items():
                    file = read.result()
                    exists = file.state == "value"
                    checksums[name] = hashlib.sha256(file.value).hexdigest() if exists else None
        return checksums

    def versions(self, names: Sequence[str]) -> list[bytes]:
        """Version tags of files, which are not read for it."""
        tags: list[bytes] = []
        with self._errors("read"):
            for start in range(0, len(names), 8 * _AT_ONCE):
                part = names[start : start + 8 * _AT_ONCE]
                reads = [self._files.read(name, byte_range=slice(0, 0)) for name in part]
                tags += [read.result().stamp.generation for read in reads]
        return tags

    def create(self, array: str, dtype: Any, shape: tuple[int, ...], chunk: tuple[int, ...]) -> Any:
        """Create a Zarr array whose chunks carry checksums, or open one that has that shape."""
        metadata = {
            "shape": shape,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "data_type": ts.dtype(dtype).name,
            "codecs": [{"name": "bytes"}, {"name": "crc32c"}],
        }
        spec = self._array(array) | {"metadata": metadata, "store_data_equal_to_fill_value": True}
        with self._errors("written"):
            return ts.open(spec, create=True, open=True).result()

    def put(self, array: Any, start: int, rows: np.ndarray) -> None:
        """Write rows of an array from `create`."""
        with self._errors("written"):
            array[start : start + len(rows)].write(rows).result()

    def open(self, array: str) -> Any:
        """Open a Zarr array to read."""
        with self._errors("read"):
            return ts.open(self._array(array), open=True).result()

    def get(self, array: Any, rows: slice = slice(None)) -> np.ndarray:
        """Read rows of an array from `open`."""
        with self._errors("read"):
            return np.asarray(array[rows].read().result())

    def _array(self, name: str) -> dict[str, Any]:
        kvstore = self._spec | {"path": f"{self._spec['path']}{name}/"}
        return {"driver": "zarr3", "kvstore": kvstore}

    @contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        """Turn an error of TensorStore or of the system into one sentence."""
        try:
            yield
        except InputError:
            raise
        except (ValueError, OSError) as error:  # TensorStore raises ValueErrors of many kinds
            full = re.search("No space|quota|too large|RESOURCE_EXHAUSTED", str(error))
            remedy = "make room" if full else "give a folder that can be, or repair this one,"
            raise InputError(
                f"{self.url} can't be {done} ({_reason(error)}): {remedy} and start again; what "
                "was finished is kept."
            ) from error


def read_file(path: str | Path) -> bytes | None:
    """Read a file on a disk or in a bucket, as `Place.read` does."""
    folder, name = _split(path)
    return folder.read(name)


def write_file(path: str | Path, content: bytes) -> None:
    """Write a file on a disk or in a bucket, as `Place.write` does."""
    folder, name = _split(path)
    folder.write(name, content)


def csv_file(names: Sequence[str], rows: Iterable[Iterable[Any]], real: str = "") -> bytes:
    """Lay rows of texts, numbers and None out as a CSV file; `real` is the format of floats.

    A text that a spreadsheet would take for a formula gets an apostrophe in front, which marks it
    as text.
    """

    def cell(value: Any) -> Any:
        if isinstance(value, str):
            return f"'{value}" if value.startswith(_FORMULA) else value
        return f"{value:{real}}" if isinstance(value, float) else value

    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(map(cell, row) for row in rows)
    return text.getvalue().encode()


def write_rows(
    path: str | Path, names: Sequence[str], rows: Iterable[Iterable[Any]], real: str = ""
) -> None:
    """Write `csv_file` on a disk or in a bucket."""
    write_file(path, csv_file(names, rows, real))


def _local(path: str | Path) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise InputError(
            f"{str(path)!r} is in the home directory of a user that this machine does not know: "
            "give the path itself."
        ) from error


def _split(path: str | Path) -> tuple[Place, str]:
    folder, _, name = str(path if "://" in str(path) else _local(path)).rpartition("/")
    return Place(folder or "/"), name


def _bucket(url: str) -> dict[str, Any]:
    """TensorStore's specification of a bucket; when a bucket is first named, it has to answer."""
    try:
        spec = ts.KvStore.open(f"{url}/").result().spec().to_json()
    except ValueError as error:
        reason = str(error).rpartition('/": ')[2]
        raise InputError(
            f"{url!r} is not the address of a folder ({reason}): give a local path, or "
            "gs://BUCKET/PATH."
        ) from error
    bucket = "/".join(url.split("/")[:3])
    if bucket in _reached or spec["driver"] not in ("gcs", "s3", "http"):
        return spec
    retries = {f"{spec['driver']}_request_retries": {"max_retries": _RETRIES}}
    try:
        files = ts.KvStore.open(spec | {"context": retries}).result(timeout=_PATIENCE)
        files.read("lock").result(timeout=_PATIENCE)  # the answer counts, not the file
    except (ValueError, OSError) as error:
        late = isinstance(error, TimeoutError)
        reason = f"no answer within {_PATIENCE:g} s" if late else _reason(error)
        raise InputError(
            f"{url} can't be reached ({reason}): check the network, the name of the bucket and "
            "the credentials, which must allow reading and writing, or give a local folder."
        ) from error
    _reached.add(bucket)
    return spec


def _reason(error: Exception) -> str:
    """Reason of an error without TensorStore's codes, in the system's words if there are any."""
    text, bracket, rest = " ".join(str(error).split()).partition(" [")
    if rest.startswith("os_error_code"):
        return text.rpartition(": ")[2]
    return text.partition(": ")[2] if bracket else text
