"""Hugging Face's `preprocessor_config.json` as a `Preprocess`."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxdesc.errors import InputError, shown
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models.files import read_json

RESAMPLINGS = {2: "bilinear", 3: "bicubic"}  # PIL's numbers, as Hugging Face writes them
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
WARPED = 384  # ConvNext's processor squashes images to this size and above, whatever their shape


def clip_preprocess(folder: Path, image_size: int) -> Preprocess:
    """Read a CLIP's: the shorter side to `size`, then the centre `crop_size`.

    `processor_config.json`, which newer folders hold instead, is read too. Without either OpenAI's
    preprocessing is meant.

    Raises:
        InputError: a file that is no such preprocessing, or has a step switched off.
    """
    return _read(
        folder,
        ("preprocessor_config.json", "processor_config.json"),
        lambda entries: _clip(entries, image_size),
        "CLIP's preprocessing",
        "size with shortest_edge, crop_size",
    )


def convnext_preprocess(folder: Path) -> Preprocess:
    """Read a Hugging Face ResNet's, which is that of ConvNext.

    The shorter side is resized to `size / crop_pct`, rounded down, and the centre `size` cut out.

    Raises:
        InputError: a file that is no such preprocessing, or has a step switched off.
    """
    names = ("preprocessor_config.json",)
    expected = f"size with shortest_edge below {WARPED}, crop_pct"
    return _read(folder, names, _convnext, "a ResNet's preprocessing", expected)


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
    folder: Path,
    names: tuple[str, ...],
    read: Callable[[dict[str, Any]], Preprocess],
    what: str,
    expected: str,
) -> Preprocess:
    file = next((folder / name for name in names if (folder / name).exists()), folder / names[0])
    try:
        entries = read_json(file) if file.exists() else {}
        return read(entries.get("image_processor", entries))
    except InputError as error:
        raise InputError(f"{file} can't be read as {what}: {error}") from error
    except (OSError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        raise InputError(
            f"{file} can't be read as {what} ({error!r}): expected {expected}, resample 2 or 3, "
            "image_mean and image_std, every step on; download the checkpoint again."
        ) from error
