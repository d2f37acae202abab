"""Bridges: networks of other libraries as targets, with layers named by their paths.

A bridge works on a copy of the network in evaluation mode and puts every array of it into the
target's params. It hands the output of each layer asked for to the tap, or the first part of the
output if that is a tuple, and the network goes on with what the tap returns. A layer that is called
several times offers `x`, `x:2`, … in the order of its calls. Channels come last for the tap; the
network gets them back as it had them. Tokens [B, prefix + patches, D] are handed on as they are.
"""

from jaxdesc.models.bridges.equinox import from_equinox
from jaxdesc.models.bridges.linen import from_linen
from jaxdesc.models.bridges.nnx import from_nnx
from jaxdesc.models.bridges.torch import from_torch

__all__ = ["from_equinox", "from_linen", "from_nnx", "from_torch"]
