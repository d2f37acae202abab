r"""How long the stages take beside their rivals, on the same arrays in the same run.

    python -m launch.benchmark --rival=torch
    python -m launch.benchmark --rival=torch --neurons=1000 --images=40000 --concepts=67186 \
        --encoder=SENTENCE_ENCODER
    python -m launch.benchmark --subjects=networks,probe --rival=torch --target=RESNET50 \
        --clip=CLIP_VIT_B_32 --photos=PHOTOS

Prints Markdown tables, and writes them and all that was measured: medians of runs that take turns.
Rivals lie with the tests, so they need a checkout.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

from absl import flags

from jaxdesc.benchmark import features, timing
from jaxdesc.benchmark.subjects import SUBJECTS, Options
from jaxdesc.errors import InputError
from launch import command

_OWN = Options()
_SUBJECTS = flags.DEFINE_list("subjects", ["scoring"], f"What to time: {', '.join(SUBJECTS)}.")
_RIVAL = flags.DEFINE_enum("rival", None, ["torch"], "What to compare with.")
_OUTPUT = flags.DEFINE_string("output", "out/benchmark.json", "The JSON file to write.")
flags.DEFINE_enum("features", _OWN.features, features.KINDS, "How image features lie.")
flags.DEFINE_string("encoder", _OWN.encoder, "A sentence encoder, for WordNet's prompts.")
flags.DEFINE_integer("neurons", _OWN.neurons, "Neurons.", 1)
flags.DEFINE_integer("exemplars", _OWN.exemplars, "Exemplars of each.", 4)
flags.DEFINE_integer("images", _OWN.images, "Distinct images.", 1)
flags.DEFINE_integer("concepts", _OWN.concepts, "Concepts.", 100)
flags.DEFINE_integer("width", _OWN.width, "Width of the features.", 2)
flags.DEFINE_float("kappa", _OWN.kappa, "Concentration.", 0)
flags.DEFINE_string("target", _OWN.target, "The target: a folder, or scenes.")
flags.DEFINE_string("clip", _OWN.clip, "CLIP: a folder, or scenes.")
flags.DEFINE_string("photos", _OWN.photos, "A folder of photos; scenes by default.")
flags.DEFINE_integer("count", _OWN.count, "Photos of a pass, repeated; each once by default.", 0)
flags.DEFINE_integer("batch", _OWN.batch, "Images a forward pass.", 1)
flags.DEFINE_integer("repeats", _OWN.repeats, "Runs of each.", 1)


def main() -> None:
    """Time every subject, print and write its tables."""
    for name in _SUBJECTS.value:
        if name not in SUBJECTS:
            raise InputError(f"Unknown subject {name!r}: expected one of {', '.join(SUBJECTS)}.")
    names = [field.name for field in fields(Options) if field.name != "rivals"]
    given: dict[str, Any] = {name: flags.FLAGS[name].value for name in names}
    options = Options(rivals=_RIVAL.value is not None, **given)
    tables: list[timing.Table] = []
    for name in _SUBJECTS.value:
        found = SUBJECTS[name](options)
        print("\n".join(table.markdown() for table in found), flush=True)
        tables += found
    try:
        timing.write(Path(_OUTPUT.value), timing.where(), tables)
    except OSError as error:
        raise InputError(
            f"{_OUTPUT.value} can't be written ({error.strerror}): give --output."
        ) from error


if __name__ == "__main__":
    command.run(main)
