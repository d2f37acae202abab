"""The concepts of every neuron."""

import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from jax.sharding import Mesh
from jaxtyping import ArrayLike, Float, Float32, Int, Int32

from jaxdesc.scoring import cost
from jaxdesc.scoring.candidates import Engine, candidates
from jaxdesc.scoring.cost import Left
from jaxdesc.scoring.devices import Devices
from jaxdesc.scoring.exact import exact_scores
from jaxdesc.scoring.full import Full
from jaxdesc.scoring.problem import Conditions, Problem, checked, sizes
from jaxdesc.scoring.screening import Screened
from jaxdesc.scoring.selection import Selection, joined, select
from jaxdesc.similarity import check_kappa

EngineName = Literal["auto", "full", "screened"]

# Blocks, evenly spread over the concepts, and neurons that tell how much screening excludes.
_SAMPLE = 8
_NEURONS = 64

# Scores that are held before those that are not selected are dropped; bounds memory.
_SCORES = 1 << 25


def discover(
    image_features: Float[ArrayLike, "image feature"],
    exemplars: Int[ArrayLike, "neuron exemplar"],
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
    none, since α · max would lie above the max. Scores are float32; memory is
    (image + neuron) × block, and the concepts that may be selected.

    Args:
        image_features: unit features of the distinct exemplar views.
        exemplars: rows of `image_features`, for each neuron its exemplars.
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
    arrays = image_features, exemplars, concept_features, base_feature
    problem = _checked(arrays, [kappa], [alpha], block, mesh)
    exemplars_each = problem.exemplars.shape[1]
    return _discover(problem, [kappa], [alpha], (exemplars_each,), block, engine)[0]


def sweep(
    image_features: Float[ArrayLike, "image feature"],
    exemplars: Int[ArrayLike, "neuron exemplar"],
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
        exemplars: as in `discover`, best first.
        concept_features: as in `discover`.
        base_feature: as in `discover`.
        kappas: concentrations κ ≥ 0.
        alphas: concept sensitivities α in (0, 1].
        counts: how many of the exemplars to take, from the best on; all of them by default.
        block: as in `discover`.
        engine: as in `discover`.
        mesh: as in `discover`.

    Returns:
        The selection of each (κ, α, number of exemplars).

    Raises:
        ValueError: as `discover`; or nothing to sweep over, or a number of exemplars out of range.
    """
    arrays = image_features, exemplars, concept_features, base_feature
    problem = _checked(arrays, kappas, alphas, block, mesh)
    most = problem.exemplars.shape[1]
    for count in counts:
        if not 1 <= count <= most:
            raise ValueError(f"counts holds {count}, but there are 1 to {most} exemplars to take.")
    own = tuple(sorted(set(counts))) or (most,)
    keys = [(kappa, alpha, count) for count in own for kappa in kappas for alpha in alphas]
    selections = _discover(problem, kappas, alphas, own, block, engine)
    return dict(zip(keys, selections, strict=True))


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
    found = candidates(problem, _engine(engine, problem, conditions, block), block)
    return [
        selection
        for count in counts
        for selection in _of_count(problem, each, alphas, count, *found.of_count(count)[:2])
    ]


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


def _engine(wanted: EngineName, problem: Problem, conditions: Conditions, block: int) -> Engine:
    if wanted == "full" or (wanted == "auto" and len(problem) <= 2 * _SAMPLE * block):
        return Full(problem, conditions)
    if wanted == "auto" and not _screening_pays(problem, conditions, block):
        return Full(problem, conditions)
    return Screened(problem, conditions, block)


def _screening_pays(problem: Problem, conditions: Conditions, block: int) -> bool:
    """Whether a sample of neurons and concepts leaves so little that screening is faster."""
    of_problem = sizes(problem, conditions)
    nothing = (Left(0.0, 0.0),) * len(conditions.counts)
    if cost.screened(of_problem, nothing) > cost.full(of_problem):
        return False
    small = problem.some(_NEURONS, block, _SAMPLE)
    screened = Screened(small, conditions, block)
    found, looked = candidates(small, screened, block), len(small) * len(small.exemplars)
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
    order, total = np.argsort(neurons, kind="stable"), len(problem.exemplars)
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
