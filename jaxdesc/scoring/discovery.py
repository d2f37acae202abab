"""The concepts of every neuron."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from jax.sharding import Mesh
from jaxtyping import ArrayLike, Float, Float32, Int, Int32

from jaxdesc.exemplars import Slots
from jaxdesc.scoring import cost
from jaxdesc.scoring.candidates import candidates
from jaxdesc.scoring.cost import Left
from jaxdesc.scoring.devices import Devices
from jaxdesc.scoring.exact import exact_scores
from jaxdesc.scoring.full import Full
from jaxdesc.scoring.problem import Conditions, Problem, checked, sizes, slots_of
from jaxdesc.scoring.screening import Screened
from jaxdesc.scoring.selection import Selection, joined, nothing, select
from jaxdesc.similarity import check_kappa

EngineName = Literal["auto", "full", "screened"]

# Blocks, evenly spread over the concepts, and neurons that tell how much screening excludes.
_SAMPLE = 8
_NEURONS = 64

# Scores that are held before those that are not selected are dropped; bounds memory.
_SCORES = 1 << 25

# Neurons that are screened at a time; bounds memory: their exemplars' products with each other.
_SCREENED = 2048


def discover(
    image_features: Float[ArrayLike, "image feature"],
    exemplars: Slots | Int[ArrayLike, "neuron exemplar"],
    concept_features: Any,
    base_feature: Float[ArrayLike, "feature"],
    kappa: ArrayLike,
    alpha: float,
    block: int = 512,
    engine: EngineName = "auto",
    mesh: Mesh | None = None,
) -> Selection:
    """The concepts of every neuron: those with S > α · max_j S, strictly (eqs. 2 and 3).

    Best first; equal scores by concept index. A neuron whose largest score isn't positive gets
    none, since α · max would lie above the max, and so does one without exemplars. Scores are
    float32; memory is (image + neuron) × block, and the concepts that may be selected.

    Args:
        image_features: unit features of the distinct exemplar views.
        exemplars: rows of `image_features`, for each neuron its exemplars; or `Slots`, of which
            some are empty. A neuron's score is the mean over its own exemplars.
        concept_features: unit text features of the concepts, [concept, feature]: an array, or what
            reads rows from disk when it is sliced, such as `np.memmap` or TensorStore.
        base_feature: the base template's unit text feature.
        kappa: concentration κ ≥ 0.
        alpha: concept sensitivity α in (0, 1]; 1 keeps nothing, since the comparison is strict.
        block: how many concepts are looked at at a time.
        engine: "full" scores all images with all concepts, "screened" excludes most concepts before
            (`screening`), "auto" takes what a sample shows to be faster. The selection is the same.
        mesh: devices among which the concepts are shared out, `block` of them on each at a time;
            JAX's default device where None.

    Returns:
        The selection.

    Raises:
        ValueError: κ, α or block is out of range, an array is empty, an exemplar isn't a row of
            `image_features`, or features aren't of unit length (NaN included).
    """
    slots = slots_of(exemplars)
    count = slots.rows.shape[1]
    arrays = image_features, {count: slots}, concept_features, base_feature
    problem = _checked(arrays, [kappa], [alpha], block, mesh)
    return _discover(problem, [kappa], [alpha], (count,), block, engine)[0]


def sweep(
    image_features: Float[ArrayLike, "image feature"],
    exemplars: Mapping[int, Slots] | Int[ArrayLike, "neuron exemplar"],
    concept_features: Any,
    base_feature: Float[ArrayLike, "feature"],
    kappas: Sequence[float],
    alphas: Sequence[float],
    counts: Sequence[int] = (),
    block: int = 512,
    engine: EngineName = "auto",
    mesh: Mesh | None = None,
) -> dict[tuple[float, float, int], Selection]:
    """`discover` for several κ, α and numbers of exemplars: the same selections, for less.

    The candidates of all κ and α are found in one pass for each number of exemplars, their cosines
    are taken once, and an α only selects.

    Args:
        image_features: as in `discover`.
        exemplars: rows of `image_features`, best first; or, by the number of exemplars asked for,
            the slots of each neuron.
        concept_features: as in `discover`.
        base_feature: as in `discover`.
        kappas: concentrations κ ≥ 0.
        alphas: concept sensitivities α in (0, 1].
        counts: how many of the rows to take, from the best on; all of them by default.
        block: as in `discover`.
        engine: as in `discover`.
        mesh: as in `discover`.

    Returns:
        The selection of each (κ, α, number of exemplars).

    Raises:
        ValueError: as `discover`; or nothing to sweep over, or a number of exemplars out of range.
    """
    if not isinstance(exemplars, Mapping):
        exemplars = _first(slots_of(exemplars).rows, counts)
    own = tuple(sorted(exemplars))
    arrays = image_features, {count: exemplars[count] for count in own}, concept_features
    problem = _checked((*arrays, base_feature), kappas, alphas, block, mesh)
    keys = [(kappa, alpha, count) for count in own for kappa in kappas for alpha in alphas]
    selections = _discover(problem, kappas, alphas, own, block, engine)
    return dict(zip(keys, selections, strict=True))


def _first(rows: Int[np.ndarray, "neuron exemplar"], counts: Sequence[int]) -> dict[int, Slots]:
    """The first rows of each neuron, for every number that is asked for."""
    most = rows.shape[1]
    for count in counts:
        if not 1 <= count <= most:
            raise ValueError(f"counts holds {count}, but there are 1 to {most} exemplars to take.")
    return {count: Slots.full(rows[:, :count]) for count in set(counts) or {most}}


def _discover(
    problem: Problem,
    kappas: Sequence[ArrayLike],
    alphas: Sequence[float],
    counts: tuple[int, ...],
    block: int,
    engine: EngineName,
) -> list[Selection]:
    """The selection of each number of exemplars, κ and α, the last running fastest."""
    each = np.array([np.asarray(kappa, np.float32) for kappa in kappas])
    conditions = Conditions(each, min(alphas), counts)
    block = min(block, -(-len(problem) // problem.devices.count))
    living, total = problem.living, problem.neurons
    if not len(living):
        return [nothing(total)] * (len(counts) * len(each) * len(alphas))
    if len(living) < total:
        problem = problem.of(living)
    screened = _screens(engine, problem, conditions, block)
    step = _SCREENED if screened else len(living)
    parts = []
    for first in range(0, len(living), step):
        part = problem.of(slice(first, first + step)) if step < len(living) else problem
        looks = Screened(part, conditions, block) if screened else Full(part, conditions)
        found = candidates(part, looks, block)
        parts.append(
            [
                selection
                for count in counts
                for selection in _of_count(part, each, alphas, count, *found.of_count(count)[:2])
            ]
        )
    return [joined(same).among(living, total) for same in zip(*parts, strict=True)]


def _checked(
    arrays: tuple[Any, Any, Any, Any],
    kappas: Sequence[ArrayLike],
    alphas: Sequence[float],
    block: int,
    mesh: Mesh | None,
) -> Problem:
    if not (len(kappas) and len(alphas)):
        raise ValueError("kappas or alphas is empty, but at least one of each is needed.")
    for kappa in kappas:
        check_kappa(kappa)
    for alpha in alphas:
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha is {alpha}, but the concept sensitivity must lie in (0, 1].")
    if block < 1:
        raise ValueError(f"block is {block}, but at least 1 concept must be scored at a time.")
    return checked(*arrays, Devices(mesh))


def _screens(wanted: EngineName, problem: Problem, conditions: Conditions, block: int) -> bool:
    """Whether concepts are screened before they are scored."""
    if wanted != "auto":
        return wanted == "screened"
    enough = len(problem) > 2 * _SAMPLE * block
    return enough and _screening_pays(problem, conditions, block)


def _screening_pays(problem: Problem, conditions: Conditions, block: int) -> bool:
    """Whether a sample of neurons and concepts leaves so little that screening is faster."""
    of_problem = sizes(problem, conditions)
    none_left = (Left(0.0, 0.0),) * len(conditions.counts)
    if cost.screened(of_problem, none_left) > cost.full(of_problem):
        return False
    small = problem.some(_NEURONS, block, _SAMPLE)
    screened = Screened(small, conditions, block)
    found, looked = candidates(small, screened, block), len(small) * small.neurons
    left = []
    for count in conditions.counts:
        pairs = found.reaching(count)
        kept = screened.one_by_one(count, pairs).sum()
        left.append(Left(len(pairs.neurons) / looked, float(kept) / looked))
    share = cost.screened(of_problem, tuple(left)) / cost.full(of_problem)
    logging.getLogger(__name__).info(
        "Screening takes %.2g of the full engine's time, as a sample tells: %s.",
        *(share, "screened" if share < 1 else "all are scored"),
    )
    return share < 1


def _of_count(
    problem: Problem,
    kappas: Float32[np.ndarray, "kappa"],
    alphas: Sequence[float],
    count: int,
    neurons: Int32[np.ndarray, "pair"],
    concepts: Int32[np.ndarray, "pair"],
) -> Iterator[Selection]:
    """The selection of each κ and α, a few neurons at a time, so that memory is bounded."""
    order, total = np.argsort(neurons, kind="stable"), problem.neurons
    neurons, concepts = neurons[order], concepts[order]
    ends = np.cumsum(np.bincount(neurons, minlength=total))
    most = max(1, _SCORES // len(kappas))
    cuts = np.unique(np.searchsorted(ends, np.arange(most, ends[-1], most)))
    parts = []
    for first, last in pairwise(np.unique([0, *cuts, total]).tolist()):
        own = slice(*np.searchsorted(neurons, (first, last)))
        scores = exact_scores(problem, kappas, count, neurons[own], concepts[own])
        pairs = neurons[own] - first, concepts[own]
        parts.append(
            [select(*pairs, row, alpha, last - first) for row in scores for alpha in alphas]
        )
    return (joined(same) for same in zip(*parts, strict=True))
