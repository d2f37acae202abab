"""jaxdesc tells, for every neuron of a vision network, which human concept it responds to.

The public names; everything else is reached through its module. Each is imported when it is first
used.
"""

from etils import epy

with epy.lazy_api_imports(globals()):
    from jaxdesc import attention, similarity
    from jaxdesc.api import describe, describe_activations
    from jaxdesc.attention.explanation import explain
    from jaxdesc.config import Config
    from jaxdesc.errors import InputError, UnusableImage
    from jaxdesc.images.example import Example, Source
    from jaxdesc.images.preprocess import Preprocess
    from jaxdesc.models.encoder import load_clip
    from jaxdesc.models.sentence import load_sentence_encoder
    from jaxdesc.models.target import Target, load_target
    from jaxdesc.report.notebook import write_report
    from jaxdesc.result import Neuron, Result
    from jaxdesc.stages.features import concept_features, image_features

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
    "image_features",
    "load_clip",
    "load_sentence_encoder",
    "load_target",
    "similarity",
    "write_report",
]
