"""Linear explanations: a unit's activation as a sparse sum of presences of concepts.

Oikarinen and Weng, "Linear Explanations for Individual Neurons", ICML 2024: an elastic net over the
whole vocabulary orders the concepts, then a greedy forward search with refits keeps few of them.
Presences are an encoder's, sigmoid(a (cosine + b)).

The elastic net is solved by working sets: coordinate descent over the few concepts that correlate
best with what is left of a unit, for all units at once, until no other concept violates its
condition (or for `ROUNDS` rounds). Presences are never held as a whole. The authors leave out
concepts whose mean chance in their five strongest images is below ½. Here a concept has to vary as
much as one with a chance of ½ in five images and of 0 elsewhere, since an encoder that has been
fitted may never be that sure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int

from jaxdesc.evaluation.probe import Probe
from jaxdesc.runtime.compiler import jit, product

SHARES = (0.7, 0.1)  # of the images, for training and validation; the rest is for the test
SEED = 0  # of the split
PENALTY, MIXING = 0.05, 0.99  # of the elastic net: λ, and the share of its absolute values
ACTIVE, STRONGEST = 0.5, 5  # a concept has to vary as if this many images had such a chance
MOST, WIDTH, GAIN = 10, 10, 0.02  # concepts of a sum, tried per step, and what each must add
WORKING, SWEEPS, ROUNDS = 128, 200, 6  # concepts of a working set, sweeps over it, and their most
SLACK = 1e-4  # by which a concept may violate its condition
UNITS = 64  # whose working sets are laid out together
FEWEST = 100  # images


@dataclass(frozen=True)
class Sums(Sequence[np.ndarray]):
    """Each unit's concepts, the heaviest first, as a method of naming units returns them.

    Attributes:
        concepts: indices, empty for a unit without any.
        weights: of each concept's presence.
        bias: of each sum.
        held_out: correlation of each sum with the activation on the test images; NaN without one.
    """

    concepts: Sequence[Int[np.ndarray, "_"]]
    weights: Sequence[Float64[np.ndarray, "_"]]
    bias: Float64[np.ndarray, "unit"]
    held_out: Float64[np.ndarray, "unit"]

    def __len__(self) -> int:
        return len(self.concepts)

    def __getitem__(self, unit: int) -> np.ndarray:  # type: ignore[override]
        """Return the concepts of one unit."""
        return self.concepts[unit]


class _Parts(NamedTuple):
    """Images for training, validation and test."""

    train: Int[np.ndarray, "image"]
    validation: Int[np.ndarray, "image"]
    test: Int[np.ndarray, "image"]


def explain(probe: Probe, block: int) -> Sums:
    """Explain all units on a probe pass; presences of `block` concepts are held at a time."""
    parts = _split(len(probe.images))
    order = _ordered(probe, parts.train, block)
    concepts, weights, bias, held_out = [], [], [], []
    for unit, pool in enumerate(order):
        found = _search(probe, parts, unit, pool)
        concepts.append(found.concepts)
        weights.append(found.weights)
        bias.append(found.bias)
        held_out.append(found.held_out)
    return Sums(concepts, weights, np.array(bias), np.array(held_out))


def _split(images: int) -> _Parts:
    order = np.random.default_rng(SEED).permutation(images)
    ends = np.cumsum([round(share * images) for share in SHARES])
    return _Parts(*(np.sort(part) for part in np.split(order, ends)))


# The elastic net.


def _ordered(
    probe: Probe, train: Int[np.ndarray, "image"], block: int
) -> list[Int[np.ndarray, "_"]]:
    """Concepts of each unit with a positive weight in its elastic net, the heaviest first.

    Of a unit without one, the concept that correlates best.
    """
    images = probe.images[train]
    targets = probe.activations[train].astype(np.float32)
    spread = targets.std(axis=0)
    live = spread > 0
    targets = (targets - targets.mean(axis=0)) / np.where(live, spread, 1)
    units = targets.shape[1]
    first = _strongest(probe, images, targets, block, np.full((units, 0), -1))
    working, weights = first.concepts, np.zeros((units, first.concepts.shape[1]), np.float32)
    for _ in range(ROUNDS):
        weights, left = _solved(probe, images, targets, working, weights)
        found = _strongest(probe, images, left, block, working)
        violated = found.strength > PENALTY * MIXING + SLACK
        if not (violated & live[:, None]).any():
            break
        working, weights = _joined(working, weights, found, violated)
    ordered = []
    for unit in range(units):
        order = np.argsort(-weights[unit], kind="stable")
        pool = working[unit][order[weights[unit][order] > 0]]
        best = first.concepts[unit][:1]
        ordered.append((pool if len(pool) else best[best >= 0]) if live[unit] else pool[:0])
    return ordered


class _Strongest(NamedTuple):
    """Concepts that correlate best with each unit, −1 at the end if there are too few."""

    concepts: Int[np.ndarray, "unit some"]
    strength: Float32[np.ndarray, "unit some"]


def _strongest(
    probe: Probe,
    images: Float32[np.ndarray, "image feature"],
    targets: Float32[np.ndarray, "image unit"],
    block: int,
    but: Int[np.ndarray, "unit _"],
) -> _Strongest:
    """Find the concepts with the largest absolute correlation, but for some of each unit."""
    count = min(WORKING, len(probe.concepts))
    units = targets.shape[1]
    concepts = np.full((units, count), -1)
    strength = np.full((units, count), -np.inf, np.float32)
    held, seen = jnp.asarray(targets), jnp.asarray(images)
    rows = np.arange(units)[:, None]
    for start in range(0, len(probe.concepts), block):
        texts = jnp.asarray(probe.concepts[start : start + block])
        found = np.array(_correlations(seen, texts, held, *map(jnp.float32, probe.sigmoid)))
        mine = (but >= start) & (but < start + len(found[0]))
        found[np.nonzero(mine)[0], but[mine] - start] = -np.inf
        both = np.concatenate([strength, found], axis=1)
        indices = np.broadcast_to(np.arange(len(found[0])) + start, found.shape)
        every = np.concatenate([concepts, indices], axis=1)
        best = np.argpartition(-both, count - 1, axis=1)[:, :count]
        concepts, strength = every[rows, best], both[rows, best]
    order = np.argsort(-strength, axis=1, kind="stable")
    concepts, strength = concepts[rows, order], strength[rows, order]
    return _Strongest(np.where(strength > -np.inf, concepts, -1), strength)


def _solved(
    probe: Probe,
    images: Float32[np.ndarray, "image feature"],
    targets: Float32[np.ndarray, "image unit"],
    working: Int[np.ndarray, "unit some"],
    weights: Float32[np.ndarray, "unit some"],
) -> tuple[Float32[np.ndarray, "unit some"], Float32[np.ndarray, "image unit"]]:
    """Fit the elastic net of each unit over its working set; return weights and what is left."""
    solved, left = np.zeros_like(weights), np.zeros_like(targets)
    for first in range(0, len(working), UNITS):
        some = slice(first, first + UNITS)
        rows = [_standard(_presence(probe, images, each)) for each in working[some]]
        inner = np.stack([row.T @ row for row in rows]) / len(images)
        outer = np.stack([r.T @ y for r, y in zip(rows, targets[:, some].T, strict=True)])
        arrays = inner, outer / len(images), weights[some]
        solved[some] = np.asarray(_descend(*map(jnp.asarray, arrays)))
        for unit, row in enumerate(rows, first):
            left[:, unit] = targets[:, unit] - row @ solved[unit]
    return solved, left


def _joined(
    working: np.ndarray, weights: np.ndarray, found: _Strongest, violated: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put violating concepts in the place of those whose weight is 0."""
    working, weights = working.copy(), weights.copy()
    for unit, wrong in enumerate(violated):
        new = found.concepts[unit][wrong]
        free = np.flatnonzero(weights[unit] == 0)[::-1][: len(new)]
        working[unit, free] = new[: len(free)]
    return working, weights


def _presence(
    probe: Probe, images: Float32[np.ndarray, "image feature"], concepts: Int[np.ndarray, "some"]
) -> Float32[np.ndarray, "image some"]:
    """Presence of concepts; 0 of one that is −1."""
    found = probe.sigmoid(images @ probe.concepts[concepts].T)
    return np.asarray(np.where(concepts[None] >= 0, found, 0), np.float32)


def _standard(rows: Float32[np.ndarray, "image some"]) -> Float32[np.ndarray, "image some"]:
    """Columns of mean 0 and standard deviation 1; 0 for a constant one."""
    centred = rows - rows.mean(axis=0)
    spread = centred.std(axis=0)
    return np.asarray(np.where(spread > 1e-5, centred / np.maximum(spread, 1e-5), 0), np.float32)


@jit
def _correlations(
    images: Float32[Array, "image feature"],
    texts: Float32[Array, "concept feature"],
    targets: Float32[Array, "image unit"],
    a: Float32[Array, ""],
    b: Float32[Array, ""],
) -> Float32[Array, "unit concept"]:
    """Absolute correlation of standardised targets and presences; −inf for an inactive concept."""
    presence = jax.nn.sigmoid(a * (product(images, texts.T) + b))
    centred = presence - presence.mean(axis=0)[None]
    spread = jnp.sqrt((centred**2).mean(axis=0))
    least = ACTIVE * math.sqrt(STRONGEST / len(images))
    found = jnp.abs(product(targets.T, centred)) / (len(images) * jnp.maximum(spread, least))[None]
    return jnp.where((spread >= least)[None], found, -jnp.inf)


@jit
def _descend(
    inner: Float32[Array, "unit some some"],
    outer: Float32[Array, "unit some"],
    weights: Float32[Array, "unit some"],
) -> Float32[Array, "unit some"]:
    """Coordinate descent for ½ |y − X w|² / n + λ (α |w|₁ + ½ (1 − α) |w|²), for all units.

    `inner` and `outer` are XᵀX / n and Xᵀy / n.
    """
    count = outer.shape[1]
    sharp, soft = PENALTY * MIXING, 1 + PENALTY * (1 - MIXING)

    def step(index: Array, state: Array) -> Array:
        column = inner[:, index % count]
        rest = outer[:, index % count] - (column * state).sum(axis=1) + state[:, index % count]
        size = jnp.maximum(jnp.abs(rest) - sharp, 0) / soft
        return state.at[:, index % count].set(jnp.sign(rest) * size)

    found: Array = jax.lax.fori_loop(0, count * SWEEPS, step, weights)
    return found


# The greedy search.


class _Sum(NamedTuple):
    concepts: Int[np.ndarray, "_"]
    weights: Float64[np.ndarray, "_"]
    bias: float
    held_out: float


def _search(probe: Probe, parts: _Parts, unit: int, pool: Int[np.ndarray, "_"]) -> _Sum:
    """Add concepts of a pool one after the other, while the validation correlation grows enough.

    A concept that once adds too little is not tried again. At least one is kept.
    """
    if not len(pool):
        return _Sum(pool, np.zeros(0), 0.0, np.nan)
    pool = pool[: MOST * WIDTH]
    values = probe.activations[:, unit].astype(np.float64)
    rows = _presence(probe, probe.images, pool).astype(np.float64)
    train, validation = (_moments(rows[part], values[part]) for part in parts[:2])
    chosen: list[int] = []
    left, best = list(range(len(pool))), 0.0
    while len(chosen) < MOST and left:
        tried = left[:WIDTH]
        scores = [_agreement(validation, [*chosen, k], _fit(train, [*chosen, k])) for k in tried]
        added = [score - best >= GAIN or not chosen for score in scores]
        if not any(added):
            break
        place = int(np.argmax(scores))
        left = [k for k in left if k not in tried or (added[tried.index(k)] and k != tried[place])]
        chosen.append(tried[place])
        best = scores[place]
    weights = _fit(train, chosen)
    bias = float(values[parts.train].mean() - rows[parts.train][:, chosen].mean(axis=0) @ weights)
    held_out = _agreement(_moments(rows[parts.test], values[parts.test]), chosen, weights)
    order = np.argsort(-weights, kind="stable")
    return _Sum(pool[chosen][order], weights[order], bias, held_out)


class _Moments(NamedTuple):
    """Centred products of presences with each other and with the activation, and its own."""

    inner: Float64[np.ndarray, "some some"]
    outer: Float64[np.ndarray, "some"]
    total: float


def _moments(
    rows: Float64[np.ndarray, "image some"], values: Float[np.ndarray, "image"]
) -> _Moments:
    centred, target = rows - rows.mean(axis=0), values - values.mean()
    return _Moments(centred.T @ centred, centred.T @ target, float(target @ target))


def _fit(moments: _Moments, chosen: list[int]) -> Float64[np.ndarray, "chosen"]:
    """Least squares, the smallest solution if several fit."""
    inner = moments.inner[np.ix_(chosen, chosen)]
    solution: np.ndarray = np.linalg.lstsq(inner, moments.outer[chosen], rcond=1e-10)[0]
    return solution


def _agreement(moments: _Moments, chosen: list[int], weights: np.ndarray) -> float:
    """Correlation of the weighted sum with the activation; 0 if one of them is constant."""
    spread = weights @ moments.inner[np.ix_(chosen, chosen)] @ weights * moments.total
    return float(weights @ moments.outer[chosen] / np.sqrt(spread)) if spread > 0 else 0.0
