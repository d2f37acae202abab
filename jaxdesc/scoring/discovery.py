"""The concepts of every neuron."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise, product
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import ArrayLike, Float, Int

from jaxdesc.exemplars import Slots
from jaxdesc.scoring.block import Engine, Full, candidates
from jaxdesc.scoring.pairs import WIDTH, exact_scores
from jaxdesc.scoring.problem import Problem, problem_of, slots_of
from jaxdesc.scoring.screening import Screened
from jaxdesc.scoring.selection import Selection, joined, nothing, select
from jaxdesc.similarity import T_VMF, Similarity

EngineName = Literal["auto", "full", "screened"]

# Scores that are held before those that are not selected are dropped; bounds memory.
_SCORES = 1 << 25

# Neurons that are screened at a time; bounds memory.
SCREENED = 2048

# Neurons on which the engines are compared.
_TRIED_NEURONS = 64

# Screening leaves a smaller share of all concepts than of a sample, whose best score is lower:
# about the sample's share to this power. On made-up features like CLIP's it was 1.3 to 1.9.
_SHARE_POWER = 1.5


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
    similarity: Similarity = T_VMF,
) -> Selection:
    """Find the concepts of every neuron: those with S > α · max_j S, strictly (eqs. 2 and 3).

    Best first; equal scores by concept index. A neuron whose largest score is not positive gets
    none, since α · max would be above the max, and neither does a neuron without exemplars. Scores
    are float32; memory is (image + neuron) × block, and the concepts that may be selected.

    Args:
        image_features: unit features of the distinct exemplar views.
        exemplars: each neuron's rows of `image_features`, or `Slots`, some of them empty.
        concept_features: unit text features of the concepts, [concept, feature]: an array, or
            anything that reads rows from disk when it is sliced, such as `np.memmap` or
            TensorStore.
        base_feature: the base template's unit text feature.
        kappa: concentration κ ≥ 0, the parameter of the `similarity` φ.
        alpha: concept sensitivity α in (0, 1]; 1 keeps nothing, since the comparison is strict.
        block: concepts at a time.
        engine: "full" scores all images with all concepts, "screened" excludes most concepts before
            (`screening`), "auto" takes the one that is faster on a first block. All select the
            same. A similarity that can't be screened is always scored by the full engine.
        mesh: devices among which the concepts are shared out, `block` of them on each at a time;
            JAX's default device if None.
        similarity: φ.

    Raises:
        ValueError: κ, α or block is out of range, an array is empty, an exemplar is not a row of
            `image_features`, or features are not of unit length (NaN included).
    """
    slots = slots_of(exemplars)
    arrays = image_features, {slots.rows.shape[1]: slots}, concept_features, base_feature
    problem = problem_of(*arrays, [kappa], [alpha], similarity, mesh)
    return _selections(problem, [alpha], block, engine)[0]


def sweep(
    image_features: Float[ArrayLike, "image feature"],
    exemplars: Mapping[int, Slots],
    concept_features: Any,
    base_feature: Float[ArrayLike, "feature"],
    kappas: Sequence[float],
    alphas: Sequence[float],
    block: int = 512,
    engine: EngineName = "auto",
    mesh: Mesh | None = None,
    similarity: Similarity = T_VMF,
) -> dict[tuple[float, float, int], Selection]:
    """`discover` by (κ, α, number of exemplars): the same selections, for less.

    The candidates of all κ and α are found in one pass for each number of exemplars, their cosines
    are taken once, and an α only selects. `exemplars` are each neuron's by the number asked for.

    Raises:
        ValueError: as `discover`, or there is nothing to sweep over.
    """
    arrays = image_features, exemplars, concept_features, base_feature
    problem = problem_of(*arrays, kappas, alphas, similarity, mesh)
    keys = [(κ, α, count) for count in problem.exemplars for κ in kappas for α in alphas]
    return dict(zip(keys, _selections(problem, alphas, block, engine), strict=True))


def _selections(
    problem: Problem, alphas: Sequence[float], block: int, engine: EngineName
) -> list[Selection]:
    """Selections of each number of exemplars, κ and α, the last running fastest."""
    if block < 1:
        raise ValueError(f"block is {block}, but at least 1 concept must be scored at a time.")
    block = min(block, -(-len(problem) // problem.devices))
    total = problem.neurons
    # A constant neuron has no exemplars, however many are asked for.
    living = np.flatnonzero(np.max([each.counts for each in problem.exemplars.values()], axis=0))
    if not len(living):
        return [nothing(total)] * (len(problem.exemplars) * len(problem.kappas) * len(alphas))
    problem = problem.of(living)
    if problem.similarity.screened and (
        engine == "screened" or (engine == "auto" and _screening_pays(problem, block))
    ):
        groups = [problem.of(slice(i, i + SCREENED)) for i in range(0, len(living), SCREENED)]
        parts = [selected(group, Screened(group), alphas, block) for group in groups]
    else:
        parts = [selected(problem, Full(problem), alphas, block)]
    return [joined(same).among(living, total) for same in zip(*parts, strict=True)]


def selected(
    problem: Problem, engine: Engine, alphas: Sequence[float], block: int
) -> list[Selection]:
    """Score an engine's candidates and apply the rule, a few neurons at a time."""
    pairs, selections = candidates(problem, engine, block), []
    for count in problem.exemplars:
        kept = pairs.above(engine.floor, engine.counts == count)
        order = np.argsort(kept.units, kind="stable")
        units, concepts = kept.units[order], kept.concepts[order]
        ends = np.cumsum(np.bincount(units, minlength=problem.neurons))
        most = max(1, _SCORES // len(problem.kappas))
        cuts = np.searchsorted(ends, np.arange(most, ends[-1], most))
        parts = []
        for first, last in pairwise(np.unique([0, *cuts, problem.neurons]).tolist()):
            few = slice(*np.searchsorted(units, (first, last)))
            scores = exact_scores(problem, count, units[few], concepts[few])
            chosen = units[few] - first, concepts[few]
            asked = product(scores, alphas)
            parts.append([select(*chosen, row, alpha, last - first) for row, alpha in asked])
        selections += [joined(same) for same in zip(*parts, strict=True)]
    return selections


def _screening_pays(problem: Problem, block: int) -> bool:
    """Run both engines on the first block, and compare what they would take for all blocks.

    Screening is tried on some neurons. Its share of a sample of the concepts gives the number of
    tiles of pairs.
    """
    neurons, concepts = problem.neurons, len(problem)
    if concepts <= 16 * block or len(problem.images) <= neurons * len(problem.exemplars):
        return False
    few = problem.of(np.unique(np.linspace(0, neurons - 1, _TRIED_NEURONS).astype(int)))
    engine, full, asked = Screened(few), Full(problem), max(few.exemplars)
    _, count, texts = next(problem.blocks(block))
    pairs = np.divmod(np.arange(few.neurons * min(WIDTH, concepts)), min(WIDTH, concepts))
    look = _seconds(lambda: engine.look(texts, count)) * concepts / count
    tile = _seconds(partial(exact_scores, few, asked, *pairs)) / few.neurons
    tiles = np.ceil(engine.left**_SHARE_POWER * concepts / WIDTH).sum()
    screened = (look + tile * tiles) * neurons / few.neurons
    # An eighth of the block: with all images, a whole one takes a tenth of the time of screening.
    _, count, texts = next(problem.blocks(max(1, block // 8)))
    return bool(screened < _seconds(lambda: full.look(texts, count)) * concepts / count)


def _seconds(run: Callable[[], Any]) -> float:
    """Time a call once it is compiled: the quicker of two, in case of interruptions."""
    jax.block_until_ready(run())
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        jax.block_until_ready(run())
        taken.append(time.perf_counter() - began)
    return min(taken)
