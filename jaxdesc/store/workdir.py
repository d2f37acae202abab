"""The files that runs write, recognised among others in a folder, such as photos."""

import json
import os
import re
from contextlib import suppress

DRAWN = {"Software": "jaxdesc"}  # metadata of every PNG

# Folders and files of results, which a run or a command that reads it has written.
_FOUND = re.compile(r"explanations|figures(-\d+)?|report|tables|tensorboard")
_FILES = re.compile(
    r"(ablation(_neurons)?|certainty|compare|concepts|config|evidence|exemplars|metrics|skipped"
    r"|sweep)(-\d+)?\.(csv|jsonl?|md|png|svg)"
)
_PAGE = b'<meta name="generator" content="jaxdesc">'
_ARTIFACT = re.compile(r"[a-z]+-[0-9a-f]{16}|lock")


def is_result(name: str) -> bool:
    """True for a file of results, given its path below the working directory."""
    folder, _, below = name.partition("/")
    return bool(_FOUND.fullmatch(folder) if below else _FILES.fullmatch(name))


def is_drawn(path: str | os.PathLike[str]) -> bool:
    """True for a PNG that jaxdesc has drawn, by its metadata."""
    folder, name = os.path.split(path)
    return b"tEXtSoftware\0jaxdesc" in _head(folder, name, 512)


def is_output(folder: str | os.PathLike[str]) -> bool:
    """True for a local folder that is the working directory of a run, or a report's page."""
    with suppress(OSError):  # most folders have no artifacts
        if any(map(_ARTIFACT.fullmatch, os.listdir(os.path.join(folder, "artifacts")))):
            return True
    with suppress(ValueError, AttributeError, RecursionError):  # some other config
        if json.loads(_head(folder, "config.json")).keys() >= {"config", "fingerprints"}:
            return True
    return _PAGE in _head(folder, "index.html", 4096)


def _head(folder: str | os.PathLike[str], name: str, length: int = 1 << 20) -> bytes:
    """Read the beginning of a file; empty if there is none."""
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read(length)
    except OSError:
        return b""
