"""Description of bare arrays: activations and features of any origin."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float
from scipy import sparse

from jaxdesc import scoring
from jaxdesc.config import Config, ScoreConfig, converted
from jaxdesc.errors import InputError, shown
from jaxdesc.exemplars import Batch, Exemplars, find
from jaxdesc.exemplars import exemplars as find_exemplars
from jaxdesc.result import CERTAINTY, Exemplar, Result, build_neurons
from jaxdesc.scoring.certainty import certainty
from jaxdesc.similarity import SIMILARITIES
from jaxdesc.stages.check import check_names
from jaxdesc.stages.properties import of_arrays
from jaxdesc.vocabulary.names import LINE_END, check_name, normalised


def describe_activations(
    activations: Any,
    image_features: Float[ArrayLike, "image width"],
    concept_features: Float[ArrayLike, "concept width"],
    base_feature: Float[ArrayLike, "width"],
    concepts: Iterable[str],
    *,
    similarity: str = ScoreConfig.similarity,
    kappa: float = ScoreConfig.kappa,
    alpha: float = ScoreConfig.alpha,
    exemplars: int = ScoreConfig.exemplars,
    fewest: int = ScoreConfig.fewest,
    images: Iterable[str | os.PathLike[str]] | None = None,
    layer: str = "neurons",
) -> Result:
    """Describe the columns of any activation matrix: a sparse autoencoder, another framework.

    Args:
        activations: activation of each neuron on each image: any dense array of real numbers; a
            `scipy.sparse` array, whose zeros are never held; or an iterator of batches of rows of
            either kind, in the order of the images; one batch is held at a time. Sparse batches
            must not be below zero.
        image_features: unit CLIP features, as `jaxdesc.image_features` returns them.
        concept_features: unit CLIP features of the concepts' prompts, as
            `jaxdesc.concept_features` returns them.
        base_feature: unit CLIP feature of the base template, likewise.
        concepts: texts of the concepts.
        similarity: as in `describe`.
        kappa: parameter of the similarity: concentration κ ≥ 0 of t-vMF.
        alpha: concept sensitivity α in (0, 1].
        exemplars: most active images per neuron; one that is active on fewer has fewer.
        fewest: exemplars below which a neuron is flagged, and its concepts get no stability.
        images: names, such as paths in a folder, by which `write_report` finds the images; their
            indices by default.
        layer: name for reports.

    Raises:
        InputError: for shapes that do not fit, NaN, or an option out of its range.
    """
    options = ScoreConfig(exemplars, fewest, similarity, kappa, alpha)
    check_names(Config(score=options))
    layer, concepts = converted(str, layer, "layer"), _concepts(concepts)
    views = _numbers(image_features, "image_features", "image", "width")
    texts = _numbers(concept_features, "concept_features", "concept", "width")
    base = _numbers(base_feature, "base_feature", "width")
    names = [*map(str, range(len(views)))] if images is None else _texts(images, "images")
    _check_counts("concepts", len(concepts), "concept features", len(texts))
    _check_counts("image features", len(views), "names of images", len(names))
    if options.exemplars > len(views):
        raise InputError(
            f"{options.exemplars} exemplars are asked for, but there are {len(views)} images: ask "
            "for at most as many."
        )
    if isinstance(activations, Iterator):
        rows = _batches(activations, len(views))
        try:
            found = find(rows, options.exemplars, names.__getitem__)
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"activations: {error}") from error
    else:
        matrix = _activations(activations, "activations")
        _check_counts("rows of activations", matrix.shape[0], "image features", len(views))
        found = find_exemplars(matrix, options.exemplars, names)
    return result(layer, found, names, concepts, (views, texts, base), options)


def result(
    layer: str,
    chosen: Exemplars,
    names: Sequence[str],
    concepts: Sequence[str],
    features: tuple[np.ndarray, np.ndarray, np.ndarray],
    options: ScoreConfig,
) -> Result:
    """Score the exemplars of bare arrays, and assemble what was found."""
    views, texts, base = features
    asked, similarity = (options.kappa, options.alpha), SIMILARITIES[options.similarity]
    try:
        found = scoring.discover(views, chosen.slots, texts, base, *asked, similarity=similarity)
    except ValueError as error:  # features of another width or length
        raise InputError(str(error)) from error
    found = found.without(chosen.dead)
    seen, slots = chosen.slots.distinct()
    pool = views[seen] if seen.size else views[:1]  # all units are dead
    certain = certainty(
        pool, slots, texts, base, *asked, found, options.fewest, similarity=similarity
    )
    return Result(
        build_neurons(
            layer=layer,
            concepts=[
                [(concepts[j], score) for j, score in found.of(unit)]
                for unit in range(len(found.counts))
            ],
            maximum=found.maximum,
            threshold=found.threshold,
            exemplars=[
                [Exemplar(names[i], value, index=i) for i, value in ranked]
                for ranked in chosen.ranked()
            ],
            flags=chosen.flags(options.fewest),
            certainty={name: getattr(certain, name) for name in CERTAINTY},
            properties=of_arrays(pool, slots, chosen, options.fewest),
        ),
        hubs={concepts[hub]: share for hub, share in certain.hubs},
    )


def _batches(batches: Iterator[Any], count: int) -> Iterator[Batch]:
    """Check batches of activations of so many images, and number the images."""
    first, neurons = 0, None
    for number, batch in enumerate(batches):
        rows = _activations(batch, f"batch {number} of activations")
        if neurons not in (None, rows.shape[1]):
            raise InputError(
                f"batch {number} of activations has {rows.shape[1]} neurons, but those before it "
                f"have {neurons}: expected the same."
            )
        neurons, last = rows.shape[1], first + rows.shape[0]
        if last <= count:
            yield rows, np.arange(first, last, dtype=np.int32)
        first = last
    _check_counts("rows of activations", first, "image features", count)


def _activations(values: Any, name: str) -> Any:
    """Read activations as a finite float32 array, or a sparse array of `scipy`."""
    if sparse.issparse(values):
        if values.ndim != 2 or 0 in values.shape:
            raise InputError(
                f"{name} has shape {values.shape}: expected (image, neuron), at least one of each."
            )
        stored = sparse.csr_array(values)
        numbers = _numbers(stored.data[None], name, "image", "entry") if stored.nnz else None
        matrix: Any = stored.astype(np.float32)
        columns = stored.indices
        wrong = None if numbers is None else ~np.isfinite(numbers[0])
    else:
        matrix = numbers = _numbers(values, name, "image", "neuron")
        columns, wrong = None, ~np.isfinite(matrix).all(axis=0)
    if wrong is not None and wrong.any():
        place = int(wrong.argmax())
        neuron = place if columns is None else int(columns[place])
        of_neuron = matrix[:, [neuron]]
        of_neuron = of_neuron.toarray() if columns is not None else of_neuron
        what = "NaN" if np.isnan(of_neuron).any() else "infinity"
        raise InputError(f"Activations of neuron {neuron} hold {what}: expected finite numbers.")
    return matrix


def _numbers(values: Any, name: str, *axes: str) -> np.ndarray:
    """Read an array of any library as float32."""
    if hasattr(values, "todense"):
        raise InputError(
            f"{name} is a sparse array of type {type(values).__name__}: give one of scipy.sparse, "
            f"or a dense one, such as {name}.todense()."
        )
    try:
        array = np.asarray(values)
    except Exception as error:  # of any library: an array on a device, a type that NumPy lacks
        reason = " ".join(str(error).split())
        raise InputError(
            f"{name} can't be read as an array ({shown(reason)}): give one that numpy.asarray "
            f"takes, such as {name}.detach().cpu().float() of PyTorch."
        ) from error
    real = jnp.issubdtype(array.dtype, np.floating) or array.dtype.kind in "biu"
    if not real or np.ma.is_masked(values):
        kind = f"masked {array.dtype}" if real else array.dtype
        raise InputError(f"{name} is an array of type {kind}: expected real numbers.")
    if array.ndim != len(axes) or 0 in array.shape:
        raise InputError(
            f"{name} has shape {array.shape}: expected ({', '.join(axes)}), at least one of each."
        )
    with np.errstate(over="ignore"):  # infinity is refused by its own name
        return np.asarray(array, np.float32)


def _concepts(values: Any) -> list[str]:
    """Normalise concepts as a vocabulary does; refuse repeated ones and ones of several lines."""
    concepts, rows = _texts(values, "concepts"), dict[str, int]()
    for row, concept in enumerate(concepts):
        check_name(concept, f"row {row} of concepts")
        name = normalised(concept)
        if not name or LINE_END.search(concept):
            raise InputError(f"row {row} of concepts is {shown(concept)}: expected one name.")
        if name in rows:
            raise InputError(
                f"rows {rows[name]} and {row} of concepts are both {shown(name)}: give each once, "
                "as jaxdesc.concept_features does."
            )
        rows[name] = row
    return list(rows)


def _texts(values: Any, name: str) -> list[str]:
    """List texts, one per row."""
    unordered = isinstance(values, str | bytes | set | frozenset | Mapping)
    if unordered or hasattr(values, "columns") or not isinstance(values, Iterable):
        raise InputError(f"{name} is {shown(values)}: expected a list of texts, one per row.")
    listed = list(values)
    for index, value in enumerate(listed):
        if not isinstance(value, str | os.PathLike):
            raise InputError(f"{name}[{index}] is {shown(value)}: expected a text.")
    return [str(os.fspath(value)) for value in listed]


def _check_counts(what: str, count: int, other: str, others: int) -> None:
    if count != others:
        raise InputError(
            f"There are {count} {what}, but {others} {other}: expected as many of each."
        )
