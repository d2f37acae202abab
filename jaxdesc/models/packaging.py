"""Preprocessing and labels, as a checkpoint's files state them.

The files are timm's `config.json` and Hugging Face's `config.json` and `preprocessor_config.json`.
What they leave open is assumed, and a note says so.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from jaxdesc.errors import InputError, printable, shown
from jaxdesc.images.preprocess import IMAGENET, PRESETS, Preprocess, check_preset
from jaxdesc.models.settings import parsed, pretrained_cfg, read_config, read_json
from jaxdesc.vocabulary import imagenet, wordnet
from jaxdesc.vocabulary.names import class_names

RESAMPLINGS = {2: "bilinear", 3: "bicubic"}  # PIL's numbers, as Hugging Face writes them
WARPED = 384  # ConvNext's processor squashes images of any shape to this size and above
TIMM_ENTRIES = ("input_size", "crop_pct", "interpolation", "mean", "std")
HUGGING_FACE_ENTRIES = ("size", "resample", "image_mean", "image_std")
# A WordNet id, alone or before its words, as in "n02123045 tabby, tabby cat".
WNID = re.compile(r"(n\d{8})(?:[\s_:,-]+(.+))?")


def target_preprocess(path: Path, stated: str | Preprocess, notes: list[str]) -> Preprocess:
    """Return the preprocessing of a target's folder, or of a file of weights, which says nothing.

    `stated`, a name in `PRESETS` or a preprocessing, takes its place; "" if there is none. Notes
    get a sentence about what is assumed. `InputError` for an unknown name, or for a file that
    describes another preprocessing or switches a step off.
    """
    if stated:
        return _stated(stated)
    entries = {"architecture": ""} if path.is_file() else read_config(path)
    if "architecture" not in entries:
        file = path / "preprocessor_config.json"
        expected = f"size with shortest_edge below {WARPED}, crop_pct; or size, crop_size"
        preprocess, given = _read(file, _of_target, "a target's preprocessing", expected)
        usual = "imagenet_bicubic"
        notes += _assumed(file, HUGGING_FACE_ENTRIES, given, preprocess, usual, "target")
        if isinstance(given.get("size"), dict) and "height" in given["size"]:
            notes.append(squashes(file))
        return preprocess
    file = path if path.is_file() else path / "config.json"
    entries = parsed(pretrained_cfg, entries, path)
    preprocess = parsed(Preprocess.from_timm, entries, path)
    named = {key.removeprefix("test_") for key in entries}
    notes += _assumed(file, TIMM_ENTRIES, named, preprocess, "imagenet", "target")
    return preprocess


def namer_preprocess(
    folder: Path, image_size: int, stated: str | Preprocess, notes: list[str], usual: str
) -> Preprocess:
    """Return a name encoder's preprocessing: the shorter side to `size`, then the centre of it.

    It is in `preprocessor_config.json`, or the newer `processor_config.json`, and makes images of
    the tower's `image_size`; so does a stated preset. What it leaves open is `usual`'s, a name in
    `PRESETS`. Otherwise as `target_preprocess`.
    """
    if stated:
        return stated_preprocess(folder, image_size, stated)
    names = ("preprocessor_config.json", "processor_config.json")
    file = next((folder / name for name in names if (folder / name).exists()), folder / names[0])

    def read(entries: dict[str, Any]) -> Preprocess:
        size = entries.get("size", image_size)
        squashed = isinstance(size, dict) and "height" in size
        key = "size" if squashed else "crop_size"
        crop = entries.get(key, image_size)
        side = crop["height"] if isinstance(crop, dict) else crop
        shortest = size["shortest_edge"] if isinstance(size, dict) and not squashed else size
        square = not squashed or size.get("width", side) == side
        if type(side) is not int or side != image_size or not square:
            raise ValueError(f"{key} {shown(crop)} is not config.json's image_size {image_size}")
        steps = () if squashed else ("do_center_crop",)
        statistics = PRESETS[usual].mean, PRESETS[usual].std
        field = 1.0 if squashed else side / shortest
        return _hugging_face(entries, side, field, statistics, *steps)

    expected = "size with shortest_edge, crop_size"
    preprocess, given = _read(file, read, "a name encoder's preprocessing", expected)
    squashed = isinstance(given.get("size"), dict) and "height" in given["size"]
    needed = HUGGING_FACE_ENTRIES if squashed else ("crop_size", *HUGGING_FACE_ENTRIES)
    notes += _assumed(file, needed, given, preprocess, usual, "clip")
    if squashed:
        notes.append(squashes(file))
    return preprocess


def stated_preprocess(folder: Path, image_size: int, stated: str | Preprocess) -> Preprocess:
    """Return a stated preset, or a preprocessing that makes images of a tower's `image_size`."""
    preprocess = _stated(stated)
    if isinstance(stated, str):
        return replace(preprocess, size=image_size)
    if preprocess.size != image_size:
        raise InputError(
            f"The preprocessing stated for {folder} makes images of {preprocess.size} pixels, "
            f"but its config.json sets image_size {image_size}: give one of that size."
        )
    return preprocess


def squashes(file: Path) -> str:
    """Return the note about images that a checkpoint's preprocessing squashes to a square."""
    return (
        f"{file} squashes images to a square: their central square is taken instead, which keeps "
        "the shapes of what they show."
    )


def _stated(stated: str | Preprocess) -> Preprocess:
    if isinstance(stated, Preprocess):
        return stated
    check_preset(stated)
    return PRESETS[stated]


def _of_target(entries: dict[str, Any]) -> Preprocess:
    """A Hugging Face target's: that of ResNet and ConvNeXt, or that of vision transformers.

    The latter's resizes to `size` and cuts the centre of `crop_size` from it, or leaves it whole.
    If it squashes images to squares, the central square is taken, which is the same for square
    images.
    """
    size, crop = entries.get("size", 224), entries.get("crop_size")
    cropped = entries.get("do_center_crop", crop is not None)
    if "crop_pct" in entries or not (cropped or (isinstance(size, dict) and "height" in size)):
        return _convnext(entries)
    sides: list[Any] = [size, crop if cropped else size]
    resized, side = (
        int(s.get("shortest_edge") or s["height"]) if isinstance(s, dict) else int(s) for s in sides
    )
    return _hugging_face(entries, side, side / resized, IMAGENET)


def _convnext(entries: dict[str, Any]) -> Preprocess:
    """A Hugging Face ResNet's: the shorter side to `size / crop_pct`, then the centre `size`."""
    size = entries.get("size", 224)
    side = int(size["shortest_edge"] if isinstance(size, dict) else size)
    if not 0 < side < WARPED:
        raise ValueError(f"images of {side} pixels are squashed, not cropped")
    field = side / math.floor(side / (entries.get("crop_pct") or 224 / 256))
    return _hugging_face(entries, side, field, IMAGENET)


def _hugging_face(
    entries: dict[str, Any], size: int, field: float, usual: tuple[Any, Any], *steps: str
) -> Preprocess:
    if not all(entries.get(s, True) for s in ("do_resize", "do_rescale", "do_normalize", *steps)):
        raise ValueError("a step is switched off")
    if abs(entries.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise ValueError("rescale_factor is not 1/255")
    mean, std = entries.get("image_mean", usual[0]), entries.get("image_std", usual[1])
    resampling = RESAMPLINGS[entries.get("resample", 3)]
    return Preprocess(size, field, resampling, tuple(mean), tuple(std))


def _read(
    file: Path, read: Callable[[dict[str, Any]], Preprocess], what: str, expected: str
) -> tuple[Preprocess, dict[str, Any]]:
    """Return the preprocessing that a file describes, or the usual one, and the file's entries."""
    try:
        entries = read_json(file) if file.exists() else {}
        entries = entries.get("image_processor", entries)
        return read(entries), entries
    except InputError as error:
        raise InputError(f"{file} can't be read as {what}: {error}") from error
    except (OSError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        raise InputError(
            f"{file} can't be read as {what} ({error!r}): expected {expected}, resample 2 or 3, "
            "image_mean and image_std, every step on; download the checkpoint again."
        ) from error


def _assumed(
    file: Path,
    expected: Sequence[str],
    given: Container[str],
    preprocess: Preprocess,
    usual: str,
    network: str,
) -> list[str]:
    """Return a note about the entries of a preprocessing that were assumed, if any were."""
    missing = [key for key in expected if key not in given]
    if not missing:
        return []
    entries = "" if len(missing) == len(expected) else f"'s {', '.join(missing)}"
    statistics = preprocess.mean, preprocess.std
    mean, std = (", ".join(f"{x:.3g}" for x in channels) for channels in statistics)
    return [
        f"{file} does not give its preprocessing{entries}: {usual}'s was assumed "
        f"({preprocess.size} pixels, the central {preprocess.field:.3g} of the shorter side, "
        f"{preprocess.interpolation}, mean {mean}, std {std}); state it with "
        f"--config.{network}.preprocess={usual}, in Python preprocess={usual!r}, or another of "
        f"{', '.join(name for name in PRESETS if name != usual)}."
    ]


class Labels(NamedTuple):
    """Names and WordNet ids of a network's classes, in the order of its logits; empty if unknown.

    The usual name of a class comes first.
    """

    names: tuple[tuple[str, ...], ...] = ()
    wnids: tuple[str, ...] = ()


def read_labels(path: Path, logits: int, notes: list[str]) -> Labels:
    """Read the classes of a target's folder, or of a file of weights, which names none.

    They are timm's `label_names`, whose names may be ids that `label_descriptions` explains, or
    Hugging Face's `id2label`: a list, or an object by class number. `names.class_names` splits a
    label into names. A WordNet id without a description gets the words of its synset; notes get a
    sentence if there are none. Raises `InputError` for labels that are not texts, or not one per
    logit.
    """
    if path.is_file():
        return Labels()
    entries, file = read_config(path), path / "config.json"
    pretrained = parsed(pretrained_cfg, entries, path)
    # The newer forms come first.
    forms = [(key, e) for e in (entries, pretrained) for key in ("label_names", "labels")]
    published = (key for key, e in [*forms, ("id2label", entries)] if e.get(key))
    key = next(published, "label_names")
    where = f"{key} in {file}"
    labels = _by_class(entries.get(key) or pretrained.get(key) or [], where)
    if not labels or labels == [f"LABEL_{index}" for index in range(len(labels))]:
        return Labels()  # Hugging Face's placeholders
    if len(labels) != logits:
        raise InputError(
            f"{where} names {len(labels)} classes, but the network has {logits} logits: "
            "correct it, or remove it."
        )
    descriptions = entries.get("label_descriptions") or pretrained.get("label_descriptions") or {}
    if isinstance(descriptions, list):
        raise InputError(f"label_descriptions in {file} is a list: expected an object by label.")
    _check_texts(descriptions, f"label_descriptions in {file}")
    classes = [_class(label.strip(), descriptions.get(label, "")) for label in labels]
    wnids = [wnid for wnid, _ in classes if wnid]
    twice = [wnid for wnid, count in Counter(wnids).items() if count > 1]
    if twice:
        raise InputError(f"{where} names {twice[0]} twice: correct it.")
    names = tuple(names for _, names in classes)
    if not all(names):  # known by an id alone: its synset's words, or no class has a name
        try:
            synsets = imagenet.synsets()
            names = tuple(names or synsets[wnid] for wnid, names in classes)
        except (InputError, KeyError) as error:
            absent = f"WordNet {wordnet.RELEASE} has no {error}."
            notes.append(
                f"{where} names classes by WordNet's ids alone, and the names are missing: "
                f"{error if isinstance(error, InputError) else absent}"
            )
            names = ()
    return Labels(names, tuple(wnids) if len(wnids) == len(labels) else ())


def _class(label: str, description: str) -> tuple[str, tuple[str, ...]]:
    """Return a class's WordNet id, or "", and its names; none if only the id is known."""
    wnid = WNID.fullmatch(label)
    if not wnid:
        return "", class_names(description or label)
    # timm's longer descriptions add the synset's definition.
    return wnid[1], class_names((description or wnid[2] or "").partition(": ")[0])


def _by_class(labels: Any, where: str) -> list[str]:
    """Return the labels by class number; an object's keys are these numbers."""
    _check_texts(labels, where)
    if not isinstance(labels, dict):
        return list(labels)
    try:
        return [labels[str(index)] for index in range(len(labels))]
    except KeyError as error:
        raise InputError(
            f"{where} has no label for class {error}: expected a label for each of 0 to "
            f"{len(labels) - 1}."
        ) from error


def _check_texts(texts: Any, where: str) -> None:
    listed = texts.values() if isinstance(texts, dict) else texts
    if not isinstance(texts, dict | list) or not all(isinstance(text, str) for text in listed):
        raise InputError(
            f"{where} are {str(texts)[:60]}: expected strings, one per class, several "
            "names of a class separated by a comma and a space."
        )
    for text in listed:
        if printable(text) != text or not class_names(text):  # printed next to their neurons
            raise InputError(f"{where} hold {shown(text)}, which is not a name: correct it.")
