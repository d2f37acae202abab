"""Judging: labels from any source on images that had no part in finding them."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from jaxdesc.errors import InputError, shown
from jaxdesc.evaluation import methods
from jaxdesc.evaluation.judging.ablation import check_ablation
from jaxdesc.evaluation.judging.judgement import Judgement
from jaxdesc.evaluation.judging.labels import Label, Labels, texts_of
from jaxdesc.evaluation.judging.presence import LABELS, SCORER, Presence
from jaxdesc.evaluation.judging.scores import (
    BEST,
    RANDOM,
    Read,
    Scores,
    ceiling,
    groups,
    partly_unknown,
    random_labels,
    sanity_of,
    scores_of,
)
from jaxdesc.evaluation.methods import METHODS
from jaxdesc.images.example import Source
from jaxdesc.images.labels import matched
from jaxdesc.images.split import kept_aside, whole
from jaxdesc.models.encoder import Namer
from jaxdesc.pipeline.comparison import check_methods, probe_pass
from jaxdesc.pipeline.order import describe
from jaxdesc.result import Result
from jaxdesc.stages.check import check_single
from jaxdesc.stages.judge import SEED, Jury, check_folders, controls, effects, on_images
from jaxdesc.stages.run import Run

RUN = "run"  # the source of the run's labels
MISSING = 10  # concepts without a folder that are named


@dataclass(frozen=True)
class Judging:
    """Choices of a judgement.

    Attributes:
        result: the run's result; it is described if None.
        images: images that judge; the run's, kept aside by `images.split`, if None.
        same: judge on the images that labels were found on, if there are no others.
        presence: how it is known what images show, a kind of `stages.judge.KINDS`; empty for the
            best that is known.
        scorer: loads the network that says it if nothing else does.
        methods: names in METHODS whose labels are judged too, found on the run's images.
        made: images in a folder for each concept, for CoSy; none if None.
        ablate: units that are zeroed, drawn at random; 0 for none.
        each: images with a label's concept, and without it, that each is zeroed on.
        ceiling: find the best concept of the vocabulary.
    """

    result: Result | None = None
    images: Source | None = None
    same: bool = False
    presence: str = ""
    scorer: Callable[[], Namer] | None = None
    methods: tuple[str, ...] = ()
    made: Source | None = None
    ablate: int = 0
    each: int = 16
    ceiling: bool = True


def judge(run: Run, given: Mapping[str, Labels], options: Judging) -> Judgement:
    """Judge a run's labels, those given and those of methods, each source by its name.

    Labels that a run was to find on the images that judge are refused, unless that is asked for.
    """
    check_single(run.config, "Labels are judged by")
    for name in given:
        if name in (RUN, RANDOM, BEST, *options.methods):
            raise InputError(f"labels {shown(name)} have the name of another source: rename them.")
    if options.ablate:
        check_ablation(run.inputs.target, run.config.target.layer)
    if options.made:
        check_folders(options.made)
    held_out, images = _judging_images(run, options)
    check_methods(options.methods, len(run.inputs.source), f"{run.inputs.source.spec} holds")
    scorer = options.scorer or (lambda: run.inputs.scorer)
    if options.presence == SCORER:
        scorer()  # what can't be loaded is found before hours of images
    result = describe(run) if options.result is None else options.result
    sources = {RUN: own_labels(result)} | dict(given) | _of_methods(run, options.methods)
    jury = Jury(on_images(run, images), scorer)
    presence = jury.presence(options.presence, vocabulary=options.ceiling)
    read, count = jury.read(presence.known), jury.units
    floor = random_labels(run.inputs.vocabulary.concepts, count)
    with run.bar(count, "judge", "unit", delay=1) as bar:
        every = sources | {RANDOM: floor}
        scores = scores_of(read, count, presence, every, bar.update)
    judged = Judgement(
        layer=run.config.target.layer,
        images=images.spec,
        count=int(presence.known.sum()),
        presence=presence.kind,
        held_out=held_out,
        labels=every,
        scores=scores,
        ceilings=_ceiling(run, read, count, presence) if options.ceiling else {},
        sanity=sanity_of(read, presence, sources[RUN]),
        notes=(
            *_doubts(run, held_out, presence, scorer),
            *_of_sums(presence, sources, bool(options.made or options.ablate)),
            *presence.notes,
        ),
    )
    if options.made:
        found, missing = controls(jury, on_images(run, options.made), every)
        # Those of random labels are nobody's.
        missing = [text for text in texts_of(list(sources.values())) if text in missing]
        named = f"{', '.join(missing[:MISSING])}{', …' if len(missing) > MISSING else ''}"
        lacking = f"CoSy: {len(missing)} concepts have no folder of two images: {named}"
        notes = (*judged.notes, lacking) if missing else judged.notes
        judged = replace(judged.with_controls(found), notes=notes)
    if options.ablate:
        chosen = np.random.default_rng(SEED).permutation(count)[: options.ablate]
        some = np.sort(chosen).tolist()
        zeroed = effects(jury, presence, every, some, options.each)
        judged = judged.with_effects(zeroed)
    return judged


def _ceiling(run: Run, read: Read, count: int, presence: Presence) -> Scores:
    vocabulary = run.inputs.vocabulary.concepts
    total = len(vocabulary) * len(groups(count, int(presence.known.sum())))
    with run.bar(total, "ceiling", "concept", delay=1) as bar:
        return ceiling(read, count, presence, vocabulary, bar.update).scores


def own_labels(result: Result) -> dict[int, Label]:
    """Return the first concept of each neuron that has one."""
    return {neuron.unit: Label((neuron.concepts[0][0],)) for neuron in result if neuron.concepts}


def _judging_images(run: Run, options: Judging) -> tuple[bool, Source]:
    """Return whether the images that judge had no part in finding labels, and these."""
    named_on, target = run.inputs.source, run.inputs.target
    if options.images is not None:
        images = matched(options.images, target)
        every = matched(whole(named_on), target)
        held_out = images.fingerprint() not in (named_on.fingerprint(), every.fingerprint())
    elif run.config.images.split:
        return True, matched(kept_aside(named_on, run.config.images), target)
    else:
        images, held_out = named_on, False
    if not held_out and not options.same:
        raise InputError(
            f"The images of {named_on.spec} chose the labels, and would judge their own choice: "
            "give others (--images=OTHER), or keep some aside from the start "
            "(--config.images.split=0.3), or ask for it (--same-images)."
        )
    return held_out, images


def _of_methods(run: Run, names: Collection[str]) -> dict[str, Labels]:
    if not names:
        return {}
    if run.config.target.layer in run.inputs.target.sparse:
        raise InputError(
            f"Methods compare dense activations, but those of {run.config.target.layer!r} are "
            "latents of a dictionary: judge the run's labels and label files alone."
        )
    probe, concepts = probe_pass(run, names), run.inputs.vocabulary.concepts
    holder = f"{run.inputs.source.spec} holds, without those left out,"
    check_methods(names, len(probe.images), holder)
    return {
        name: methods.labels_of(METHODS[name].select(probe, run.config.score), concepts)
        for name in names
    }


def _of_sums(presence: Presence, sources: Mapping[str, Labels], heaviest: bool) -> Iterator[str]:
    for source, labels in sources.items():
        if not any(label.weights for label in labels.values()):
            continue
        if lacking := partly_unknown(presence, labels):
            yield (
                f"weighted sums of {source} with concepts that can't be judged, which count as "
                f"absent from all images: {lacking}"
            )
        if heaviest:
            yield f"CoSy and ablation judge weighted sums of {source} by their heaviest concept"


def _doubts(
    run: Run, held_out: bool, presence: Presence, scorer: Callable[[], Namer]
) -> Iterator[str]:
    if not held_out:
        yield "not held out: labels were found on these very images, which favours them"
    if presence.kind == SCORER and scorer().fingerprint == run.inputs.clip.fingerprint:
        yield (
            f"the scorer is {run.inputs.clip.name}, which named the units too: it favours labels "
            "that were found by it"
        )
    if presence.kind == LABELS:
        yield (
            "presence is by the images' labels: a label that names none of their classes, nor a "
            "hypernym, can't be judged"
        )
