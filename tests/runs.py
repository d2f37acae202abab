"""Runs of the pipeline on an album of small images: their config, and what they computed."""

from dataclasses import replace

from jaxdesc.config import Config
from jaxdesc.pipeline import describe
from jaxdesc.scenes import captions
from jaxdesc.scenes.world import CLASSES
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.store import Artifact, Place, Store
from jaxdesc.vocabulary.vocabulary import load_vocabulary

IMAGES = 26
# A few phrases of every form, and names in both cases.
CONCEPTS = [*captions.vocabulary()[::37], "Cat", "bunny", "star", "none"]
# Neither batch nor block divides what it cuts up.
CONFIG = Config.from_dict(
    {
        "images": {"batch": 12},
        "clip": {"batch": 20},
        "score": {"exemplars": 5, "alpha": 0.5, "block": 16},
    }
)
SIX = tuple(CLASSES.values())[:6]


def changed(config, **parts):
    """The config with the given fields of its parts replaced: changed(CONFIG, crop={...})."""
    return replace(
        config, **{part: replace(getattr(config, part), **v) for part, v in parts.items()}
    )


def begin(tmp_path, config, target, clip, source, concepts=CONCEPTS):
    inputs = Inputs(target, clip, source, load_vocabulary(concepts), clip)
    return Run(config, inputs, Store(tmp_path / "artifacts"), quiet=True)


def run(*given):
    """One pass; returns its result and the names of the stages that it computed."""
    result = describe(begin(*given))
    assert set(result.memory) == set(result.seconds)
    return result, set(result.seconds)


def artifact(tmp_path, result, stage):
    return Artifact.at(Place(tmp_path / "artifacts" / result.fingerprints[stage]))
