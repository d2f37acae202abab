"""The concept score as the paper defines it: every engine is tested against this."""

import jax
from jaxtyping import Array, ArrayLike, Float

from jaxdesc.runtime.compiler import product
from jaxdesc.similarity import check_kappa, t_vmf_difference


def score(
    exemplar_features: Float[ArrayLike, "exemplar feature"],
    concept: Float[ArrayLike, "feature"],
    base: Float[ArrayLike, "feature"],
    kappa: ArrayLike,
) -> Float[Array, ""]:
    """One neuron's score for one concept: S = mean_o { φ(v_o · t; κ) − φ(v_o · b; κ) } (eq. 3).

    Args:
        exemplar_features: v, unit image features of the neuron's exemplars.
        concept: t, the concept's unit text feature.
        base: b, the base template's unit text feature.
        kappa: concentration κ ≥ 0 of φ, the t-vMF similarity; 0 gives WWW's score (eq. 1).

    Returns:
        The score.

    Raises:
        ValueError: κ is negative or not finite.
    """
    with_concept = product(exemplar_features, concept)
    with_base = product(exemplar_features, base)
    return t_vmf_difference(with_concept, with_base, kappa).mean()


def scores(
    exemplar_features: Float[ArrayLike, "neuron exemplar feature"],
    concepts: Float[ArrayLike, "concept feature"],
    base: Float[ArrayLike, "feature"],
    kappa: ArrayLike,
) -> Float[Array, "neuron concept"]:
    """`score` of every neuron for every concept: all of S in memory, for small layers and tests.

    Args:
        exemplar_features: unit image features of each neuron's exemplars.
        concepts: unit text features of the concepts.
        base: the base template's unit text feature.
        kappa: concentration κ ≥ 0.

    Returns:
        The scores.

    Raises:
        ValueError: κ is negative or not finite.
    """
    check_kappa(kappa)
    return _scores(exemplar_features, concepts, base, kappa)


@jax.jit
def _scores(
    exemplar_features: Float[ArrayLike, "neuron exemplar feature"],
    concepts: Float[ArrayLike, "concept feature"],
    base: Float[ArrayLike, "feature"],
    kappa: ArrayLike,
) -> Float[Array, "neuron concept"]:
    over_concepts = jax.vmap(score, (None, 0, None, None))
    return jax.vmap(over_concepts, (0, None, None, None))(exemplar_features, concepts, base, kappa)
