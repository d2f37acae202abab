"""What either engine takes, as far as sizes and a sample of the pairs can tell.

Nanoseconds on two cores (Zen 4, AVX-512), where a large float32 product does 83 multiply-adds in
one; elsewhere only their ratios matter. What both engines do alike is left out.
"""

from typing import NamedTuple

# A multiply-add: in a large product, and where a pair is scored alone (512 features: 60 ns).
_LARGE = 0.012
_ALONE = 0.12

# The full engine, for each concept and κ: φ of an image's cosine, an exemplar's addition, and a
# score of a neuron and a number of exemplars that is compared. Of runs with 1 and 8 κ, 1 and 3
# numbers of exemplars, 4,000 and 10,000 images.
_PHI = 0.25
_ADDED = 0.15
_SCORE = 6.0

# Screening: an exemplar's summary, for each number of exemplars; and all floors of a neuron, for
# each κ and number of exemplars.
_SUMMARY = 3_700.0
_FLOORS = 30_000.0

# A closer look: a feature of a concept or image that is read for it, and a pair.
_READ = 5.0
_CLOSER = 300.0


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
    scores = _ADDED * neurons * max(counts) + _SCORE * neurons * len(counts)
    return concepts * (_LARGE * images * width + kappas * (_PHI * images + scores))


def screened(sizes: Sizes, left: tuple[Left, ...]) -> float:
    """Nanoseconds of screening, where so many pairs are left for each number of exemplars."""
    neurons, _, concepts, width, kappas, counts = sizes
    product = len(counts) * _LARGE * neurons * concepts * width
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
    return _READ * sizes.width * (sizes.concepts + sizes.images) + _CLOSER * pairs


def _exact(sizes: Sizes, count: int, pairs: float) -> float:
    return _ALONE * sizes.width * count * pairs
