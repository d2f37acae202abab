"""Convert a target or a name encoder to Orbax's format, its parameters the same bit for bit.

    jaxdesc convert --source=timm/resnet50.tv2_in1k --output=out/resnet50

The source is anything the configs take: a local folder, torchvision's `.pth`, a Hugging Face id.
The output is a source too, `--config.target.source=out/resnet50`; it needs no other file, and
records its origin. A target loads faster from it, above all than from a `.pth`, for which PyTorch
has to be imported; a name encoder does not load faster than from safetensors.
"""

from jaxdesc.commands import flags
from jaxdesc.errors import InputError
from jaxdesc.models.convert import convert

_SOURCE = flags.DEFINE_string("source", None, "A target or a name encoder, as the configs take it.")
_OUTPUT = flags.DEFINE_path("output", None, "The folder to write.")
_REVISION = flags.DEFINE_string("revision", None, "Branch, tag or commit of a Hugging Face id.")
FLAGS = (_SOURCE, _OUTPUT, _REVISION)


def main() -> None:
    """Convert a network, and print what it was."""
    if not _SOURCE.value or not _OUTPUT.value:
        raise InputError("--source and --output are needed: what to convert, and where to.")
    done = convert(_SOURCE.value, _OUTPUT.value, revision=_REVISION.value)
    print(f"{done.name}: a {done.kind} of {done.parameters:,} parameters, now in {_OUTPUT.value}")
