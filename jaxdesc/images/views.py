"""Views: the part of each probe image that the target sees, and then CLIP.

WWW's view is the centre window; the paper's is around the peak of Grad-CAM, or of another attention
map. The others are controls. All windows of a run have one size, so that only their positions
differ; "full" is the whole image, no window.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8
from PIL import Image

from jaxdesc.config import CropConfig
from jaxdesc.errors import UnusableImage
from jaxdesc.images import windows
from jaxdesc.images.example import Box, Example, Source
from jaxdesc.images.loader import batches, padded
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.runtime.ahead import ahead
from jaxdesc.runtime.device import unwatched

ATTENTION = "attention"
# Starts the attention maps [padded, row, column] of pixels [padded, size, size, 3], not yet
# normalised, and of the images' labels; doesn't wait for them.
Attend = Callable[[np.ndarray, Sequence[int | None]], Array]


class Views(NamedTuple):
    """One view of each image of a batch.

    Pixels are as the target's preprocessing cuts them, not yet normalised, padded to a full batch
    by repeating the last. Boxes are (left, top, right, bottom) in pixels of the image; centres are
    (y, x) before clamping, as fractions of the image. `fallback` is true if the attention map was
    empty or the image has no box, so that the window is the centre.
    """

    pixels: UInt8[np.ndarray, "padded size size 3"]
    boxes: Float[np.ndarray, "view 4"]
    centres: Float[np.ndarray, "view 2"]
    fallback: Bool[np.ndarray, " view"]


class Batch(NamedTuple):
    """All views of a batch of images, by the images' indices."""

    images: Sequence[int]
    views: Mapping[str, Views]  # by name
    skipped: tuple[str, ...]  # why an image can't be used, else empty; a black one takes its place
    labels: Int[np.ndarray, " view"]  # class index of each image, -1 if unknown


class _Cut(NamedTuple):
    """One view of one image, as `Views` has them."""

    pixels: np.ndarray
    box: Box
    centre: windows.Centre
    fallback: bool


class _Prepared(NamedTuple):
    """Parts of an image that are kept: its windows, and what the attention window is cut from."""

    cuts: dict[str, _Cut]
    seen: tuple[np.ndarray, Box] | None
    shrunk: np.ndarray
    size: tuple[int, int]
    label: int | None
    reason: str = ""


def relevant_options(crop: CropConfig, source: Source) -> dict[str, Any]:
    """List the options that a view depends on, such as the seed if it is random."""
    relevant: dict[str, Any] = {"view": crop.view, "field": crop.field}
    if crop.view == ATTENTION:
        relevant |= {key: getattr(crop, key) for key in ("cam", "cam_input", "cam_class")}
    if crop.view == "random":
        relevant["seed"] = _window_seed(crop, source)
    return relevant


def _window_seed(crop: CropConfig, source: Source) -> int:
    """Mix the seed with the source's name: image i of two sources gets different windows."""
    return crop.seed ^ zlib.crc32(source.spec.encode("utf-8", "backslashreplace"))


def cut_views(
    preprocess: Preprocess,
    source: Source,
    crop: CropConfig,
    views: Sequence[str],
    images: Sequence[int],
    batch: int,
    attend: Attend | None = None,
    watch: Callable[[Any], Any] = unwatched,
    workers: int = 0,
) -> Iterator[Batch]:
    """Cut some views of some images, in order; each image is decoded once.

    While the windows of a batch are cut, the device computes the maps of the next. The source has
    boxes if a view is "box"; `crop` holds the options of the windows, except the view; `images` are
    indices. All batches have one shape, of `batch` images. `attend` starts the attention maps of a
    batch, for the view "attention"; `watch` is called with all that is queued on the device.
    Images are read in this process, or in `workers` others.
    """
    read = preparing(preprocess, source, crop, views)
    stand_in = partial(_stand_in, read)

    def start(chunk: list[_Prepared]) -> tuple[list[_Prepared], Array | None]:
        seen = [prepared.seen[0] for prepared in chunk if prepared.seen]
        if not seen or attend is None:
            return chunk, None
        maps = attend(padded(np.stack(seen), batch), [prepared.label for prepared in chunk])
        return chunk, watch(maps)

    def cut_attended(prepared: _Prepared, peak: np.ndarray, peaked: np.bool_) -> _Cut:
        assert prepared.seen is not None
        centre = windows.MIDDLE
        if peaked:
            centre = windows.in_image(peak, prepared.seen[1], prepared.size)
        window = preprocess.cut(prepared.shrunk, centre, crop.field, prepared.size)
        return _Cut(*window, centre, not peaked)

    started = map(start, batches(source, images, read, batch, stand_in, workers))
    first = 0
    with ThreadPoolExecutor() as threads:
        for chunk, cams in ahead(started):
            cuts = {v: [p.cuts[v] for p in chunk] for v in views if v != ATTENTION}
            if cams is not None:
                found = windows.peaks(np.asarray(cams)[: len(chunk)])
                cuts[ATTENTION] = list(threads.map(cut_attended, chunk, *found))
            yield Batch(
                images[first : first + len(chunk)],
                {view: _stacked(of_view, batch) for view, of_view in cuts.items()},
                tuple(prepared.reason for prepared in chunk),
                np.array([-1 if p.reason or p.label is None else p.label for p in chunk], np.int32),
            )
            first += len(chunk)


def preparing(
    preprocess: Preprocess, source: Source, crop: CropConfig, views: Sequence[str]
) -> Callable[[int, Example], _Prepared]:
    """Host work of `cut_views` on one image, as `loader.batches` and `loader.rate` take it."""
    return partial(_prepare, preprocess, crop, views, _window_seed(crop, source))


def _stand_in(
    read: Callable[[int, Example], _Prepared], index: int, error: UnusableImage
) -> _Prepared:
    black = Example(Image.new("RGB", (1, 1)), label=0, box=windows.whole((1, 1)))
    return read(index, black)._replace(reason=error.reason)


def _prepare(
    preprocess: Preprocess,
    crop: CropConfig,
    views: Sequence[str],
    seed: int,
    index: int,
    example: Example,
) -> _Prepared:
    """Do all that the decoded photo is needed for; it is resized once for all windows."""
    image, size = example.image, example.image.size
    shrunk = preprocess.shrink(image, crop.field)
    cuts: dict[str, _Cut] = {}
    for view in views:
        if view == "full":
            cuts[view] = _Cut(preprocess.squash(image), windows.whole(size), windows.MIDDLE, False)
        elif view != ATTENTION:
            centre: windows.Centre | None = windows.MIDDLE
            if view == "random":
                centre = windows.random_centre(seed, index, size, crop.field)
            elif view == "box":
                centre = example.box and windows.box_centre(example.box, size)
            window = preprocess.cut(shrunk, centre or windows.MIDDLE, crop.field, size)
            cuts[view] = _Cut(*window, centre or windows.MIDDLE, centre is None)
    if ATTENTION not in views:
        return _Prepared(cuts, None, np.zeros(0, np.uint8), size, example.label)
    seen = map_input(preprocess, crop, image)
    return _Prepared(cuts, seen, np.asarray(shrunk), size, example.label)


def _stacked(cuts: Sequence[_Cut], batch: int) -> Views:
    pixels, boxes, centres, fallback = zip(*cuts, strict=True)
    return Views(
        padded(np.stack(pixels), batch),
        np.array(boxes, np.float32),
        np.array(centres, np.float64),
        np.array(fallback),
    )


def map_input(
    preprocess: Preprocess, crop: CropConfig, image: Image.Image
) -> tuple[UInt8[np.ndarray, "size size 3"], Box]:
    """Pixels that a run's attention map is computed from, and their box in the image."""
    if crop.cam_input == "centre":
        return preprocess.cut(image, windows.MIDDLE, crop.field)
    return preprocess.squash(image), windows.whole(image.size)


def cut_view(
    preprocess: Preprocess, crop: CropConfig, image: Image.Image, centre: windows.Centre
) -> UInt8[np.ndarray, "size size 3"]:
    """Cut one view: the window around `centre`, or the whole image for the view "full"."""
    if crop.view == "full":
        return preprocess.squash(image)
    return preprocess.cut(image, centre, crop.field)[0]
