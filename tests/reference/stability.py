"""Oracle of the bootstrap over exemplars: float64 loops over resamples and all concepts."""

import numpy as np

from tests.reference import scoring


def stability(images, exemplars, concepts, base, kappa, alpha, draws):
    """For each neuron its selected concepts and their shares, and the share of its best one.

    Args:
        images: unit rows [U, d].
        exemplars: [N, n], rows of `images`.
        concepts: unit rows [T, d].
        base: unit [d].
        kappa: concentration.
        alpha: concept sensitivity.
        draws: [N, resamples, n], how often each exemplar is drawn.

    Returns:
        For each neuron (top share or NaN, {concept: share of resamples that select it}).
    """
    result = []
    for own, counts in zip(exemplars, draws, strict=True):
        (chosen,) = scoring.select(scoring.scores(images, [own], concepts, base, kappa), alpha)
        kept, first = {concept: 0 for concept, _ in chosen}, 0
        for times in counts:
            resampled = np.repeat(own, times)
            scores = scoring.scores(images, [resampled], concepts, base, kappa)
            (again,) = scoring.select(scores, alpha)
            for concept, _ in again:
                if concept in kept:
                    kept[concept] += 1
            if chosen:
                first += scores[0, chosen[0][0]] >= scores[0].max() - 1e-12
        shares = {concept: count / len(counts) for concept, count in kept.items()}
        result.append((first / len(counts) if chosen else np.nan, shares))
    return result
