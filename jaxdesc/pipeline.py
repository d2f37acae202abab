"""The stages in order, activate → select → embed → score → certainty → evaluate, and nothing else.

Each stage, a module of `stages`, is a function from artifacts to an artifact; its inputs, listed
beside it, name it. κ and α enter no stage before `score`, so `sweep`, which scores and evaluates
for many, never runs a network twice.
"""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import NamedTuple

from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.evaluation.probe import Probe
from jaxdesc.result import CERTAINTY, Exemplar, Result, build_neurons
from jaxdesc.stages.activate import activate, left_out, mislabelled, top1
from jaxdesc.stages.certainty import certainty, hubs
from jaxdesc.stages.check import check
from jaxdesc.stages.embed import embed, embed_all
from jaxdesc.stages.encode import encode
from jaxdesc.stages.evaluate import ceilings, evaluate
from jaxdesc.stages.run import Run
from jaxdesc.stages.sanity import look_before, near_chance
from jaxdesc.stages.score import Setting, score, selection, texts
from jaxdesc.stages.select import chosen, select
from jaxdesc.stages.sweep import sweep as sweep_settings
from jaxdesc.stages.words import score_words
from jaxdesc.store import Artifact


def describe(run: Run) -> Result:
    """Run all stages that are not done yet and assemble what they found.

    Raises:
        InputError: a config that does not fit its inputs, or an image that can't be decoded.
    """
    seen = _run_networks(run)
    arrays = seen.selected, seen.embedded, seen.encoded
    scored = score(run, *arrays)
    certain = certainty(run, scored, *arrays)
    evaluated = evaluate(run, scored, seen.words) if seen.words else None
    stages = filter(None, (*seen, scored, certain, evaluated))
    return _result(run, {stage.stage: stage for stage in stages})


def measure(run: Run) -> tuple[Metrics, Metrics]:
    """Run the stages that metrics need, for a layer whose neurons have names.

    Returns:
        The neurons' metrics, and their ceilings.

    Raises:
        InputError: as `describe`.
    """
    seen = _run_networks(run)
    assert seen.words is not None  # check has seen that the neurons have names
    scored = score(run, seen.selected, seen.embedded, seen.encoded)
    return _metrics(evaluate(run, scored, seen.words), seen.words), ceilings(seen.words)


def sweep(
    run: Run, kappas: Iterable[float], alphas: Iterable[float], counts: Iterable[int]
) -> tuple[dict[Setting, Metrics], Metrics]:
    """Measure the layer for every κ, α and number of exemplars; each network runs once.

    Args:
        run: one whose neurons have names. `config.score.exemplars` is the largest of `counts`, and
            its κ and α aren't looked at.
        kappas: concentrations κ ≥ 0.
        alphas: concept sensitivities α in (0, 1].
        counts: exemplars a neuron; fewer of them are the best of more.

    Returns:
        The metrics of each setting, and their ceilings.

    Raises:
        InputError: as `describe`.
    """
    seen = _run_networks(run)
    assert seen.words is not None
    settings = [Setting(*own) for own in product(sorted(kappas), sorted(alphas), sorted(counts))]
    swept = sweep_settings(run, settings, seen.selected, seen.embedded, seen.encoded, seen.words)
    kinds = seen.words.values["metrics"]
    values = [swept.read(kind) for kind in kinds]
    each = [Metrics(dict(zip(kinds, own, strict=True))) for own in zip(*values, strict=True)]
    return dict(zip(settings, each, strict=True)), ceilings(seen.words)


def probe_pass(run: Run) -> Probe:
    """What every method of naming neurons is given, of all images that can be used.

    Args:
        run: of which `describe` needs not have been called; what it did is read.

    Raises:
        InputError: as `describe`.
    """
    seen = _run_networks(run)
    everything = embed_all(run, seen.activated)
    images = everything.read("images")
    return Probe(
        activations=seen.activated.read("activations")[images],
        images=everything.read("features"),
        concepts=seen.encoded.read("features"),
        base=seen.encoded.read("base"),
        exemplars=chosen(seen.selected).among(images),
    )


class _Seen(NamedTuple):
    """What the networks have seen: all that scoring and evaluation need."""

    activated: Artifact
    selected: Artifact
    embedded: Artifact
    encoded: Artifact
    words: Artifact | None


def _run_networks(run: Run) -> _Seen:
    check(run)
    look_before(run)
    # Texts first: one that can't be encoded is found before hours of images, not after.
    encoded = encode(run)
    words = score_words(run) if run.names else None
    activated = activate(run)
    _tell_top1(run, activated)
    selected = select(run, activated)
    return _Seen(activated, selected, embed(run, activated, selected), encoded, words)


def _tell_top1(run: Run, activated: Artifact) -> None:
    """Print the target's top-1, once for each source; near chance it is noted."""
    found, spec = top1(run, activated), run.inputs.source.spec
    if wrong := mislabelled(run, activated):
        run.note(wrong)
    if found and spec not in run.top1s:
        run.top1s[spec] = found
        run.tell(f"{run.inputs.target.name}: {found}")
        if found.near_chance:
            run.note(near_chance(run.inputs.target, found))


def _result(run: Run, stages: Mapping[str, Artifact]) -> Result:
    activated, selected, embedded = (stages[name] for name in ("activate", "select", "embed"))
    names = dict(zip(embedded.read("images").tolist(), embedded.values["names"], strict=True))
    found, exemplars = selection(stages["score"]), chosen(selected)
    boxes = activated.read("boxes").tolist()
    measured, best = None, None
    if "evaluate" in stages:
        measured, best = _metrics(stages["evaluate"], stages["words"]), ceilings(stages["words"])
    return Result(
        neurons=build_neurons(
            layer=run.config.target.layer,
            concepts=texts(run, found),
            maximum=found.maximum,
            threshold=found.threshold,
            exemplars=[
                [Exemplar(names[i], value, tuple(boxes[i]), i) for i, value in ranked]
                for ranked in exemplars.ranked()
            ],
            flags=exemplars.flags(run.config.score.fewest),
            names=run.names,
            certainty={name: stages["certainty"].read(name) for name in CERTAINTY},
        ),
        metrics=measured,
        ceilings=best,
        fallbacks=activated.values["fallbacks"],
        skipped=tuple(left_out(run, activated)),
        top1=top1(run, activated),
        notes=tuple(run.notes),
        seconds=dict(run.seconds),
        memory=dict(run.memory),
        fingerprints={name: stage.name for name, stage in stages.items()},
        hubs=hubs(run, stages["certainty"]),
    )


def _metrics(evaluated: Artifact, words: Artifact) -> Metrics:
    return Metrics({name: evaluated.read(name) for name in words.values["metrics"]})
