r"""Name the neurons of a layer: the whole method, from images to concepts.

    jaxdesc describe --config=scenes --workdir=out/scenes
    jaxdesc describe --config=scenes --workdir=out/layers \
        --config.target.layers=layer3,layer4 --config.ablation.views="()"

A second start with the same config and working directory reads what is done already. Each of
several layers has its results in a folder of the working directory.
"""

from itertools import repeat

from jaxdesc.commands import inputs
from jaxdesc.evaluation.metrics import METRICS
from jaxdesc.pipeline import describe_each
from jaxdesc.report import files, pictures, tables
from jaxdesc.result import Neuron, Result
from jaxdesc.store import Place
from jaxdesc.store.workdir import folder_of

FLAGS = inputs.FLAGS


def main() -> None:
    """Read the config, run the stages, write and print the results."""
    found: list[tuple[Place, Result]] = []
    with inputs.opened() as (run, workdir):
        for part, result in describe_each(run):
            place = workdir
            if run.config.target.layers:
                place = workdir.at(folder_of(part.config.target.layer))
                files.write_skipped(place, result.skipped)
            files.write(place, part.config, result)
            pictures.exemplar_sheet(result[:6], run.inputs.source, place / "exemplars.png")
            found.append((place, result))
        cells = inputs.measure(run, workdir)
        if run.listener:
            for _, result in found:
                run.listener.measured(result.metrics_dict())
    for words, group in tables.by_vocabulary(cells).items():
        print(f"\nconcepts: {words}\n{tables.ablation(group)}\n\n{tables.differences(group)}\n")
    for place, result in found:
        _print(place, result)


def _print(workdir: Place, result: Result) -> None:
    for name, value in result.metrics_dict().items():
        numbers = f"{value['mean']:.3f} ± {value['standard_error']:.3f}"
        print(f"{METRICS[name].title}: {numbers} (ceiling {value['ceiling']:.3f})")
    for neuron in result[:8]:
        print(f"  {_line(neuron)}")
    print(tables.certainty(result.unnamed, result.hubs))
    print(f"views that fell back to the centre: {result.fallbacks}")
    print(f"results in {workdir}: concepts.csv, concepts.jsonl, metrics.json, exemplars.png")


def _line(neuron: Neuron) -> str:
    """A neuron's best concepts with their scores and stability, and its flags."""
    kept = [f" ({share:.0%} stable)" for share in neuron.stability]
    best = zip(neuron.concepts[:4], kept or repeat(""), strict=False)
    texts = [f"{text} {score:.3f}{sure}" for (text, score), sure in best]
    found = "; ".join(filter(None, (", ".join(texts), ", ".join(neuron.flags))))
    return f"{neuron.layer}[{neuron.unit}] {'/'.join(neuron.names)}: {found}"
