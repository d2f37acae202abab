"""Oracle of the bootstrap over exemplars: float64 loops over resamples and all concepts."""

import numpy as np

from tests.reference import scoring


def stability(images, exemplars, concepts, base, kappa, alpha, draws):
    """Share of each neuron's best concept (NaN without one), and {concept: share}.

    A concept's share is of the resamples that select it, among the selected concepts. `draws`
    [N, resamples, n] holds how often each exemplar is drawn; the rest is as in `scoring.scores`.
    """
    result = []
    for rows, counts in zip(exemplars, draws, strict=True):
        (chosen,) = scoring.select(scoring.scores(images, [rows], concepts, base, kappa), alpha)
        kept, first = {concept: 0 for concept, _ in chosen}, 0
        for times in counts:
            resampled = np.repeat(rows, times)
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
