"""How often a method is right where each neuron's concepts are known."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int

from jaxdesc.evaluation.statistics import Bounds, bootstrap, wilson

# Stands for "no concept" where a concept's index is expected.
NONE = -1


class Accuracy(NamedTuple):
    """A method's answers against the truth, one value a neuron.

    Attributes:
        top: whether its first concept is one of the neuron's own.
        precision: share of its concepts that are; 0 where it has none.
        recall: share of the neuron's own concepts that it has found.
        f1: harmonic mean of both, or 0.
        jaccard: concepts in both sets, of those in either.
    """

    top: Bool[np.ndarray, "neuron"]
    precision: Float64[np.ndarray, "neuron"]
    recall: Float64[np.ndarray, "neuron"]
    f1: Float64[np.ndarray, "neuron"]
    jaccard: Float64[np.ndarray, "neuron"]

    def bounds(self, confidence: float = 0.95) -> dict[str, Bounds]:
        """Mean and interval of each: Wilson's of `top`, the bootstrap over neurons of the rest."""
        top = wilson(int(self.top.sum()), len(self.top), confidence)
        rest = {name: values for name, values in self._asdict().items() if name != "top"}
        return {"top": top} | {name: bootstrap(rest[name], confidence) for name in rest}


def accuracy(
    selected: Sequence[Int[np.ndarray, "_"]], truth: Bool[np.ndarray, "neuron concept"]
) -> Accuracy:
    """Compare selected concepts with the truth.

    Args:
        selected: distinct concept indices of each neuron, best first; may be none. A method that
            names one concept only is compared with `[[concept], ...]`, see `single`.
        truth: the concepts of each neuron, at least one.

    Raises:
        ValueError: the neurons are not the same ones, there are none, or one has no true concept.
    """
    if len(selected) != len(truth) or len(truth) == 0 or not truth.any(axis=1).all():
        raise ValueError(
            f"{len(selected)} neurons were described, but the truth is known of "
            f"{int(truth.any(axis=1).sum())} of {len(truth)}: give the same ones, at least 1."
        )
    top = np.array([len(own) > 0 and row[own[0]] for own, row in zip(selected, truth, strict=True)])
    right = np.array([row[own].sum() for own, row in zip(selected, truth, strict=True)])
    many, there = np.array([len(own) for own in selected]), truth.sum(axis=1)
    return Accuracy(
        top=top.astype(bool),
        precision=right / np.maximum(many, 1),
        recall=right / there,
        f1=2 * right / (many + there),
        jaccard=right / (many + there - right),
    )


def single(top: Int[np.ndarray, "neuron"]) -> list[Int[np.ndarray, "_"]]:
    """The sets of a method that names one concept a neuron, or `NONE`."""
    return [np.array([concept][: int(concept != NONE)], np.int64) for concept in top.tolist()]
