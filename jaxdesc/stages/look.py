"""Look: the part of each exemplar that a unit looks at, and its activation on this window.

For windows of units (`config.crop.of`). Otherwise exemplars are the views of whole images, a row of
`Windows` for each image.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int32, UInt8
from PIL import Image

from jaxdesc.attention.cams import cam_fingerprint
from jaxdesc.attention.units import NOWHERE, UNITS, mapping_units, rows_and_columns
from jaxdesc.exemplars import Exemplars, Slots
from jaxdesc.images.example import Example
from jaxdesc.images.loader import batches, even, padded, regrouped
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.images.views import cut_view
from jaxdesc.images.windows import POSITIONS, Centre, at_positions, peaks, snapped
from jaxdesc.runtime.ahead import ahead
from jaxdesc.runtime.mesh import device_count, local_mesh
from jaxdesc.stages.activate import check_finite
from jaxdesc.stages.latents import are_packed, packed_peaks
from jaxdesc.stages.run import Run
from jaxdesc.stages.select import chosen
from jaxdesc.store import Artifact, Draft, Shards

Cut = Callable[[Image.Image, Centre], UInt8[np.ndarray, "size size 3"]]


class Windows(NamedTuple):
    """The views that exemplars are, by row.

    Attributes:
        images: index of each one's image, ascending.
        centres: (y, x) before clamping, as fractions of the image.
        boxes: (left, top, right, bottom) in pixels of the image.
    """

    images: Int32[np.ndarray, " row"]
    centres: Float64[np.ndarray, "row 2"]
    boxes: Float32[np.ndarray, "row 4"]

    @classmethod
    def of_images(cls, activated: Artifact) -> "Windows":
        """The views of all images, a row for each."""
        centres = activated.read("centres")
        return cls(np.arange(len(centres), dtype=np.int32), centres, activated.read("boxes"))

    @classmethod
    def of_units(cls, looked: Artifact) -> "Windows":
        """The units' own windows, as `look` found them."""
        return cls(*(looked.read(name) for name in cls._fields))

    def cutting(
        self, cuts: Sequence[Cut], rows: Sequence[int]
    ) -> tuple[Callable[[int, Example], list[np.ndarray]], list[int]]:
        """Return what `loader.batches` takes to cut some rows, each image being decoded once.

        These are a function of an image's index and the image, which cuts all its rows in each of
        several ways, and the images. `loader.regrouped` puts the results in the order of the rows,
        which have to be ascending.
        """
        centres: dict[int, list[Centre]] = {}
        for row in rows:
            y, x = self.centres[row].tolist()
            centres.setdefault(int(self.images[row]), []).append((y, x))
        return partial(_cut, tuple(cuts), centres), list(centres)


def _cut(
    cuts: Sequence[Cut], centres: Mapping[int, Sequence[Centre]], index: int, example: Example
) -> list[np.ndarray]:
    return [cut(example.image, centre) for centre in centres[index] for cut in cuts]


def look(run: Run, activated: Artifact, selected: Artifact) -> Artifact:
    """Find each unit's own window on each of its candidates, the images that `select` chose.

    Arrays: rows [N, C] of the candidates' windows, and by row, distinct and by image, those of
    `Windows`. `values["fallbacks"]` counts the candidates whose map is empty, so that their window
    is the centre.
    """
    target, config = run.inputs.target, run.config
    candidates, cam = chosen(selected), cam_fingerprint(target, config.crop.cam)
    inputs = {"select": selected.name, "cam": cam}
    peaked_at_once = "peaks" in activated or are_packed(activated)
    known = peaked_at_once or not candidates.counts.any()
    mapped = None if known else _map(run, candidates, inputs)

    def compute(draft: Draft) -> None:
        if peaked_at_once:
            centres, peaked = _peaks(run, activated, candidates)
        else:
            centres, peaked = _spread(candidates, mapped)
        # The first pass saw whole images, whose boxes are their sizes.
        sizes = activated.read("boxes")[:, [3, 2]].astype(np.float64)
        positions = snapped(centres, sizes[candidates.images], config.crop.field)
        keys = candidates.images.astype(np.int64) * POSITIONS**2 + positions
        taken = candidates.slots.taken
        distinct, (rows, _) = Slots(keys, candidates.counts).distinct()
        images, positions = np.divmod(distinct, POSITIONS**2)
        middles = at_positions(positions, sizes[images], config.crop.field)
        boxes = [
            target.preprocess.box((int(width), int(height)), (y, x), config.crop.field)
            for (height, width), (y, x) in zip(
                sizes[images].tolist(), middles.tolist(), strict=True
            )
        ]
        draft.write("rows", rows.astype(np.int32))
        draft.write("images", images.astype(np.int32))
        draft.write("centres", middles)
        draft.write("boxes", np.array(boxes, np.float32).reshape(-1, 4))
        draft.values["fallbacks"] = int((taken & ~peaked).sum())

    inputs |= {"field": str(config.crop.field), "maps": mapped.name if mapped else ""}
    return run.stage("look", inputs, compute)


def _peaks(
    run: Run, activated: Artifact, candidates: Exemplars
) -> tuple[Float64[np.ndarray, "unit slot 2"], Bool[np.ndarray, "unit slot"]]:
    """Peaks that the first pass found, as fractions of the image, and which maps have one."""
    config = run.config.target
    rows, columns = rows_and_columns(run.inputs.target, config.layer, config.pooling)
    peak = np.full(candidates.images.shape, NOWHERE, np.uint16)
    units, slots = np.nonzero(candidates.slots.taken)
    images = candidates.images[units, slots]
    if are_packed(activated):
        peak[units, slots] = packed_peaks(activated, images, units)
    else:
        peak[units, slots] = activated.read("peaks")[images, units]
    row, column = np.divmod(peak, columns)
    centres = np.stack([(row + 0.5) / rows, (column + 0.5) / columns], axis=-1)
    return np.where((peak != NOWHERE)[..., None], centres, 0.5), peak != NOWHERE


def _pairs(candidates: Exemplars) -> tuple[np.ndarray, ...]:
    """Image, unit and slot of each candidate, by image and unit."""
    units, slots = np.nonzero(candidates.slots.taken)
    images = candidates.images[units, slots]
    order = np.lexsort((units, images))
    return images[order], units[order], slots[order]


def _places(images: Int[np.ndarray, " pair"]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each pair in a table with a row for up to `UNITS` pairs of an image."""
    starts = np.flatnonzero(np.diff(images, prepend=-1))
    ranks = np.arange(len(images)) - np.repeat(starts, np.diff(starts, append=len(images)))
    rows = np.cumsum((ranks % UNITS) == 0) - 1
    return rows, ranks % UNITS


def _map(run: Run, candidates: Exemplars, inputs: Mapping[str, object]) -> Artifact:
    """Compute the maps of all candidates' units, and keep their peaks.

    Arrays: centres [R, `UNITS`, 2], as fractions of the image, and peaked [R, `UNITS`]; a row is
    an image and up to `UNITS` of the units that chose it.
    """
    config, source = run.config, run.inputs.source
    images, units, _ = _pairs(candidates)
    rows, columns = _places(images)
    count = int(rows[-1]) + 1
    table = np.zeros((count, UNITS), np.int32)
    table[:] = units[columns == 0][:, None]  # padding: the first unit of the row
    table[rows, columns] = units
    wanted = images[columns == 0]
    shards = Shards(count, even(len(source), config.images.batch))

    def compute(drafts: Mapping[str, Draft]) -> None:
        draft = drafts["maps"]
        missing = draft.missing(len(shards))
        places = [place for shard in missing for place in shards.rows(shard)]
        if not places:
            return
        mesh = local_mesh()
        target, size = run.inputs.target.on(mesh), shards.each * device_count(mesh)
        options = config.target.layer, config.target.pooling, config.crop.cam
        program = mapping_units(target, *options)
        prepare = partial(_squash, target.preprocess)
        photos = [int(wanted[place]) for place in places]
        read = batches(source, photos, prepare, size, None, config.images.workers)

        def started() -> Iterator[tuple[list[int], object]]:
            done = 0
            for chunk in read:
                part = places[done : done + len(chunk)]
                pixels = padded(np.stack(chunk), size)
                yield part, program((pixels, padded(table[part], size)))
                done += len(chunk)

        each = iter(missing)
        with run.bar(len(places), "look") as bar:
            for part, maps in ahead(started()):
                cams = np.asarray(maps)[: len(part)]
                centres, peaked = peaks(cams.reshape(-1, *cams.shape[2:]))
                values = {
                    "centres": centres.reshape(len(part), UNITS, 2),
                    "peaked": peaked.reshape(len(part), UNITS),
                }
                for start in range(0, len(part), shards.each):
                    here = slice(start, start + shards.each)
                    shard = {name: rows[here] for name, rows in values.items()}
                    draft.commit(next(each), shard, shards)
                bar.update(len(part))

    asked = {"maps": {**inputs, "units": UNITS, "batch": shards.each}}
    return run.stages("maps", asked, compute, _whole)["maps"]


def _whole(draft: Draft) -> None:
    """Add nothing to the shards, which are all of it."""
    del draft


def _squash(preprocess: Preprocess, index: int, example: Example) -> np.ndarray:
    del index
    return preprocess.squash(example.image)


def _spread(
    candidates: Exemplars, mapped: Artifact | None
) -> tuple[Float64[np.ndarray, "unit slot 2"], Bool[np.ndarray, "unit slot"]]:
    """Peaks that `_map` kept, by unit and slot; nothing was mapped if there are no candidates."""
    centres = np.full((*candidates.images.shape, 2), 0.5)
    peaked = np.zeros(candidates.images.shape, bool)
    if mapped is not None:
        images, units, slots = _pairs(candidates)
        rows, columns = _places(images)
        centres[units, slots] = mapped.read("centres")[rows, columns]
        peaked[units, slots] = mapped.read("peaked")[rows, columns]
    return centres, peaked


def rank(run: Run, selected: Artifact, looked: Artifact) -> Artifact:
    """Choose each unit's exemplars among its candidates, whose windows are its own.

    They are ordered by the unit's activation on the window, which the network sees, or as the
    candidates are, by that on the whole image. Arrays: those of `Exemplars`, whose images are rows
    of the windows.
    """
    crop, count = run.config.crop, run.config.score.exemplars
    candidates = chosen(selected)._replace(images=looked.read("rows"))
    again = crop.rank == "window" and candidates.counts.any()
    seen = _see(run, looked, candidates) if again else None
    inputs = {"look": looked.name, "windows": seen and seen.name, "exemplars": count}

    def compute(draft: Draft) -> None:
        ranked = candidates
        if seen is not None:
            values = np.zeros(candidates.images.shape, np.float32)
            _, units, slots = _pairs(candidates)
            parts = range(seen.values["shards"])
            values[units, slots] = np.concatenate([seen.read(f"values {part}") for part in parts])
            ranked = candidates.again(values, count)
        for name, array in ranked._asdict().items():
            draft.write(name, array)

    return run.stage("rank", inputs, compute)


def _see(run: Run, looked: Artifact, candidates: Exemplars) -> Artifact:
    """Record the activation of each unit on each of its windows, the candidates' "images".

    Arrays: "values K", of the pairs whose windows are in shard K, in the order of `_pairs`.
    """
    config, source, windows = run.config, run.inputs.source, Windows.of_units(looked)
    layer, count = config.target.layer, len(windows.images)
    shards = Shards(count, even(len(source), config.images.batch))

    def compute(drafts: Mapping[str, Draft]) -> None:
        draft = drafts["windows"]
        missing = draft.missing(len(shards))
        wanted = [row for shard in missing for row in shards.rows(shard)]
        if not wanted:
            return
        mesh = local_mesh()
        target, size = run.inputs.target.on(mesh), shards.each * device_count(mesh)
        program = target.activating((layer,), config.target.pooling, False)
        prepare, images = windows.cutting(
            [partial(cut_view, target.preprocess, config.crop)], wanted
        )
        read = batches(source, images, prepare, size, None, config.images.workers)
        started = (
            (len(chunk), program(padded(np.stack(chunk), size))[0])
            for chunk in regrouped(read, size)
        )
        each, (rows, units, _) = iter(missing), _pairs(candidates)
        with run.bar(len(wanted), "windows") as bar:
            for filled, found in ahead(started):
                values = np.asarray(found[layer], np.float32)[:filled]
                check_finite(target, layer, values)
                for start in range(0, filled, shards.each):
                    shard = next(each)
                    first, last = shards.rows(shard)[0], shards.rows(shard)[-1]
                    pairs = slice(*np.searchsorted(rows, (first, last + 1)))
                    of_pairs = values[start + rows[pairs] - first, units[pairs]]
                    draft.commit(shard, {f"values {shard}": of_pairs})
                bar.update(filled)

    def finish(draft: Draft) -> None:
        draft.values["shards"] = len(shards)

    inputs = {"look": looked.name, "pooling": config.target.pooling, "batch": shards.each}
    return run.stages("windows", {"windows": inputs}, compute, finish)["windows"]
