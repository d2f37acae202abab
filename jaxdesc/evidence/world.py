"""The subject of the studies: the embedded world, as `configs/scenes.py` has it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from jaxdesc.config import Config
from jaxdesc.images.sources import open_source
from jaxdesc.models.encoder import Namer
from jaxdesc.models.target import Target
from jaxdesc.scenes import captions
from jaxdesc.scenes.source import Scenes
from jaxdesc.scenes.world import WIDTH, Scene, render
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.store import Place, Store
from jaxdesc.vocabulary.vocabulary import load_vocabulary

SCENES = "scenes"
PROBES = tuple(f"scenes:split=probe,seed={seed},count=640" for seed in range(5))

# The setting "hard" of configs/scenes.py; a test holds them together.
SETTING = Config.from_dict(
    {
        "target": {"source": SCENES},
        "clip": {"source": SCENES},
        "images": {"source": PROBES[0]},
        "vocabulary": {"source": SCENES},
        "crop": {"field": 0.65},
        "score": {"exemplars": 16},
        "evaluation": {"scorer": SCENES, "sentence": ""},
    }
)


def scenes_of(images: str) -> list[Scene]:
    """All scenes of an image source "scenes:…"."""
    source = open_source(images)
    assert isinstance(source, Scenes)
    of_world = source.split, source.seed
    return [render(*of_world, i, source.correlation) for i in range(len(source))]


def shown(scenes: Sequence[Scene]) -> Bool[np.ndarray, "scene phrase"]:
    """The vocabulary's phrases that are true of each whole scene."""
    windows = np.tile([0, 0, WIDTH], (len(scenes), 1))
    return captions.truth(captions.seen_through(scenes, windows)[0])


def open_run(workdir: str | Path, config: Config, target: Target, clip: Namer) -> Run:
    """A run whose artifacts are kept in a folder; the CLIP judges the concepts too."""
    source = open_source(config.images.source)
    vocabulary = load_vocabulary(config.vocabulary.source)
    inputs = Inputs(target, clip, source, vocabulary, scorer=clip)
    return Run(config, inputs, Store(Place(workdir).at("artifacts")), quiet=True)


def on_probe(run: Run, images: str) -> Run:
    """Move a run to another probe set."""
    config = replace(run.config, images=replace(run.config.images, source=images))
    return replace(run, config=config, inputs=replace(run.inputs, source=open_source(images)))
