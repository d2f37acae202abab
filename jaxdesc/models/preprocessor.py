"""A network's preprocessing: as the user states it, as its files say, or the usual one.

The files are timm's `config.json` and Hugging Face's `preprocessor_config.json`. What they leave
open is assumed, and a note says so.
"""

import math
from collections.abc import Callable, Container
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxdesc.errors import InputError, shown
from jaxdesc.images.preprocess import IMAGENET, OPENAI, PRESETS, Preprocess, check_preset
from jaxdesc.models.files import parsed, read_config, read_json
from jaxdesc.models.settings import pretrained_cfg

RESAMPLINGS = {2: "bilinear", 3: "bicubic"}  # PIL's numbers, as Hugging Face writes them
WARPED = 384  # ConvNext's processor squashes images to this size and above, whatever their shape
TIMM_ENTRIES = ("input_size", "crop_pct", "interpolation", "mean", "std")
HUGGING_FACE_ENTRIES = ("size", "resample", "image_mean", "image_std")


def target_preprocess(path: Path, stated: str | Preprocess, notes: list[str]) -> Preprocess:
    """Return a target's preprocessing.

    Args:
        path: its folder, or the file of its weights, which says nothing of it.
        stated: a name in `PRESETS` or a preprocessing; "" for what the checkpoint says.
        notes: gets a sentence about what is assumed.

    Raises:
        InputError: an unknown name, or a file of another preprocessing or with a step off.
    """
    if stated:
        return _stated(stated)
    entries = {} if path.is_file() else read_config(path)
    if not path.is_file() and "architecture" not in entries:
        return _convnext_preprocess(path / "preprocessor_config.json", notes)
    entries = parsed(pretrained_cfg, entries, path)
    preprocess = parsed(Preprocess.from_timm, entries, path)
    found = {key.removeprefix("test_") for key in entries}
    file = path if path.is_file() else path / "config.json"
    _note_absent(TIMM_ENTRIES, found, file, preprocess, "imagenet", "target", notes)
    return preprocess


def clip_preprocess(
    folder: Path, image_size: int, stated: str | Preprocess, notes: list[str]
) -> Preprocess:
    """Return a CLIP's preprocessing: the shorter side to `size`, then the centre `crop_size`.

    Args:
        folder: it holds `preprocessor_config.json`, or the newer `processor_config.json`.
        image_size: of the image tower, in pixels; a preset is read at this size.
        stated: a name in `PRESETS` or a preprocessing; "" for what the checkpoint says.
        notes: gets a sentence about what is assumed.

    Raises:
        InputError: an unknown name, another size than the tower's, or a file of another
            preprocessing or with a step off.
    """
    if stated:
        preprocess = _stated(stated)
        if isinstance(stated, str):
            return replace(preprocess, size=image_size)
        if preprocess.size != image_size:
            raise InputError(
                f"The preprocessing stated for {folder} makes images of {preprocess.size} pixels, "
                f"but its config.json sets image_size {image_size}: give one of that size."
            )
        return preprocess
    names = ("preprocessor_config.json", "processor_config.json")
    file = next((folder / name for name in names if (folder / name).exists()), folder / names[0])
    preprocess, found = _read(
        file,
        lambda entries: _clip(entries, image_size),
        "CLIP's preprocessing",
        "size with shortest_edge, crop_size",
    )
    expected = ("crop_size", *HUGGING_FACE_ENTRIES)
    _note_absent(expected, found, file, preprocess, "openai", "clip", notes)
    return preprocess


def _convnext_preprocess(file: Path, notes: list[str]) -> Preprocess:
    """A Hugging Face ResNet's: the shorter side to `size / crop_pct`, then the centre `size`."""
    expected = f"size with shortest_edge below {WARPED}, crop_pct"
    preprocess, found = _read(file, _convnext, "a ResNet's preprocessing", expected)
    usual = "imagenet_bicubic"
    _note_absent(HUGGING_FACE_ENTRIES, found, file, preprocess, usual, "target", notes)
    return preprocess


def _stated(stated: str | Preprocess) -> Preprocess:
    if isinstance(stated, Preprocess):
        return stated
    check_preset(stated)
    return PRESETS[stated]


def _note_absent(
    expected: tuple[str, ...],
    found: Container[str],
    file: Path,
    preprocess: Preprocess,
    usual: str,
    kind: str,
    notes: list[str],
) -> None:
    """Say which entries of a preprocessing were assumed, and how to state them."""
    absent = [key for key in expected if key not in found]
    if not absent:
        return
    entries = "" if len(absent) == len(expected) else f"'s {', '.join(absent)}"
    statistics = preprocess.mean, preprocess.std
    mean, std = (", ".join(f"{x:.3g}" for x in channels) for channels in statistics)
    notes.append(
        f"{file} does not give its preprocessing{entries}: {usual}'s was assumed "
        f"({preprocess.size} pixels, the central {preprocess.field:.3g} of the shorter side, "
        f"{preprocess.interpolation}, mean {mean}, std {std}); state it with --config.{kind}."
        f"preprocess={usual}, in Python preprocess={usual!r}, or another of "
        f"{', '.join(name for name in PRESETS if name != usual)}."
    )


def _clip(entries: dict[str, Any], image_size: int) -> Preprocess:
    _require_steps(entries, "do_center_crop")
    size, crop = entries.get("size", image_size), entries.get("crop_size", image_size)
    shortest = size["shortest_edge"] if isinstance(size, dict) else size
    side = crop["height"] if isinstance(crop, dict) else crop
    if type(side) is not int or side != image_size:
        raise ValueError(f"crop_size {shown(side)} is not config.json's image_size {image_size}")
    mean, std = _statistics(entries, OPENAI)
    return Preprocess(side, side / shortest, RESAMPLINGS[entries.get("resample", 3)], mean, std)


def _convnext(entries: dict[str, Any]) -> Preprocess:
    _require_steps(entries)
    size = entries.get("size", 224)
    side = int(size["shortest_edge"] if isinstance(size, dict) else size)
    if not 0 < side < WARPED:
        raise ValueError(f"images of {side} pixels are squashed, not cropped")
    field = side / math.floor(side / (entries.get("crop_pct") or 224 / 256))
    mean, std = _statistics(entries, IMAGENET)
    return Preprocess(side, field, RESAMPLINGS[entries.get("resample", 3)], mean, std)


def _require_steps(entries: dict[str, Any], *more: str) -> None:
    if not all(entries.get(f, True) for f in ("do_resize", "do_rescale", "do_normalize", *more)):
        raise ValueError("a step is switched off")
    if abs(entries.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise ValueError("rescale_factor is not 1/255")


def _statistics(entries: dict[str, Any], absent: tuple) -> tuple[tuple[float, ...], ...]:
    mean, std = absent
    return tuple(entries.get("image_mean", mean)), tuple(entries.get("image_std", std))


def _read(
    file: Path, read: Callable[[dict[str, Any]], Preprocess], what: str, expected: str
) -> tuple[Preprocess, Container[str]]:
    """Return what a file describes, all of it assumed if there is none, and its entries."""
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
