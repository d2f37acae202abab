"""What either engine takes, as far as sizes and a sample of the pairs can tell.

A rough model, meant to choose the better engine where they differ much, not to foretell times. Its
unit is a nanosecond of processor time, of both cores together (Zen 4, AVX-512); elsewhere only the
ratios matter. The constants were set by hand after some twenty runs of 1,000 neurons and 20,000 or
67,186 concepts, 1 or 8 κ, on a machine that other work shared, where processor time says more than
the clock. Against those runs the model is off by up to a third. What both engines do alike is
left out.
"""

from typing import NamedTuple

# A multiply-add: in a large product, and where a pair is scored alone.
_LARGE = 0.024
_ALONE = 0.24

# The full engine, for each concept and κ: φ of an image's cosine, an exemplar's addition, and a
# neuron's score; for each further number of exemplars, another pass over the scores.
_PHI = 0.4
_ADDED = 0.15
_SCORE = 2.5
_FURTHER = 36.0

# Screening: a pair's comparison, an exemplar's summary, for each number of exemplars; and all
# floors of a neuron, for each κ and number of exemplars.
_COMPARED = 5.5
_SUMMARY = 2_000.0
_FLOORS = 12_000.0

# A closer look: a feature of a concept or image that is read for it, a neuron, and a pair.
_READ = 4.0
_NEURON = 100_000.0
_CLOSER = 250.0

# Pairs that each neuron's last tile is short of, all told: they are scored too.
_EMPTY = 16


class Sizes(NamedTuple):
    """How much there is to score.

    Attributes:
        neurons, images, concepts: how many.
        width: of the features.
        kappas: how many κ.
        counts: numbers of exemplars.
    """

    neurons: int
    images: int
    concepts: int
    width: int
    kappas: int
    counts: tuple[int, ...]


class Left(NamedTuple):
    """Share of the pairs that is left for a number of exemplars.

    Attributes:
        at_first: by the bounds of screening.
        closer: by a closer look at these.
    """

    at_first: float
    closer: float


def full(sizes: Sizes) -> float:
    """Nanoseconds of the full engine."""
    neurons, images, concepts, width, kappas, counts = sizes
    scores = neurons * (_ADDED * sum(counts) + _SCORE + _FURTHER * (len(counts) - 1))
    return concepts * (_LARGE * images * width + kappas * (_PHI * images + scores))


def screened(sizes: Sizes, left: tuple[Left, ...]) -> float:
    """Nanoseconds of screening, where so many pairs are left for each number of exemplars."""
    neurons, _, concepts, width, kappas, counts = sizes
    product = len(counts) * neurons * concepts * (_LARGE * width + _COMPARED)
    summary = neurons * (_SUMMARY * sum(counts) + _FLOORS * kappas * len(counts))
    pairs = neurons * concepts
    return (
        product
        + summary
        + sum(
            _rest(sizes, count, own.at_first * pairs, own.closer * pairs)
            for count, own in zip(counts, left, strict=True)
        )
    )


def closer_pays(sizes: Sizes, count: int, pairs: float) -> bool:
    """Whether a closer look at some pairs takes less than their scores, if it leaves few."""
    return _closer(sizes, pairs) < _exact(sizes, count, pairs)


def _rest(sizes: Sizes, count: int, pairs: float, closer: float) -> float:
    if not closer_pays(sizes, count, pairs):
        return _exact(sizes, count, pairs)
    return _closer(sizes, pairs) + _exact(sizes, count, closer)


def _closer(sizes: Sizes, pairs: float) -> float:
    read = _READ * sizes.width * (sizes.concepts + sizes.images)
    return read + _NEURON * sizes.neurons + _CLOSER * pairs


def _exact(sizes: Sizes, count: int, pairs: float) -> float:
    return _ALONE * sizes.width * count * (pairs + _EMPTY * sizes.neurons)
