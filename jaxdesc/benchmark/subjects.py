"""SUBJECTS: everything that can be timed, by name."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from jaxdesc.api import load_namer, load_target
from jaxdesc.benchmark import features, judging, latents, networks, scoring
from jaxdesc.benchmark.features import Arrays
from jaxdesc.benchmark.networks import Networks
from jaxdesc.benchmark.timing import Table
from jaxdesc.config import TEMPLATE
from jaxdesc.errors import InputError
from jaxdesc.models.sentence import load_sentence_encoder
from jaxdesc.models.source import locate
from jaxdesc.vocabulary.vocabulary import base_template, load_vocabulary, prompts


@dataclass(frozen=True)
class Options:
    """Sizes and sources.

    Attributes:
        rivals: time PyTorch's ways too.
        features: kind of the image features, one of `features.KINDS`.
        encoder: sentence encoder of the concepts, WordNet's prompts; or a .npy file of text
            features [text, feature], whose mean and covariance they get; made up if empty.
        neurons, exemplars, images, concepts, width: sizes of the scoring problem.
        kappa: concentration κ.
        target, clip: sources of the networks.
        photos: a folder; scenes if empty.
        layers: layers of the target between commas; the last is also timed alone.
        count: photos per pass, those of the folder repeated; 0 takes each once.
        batch: images per forward pass.
        repeats: runs of each job.
    """

    rivals: bool = False
    features: str = "narrow"
    encoder: str = ""
    neurons: int = 256
    exemplars: int = 40
    images: int = 6400
    concepts: int = 20_000
    width: int = 512
    kappa: float = 16.0
    target: str = "scenes"
    clip: str = "scenes"
    photos: str = ""
    layers: str = "layer1,layer2,layer3,layer4,fc"
    count: int = 0
    batch: int = 64
    repeats: int = 3

    @cached_property
    def rival(self) -> Any:
        """The package `rivals`, its modules imported; None unless asked for."""
        if not self.rivals:
            return None
        try:
            for module in ("resnet", "clip", "pipeline", "scoring", "random_networks", "device"):
                importlib.import_module(f"jaxdesc.benchmark.rivals.{module}")
        except ImportError as error:
            raise InputError(
                f"The rivals can't be imported ({error}): run pip install 'jaxdesc[benchmark]'."
            ) from error
        return importlib.import_module("jaxdesc.benchmark.rivals")

    @cached_property
    def arrays(self) -> Arrays:
        """The scoring problem."""
        texts, base = self.texts()
        sizes = self.neurons, self.exemplars, self.images
        return features.made_up(self.features, texts, base, *sizes)

    def texts(self) -> tuple[np.ndarray, np.ndarray]:
        """Features of the concepts and of the base template."""
        if not self.encoder:
            return features.concepts(self.concepts, self.width)
        if self.encoder.endswith(".npy"):
            try:
                return features.resampled(np.load(self.encoder), self.concepts)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"--encoder is {self.encoder}, which can't be read as text features [text, "
                    f"feature] ({error}): give a .npy file of them, or a sentence encoder's folder."
                ) from error
        words = load_vocabulary("wordnet")
        if self.concepts > len(words.concepts):
            raise InputError(
                f"--concepts is {self.concepts}, but WordNet has {len(words.concepts)}: ask for "
                "at most as many."
            )
        texts = [base_template(TEMPLATE), *prompts(words, TEMPLATE)[: self.concepts]]
        found = np.asarray(load_sentence_encoder(self.encoder)(texts))
        found = features.lifted(found, max(self.width, found.shape[1]))
        return found[1:], found[0]

    @property
    def sizes(self) -> dict[str, Any]:
        """Sizes of the scoring problem as it came out."""
        return {
            "neurons": len(self.arrays.exemplars),
            "exemplars": self.exemplars,
            "images": len(self.arrays.images),
            "concepts": len(self.arrays.texts),
            "width": self.arrays.texts.shape[1],
            "features": self.features,
            "concepts by": self.encoder.rstrip("/").rpartition("/")[2] or "made up",
        }

    @cached_property
    def networks(self) -> Networks:
        """Both networks."""
        folders = locate(self.target, "target", None)[0], locate(self.clip, "clip", None)[0]
        return Networks(load_target(self.target), load_namer(self.clip), *folders)


def _photos(options: Options) -> Any:
    from jaxdesc.images.sources import open_source  # needs Grain

    source = open_source(f"folder:{options.photos}" if options.photos else "scenes:count=256")
    return networks.Repeated(source, options.count) if options.count else source


def _probe(options: Options) -> list[Table]:
    source, sizes = _photos(options), (options.batch, options.repeats)
    return [networks.probe(options.networks, source, *sizes, options.rival)]


def _layers(options: Options) -> list[Table]:
    source, names = _photos(options), options.layers.split(",")
    for name in names:
        options.networks.target.check_layer(name)
    return networks.layers(options.networks, source, names, options.batch, options.repeats)


def _windows(options: Options) -> list[Table]:
    names, sizes = options.layers.split(","), (options.exemplars, options.batch, options.repeats)
    for name in names:
        options.networks.target.check_layer(name)
    return networks.windows(options.networks, _photos(options), names, *sizes)


class Subject(NamedTuple):
    """Something that can be timed.

    Attributes:
        time: (options) -> its tables.
        uses: flags of the options that it reads.
    """

    time: Callable[[Options], list[Table]]
    uses: tuple[str, ...]


_PROBLEM = ("features", "encoder", "neurons", "exemplars", "images", "concepts", "width")
_NETWORKS = ("target", "clip", "batch")
SUBJECTS = {
    "scoring": Subject(
        lambda o: [scoring.engines(o.arrays, o.sizes, o.kappa, o.repeats, o.rival)],
        (*_PROBLEM, "kappa", "repeats", "rival"),
    ),
    "sweep": Subject(
        lambda o: [scoring.sweeps(o.arrays, o.sizes, o.kappa, o.repeats)],
        (*_PROBLEM, "kappa", "repeats"),
    ),
    "averaging": Subject(
        lambda o: scoring.averaging(o.neurons, o.exemplars, o.repeats),
        ("neurons", "exemplars", "repeats"),
    ),
    "bfloat16": Subject(lambda o: [scoring.rounded(o.arrays, o.sizes)], _PROBLEM),
    "disk": Subject(
        lambda o: [scoring.on_disk(o.concepts, o.neurons, o.exemplars, o.width)],
        ("concepts", "neurons", "exemplars", "width"),
    ),
    "latents": Subject(
        lambda o: [latents.latents(*o.texts(), o.neurons, o.images, o.exemplars)],
        ("encoder", "neurons", "exemplars", "images", "concepts", "width"),
    ),
    "judging": Subject(
        lambda o: [judging.judging(o.concepts, o.width, o.neurons, o.images)],
        ("concepts", "width", "neurons", "images"),
    ),
    "networks": Subject(
        lambda o: networks.networks(o.networks, o.batch, o.repeats, o.rival),
        (*_NETWORKS, "repeats", "rival"),
    ),
    "probe": Subject(_probe, (*_NETWORKS, "photos", "count", "repeats", "rival")),
    "layers": Subject(_layers, (*_NETWORKS, "photos", "layers", "count", "repeats")),
    "windows": Subject(_windows, (*_NETWORKS, "photos", "layers", "exemplars", "count", "repeats")),
    "photos": Subject(lambda o: [networks.reading(_photos(o), o.repeats)], ("photos", "repeats")),
    "roofline": Subject(
        lambda o: [networks.roofline(o.networks, o.arrays, o.batch, o.repeats)],
        (*_PROBLEM, *_NETWORKS, "repeats"),
    ),
}
