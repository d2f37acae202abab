r"""Judge labels of neurons, from any source, on images that had no part in finding them.

    jaxdesc describe --config=scenes --workdir=out/scenes
    jaxdesc judge --workdir=out/scenes --images=scenes:split=probe,seed=1,count=640
    jaxdesc judge --workdir=out/scenes --images=folder:OTHER --labels=milan.csv,mine.csv \
        --methods=WWW,soft_wpmi,linear --concept-images=folder:GENERATED --ablate=100

It judges the run's labels, those of CSV files (columns unit and description or concept; optional
are layer and weights concept0, weight0, …, bias) and those of other methods. Each label's concept
is compared with the neuron's activations by correlation, cosine, AUPRC, F1 and IoU; with images
made for the concept, in a folder each (CoSy); and by zeroing the neuron. A run with
config.images.split is judged on the images that it kept aside. Writes judge.csv, judge.json and
judge.md.
"""

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

from jaxdesc.commands import flags, inputs
from jaxdesc.errors import InputError
from jaxdesc.evaluation.judging.labels import Labels, read_labels
from jaxdesc.evaluation.judging.presence import LABELS, SCORER, TRUTH
from jaxdesc.images.sources import open_source
from jaxdesc.models.encoder import Namer
from jaxdesc.pipeline.judging import Judging, judge
from jaxdesc.report import files, judged
from jaxdesc.stages.run import Run

_LABELS = flags.DEFINE_list("labels", [], "CSV files of labels; a source is named by its file.")
_METHODS = flags.DEFINE_list("methods", [], "Methods whose labels are judged too, such as WWW.")
_IMAGES = flags.DEFINE_string("images", None, "Images that judge, such as folder:OTHER.")
_SAME = flags.DEFINE_bool("same-images", False, "Judge on the images that chose the labels.")
_PRESENCE = flags.DEFINE_enum(
    "presence",
    None,
    [TRUTH, LABELS, SCORER],
    "How it is known what images show, by default the best that is: what the source says itself; "
    "names of their classes and WordNet's hypernyms; another CLIP.",
)
_SCORER = flags.DEFINE_path("scorer", None, "That CLIP or SigLIP; config.evaluation.scorer's else.")
_MADE = flags.DEFINE_string("concept-images", None, "Images in a folder per concept, folder:PATH.")
_ABLATE = flags.DEFINE_integer("ablate", 0, "Neurons that are zeroed, drawn at random.", 0)
_EACH = flags.DEFINE_integer("each", 16, "Images with and without a concept that each is on.", 1)
_CEILING = flags.DEFINE_bool("ceiling", True, "Find the best concept of the vocabulary.")
FLAGS = (
    *(*inputs.RUN, inputs.LAYER, _LABELS, _METHODS, _IMAGES, _SAME, _PRESENCE, _SCORER),
    *(_MADE, _ABLATE, _EACH, _CEILING),
)


def main() -> None:
    """Read the run, judge its labels and others, write and print the tables."""
    flags.only_with(_ABLATE, _EACH)
    config = files.read(inputs.results()).config
    with inputs.opened(config) as (run, workdir):
        options = Judging(
            images=open_source(_IMAGES.value) if _IMAGES.value else None,
            same=_SAME.value,
            presence=_PRESENCE.value or "",
            scorer=cache(lambda: _scorer(run)),
            methods=tuple(_METHODS.value),
            made=open_source(_MADE.value) if _MADE.value else None,
            ablate=_ABLATE.value,
            each=_EACH.value,
            ceiling=_CEILING.value,
        )
        found = judge(run, _given(run), options)
        name, text = judged.write(workdir, found)
    print(f"\n{text}\n")
    print(f"labels judged in {workdir}: {name}.csv, {name}.json, {name}.md")


def _given(run: Run) -> dict[str, Labels]:
    """Labels of each file, by its name."""
    found: dict[str, Labels] = {}
    layer = run.config.target.layer
    units = run.inputs.target.shapes[layer][-1]
    for path in _LABELS.value:
        name = Path(path).stem
        if name in found:
            raise InputError(f"--labels has a second source {name!r}: rename the file {path!r}.")
        found[name] = read_labels(os.path.expanduser(path), layer, units)
    return found


def _scorer(run: Run) -> Namer:
    """Load the network that says what images show."""
    evaluation = run.config.evaluation
    if _SCORER.value:
        evaluation = replace(evaluation, scorer=_SCORER.value)
    config = replace(run.config, evaluation=replace(evaluation, sentence=""))
    loaded: Namer = inputs.open_judges(config, run.inputs.clip)["scorer"]
    return loaded
