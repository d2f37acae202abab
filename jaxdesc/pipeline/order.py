"""The stages in order: activate → select → embed → encode → score → certainty → evaluate.

Each stage, a module of `stages`, is a function from artifacts to an artifact, which is named by its
inputs. κ and α enter no stage before `score`, so `sweep`, which scores and evaluates a whole grid,
never runs a network twice.
"""

from collections.abc import Iterator
from typing import NamedTuple

from jaxdesc.result import CERTAINTY, Exemplar, Result, build_neurons
from jaxdesc.stages.activate import (
    activate,
    activate_all,
    left_below,
    left_out,
    mislabelled,
    top1,
)
from jaxdesc.stages.certainty import certainty, hubs
from jaxdesc.stages.check import check, look_before, near_chance
from jaxdesc.stages.embed import embed, searcher
from jaxdesc.stages.encode import encode
from jaxdesc.stages.evaluate import ceilings, evaluate, measured, score_words
from jaxdesc.stages.look import Windows, look, rank
from jaxdesc.stages.properties import MEASURED, of_units, properties
from jaxdesc.stages.run import Run
from jaxdesc.stages.score import score, selection, texts
from jaxdesc.stages.select import chosen, select
from jaxdesc.store import Artifact


class Seen(NamedTuple):
    """Artifacts of the networks: all that scoring and evaluation need."""

    activated: Artifact
    selected: Artifact  # the exemplars
    embedded: Artifact
    encoded: Artifact
    words: Artifact | None
    looked: Artifact | None = None  # the windows, if units have their own

    @property
    def windows(self) -> Windows:
        """The views that exemplars are."""
        if self.looked is None:
            return Windows.of_images(self.activated)
        return Windows.of_units(self.looked)


def run_networks(run: Run) -> Seen:
    """Run the stages that need a network, and skip those that are done."""
    encoded, words = _before_images(run)
    activated = activate(run)
    if wrong := mislabelled(run, activated):
        run.note(wrong)
    if cut := left_below(run, activated):
        run.note(cut)
    found, spec = top1(run, activated), run.inputs.source.spec
    if found and spec not in run.top1s:  # once per source
        run.top1s[spec] = found
        run.tell(f"{run.inputs.target.name}: {found}")
        if found.near_chance:
            run.note(near_chance(run.inputs.target, found))
    selected, looked = select(run, activated), None
    windows = Windows.of_images(activated)
    if run.config.crop.units:
        looked = look(run, activated, selected)
        windows, selected = Windows.of_units(looked), rank(run, selected, looked)
    embedded = embed(run, windows, selected)
    return Seen(activated, selected, embedded, encoded, words, looked)


def _before_images(run: Run) -> tuple[Artifact, Artifact | None]:
    """Check a run, try its target, and encode texts.

    A text that can't be encoded is found before hours of images, not after.
    """
    check(run)
    look_before(run)
    return encode(run), score_words(run) if run.names else None


def describe_each(run: Run) -> Iterator[tuple[Run, Result]]:
    """Describe each layer of a run as `describe` does, and yield its own run with its result.

    One pass over the images activates all layers. A layer's artifacts and result are those of a run
    that describes it alone.
    """
    if not run.config.target.layers:
        yield run, describe(run)
        return
    _before_images(run)
    activate_all(run, run.views)
    for part in map(run.alone, run.config.target.layers):
        yield part, describe(part)


def describe(run: Run) -> Result:
    """Run all stages on one layer, skip those that are done, and assemble the result."""
    seen = run_networks(run)
    arrays = seen.selected, seen.embedded, seen.encoded
    scored = score(run, *arrays)
    certain = certainty(run, scored, *arrays)
    measured_of = properties(run, seen.selected, seen.embedded)
    evaluated = evaluate(run, scored, seen.words) if seen.words else None
    found, exemplars, windows = selection(scored), chosen(seen.selected), seen.windows
    rows = seen.embedded.read("rows")
    names = dict(zip(rows.tolist(), seen.embedded.values["names"], strict=True))
    images, boxes = windows.images.tolist(), list(map(tuple, windows.boxes.tolist()))
    stages = filter(None, (*seen, scored, certain, measured_of, evaluated))
    return Result(
        neurons=build_neurons(
            layer=run.config.target.layer,
            concepts=texts(run, found),
            maximum=found.maximum,
            threshold=found.threshold,
            exemplars=[
                [Exemplar(names[row], value, boxes[row], images[row]) for row, value in ranked]
                for ranked in exemplars.ranked()
            ],
            flags=exemplars.flags(run.config.score.fewest),
            names=run.names,
            certainty={name: certain.read(name) for name in CERTAINTY},
            properties=of_units(exemplars, {name: measured_of.read(name) for name in MEASURED}),
        ),
        metrics=measured(evaluated, seen.words) if evaluated and seen.words else None,
        ceilings=ceilings(seen.words) if seen.words else None,
        fallbacks=(seen.looked or seen.activated).values["fallbacks"],
        skipped=tuple(left_out(run, seen.activated)),
        top1=top1(run, seen.activated),
        notes=tuple(run.notes),
        seconds=dict(run.seconds),
        memory=dict(run.memory),
        fingerprints={stage.stage: stage.name for stage in stages},
        hubs=hubs(run, certain),
        similarities=searcher(run, seen.embedded, exemplars.among(rows)),
    )
