"""Zero-shot classifiers: the image tower of a name encoder, its classes given by name.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
section 3.1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxdesc.config import TEMPLATE, VocabularyConfig
from jaxdesc.errors import InputError, check_type, shown
from jaxdesc.models.encoder import Namer
from jaxdesc.models.taps import Apply, Tap
from jaxdesc.models.target import Target
from jaxdesc.runtime.compiler import product
from jaxdesc.vocabulary.names import check_name


@dataclass(frozen=True)
class Classifier:
    """Logits of images by the features of texts; equal ones share programs.

    Attributes:
        images: a `Namer`'s `apply`.
        scale, bias: of the logits.
    """

    images: Apply
    scale: float
    bias: float

    def __call__(self, params: Any, pixels: Array, tap: Tap) -> Array:
        """Return a logit per image and text; params are those of the namer, and the texts'."""
        features = self.images(params["namer"], pixels, tap)
        return self.scale * product(features, params["texts"].T) + self.bias


def zero_shot(
    namer: Namer, classes: Sequence[str | Sequence[str]], *, template: str = TEMPLATE
) -> Target:
    """Return a target whose layers are a name encoder's image tower, and whose classes are names.

    The logit of a class is the cosine of the image and of the template with the class's usual name,
    times the encoder's `logit_scale`, plus its `logit_bias`. The namer may name the units too.

    Args:
        namer: a CLIP or a SigLIP, as `load_namer` returns it.
        classes: of each class its name, or all its names, the usual one first.
        template: prompt around a name.

    Raises:
        InputError: an encoder whose layers can't be looked at, or names that can't be used.
    """
    check_type(namer, Namer, "namer", "load_namer")
    if namer.apply is None:
        raise InputError(
            f"{namer.name} does not offer the layers of its image tower: give a CLIP or a SigLIP, "
            "as jaxdesc.load_namer returns it, or a Namer with apply."
        )
    names, template = _names(classes), VocabularyConfig(template=template).template
    texts = namer.encode_texts([template.replace("{concept}", usual) for usual, *_ in names])
    return Target(
        params={"namer": namer.params, "texts": jnp.asarray(texts)},
        apply=Classifier(namer.apply, namer.logit_scale or 1.0, namer.logit_bias or 0.0),
        preprocess=namer.preprocess,
        classes=names,
        name=f"{namer.name} zero-shot",
        attention=namer.attention,
        notes=namer.notes,
        prefix=namer.prefix,
    )


def _names(classes: Any) -> tuple[tuple[str, ...], ...]:
    """Return the names of each class; refuse anything but texts, and a usual name given twice."""
    if isinstance(classes, str | Mapping) or not isinstance(classes, Iterable):
        raise InputError(f"classes are {shown(classes)}: give a list with each class's name.")
    names: list[tuple[str, ...]] = []
    first: dict[str, int] = {}
    for index, given in enumerate(classes):
        several = isinstance(given, Sequence) and not isinstance(given, str)
        each = tuple(given) if several else (given,)
        if not each or not all(isinstance(name, str) and name.strip() for name in each):
            raise InputError(f"class {index} is {shown(given)}: give its name, or all its names.")
        for name in each:
            check_name(name, f"class {index}")
        if first.setdefault(each[0], index) != index:
            raise InputError(
                f"classes {first[each[0]]} and {index} are both {shown(each[0])}: give each class "
                "another usual name."
            )
        names.append(each)
    if len(names) < 2:
        raise InputError(f"classes are {shown(names)}: give at least two.")
    return tuple(names)
