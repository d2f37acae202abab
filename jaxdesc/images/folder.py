"""A folder of photos."""

import contextlib
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from io import BytesIO
from pathlib import Path, PurePath, PurePosixPath

from jaxdesc.errors import InputError, UnusableImage, is_text, shown
from jaxdesc.images.example import Example, decode
from jaxdesc.images.labels import natural
from jaxdesc.store import Place
from jaxdesc.store.workdir import head, is_drawn, is_output, looks_like_output

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp")
# Suffixes of pictures and videos that are not read.
UNREAD = {
    f".{suffix}": kind or suffix.upper()
    for kind, suffixes in {
        "a video": "mov mp4 m4v avi webm mkv 3gp mpg mpeg wmv mts",
        "HEIC": "heic heif heics hif",
        "AVIF": "avif avifs",
        "SVG": "svg svgz",
        "Netpbm": "ppm pgm pbm pnm",
        "TIFF": "tif tiff",
        "JPEG 2000": "jp2 j2k",
        "raw": "dng cr2 cr3 nef arw orf rw2 raf pef srw",
        "": "jxl gif apng bmp ico psd psb tga exr eps pdf",
    }.items()
    for suffix in suffixes.split()
}
# Folders of other programs that are found among photos and are not hidden.
KEPT_BY_OTHERS = (
    *("__macosx", "@eadir", "@__thumb", "thumbnails", "thumbs", "lost+found"),
    *("$recycle.bin", "#recycle", "@recycle", "system volume information"),
)
# Names of the parts of a data set, which are not classes.
SPLITS = {"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"}
_WNID = re.compile(r"(?:^|[ _-])(n\d{8})(?:[ _-]|$)")


class Folder:
    """Every JPEG, PNG and WebP below a folder, by relative path.

    An image's categories are the sub-folders that it is in, and a wnid in its name
    (n01440764_tench.JPEG, ILSVRC2012_val_00000293_n01440764.JPEG). If all sub-folders of a level
    have wnids, these are the names. `labels.matched` finds out which categories are classes.

    Hidden files and folders, other programs' thumbnails and trash, links to photos of the same
    folder, and what jaxdesc has written itself are not photos. `passed_over` lists such pictures
    with the reason of each; `namings` has the names of the categories in natural order, one tuple
    per naming. `InputError` if the folder is missing, can't be read or holds no image.
    """

    has_boxes = has_labels = False
    root: PurePath
    files: Sequence[PurePath]

    def __init__(self, path: str):
        self.spec = f"folder:{path}"
        self.files, passed_over = _photos(self._open(path))
        if not self.files:
            found = [f"{file.name!r} ({reason})" for file, reason in passed_over]
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            instead = f", but found {found[0]}{more}" if found else ""
            raise InputError(
                f"The image folder {path!r} holds no image: expected at least one file ending in "
                f"{', '.join(SUFFIXES)}{instead}."
            )
        self.passed_over = tuple((self._relative(file), reason) for file, reason in passed_over)
        columns = list(_categories(self.root, self.files))
        self._categories = list(zip(*columns, strict=True)) or [()] * len(self.files)
        self.namings = tuple(
            tuple(sorted({name for name in column if name}, key=natural)) for column in columns
        )

    def _open(self, path: str) -> Iterator[tuple[PurePath, str]]:
        """Set `root`, and list all files with the reasons why they are not photos."""
        if not os.path.isdir(os.path.expanduser(path)):
            raise InputError(
                f"The image folder {shown(path)} does not exist: give a folder of "
                "JPEG, PNG or WebP files as folder:PATH."
            )
        if not is_text(path):
            raise InputError(
                f"The image folder {shown(path)} has a name that is not UTF-8: rename it, or give "
                "a link to it."
            )
        root = self.root = Path(os.path.expanduser(path))
        return _entries(root)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Example:
        """Decode one photo to RGB."""
        path = Path(self.files[index])
        name = repr(str(path))
        if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe would block
            raise UnusableImage(name, "is not a file")
        return Example(decode(path, name), categories=self._categories[index])

    def identify(self, index: int) -> str:
        """Give the path below the folder; bytes that are not UTF-8 are escaped."""
        return self._relative(self.files[index])

    def _relative(self, file: PurePath) -> str:
        path = os.fsencode(file.relative_to(self.root).as_posix())
        return path.decode("utf-8", "backslashreplace")

    def fingerprint(self) -> str:
        """Hash every file's path, size and times of change, of its content and of its entry."""
        digest = hashlib.sha256(repr(self._categories).encode())
        for index, path in enumerate(map(Path, self.files)):
            facts: tuple[int, ...] = ()  # of a file that is locked away
            with contextlib.suppress(OSError):
                stat = path.stat() if os.path.exists(path) else path.lstat()
                facts = stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
            digest.update(repr((self.identify(index), *facts)).encode())
        return digest.hexdigest()


class BucketFolder(Folder):
    """Every JPEG, PNG and WebP below a folder of a bucket, `gs://BUCKET/PATH`, as in a `Folder`.

    A photo is read when it is needed. The fingerprint has the objects' versions, as they were when
    it was first asked for. `InputError` also if the bucket can't be reached.
    """

    def _open(self, path: str) -> Iterator[tuple[PurePath, str]]:
        self.root, self._place = PurePosixPath(), Place(path)
        return _objects(self._place)

    def __getitem__(self, index: int) -> Example:
        """Read and decode one photo to RGB."""
        name = str(self.files[index])
        address = repr(self._place / name)
        try:
            content = self._place.read(name)
        except InputError as error:
            if "PERMISSION_DENIED" not in str(error.__cause__):
                raise  # a bucket that no longer answers ends the run
            raise UnusableImage(address, "may not be read (permission denied)") from error
        if content is None:
            raise UnusableImage(address, "does not exist")
        return Example(decode(BytesIO(content), address), categories=self._categories[index])

    def fingerprint(self) -> str:
        """Hash every object's path and version."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        names = [str(file) for file in self.files]
        versions = list(zip(names, self._place.versions(names), strict=True))
        return hashlib.sha256(repr((self._categories, versions)).encode()).hexdigest()


def open_folder(path: str) -> Folder:
    """Open a folder of photos on a disk or in a bucket."""
    return BucketFolder(path) if "://" in path else Folder(path)


def _photos(
    entries: Iterable[tuple[PurePath, str]],
) -> tuple[list[PurePath], list[tuple[PurePath, str]]]:
    """Photos among files, and pictures that are passed over."""
    photos, passed_over = [], []
    for file, reason in entries:
        suffix = file.suffix.lower()
        if suffix in SUFFIXES and not reason:
            photos.append(file)
        elif suffix in SUFFIXES or suffix in UNREAD:
            unread = f"{UNREAD.get(suffix)} is not read: convert it to JPEG, PNG or WebP"
            passed_over.append((file, reason or unread))
    return sorted(photos), sorted(passed_over)


def _objects(place: Place) -> Iterator[tuple[PurePath, str]]:
    """Yield all files of a bucket's folder, as `_entries` does."""
    files = [PurePosixPath(name) for name in place.files() if not name.endswith("/")]
    siblings: dict[PurePath, set[str]] = defaultdict(set)
    artifacts: dict[PurePath, set[str]] = defaultdict(set)
    for file in files:
        siblings[file.parent].add(file.name)
        for folder in file.parents:
            if folder.parent.name == "artifacts":
                artifacts[folder.parent.parent].add(folder.name)

    def read(file: PurePath) -> bytes:
        there = file.name in siblings.get(file.parent, ())
        return place.read(str(file)) or b"" if there else b""

    @cache
    def reason_of_folder(folder: PurePath) -> str:
        if folder == folder.parent:
            return ""
        reason = reason_of_folder(folder.parent) or _reason_of_folder(folder.name)
        if not reason and looks_like_output(artifacts[folder], lambda name: read(folder / name)):
            reason = f"in {folder.name!r}, the output of a run"
        return reason

    for file in files:
        reason = reason_of_folder(file.parent)
        yield file, reason or _reason_of_file(file, siblings[file.parent], read)


def _entries(root: Path) -> Iterator[tuple[PurePath, str]]:
    """Yield all files below a folder and its linked folders, each folder once.

    With each file comes a reason why it is not a photo, regardless of its suffix; empty for most.
    """
    seen, top = set[tuple[int, int]](), os.path.realpath(root)
    reasons = {os.fspath(root): ""}
    try:
        for folder, folders, files in os.walk(root, onerror=_raise, followlinks=True):
            stat = os.stat(folder)
            if (stat.st_dev, stat.st_ino) in seen or _leads_back(folder, top):
                folders.clear()
                continue
            seen.add((stat.st_dev, stat.st_ino))
            folders.sort()
            reason = reasons.pop(folder)
            if not reason and folder != os.fspath(root) and is_output(folder):
                reason = f"in {Path(folder).name!r}, the output of a run"
            for name in folders:
                reasons[os.path.join(folder, name)] = reason or _reason_of_folder(name)
            names = set(files)
            for name in files:
                path = Path(folder, name)
                link = ""
                if path.suffix.lower() in SUFFIXES and _leads_back(path, top):
                    link = f"a link to {os.path.relpath(os.path.realpath(path), top)!r}"
                yield path, reason or link or _reason_of_file(path, names, head)
    except RecursionError as error:  # until Python 3.12 os.walk calls itself
        raise InputError(
            f"The image folder {str(root)!r} holds folders within folders, too deep to be read: "
            "give one that is less deep."
        ) from error
    except OSError as error:
        raise InputError(
            f"The image folder {str(root)!r} can't be read ({error}): make it readable, or give "
            "another."
        ) from error


def _raise(error: OSError) -> None:
    raise error


def _leads_back(path: str | Path, top: str) -> bool:
    """Return whether a path is a link to a folder or photo that is below `top` anyway."""
    real = Path(os.path.realpath(path)) if os.path.islink(path) else Path()
    if not real.is_relative_to(top) or any(map(_reason_of_folder, real.relative_to(top).parts)):
        return False
    return real.is_dir() or (real.is_file() and real.suffix.lower() in SUFFIXES)


def _reason_of_file(path: PurePath, siblings: set[str], read: Callable[[PurePath], bytes]) -> str:
    if path.name.startswith("."):
        return "hidden"
    # jaxdesc draws everything as PNG and as SVG, except its sheet of exemplars.
    png = path.with_suffix(".png")
    both = path.suffix in (".png", ".svg") and {png.name, f"{path.stem}.svg"} <= siblings
    drawn = both or (path == png and path.stem.startswith("exemplars"))
    return "the output of a run" if drawn and is_drawn(read(png)) else ""


def _reason_of_folder(name: str) -> str:
    if name.startswith("."):
        return f"in the hidden folder {name!r}"
    return f"in {name!r}" if name.lower() in KEPT_BY_OTHERS else ""


def _categories(root: PurePath, files: Sequence[PurePath]) -> Iterator[list[str | None]]:
    """Name each image's category by every level of sub-folders that all have, then by its wnid."""
    paths = [file.relative_to(root) for file in files]
    levels = max(1, min(len(path.parts) - 1 for path in paths))
    for level in range(levels):
        column = [path.parts[level] if len(path.parts) > level + 1 else None for path in paths]
        names = {name for name in column if name}
        if names and not SPLITS.issuperset(name.lower() for name in names):
            wnids = {name: match[1] for name in names if (match := _WNID.search(name))}
            yield [name and wnids[name] for name in column] if len(wnids) == len(names) else column
    matches = [_WNID.search(file.parent.name) or _WNID.search(file.stem) for file in files]
    if all(matches):
        yield [match and match[1] for match in matches]
