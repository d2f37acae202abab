"""Bad configs."""

from jaxdesc.config import Config
from jaxdesc.stages.check import check_names
from tests.faults.place import Rows

case = Rows()
KAPPA = "config.score.kappa is"


def config(key, value):
    def run(place):
        section, _, name = key.partition(".")
        check_names(Config.from_dict({section: {name: value} if name else value}))

    return run


# Key, value, and the whole message.
for name, key, value, message in (
    (
        "unknown key",
        "score.kapa",
        1.0,
        "Unknown config key config.score.kapa: did you mean config.score.kappa?",
    ),
    (
        "unknown group",
        "scoring",
        {},
        "Unknown config key config.scoring: did you mean config.score?",
    ),
    (
        "key that steers a terminal",
        "score.\x1b[2J",
        1,
        "Unknown config key config.score.\\x1b[2J: did you mean config.score.kappa?",
    ),
    ("not a group", "score", 3, "config.score is 3: expected a group of settings."),
    ("κ < 0", "score.kappa", -0.5, f"{KAPPA} -0.5: expected a number in [0, 1e+06]."),
    (
        "κ no float holds",
        "score.kappa",
        10**400,
        f"{KAPPA} 1<0>…: expected a value of type float.",
    ),
    (
        "κ of 5,000 digits",
        "score.kappa",
        10**5000,
        f"{KAPPA} of type int and too large to be shown: expected a value of type float.",
    ),
    ("κ is NaN", "score.kappa", float("nan"), f"{KAPPA} nan: expected a number in [0, 1e+06]."),
    ("κ is text", "score.kappa", "16", f"{KAPPA} '16': expected a value of type float."),
    (
        "exemplars are true",
        "score.exemplars",
        True,
        "config.score.exemplars is True: expected a value of type int.",
    ),
    (
        "block of everything",
        "score.block",
        10**12,
        "config.score.block is 1000000000000: expected an integer in [1, 1048576].",
    ),
    (
        "unknown precision",
        "precision",
        "float16",
        "config.precision is 'float16': expected one of ('float32', 'bfloat16').",
    ),
    (
        "template without a concept",
        "vocabulary.template",
        "a photo",
        "config.vocabulary.template is 'a photo': expected words with '{concept}' among them.",
    ),
    (
        "half a character",
        "vocabulary.template",
        "\ud83d {concept}",
        "config.vocabulary.template is '\\ud83d {concept}': expected a text that UTF-8 can hold.",
    ),
    (
        "text for a list",
        "ablation.views",
        "centre",
        "config.ablation.views is 'centre': expected a tuple of str.",
    ),
    (
        "unknown preprocessing",
        "clip.preprocess",
        "vgg",
        "config.clip.preprocess is 'vgg': expected one of ('', 'imagenet', 'imagenet_v2', "
        "'imagenet_bicubic', 'inception', 'openai').",
    ),
    (
        "long text",
        "crop.view",
        "x" * 10_000,
        "config.crop.view is '<x>…: expected one of ('centre', 'attention', 'random', 'box', "
        "'full').",
    ),
):
    case(f"config: {name}", config(key, value), message)
