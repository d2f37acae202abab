"""A place to make bad input: a folder, copies of the embedded world's networks, and scripts."""

import json
import re
import struct
import zlib

import pytest
from safetensors.numpy import load_file, save_file

import jaxdesc as jd
from jaxdesc.commands import cli
from jaxdesc.scenes import NETWORKS
from tests.conftest import ROOT

PHOTOS = f"--config={ROOT / 'configs' / 'photos.py'}"


class Place:
    """The folder of one case, and ways to make files in it."""

    def __init__(self, folder, monkeypatch, capsys):
        self.folder, self.patch, self._capsys = folder, monkeypatch, capsys

    def file(self, name, content=b""):
        """Write a file below the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def network(self, kind, name=None, content=None):
        """A copy of one of the embedded world's networks, one file replaced, or removed if None."""
        folder = self.folder / kind
        folder.mkdir(parents=True)
        for file in (NETWORKS / kind).iterdir():
            (folder / file.name).symlink_to(file)
        if name is not None:
            (folder / name).unlink(missing_ok=True)
            if content is not None:
                self.file(f"{kind}/{name}", content)
        return str(folder)

    def described(self, kind, *, file="config.json", **changes):
        """A copy of a network with other entries in its config; `a__b` is entry b of a."""
        entries = json.loads((NETWORKS / kind / file).read_text())
        for key, value in changes.items():
            *section, name = key.split("__")
            (entries[section[0]] if section else entries)[name] = value
        return self.network(kind, file, json.dumps(entries))

    def weighted(self, kind, change):
        """A copy of a network whose tensors `change` has edited."""
        tensors = load_file(NETWORKS / kind / "model.safetensors")
        change(tensors)
        folder = self.network(kind, "model.safetensors")
        save_file(tensors, self.folder / kind / "model.safetensors")
        return folder

    def launch(self, command, *flags):
        """Run a command as from a shell, but in this process; a refusal is raised."""
        with pytest.raises(SystemExit) as ended:
            cli.main([command, *map(str, flags)])
        printed = self._capsys.readouterr()
        assert (ended.value.code, printed.out, printed.err.count("\n")) == (2, "", 1), printed
        assert printed.err.startswith("error: ")
        raise jd.InputError(printed.err.removeprefix("error: ").removesuffix("\n"))

    def config(self, text):
        """A config file of this text."""
        return f"--config={self.file('config.py', text)}"


def says(message, expected, folder):
    """True if a message begins as expected; <here> is the folder, and ... stands for any text."""
    parts = expected.replace("<here>", str(folder)).split("...")
    return re.match(".*".join(re.escape(part.strip()) for part in parts), message) is not None


def rows(beginning, run, table):
    """Rows of one kind: how each sentence goes on, and what `run` is given for it."""
    return {beginning + said: run(given) for said, given in table.items()}


def png(width, height, rows=b"", *, bits=8, colour=2):
    """A PNG that declares any size, with any rows."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def safetensors(header, body=b"", length=None):
    """A safetensors file of any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(shape, begin, end, kind="F32"):
    """One tensor's entry of a safetensors header."""
    return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
