"""One scoring problem: features that were checked, and concepts that are read a block at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, ArrayLike, Float, Float32, Float64, Int, Shaped

from jaxdesc.exemplars import Slots
from jaxdesc.similarity import T_VMF, Similarity, check_kappa

# Half the gap between 1 and the next float32.
_UNIT = 2.0**-24

# Features whose norm is this near to 1 are not scaled.
NORM = 1e-5

# Largest distance of a feature's norm from 1: bfloat16 rounds each component by up to 0.4 %.
_NORM_TOLERANCE = 1e-2

# Distinct images are padded to a multiple of this: probe passes differ in their number, and every
# other number of rows would be another program to compile.
_IMAGES_MULTIPLE = 512

# Concepts whose features are on the device at a time for the pairs program.
PART = 1 << 17

# Runs of concepts that are a sample of all, and the length of each.
_RUNS, _RUN = 8, 512


def cosine_error(terms: int) -> float:
    """Bound the difference of two float32 products of unit features, summed in any order.

    Each is within `terms` · 2⁻²⁴ of the true product (Higham, "Accuracy and Stability of Numerical
    Algorithms", 2nd ed., eq. 3.5). Norms above 1 may take it above 1, where it is clipped.
    """
    return 2 * (terms + 16) * _UNIT + 3 * NORM


def mean_error(exemplars: int) -> float:
    """Bound the rounding of a mean of differences, relative to the mean of both their rises."""
    return 2 * (exemplars + 32) * _UNIT


@dataclass(frozen=True)
class Problem:
    """Features of one discovery, on the device except for the concepts, and what is asked.

    Exemplars are by the number asked for, ascending. Empty slots hold a zero row of `images`, whose
    cosines are 0 and whose differences of φ too.
    """

    images: Float32[Array, "image feature"]  # unit features of distinct views, then zero rows
    with_base: Float32[Array, "image"]  # their cosines with the base template
    exemplars: Mapping[int, Slots]
    texts: Any  # unit features, [concept, feature]; anything that NumPy can slice
    similarity: Similarity
    kappas: Float32[np.ndarray, "kappa"]
    alpha: float  # the smallest, which selects most
    mesh: Mesh | None  # devices that compute; JAX's default device if None
    first: Float32[np.ndarray, "concept"]  # first component of each concept that has been read
    kept: dict[str, Any] = field(default_factory=dict)  # the last part put on the device

    @property
    def devices(self) -> int:
        """Number of devices among which concepts are shared out."""
        return 1 if self.mesh is None else self.mesh.size

    def put(self, values: Any, axis: int | None = None) -> Shaped[Array, "..."]:
        """Split an array among the devices along an axis, or copy it to each if that is None."""
        return _put(values, self.mesh, axis)

    def blocks(self, size: int) -> Iterator[tuple[int, int, Float32[Array, "block feature"]]]:
        """Yield the first concept, their number and their features, `size` on each device.

        Zero rows follow the last concept, so that there is one shape and one trace.
        """
        size *= self.devices
        for start in range(0, len(self), size):
            rows = self.block(start, size)
            yield start, len(rows), self.put(_padded(rows, size), axis=0)

    def block(self, start: int, size: int) -> Float32[np.ndarray, "block feature"]:
        """Read and check features of the concepts from `start` on; fewer than `size` at the end."""
        stop = min(start + size, len(self))  # TensorStore refuses to read past the end
        rows = _unit(self.texts[start:stop], "concept_features", start)
        self.first[start:stop] = rows[:, 0]
        return rows

    def part(self, number: int) -> Float32[Array, "part feature"]:
        """Features of the concepts from `number` × `part_size` on, zero rows after them."""
        if self.kept.get("number") != number:
            rows = self.block(number * self.part_size, self.part_size)
            self.kept.update(number=number, texts=self.put(_padded(rows, self.part_size)))
        texts: Array = self.kept["texts"]
        return texts

    @property
    def part_size(self) -> int:
        """Concepts per part; all parts are of one size."""
        return part_size(len(self))

    def sample(self) -> Float32[np.ndarray, "some feature"]:
        """Features of some concepts: a few runs of them, spread evenly."""
        starts = np.unique(np.linspace(0, max(0, len(self) - _RUN), _RUNS).astype(int))
        return np.concatenate([self.block(start, _RUN) for start in starts.tolist()])

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return len(next(iter(self.exemplars.values())).counts)

    def of(self, neurons: Int[np.ndarray, "some"] | slice) -> "Problem":
        """Restrict the problem to some neurons."""
        some = {
            count: Slots(slots.rows[neurons], slots.counts[neurons])
            for count, slots in self.exemplars.items()
        }
        return replace(self, exemplars=some)

    def rise(self, cosine: Any, kappa: Any) -> Float64[np.ndarray, "..."]:
        """φ(c) − φ(−1): like φ in differences, but small where κ is large, so that digits stay."""
        return np.asarray(self.similarity.difference(cosine, np.float64(-1), kappa), np.float64)

    @property
    def base_rise(self) -> Float64[np.ndarray, "kappa count neuron"]:
        """Mean rise of φ over each neuron's exemplars and the base template."""
        with_base = np.asarray(self.with_base, np.float64)
        rises = [self.rise(with_base, kappa) for kappa in self.kappas.astype(np.float64)]

        def mean(rise: np.ndarray, slots: Slots) -> np.ndarray:
            sums = np.where(slots.taken, rise[slots.rows], 0).sum(axis=1)
            return np.asarray(sums / np.maximum(slots.counts, 1))

        return np.array([[mean(rise, each) for each in self.exemplars.values()] for rise in rises])

    def __len__(self) -> int:
        """Count the concepts."""
        return int(self.texts.shape[0])


def problem_of(
    image_features: Float[ArrayLike, "image feature"],
    exemplars: Mapping[int, Slots],
    concept_features: Any,
    base_feature: Float[ArrayLike, "feature"],
    kappas: Sequence[ArrayLike],
    alphas: Sequence[float],
    similarity: Similarity = T_VMF,
    mesh: Mesh | None = None,
) -> Problem:
    """Check everything except the concepts' features, which are checked when they are read.

    Raises:
        ValueError: as `discover`.
    """
    if not (len(kappas) and len(alphas)):
        raise ValueError("kappas or alphas is empty, but at least one of each is needed.")
    for kappa in kappas:
        check_kappa(kappa)
    for alpha in alphas:
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha is {alpha}, but the concept sensitivity must lie in (0, 1].")
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
    count = len(images)
    every = {asked: _slots(slots, count) for asked, slots in sorted(exemplars.items())}
    images = _padded(
        images, padded_rows(count + any(not slots.taken.all() for slots in every.values()))
    )
    return Problem(
        images=_put(images, mesh),
        with_base=_put(np.minimum(images @ base, 1), mesh),  # XLA takes a tenth of a second
        exemplars=every,
        texts=texts,
        similarity=similarity,
        kappas=np.array([np.asarray(kappa, np.float32) for kappa in kappas]),
        alpha=min(alphas),
        mesh=mesh,
        first=np.empty(texts.shape[0], np.float32),
    )


def padded_rows(images: int) -> int:
    """Rows of `Problem.images` for so many distinct images."""
    return images + -images % _IMAGES_MULTIPLE


def part_size(concepts: int) -> int:
    """Concepts per part, all parts being of one size."""
    return -(-concepts // -(-concepts // PART))


def slots_of(exemplars: Slots | Int[ArrayLike, "neuron exemplar"]) -> Slots:
    """Slots of each neuron, all filled if rows alone, a matrix of integers, are given."""
    if isinstance(exemplars, Slots):
        return exemplars
    rows = np.asarray(exemplars)
    if rows.ndim != 2 or rows.size == 0 or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(
            f"exemplars has shape {rows.shape} of {rows.dtype}, but integers of shape "
            "(neuron, exemplar) are needed, at least one of each."
        )
    return Slots.full(rows)


def _slots(slots: Slots, images: int) -> Slots:
    """Checked slots, the empty ones with the row after the last image."""
    rows = slots.rows[slots.taken]
    if rows.size and (rows.min() < 0 or rows.max() >= images):
        raise ValueError(
            f"exemplars holds rows {rows.min()} to {rows.max()}, but image_features has rows 0 "
            f"to {images - 1}."
        )
    filled = np.where(slots.taken, slots.rows, images).astype(np.int32)
    return Slots(filled, slots.counts.astype(np.int32))


def _put(values: Any, mesh: Mesh | None, axis: int | None = None) -> Shaped[Array, "..."]:
    if mesh is None:
        return jnp.asarray(values)
    spec = () if axis is None else (*(None,) * axis, mesh.axis_names)
    return jax.device_put(values, NamedSharding(mesh, PartitionSpec(*spec)))


def _padded(
    rows: Float32[np.ndarray, "rows feature"], size: int
) -> Float32[np.ndarray, "size feature"]:
    missing = size - len(rows)
    return np.pad(rows, ((0, missing), (0, 0))) if missing else rows


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
    rounded = np.abs(norms - 1) > NORM
    return np.where(rounded[:, None], rows / norms[:, None], rows) if rounded.any() else rows
