"""A folder of photos."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxdesc import imagenet
from jaxdesc.errors import InputError, UnusableImage, is_text, shown
from jaxdesc.images.example import Example, decode

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_WNID = re.compile(r"(?:^|_)(n\d{8})(?:_|$)")


class Folder:
    """Every JPEG, PNG and WebP below a folder, by relative path.

    Labels are known where every image's is: ImageNet's class of the wnid that its folder or its
    name tells (n01440764/x.JPEG, n01440764_tench.JPEG, ILSVRC2012_val_00000293_n01440764.JPEG); or
    else, where all images lie in sub-folders, the number of the sub-folder among the sorted ones,
    as torchvision's `ImageFolder` counts.

    Raises:
        InputError: a folder that is missing, can't be read or holds no image.
    """

    has_boxes = False

    def __init__(self, path: str):
        root = Path(os.path.expanduser(path))
        if not os.path.isdir(root):
            raise InputError(
                f"The image folder {shown(path)} does not exist: give a folder of "
                "JPEG, PNG or WebP files as folder:PATH."
            )
        if not is_text(path):
            raise InputError(
                f"The image folder {shown(path)} has a name that is no UTF-8: rename it, or give a "
                "link to it."
            )
        self.spec = f"folder:{path}"
        self.root = root
        self.files = sorted(p for p in _entries(root) if p.suffix.lower() in SUFFIXES)
        if not self.files:
            raise InputError(
                f"The image folder {path!r} holds no image: expected at least one file ending in "
                f"{', '.join(SUFFIXES)}."
            )
        self.labels = _imagenet_labels(self.files) or _folder_labels(root, self.files)
        self.has_labels = bool(self.labels)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Example:
        """Decode one photo to RGB."""
        path = self.files[index]
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
            raise UnusableImage(repr(str(path)), "is no file")
        return Example(
            decode(path, repr(str(path))), self.labels[index] if self.has_labels else None
        )

    def identify(self, index: int) -> str:
        """Give the path below the folder; bytes that are no UTF-8 are shown escaped."""
        path = os.fsencode(self.files[index].relative_to(self.root).as_posix())
        return path.decode("utf-8", "backslashreplace")

    def fingerprint(self) -> str:
        """Hash every file's path, size and times of change, of its content and of its entry."""
        digest = hashlib.sha256(repr(self.labels).encode())
        for index, path in enumerate(self.files):
            digest.update(repr((self.identify(index), *_facts(path))).encode())
        return digest.hexdigest()


def _facts(path: Path) -> tuple[int, ...]:
    """Size and times of a file, of a link to nothing those of the link; nothing if locked away."""
    try:
        stat = path.stat() if os.path.exists(path) else path.lstat()
    except OSError:
        return ()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _entries(root: Path) -> Iterator[Path]:
    """Everything below a folder that is no folder; linked folders too, each folder once."""
    seen = set()

    def refuse(error: OSError) -> None:
        raise InputError(
            f"The image folder {str(root)!r} can't be read ({error}): make it readable, or give "
            "another."
        ) from error

    for folder, folders, files in _walk(root, refuse):
        stat = os.stat(folder)
        if (stat.st_dev, stat.st_ino) in seen:  # a link back would never end
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders.sort()
        yield from (Path(folder, name) for name in files)


def _walk(
    root: Path, refuse: Callable[[OSError], None]
) -> Iterator[tuple[str, list[str], list[str]]]:
    try:
        yield from os.walk(root, onerror=refuse, followlinks=True)
    except RecursionError as error:  # until Python 3.12 it calls itself
        raise InputError(
            f"The image folder {str(root)!r} holds folders within folders, too deep to be read: "
            "give one that is less deep."
        ) from error


def _imagenet_labels(files: list[Path]) -> list[int]:
    """ImageNet's class of every image, or nothing."""
    found = [_WNID.search(file.parent.name) or _WNID.search(file.stem) for file in files]
    labels = [imagenet.classes().get(wnid[1]) if wnid else None for wnid in found]
    known = [label for label in labels if label is not None]
    return known if len(known) == len(files) else []


def _folder_labels(root: Path, files: list[Path]) -> list[int]:
    """The number of every image's sub-folder among all of the root's, or nothing."""
    parts = [file.relative_to(root).parts for file in files]
    if min(map(len, parts)) < 2:
        return []
    order = {name: i for i, name in enumerate(sorted(p.name for p in root.iterdir() if p.is_dir()))}
    return [order[first] for first, *_ in parts]
