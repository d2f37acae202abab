"""The embedded world, whole: both networks ship with the package.

    python -m launch.describe --config=configs/scenes.py --workdir=out/scenes
    python -m launch.describe --config=configs/scenes.py:wide --workdir=out/scenes_wide

The default setting is the hard one: windows of half the shorter side, and as many exemplars as the
probe set has scenes of a class. `wide` has the method's usual window (224/256) and the cleanest
half of the scenes as exemplars.
"""

from ml_collections import ConfigDict

from jaxdesc.config import Config

SCENES = 640  # a probe set: 20 of each class


def get_config(setting: str = "hard") -> ConfigDict:
    """Build the config of a setting, "hard" or "wide"."""
    config = ConfigDict(Config().to_dict())
    config.target.folder = config.clip.folder = config.vocabulary.source = "scenes"
    probes = tuple(f"scenes:split=probe,seed={seed},count={SCENES}" for seed in range(5))
    config.images.source = probes[0]
    config.crop.field, config.score.exemplars = {"hard": (0.5, 20), "wide": (0.875, 10)}[setting]
    config.ablation.views = ("centre", "attention", "random", "box")
    config.ablation.kappas = (0.0, 16.0)
    config.ablation.probes = probes
    return config
