"""Name the neurons of a layer: the whole method, from images to concepts.

    jaxdesc describe --config=scenes --workdir=out/scenes

A second start with the same config and working directory reads what is done already.
"""

from itertools import repeat

from jaxdesc.commands import inputs
from jaxdesc.evaluation.metrics import METRICS
from jaxdesc.pipeline import describe
from jaxdesc.report import files, pictures, tables
from jaxdesc.result import Neuron

FLAGS = inputs.FLAGS


def main() -> None:
    """Read the config, run the stages, write and print the results."""
    with inputs.opened() as (run, workdir):
        result = describe(run)
        files.write(workdir, run.config, result)
        pictures.exemplar_sheet(result[:6], run.inputs.source, workdir / "exemplars.png")
        cells = inputs.measure(run, workdir)
        if run.listener:
            run.listener.measured(result.metrics_dict())
    for words, group in tables.by_vocabulary(cells).items():
        print(f"\nconcepts: {words}\n{tables.ablation(group)}\n\n{tables.differences(group)}\n")
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
