"""Views: the part of each probe image that the target sees, and then CLIP.

WWW's view is the centre window; the paper's lies where Grad-CAM, or another map of attention, is
highest. The others are controls. All windows of a run are of one size, so that only where they lie
differs; "full" is no window, but the whole image.
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
from jaxdesc.images.example import Box, Example, Source
from jaxdesc.images.loader import batches, padded
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.images.windows import MIDDLE, Centre, box_centre, in_image, peaks, random_centre
from jaxdesc.runtime.ahead import ahead
from jaxdesc.runtime.device import unwatched

ATTENTION = "attention"

# From views as they were cut and the labels of the images among them, to attention maps.
Attend = Callable[[np.ndarray, Sequence[int | None]], Array]


class Views(NamedTuple):
    """One view each of a batch of images.

    Attributes:
        pixels: as the target's preprocessing cuts them, not yet normalised; padded to a full batch
            by repeating the last.
        boxes: each window's (left, top, right, bottom) in pixels of its image, no padding.
        centres: each window's (y, x) before clamping, as fractions of the image.
        fallback: whether the attention map was empty, or the image has no box, so that the window
            is the centre.
    """

    pixels: UInt8[np.ndarray, "padded size size 3"]
    boxes: Float[np.ndarray, "view 4"]
    centres: Float[np.ndarray, "view 2"]
    fallback: Bool[np.ndarray, " view"]


class Batch(NamedTuple):
    """All views of a batch of images.

    Attributes:
        images: indices of its images.
        views: by the name of the view.
        skipped: why an image can't be used, and nothing for one that can; a black picture stands in
            for it.
        labels: index of each image's class, -1 where it isn't known.
    """

    images: Sequence[int]
    views: Mapping[str, Views]
    skipped: tuple[str, ...]
    labels: Int[np.ndarray, " view"]


class _Window(NamedTuple):
    """One view of one image; whether its centre was found, rather than fallen back to."""

    pixels: np.ndarray
    box: Box
    centre: Centre
    found: bool


class _Attended(NamedTuple):
    """What attention looks at, where that lies in the image, and what the window is cut from."""

    pixels: np.ndarray
    box: Box
    shrunk: Image.Image
    size: tuple[int, int]


class _Prepared(NamedTuple):
    """What is kept of an image: its windows but for attention's, and what that one needs."""

    windows: dict[str, _Window]
    attended: _Attended | None
    label: int | None
    reason: str = ""


def relevant_options(crop: CropConfig, source: Source) -> dict[str, Any]:
    """What a view depends on beside its image; a random seed does not name a centre view."""
    relevant: dict[str, Any] = {"view": crop.view, "field": crop.field}
    if crop.view == "attention":
        relevant |= {
            "cam": crop.cam,
            "cam_input": crop.cam_input,
            "cam_class": crop.cam_class,
        }
    if crop.view == "random":
        relevant["seed"] = _window_seed(crop, source)
    return relevant


def _window_seed(crop: CropConfig, source: Source) -> int:
    """Mixed with the source's name, lest every probe set's image i got the same random window."""
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
) -> Iterator[Batch]:
    """Cut some views of some images, in order; each image is decoded once.

    While the windows of one batch are cut, the device has the maps of the next to do, and threads
    decode those that follow.

    Args:
        preprocess: of the network that the views are for.
        source: the images; with boxes for the view "box".
        crop: all about the windows but which views.
        views: names of the views.
        images: indices of the images.
        batch: images at once; one shape for every batch.
        attend: starts to compute attention maps; needed for the view "attention".
        watch: called with all that is queued on the device.

    Yields:
        Batches of views.
    """
    prepare = partial(_prepare, preprocess, crop, views, _window_seed(crop, source))

    def stand_in(index: int, error: UnusableImage) -> _Prepared:
        black = Example(Image.new("RGB", (1, 1)), label=0, box=(0.0, 0.0, 1.0, 1.0))
        return prepare(index, black)._replace(reason=error.reason)

    chunks = batches(source, images, prepare, batch, stand_in)
    attended = ((chunk, watch(_attend(attend, chunk, batch))) for chunk in chunks)
    first = 0
    with ThreadPoolExecutor() as threads:
        for chunk, cams in ahead(attended):
            windows = {
                view: [p.windows[view] for p in chunk] for view in views if view != ATTENTION
            }
            if cams is not None:
                found = zip(*peaks(np.asarray(cams)[: len(chunk)]), strict=True)
                cut = partial(_cut_attended, preprocess, crop.field)
                windows[ATTENTION] = list(threads.map(cut, [p.attended for p in chunk], found))
            yield Batch(
                images[first : first + len(chunk)],
                {view: _stacked(own, batch) for view, own in windows.items()},
                tuple(prepared.reason for prepared in chunk),
                np.array([_known(prepared) for prepared in chunk], np.int32),
            )
            first += len(chunk)


def cut_view(
    preprocess: Preprocess, crop: CropConfig, image: Image.Image, centre: Centre
) -> tuple[UInt8[np.ndarray, "size size 3"], Box]:
    """Cut one view: the window around `centre`, or the whole image for the view "full"."""
    if crop.view == "full":
        return preprocess.squash(image), _whole(image)
    return preprocess.cut(image, centre, crop.field)


def _prepare(
    preprocess: Preprocess,
    crop: CropConfig,
    views: Sequence[str],
    seed: int,
    index: int,
    example: Example,
) -> _Prepared:
    """All that the decoded photo is needed for; it is resized once, whatever the windows."""
    image, size = example.image, example.image.size
    shrunk = preprocess.shrink(image, crop.field)
    windows: dict[str, _Window] = {}
    attended = None
    for view in views:
        if view == ATTENTION:
            looked_at = (preprocess.squash(image), _whole(image))
            if crop.cam_input == "centre":
                looked_at = preprocess.cut(shrunk, MIDDLE, crop.field, size)
            attended = _Attended(*looked_at, shrunk, size)
        elif view == "full":
            windows[view] = _Window(preprocess.squash(image), _whole(image), MIDDLE, True)
        else:
            centre = _centre(view, crop.field, seed, index, example)
            cut = preprocess.cut(shrunk, centre or MIDDLE, crop.field, size)
            windows[view] = _Window(*cut, centre or MIDDLE, centre is not None)
    return _Prepared(windows, attended, example.label)


def _known(prepared: _Prepared) -> int:
    return -1 if prepared.reason or prepared.label is None else prepared.label


def _whole(image: Image.Image) -> Box:
    return (0.0, 0.0, float(image.width), float(image.height))


def _centre(view: str, field: float, seed: int, index: int, example: Example) -> Centre | None:
    """The centre of a window that needs no look; nothing where the image has no box."""
    if view == "random":
        return random_centre(seed, index, example.image.size, field)
    if view != "box":
        return MIDDLE
    return None if example.box is None else box_centre(example.box, example.image.size)


def _attend(attend: Attend | None, chunk: list[_Prepared], batch: int) -> Array | None:
    """Start the attention maps of a batch, without waiting for them."""
    looked_at = [prepared.attended.pixels for prepared in chunk if prepared.attended]
    if not looked_at or attend is None:
        return None
    return attend(padded(np.stack(looked_at), batch), [prepared.label for prepared in chunk])


def _cut_attended(
    preprocess: Preprocess, field: float, attended: _Attended, peak: tuple[np.ndarray, np.bool_]
) -> _Window:
    """Cut the window around a peak of attention, or the centre where there is none."""
    within, found = peak
    centre = in_image(within, attended.box, attended.size) if found else MIDDLE
    cut = preprocess.cut(attended.shrunk, centre, field, attended.size)
    return _Window(*cut, centre, bool(found))


def _stacked(windows: Sequence[_Window], batch: int) -> Views:
    return Views(
        padded(np.stack([window.pixels for window in windows]), batch),
        np.array([window.box for window in windows], np.float32),
        np.array([window.centre for window in windows], np.float64),
        np.array([not window.found for window in windows]),
    )
