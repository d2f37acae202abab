"""The files that runs write, recognised among others in a folder, such as photos."""

import json
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from urllib.parse import quote

DRAWN = {"Software": "jaxdesc"}  # metadata of every PNG

# Folders and files of results, which a run or a command that reads it has written.
_FOUND = re.compile(r"explanations|figures(-\d+)?|report|tables|tensorboard")
_FILES = re.compile(
    r"(ablation(_neurons)?|certainty|compare|concepts|config|evidence|exemplars|judge|metrics|skipped"
    r"|sweep)(-\d+)?\.(csv|jsonl?|md|png|svg)"
)
_PAGE = b'<meta name="generator" content="jaxdesc">'
_KEPT = re.compile(r"artifacts|compilation_cache|index\.html|\..*")
_ARTIFACT = re.compile(r"[a-z]+-[0-9a-f]{16}|lock")


def folder_of(layer: str) -> str:
    """Name a layer's folder in the working directory of several, such as `blocks.3~2Fmlp`.

    It is percent-encoded, with ~ for %, which addresses of buckets would decode. No two layers
    share a name, none is a path, and none is that of something else in there.
    """
    name = quote(layer, safe="").replace("~", "%7E").replace("%", "~")
    taken = any(names.fullmatch(name) for names in (_FOUND, _FILES, _KEPT))
    return f"~{ord(name[0]):02X}{name[1:]}" if taken else name


def is_result(name: str) -> bool:
    """True for a file of results, given its path below the working directory."""
    folder, _, below = name.partition("/")
    return bool(_FOUND.fullmatch(folder) if below else _FILES.fullmatch(name))


def is_drawn(content: bytes) -> bool:
    """True for a PNG that jaxdesc has drawn, by its metadata."""
    return b"tEXtSoftware\0jaxdesc" in content[:512]


def is_output(folder: str | os.PathLike[str]) -> bool:
    """True for a local folder that is the working directory of a run, or a report's page."""
    artifacts: list[str] = []
    with suppress(OSError):  # most folders have none
        artifacts = os.listdir(os.path.join(folder, "artifacts"))
    return looks_like_output(artifacts, lambda name: head(os.path.join(folder, name)))


def looks_like_output(artifacts: Iterable[str], read: Callable[[str], bytes]) -> bool:
    """True for a folder that is the working directory of a run, or a report's page.

    `artifacts` are the names in its folder of that name; `read` returns the beginning of one of its
    files, empty if there is none.
    """
    if any(map(_ARTIFACT.fullmatch, artifacts)):
        return True
    with suppress(ValueError, AttributeError, RecursionError):  # some other config
        if json.loads(read("config.json")).keys() >= {"config", "fingerprints"}:
            return True
    return _PAGE in read("index.html")[:4096]


def head(path: str | os.PathLike[str]) -> bytes:
    """Read the beginning of a local file; empty if there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""
