"""What is to be scored: features that have been checked, concepts read a block at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Float32, Float64, Int, Int32

from jaxdesc.exemplars import Slots
from jaxdesc.scoring import rounding
from jaxdesc.scoring.cost import Sizes
from jaxdesc.scoring.devices import ONE, Devices

# How far a feature's norm may lie from 1: bfloat16 rounds each component by up to 0.4 %.
_NORM_TOLERANCE = 1e-2

# Distinct images are padded to a multiple of this: probe passes differ in their number, and every
# other number of rows would be another program to compile.
_IMAGES_MULTIPLE = 512

# Concepts whose features are on the device at a time: read in order, as disks like it.
PART = 1 << 17


class Conditions(NamedTuple):
    """Under what the same neurons are scored and selected.

    Attributes:
        kappas: concentrations κ.
        alpha: the smallest concept sensitivity, which selects most.
        counts: numbers of exemplars asked for, ascending.
    """

    kappas: Float32[np.ndarray, "kappa"]
    alpha: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """The features of one discovery, on the device but for the concepts.

    Attributes:
        images: unit features of the distinct exemplar views, padded with zero rows.
        with_base: their cosines with the base template.
        exemplars: by the number of exemplars asked for, rows of `images` for each neuron. Empty
            slots hold a zero row: its cosines are 0, and its φ differences too.
        filled: by that number, how many slots of each neuron hold an exemplar.
        texts: unit features of the concepts, [concept, feature]; anything that NumPy can slice.
        count: how many images there are without the padding.
        first: first component of each concept's features, where they have been read.
        devices: where it is computed.
        kept: the last part of the concepts that was put on the device.
    """

    images: Float32[Array, "image feature"]
    with_base: Float32[Array, "image"]
    exemplars: Mapping[int, Int32[Array, "neuron _"]]
    filled: Mapping[int, Int32[np.ndarray, "neuron"]]
    texts: Any
    count: int
    first: Float32[np.ndarray, "concept"]
    devices: Devices
    kept: dict[str, Any] = field(default_factory=dict)

    def blocks(self, size: int) -> Iterator[tuple[int, Float32[np.ndarray, "block feature"]]]:
        """Checked features of `size` concepts at a time, and the index of their first."""
        for start in range(0, len(self), size):
            yield start, self.block(start, size)

    def block(self, start: int, size: int) -> Float32[np.ndarray, "block feature"]:
        """Checked features of the concepts `start`, `start` + 1, ...; fewer at the end."""
        stop = min(start + size, len(self))  # TensorStore refuses what lies beyond
        rows = _unit(self.texts[start:stop], "concept_features", start)
        self.first[start:stop] = rows[:, 0]
        return rows

    def part(self, start: int, size: int) -> Float32[Array, "size feature"]:
        """Features of some concepts on the device, zero rows behind them; the last ones stay."""
        if self.kept.get("part") != (start, size):
            rows = self.block(start, size)
            rows = np.pad(rows, ((0, size - len(rows)), (0, 0))) if len(rows) < size else rows
            self.kept.update(part=(start, size), texts=self.devices.whole(rows))
        texts: Array = self.kept["texts"]
        return texts

    @property
    def neurons(self) -> int:
        """How many neurons there are."""
        return len(next(iter(self.filled.values())))

    @property
    def living(self) -> Int[np.ndarray, "living"]:
        """Neurons that have exemplars; a constant one has none, whatever number is asked for."""
        return np.flatnonzero(np.max([*self.filled.values()], axis=0))

    def of(self, neurons: Int[np.ndarray, "some"] | slice) -> "Problem":
        """The same problem for some neurons."""
        rows = {
            count: self.devices.whole(np.asarray(own)[neurons])
            for count, own in self.exemplars.items()
        }
        filled = {count: own[neurons] for count, own in self.filled.items()}
        return replace(self, exemplars=rows, filled=filled)

    def some(self, neurons: int, block: int, parts: int) -> "Problem":
        """A small problem like this one: some neurons, and some blocks of concepts."""
        chosen = np.unique(np.linspace(0, self.neurons - 1, neurons).astype(int))
        small = self.of(chosen)
        rows = {count: np.asarray(own) for count, own in small.exemplars.items()}
        used = np.unique(np.concatenate([own.ravel() for own in rows.values()]))
        places = {
            count: self.devices.whole(np.searchsorted(used, own).astype(np.int32))
            for count, own in rows.items()
        }
        # One shape, however many they share; a zero row may come on top of the exemplars.
        most = max(own.size for own in rows.values()) + 1
        used = np.pad(used, (0, most - len(used)))
        texts = np.concatenate([texts for _, texts in self.sample(block, parts)])
        return replace(
            small,
            images=self.images[used],
            with_base=self.with_base[used],
            exemplars=places,
            texts=texts,
            first=np.empty(len(texts), np.float32),
            kept={},
        )

    def sample(self, block: int, parts: int) -> list[tuple[int, Float32[np.ndarray, "_ feature"]]]:
        """Some blocks, spread evenly, and the index of each one's first concept."""
        starts = np.unique(np.linspace(0, max(0, len(self) - block), parts).astype(int))
        return [(start, self.block(start, block)) for start in starts.tolist()]

    def __len__(self) -> int:
        """How many concepts there are."""
        return int(self.texts.shape[0])


def checked(
    image_features: Float[ArrayLike, "image feature"],
    exemplars: Mapping[int, Slots],
    concept_features: Any,
    base_feature: Float[ArrayLike, "feature"],
    devices: Devices = ONE,
) -> Problem:
    """Check all but the concepts' values, which are checked when they are read.

    Args:
        image_features: as in `scoring.discover`.
        exemplars: of each neuron, by the number of exemplars asked for.
        concept_features: as in `scoring.discover`.
        base_feature: as in `scoring.discover`.
        devices: where it is computed.

    Raises:
        ValueError: an array is empty, of another shape or width, an exemplar isn't a row of
            `image_features`, or features aren't of unit length (NaN included).
    """
    images, base = np.asarray(image_features), np.asarray(base_feature)
    lazy = hasattr(concept_features, "shape") and not isinstance(concept_features, jax.Array)
    texts = concept_features if lazy else np.asarray(concept_features)
    _check_shape(images, "image_features", ("image", "feature"))
    _check_shape(texts, "concept_features", ("concept", "feature"))
    _check_shape(base, "base_feature", ("feature",))
    if not images.shape[-1] == texts.shape[-1] == base.shape[-1]:
        raise ValueError(
            f"features are {images.shape[-1]} wide for images, {texts.shape[-1]} for concepts "
            f"and {base.shape[-1]} for the base template, but one model must have made all."
        )
    images, base = _unit(images, "image_features"), _unit(base[None], "base_feature")[0]
    for slots in exemplars.values():
        _check_slots(slots, len(images))
    partly = any(not slots.taken.all() for slots in exemplars.values())
    # Where a slot is empty, there has to be a zero row.
    rest = -(len(images) + partly) % _IMAGES_MULTIPLE + partly
    padding = np.zeros((rest, len(base)), np.float32)
    images, count = np.concatenate([images, padding]) if len(padding) else images, len(images)
    rows = {
        wanted: np.where(slots.taken, slots.rows, count).astype(np.int32)
        for wanted, slots in exemplars.items()
    }
    return Problem(
        images=devices.whole(images),
        with_base=devices.whole(np.minimum(images @ base, 1)),  # XLA takes a tenth of a second
        exemplars={wanted: devices.whole(own) for wanted, own in rows.items()},
        filled={wanted: slots.counts.astype(np.int32) for wanted, slots in exemplars.items()},
        texts=texts,
        count=count,
        first=np.empty(texts.shape[0], np.float32),
        devices=devices,
    )


def psi(
    cosine: Float64[np.ndarray, "..."], kappa: Float64[np.ndarray, "..."] | float
) -> Float64[np.ndarray, "..."]:
    """ψ = φ + 1 = (1 + c) / (1 + κ(1 − c)): as φ in differences, but small where κ is large."""
    return (1 + cosine) / (1 + kappa * np.maximum(1 - cosine, 0))


def base_terms(
    problem: Problem, conditions: Conditions
) -> Float64[np.ndarray, "kappa count neuron"]:
    """Mean of ψ over each neuron's exemplars and the base template."""
    with_base = np.asarray(problem.with_base, np.float64)
    every = [psi(with_base, kappa) for kappa in conditions.kappas.astype(float)]

    def means(own: Float64[np.ndarray, "image"], count: int) -> Float64[np.ndarray, "neuron"]:
        slots = Slots(np.asarray(problem.exemplars[count]), problem.filled[count])
        values = np.where(slots.taken, own[slots.rows], 0)
        return values.sum(axis=1) / np.maximum(slots.counts, 1)

    return np.stack([[means(own, count) for count in conditions.counts] for own in every])


def sizes(problem: Problem, conditions: Conditions) -> Sizes:
    """How much there is to score."""
    return Sizes(
        neurons=problem.neurons,
        images=problem.count,
        concepts=len(problem),
        width=problem.images.shape[1],
        kappas=len(conditions.kappas),
        counts=conditions.counts,
    )


def slots_of(exemplars: Slots | Int[ArrayLike, "neuron exemplar"]) -> Slots:
    """Slots of each neuron; all of them are filled if rows alone are given.

    Raises:
        ValueError: the rows are no matrix of integers, or there are none.
    """
    if isinstance(exemplars, Slots):
        return exemplars
    rows = np.asarray(exemplars)
    if rows.ndim != 2 or rows.size == 0 or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(
            f"exemplars has shape {rows.shape} of {rows.dtype}, but integers of shape "
            "(neuron, exemplar) are needed, at least one of each."
        )
    return Slots.full(rows)


def _check_slots(slots: Slots, images: int) -> None:
    rows = slots.rows[slots.taken]
    if rows.size and (rows.min() < 0 or rows.max() >= images):
        raise ValueError(
            f"exemplars holds rows {rows.min()} to {rows.max()}, but image_features has rows 0 to "
            f"{images - 1}."
        )


def _check_shape(features: Any, name: str, axes: tuple[str, ...]) -> None:
    shape = tuple(features.shape)
    if len(shape) != len(axes) or 0 in shape:
        raise ValueError(
            f"{name} has shape {shape}, but ({', '.join(axes)}) is needed, none of them 0."
        )


def _unit(features: Any, name: str, first: int = 0) -> Float32[np.ndarray, "row feature"]:
    """Features in float32 and of unit length, once it is checked that they nearly were."""
    rows = np.asarray(features, np.float32)
    norms = np.sqrt(np.einsum("rf,rf->r", rows, rows))
    # Written so that NaN fails.
    wrong = np.flatnonzero(~(np.abs(norms - 1) <= _NORM_TOLERANCE))
    if wrong.size:
        raise ValueError(
            f"row {first + wrong[0]} of {name} has length {norms[wrong[0]]:.4g} ({wrong.size} such "
            f"rows of {len(rows)}), but features must have unit length: divide each by its norm."
        )
    rounded = np.abs(norms - 1) > rounding.NORM
    return np.where(rounded[:, None], rows / norms[:, None], rows) if rounded.any() else rows
