"""Bad configs."""

from jaxdesc.config import Config
from tests.faults.place import Rows

case = Rows()

# How several messages end.
VIEWS = ": expected one of ('centre', 'attention', 'random', 'box', 'full')."


# Config.


def config(key, value):
    def run(place):
        section, _, name = key.partition(".")
        Config.from_dict({section: {name: value} if name else value})

    return run


case(
    "config: unknown key",
    config("score.kapa", 1.0),
    "Unknown config key config.score.kapa: did you mean config.score.kappa?",
)
case(
    "config: unknown group",
    config("scoring", {}),
    "Unknown config key config.scoring: did you mean config.score?",
)
case(
    "config: unknown key, nothing near",
    config("Ω", 1),
    "Unknown config key config.Ω: did you mean config.crop?",
)
case(
    "config: key that steers a terminal",
    config("score.\x1b[2J", 1),
    "Unknown config key config.score.\\x1b[2J: did you mean config.score.kappa?",
)
case("config: no group", config("score", 3), "config.score is 3: expected a group of settings.")
case(
    "config: κ < 0",
    config("score.kappa", -0.5),
    "config.score.kappa is -0.5: expected a number in [0, 1e+06].",
)
case(
    "config: κ too large",
    config("score.kappa", 1e7),
    "config.score.kappa is 10000000.0: expected a number in [0, 1e+06].",
)
case(
    "config: κ no float holds",
    config("score.kappa", 10**400),
    "config.score.kappa is 1<0>…: expected a value of type float.",
)
case(
    "config: κ of 5,000 digits",
    config("score.kappa", 10**5000),
    "config.score.kappa is of type int and too large to be shown: expected a value of type float.",
)
case(
    "config: κ is NaN",
    config("score.kappa", float("nan")),
    "config.score.kappa is nan: expected a number in [0, 1e+06].",
)
case(
    "config: κ is text",
    config("score.kappa", "16"),
    "config.score.kappa is '16': expected a value of type float.",
)
case(
    "config: α = 0",
    config("score.alpha", 0.0),
    "config.score.alpha is 0.0: expected a share in (0, 1].",
)
case(
    "config: α > 1",
    config("score.alpha", 1.01),
    "config.score.alpha is 1.01: expected a share in (0, 1].",
)
case(
    "config: no exemplar",
    config("score.exemplars", 0),
    "config.score.exemplars is 0: expected at least 1.",
)
case(
    "config: exemplars are true",
    config("score.exemplars", True),
    "config.score.exemplars is True: expected a value of type int.",
)
case(
    "config: block of everything",
    config("score.block", 10**12),
    "config.score.block is 1000000000000: expected at most 1048576.",
)
case(
    "config: batch of none",
    config("images.batch", 0),
    "config.images.batch is 0: expected at least 1.",
)
case(
    "config: batch of everything",
    config("clip.batch", 10**9),
    "config.clip.batch is 1000000000: expected at most 65536.",
)
case(
    "config: all may be skipped",
    config("images.max_skipped", 1.0),
    "config.images.max_skipped is 1.0: expected a share in [0, 1).",
)
case("config: unknown view", config("crop.view", "center"), "config.crop.view is 'center'" + VIEWS)
case(
    "config: no field",
    config("crop.field", 0.0),
    "config.crop.field is 0.0: expected a share in (0, 1].",
)
case(
    "config: seed < 0",
    config("crop.seed", -1),
    "config.crop.seed is -1: expected an integer in [0, 2**32).",
)
case(
    "config: unknown precision",
    config("precision", "float16"),
    "config.precision is 'float16': expected one of ('float32', 'bfloat16').",
)
case(
    "config: template without a concept",
    config("vocabulary.template", "a photo"),
    "config.vocabulary.template is 'a photo': expected a text with '{concept}' in it.",
)
case(
    "config: half a character",
    config("vocabulary.template", "\ud83d {concept}"),
    "config.vocabulary.template is '\\ud83d {concept}': expected a text that UTF-8 can hold.",
)
case(
    "config: text for a list",
    config("ablation.views", "centre"),
    "config.ablation.views is 'centre': expected a tuple of str.",
)
case(
    "config: κ < 0 in a list",
    config("ablation.kappas", [0, -1]),
    "config.ablation.kappas is -1.0: expected a number in [0, 1e+06].",
)
case("config: long text", config("crop.view", "x" * 10_000), "config.crop.view is '<x>…" + VIEWS)
