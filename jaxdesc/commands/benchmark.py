r"""Time the stages and PyTorch's ways to do the same, on the same arrays in the same run.

    jaxdesc benchmark --rival=torch
    jaxdesc benchmark --rival=torch --neurons=1000 --images=40000 --concepts=67186 \
        --encoder=ENCODER
    jaxdesc benchmark --subjects=networks,probe --rival=torch --target=RESNET50 \
        --clip=CLIP_VIT_B_32 --photos=PHOTOS

Prints Markdown tables, and writes them and all that was measured: medians of runs that take turns.
A file that is there already is kept, and the new one is numbered. The rivals need the extra
'benchmark'.
"""

from pathlib import Path

from jaxdesc.benchmark import features, timing
from jaxdesc.benchmark.subjects import SUBJECTS, Options
from jaxdesc.commands import flags
from jaxdesc.errors import InputError
from jaxdesc.store import Place

_SUBJECTS = flags.DEFINE_list("subjects", ["scoring"], f"What to time: {', '.join(SUBJECTS)}.")
_OUTPUT = flags.DEFINE_path("output", "out/benchmark.json", "The JSON file to write.")
_RIVAL = flags.DEFINE_enum("rival", None, ["torch"], "What to compare with.")
_DEFAULT = Options()
_OPTIONS = (
    flags.DEFINE_enum("features", _DEFAULT.features, features.KINDS, "How image features are."),
    flags.DEFINE_string(
        "encoder",
        _DEFAULT.encoder,
        "A sentence encoder, for WordNet's prompts; or text features, .npy.",
    ),
    flags.DEFINE_integer("neurons", _DEFAULT.neurons, "Neurons.", 1),
    flags.DEFINE_integer("exemplars", _DEFAULT.exemplars, "Exemplars per neuron.", 1),
    flags.DEFINE_integer("images", _DEFAULT.images, "Distinct images.", 1),
    flags.DEFINE_integer("concepts", _DEFAULT.concepts, "Concepts.", 100),
    flags.DEFINE_integer("width", _DEFAULT.width, "Width of the features.", 2),
    flags.DEFINE_float("kappa", _DEFAULT.kappa, "Concentration.", 0),
    flags.DEFINE_string("target", _DEFAULT.target, "The target: a folder, or scenes."),
    flags.DEFINE_string("clip", _DEFAULT.clip, "CLIP: a folder, or scenes."),
    flags.DEFINE_path("photos", _DEFAULT.photos, "A folder of photos; scenes by default."),
    flags.DEFINE_string("layers", _DEFAULT.layers, "Layers; the last is also timed alone."),
    flags.DEFINE_integer("count", _DEFAULT.count, "Photos per pass, repeated; 0: each once.", 0),
    flags.DEFINE_integer("batch", _DEFAULT.batch, "Images per forward pass.", 1),
    flags.DEFINE_integer("repeats", _DEFAULT.repeats, "Runs of each.", 1),
)
FLAGS = (_SUBJECTS, _OUTPUT, _RIVAL, *_OPTIONS)


def main() -> None:
    """Time every subject, print and write its tables."""
    _check()
    given = {flag.name: flag.value for flag in _OPTIONS}
    options = Options(rivals=_RIVAL.value is not None, **given)
    _ = options.rival  # refuses before anything is timed
    tables: list[timing.Table] = []
    for name in _SUBJECTS.value:
        found = SUBJECTS[name].time(options)
        print("\n".join(table.markdown() for table in found), flush=True)
        tables += found
    file = Path(_OUTPUT.value)
    file = file.with_stem(Place(file.parent).unused(file.stem, file.suffix))
    try:
        timing.write(file, timing.where(), tables)
    except OSError as error:
        raise InputError(f"{file} can't be written ({error.strerror}): give --output.") from error
    print(f"tables in {file} and {file.with_suffix('.md').name}")


def _check() -> None:
    """Refuse unknown subjects, and flags that none of the subjects uses."""
    for name in _SUBJECTS.value:
        if name not in SUBJECTS:
            raise InputError(f"Unknown subject {name!r}: expected one of {', '.join(SUBJECTS)}.")
    for flag in (_RIVAL, *_OPTIONS):
        users = [name for name, subject in SUBJECTS.items() if flag.name in subject.uses]
        if flag.present and not set(users) & set(_SUBJECTS.value):
            raise InputError(
                f"--{flag.name} means nothing to --subjects={','.join(_SUBJECTS.value)}, but to "
                f"{', '.join(users)}: leave it out."
            )
