"""What the studies describe: the embedded world, as `configs/scenes.py` has it."""

from pathlib import Path

from jaxdesc.config import Config
from jaxdesc.images.sources import open_source
from jaxdesc.models.encoder import ClipEncoder
from jaxdesc.models.target import Target
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.store import Place, Store
from jaxdesc.vocabulary import load_vocabulary

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


def open_run(workdir: str | Path, config: Config, target: Target, clip: ClipEncoder) -> Run:
    """A run whose artifacts are kept in a folder; the CLIP judges the concepts too."""
    source, vocabulary = (
        open_source(config.images.source),
        load_vocabulary(config.vocabulary.source),
    )
    inputs = Inputs(target, clip, source, vocabulary, scorer=clip)
    return Run(config, inputs, Store(Place(workdir).at("artifacts")), quiet=True)
