"""Comparison of methods of naming neurons on one run's probe pass."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from jaxdesc.errors import InputError, shown
from jaxdesc.evaluation import methods
from jaxdesc.evaluation.judging.presence import PUBLISHED
from jaxdesc.evaluation.methods import AGAINST, METHODS, Line
from jaxdesc.evaluation.probe import Probe
from jaxdesc.pipeline.order import describe, run_networks
from jaxdesc.result import Result
from jaxdesc.stages.check import check_single
from jaxdesc.stages.embed import embed_all
from jaxdesc.stages.judge import sigmoid_of
from jaxdesc.stages.run import Run
from jaxdesc.stages.select import chosen


class Comparison(NamedTuple):
    """Every method, by its name, on one run's probe pass; the run's κ, similarity and result."""

    kappa: float
    similarity: str
    lines: Mapping[str, Line]
    result: Result


def compare(run: Run, names: Collection[str] = tuple(METHODS)) -> Comparison:
    """Compare methods by the classes' names, on the images and views of a run.

    WWW and t-vMF use the run's α, and t-vMF its κ, or the default if that is 0. Artifacts that the
    run has computed are read. t-vMF, which the others are compared with, is always among them.
    """
    check_single(run.config, "Methods are compared by")
    if not run.names:
        raise InputError(
            "Methods are compared by Hit Rate and F1, but the neurons of layer "
            f"{run.config.target.layer!r} have no known names: use layer 'fc' of a target with "
            "label_names."
        )
    images = run.inputs.source
    check_methods(names, len(images), f"{images.spec} holds")
    result, probe = describe(run), probe_pass(run, names)
    check_methods(names, len(probe.images), f"{images.spec} holds, without those left out,")
    asked = {name: method for name, method in METHODS.items() if name in {AGAINST, *names}}
    concepts = run.inputs.vocabulary.concepts
    lines = methods.compare(probe, concepts, run.names, asked, run.config.score)
    return Comparison(run.config.score.kappa, run.config.score.similarity, lines, result)


def probe_pass(run: Run, names: Collection[str] = ()) -> Probe:
    """The input of every method of naming neurons, from all images that can be used.

    Chances that images show concepts are fitted if one of the `names` needs them.
    """
    seen = run_networks(run)
    everything = embed_all(run, seen.activated)
    images, own = everything.read("rows"), seen.looked is not None
    sigmoid = PUBLISHED
    if any(METHODS[name].by_chances for name in names):
        sigmoid, notes = sigmoid_of(run, seen.activated, everything)
        for note in notes:
            run.note(note)
    return Probe(
        activations=seen.activated.read("activations")[images],
        images=everything.read("features"),
        concepts=seen.encoded.read("features"),
        base=seen.encoded.read("base"),
        exemplars=chosen(seen.selected).among(seen.embedded.read("rows") if own else images),
        windows=seen.embedded.read("features") if own else None,
        sigmoid=sigmoid,
    )


def check_methods(names: Collection[str], count: int, holder: str) -> None:
    """Refuse unknown methods, and those that need more images than `holder` has."""
    for name in names:
        if name not in METHODS:
            raise InputError(
                f"Unknown method {shown(name)}: expected one of {', '.join(METHODS)} (--methods)."
            )
    _check_images(names, count, holder)


def _check_images(names: Collection[str], count: int, holder: str) -> None:
    missing = {name: METHODS[name].fewest for name in names if METHODS[name].fewest > count}
    if missing:
        wanted = " and ".join(f"{name} needs {fewest}" for name, fewest in missing.items())
        able = [name for name, method in METHODS.items() if method.fewest <= count]
        raise InputError(
            f"{holder} {count} images, but {wanted}: give more images, or ask for other methods, "
            f"--methods={','.join(able)}."
        )
