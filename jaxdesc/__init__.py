"""jaxdesc names the concept that each neuron of a vision network responds to.

These are the public names; everything else is reached through its module. Each is imported when it
is first used. "The paper" is Sannomiya and Hotta (VISAPP 2025), whose method this is; it extends
WWW (Ahn et al., CVPR 2024). README.md cites both.
"""

from etils import epy

with epy.lazy_api_imports(globals()):
    from jaxdesc import attention, similarity
    from jaxdesc.api import (
        concept_features,
        describe,
        describe_activations,
        explain,
        image_features,
        judge,
        load_clip,
        load_namer,
        load_sentence_encoder,
        load_target,
        write_report,
        zero_shot,
    )
    from jaxdesc.config import Config
    from jaxdesc.errors import InputError, UnusableImage
    from jaxdesc.images.example import Example, Source
    from jaxdesc.images.preprocess import Preprocess
    from jaxdesc.models.bridges import from_equinox, from_linen, from_nnx, from_torch
    from jaxdesc.models.dictionary_files import load_dictionary
    from jaxdesc.models.target import Target
    from jaxdesc.result import Neuron, Result

__all__ = [
    "Config",
    "Example",
    "InputError",
    "Neuron",
    "Preprocess",
    "Result",
    "Source",
    "Target",
    "UnusableImage",
    "attention",
    "concept_features",
    "describe",
    "describe_activations",
    "explain",
    "from_equinox",
    "from_linen",
    "from_nnx",
    "from_torch",
    "image_features",
    "judge",
    "load_clip",
    "load_dictionary",
    "load_namer",
    "load_sentence_encoder",
    "load_target",
    "similarity",
    "write_report",
    "zero_shot",
]
