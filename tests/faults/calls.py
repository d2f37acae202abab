"""Bad arrays, and whole calls and scripts that are given what does not fit."""

import errno
import os

import numpy as np
import scipy.sparse
from PIL import Image

import jaxdesc as jd
from jaxdesc.result import Neuron, Result
from jaxdesc.store import Store
from tests.faults.images import saved
from tests.faults.place import PHOTOS, Rows
from tests.plain_target import parameters, plain_target

case = Rows()

# How several messages end.
HELP = "; run with --help for the flags."
CONFIGS = "one of paper, photos, resnet50_imagenet, scenes, or the path of a Python file."


# A user's arrays.

AXES = np.eye(4, dtype=np.float32)


def arrays(**changes):
    valid = {
        "activations": AXES[:3, :3],
        "image_features": AXES[:3],
        "concept_features": AXES[:3],
        "base_feature": AXES[3],
        "concepts": ["a", "b", "c"],
        "exemplars": 1,
    }
    return lambda place: jd.describe_activations(**(valid | changes))


def spoilt(value):
    activations = np.ones((3, 3), np.float32)
    activations[1, 2] = value
    return arrays(activations=activations)


case(
    "arrays: NaN in activations",
    spoilt(np.nan),
    "Activations of neuron 2 hold NaN: expected finite numbers.",
)
case(
    "arrays: infinity in activations",
    spoilt(np.inf),
    "Activations of neuron 2 hold infinity: expected finite numbers.",
)
case(
    "arrays: NaN in features",
    arrays(image_features=np.full((3, 4), np.nan)),
    "row 0 of image_features has length nan (3 such rows of 3), but features must have "
    "unit length: divide each by its norm.",
)
case(
    "arrays: infinity in features",
    arrays(concept_features=np.full((3, 4), np.inf)),
    "row 0 of concept_features has length inf (3 such rows of 3), but features must have "
    "unit length: divide each by its norm.",
)
case(
    "arrays: features of another width",
    arrays(concept_features=np.eye(3)),
    "features are 4 wide for images, 3 for concepts and 4 for the base template, but one "
    "model must have made all.",
)
case(
    "arrays: features of another length",
    arrays(image_features=2 * AXES[:3]),
    "row 0 of image_features has length 2 (3 such rows of 3), but features must have "
    "unit length: divide each by its norm.",
)
case(
    "arrays: fewer images than exemplars",
    arrays(exemplars=4),
    "4 exemplars are asked for, but there are 3 images: ask for at most as many.",
)
case(
    "arrays: fewer features than images",
    arrays(image_features=AXES[:2]),
    "There are 3 rows of activations, but 2 image features: expected as many of each.",
)
case(
    "arrays: fewer concepts than features",
    arrays(concepts=["a"]),
    "There are 1 concepts, but 3 concept features: expected as many of each.",
)
case(
    "arrays: fewer names than images",
    arrays(images=["a"]),
    "There are 3 rows of activations, but 1 names of images: expected as many of each.",
)
case(
    "arrays: no matrix",
    arrays(activations=np.ones(3)),
    "activations has shape (3,): expected (image, neuron), at least one of each.",
)
case(
    "arrays: no neuron",
    arrays(activations=np.ones((3, 0))),
    "activations has shape (3, 0): expected (image, neuron), at least one of each.",
)
case(
    "arrays: κ < 0",
    arrays(kappa=-1.0),
    "config.score.kappa is -1.0: expected a number in [0, 1e+06].",
)
case(
    "arrays: sparse",
    arrays(activations=scipy.sparse.eye_array(3, format="csr")),
    "activations is a sparse array of type csr_array: give a dense one, such as "
    "activations.toarray().",
)
case(
    "arrays: ragged",
    arrays(activations=[[1, 2], [3]]),
    "activations can't be read as an array ('<said>'): give one that numpy.asarray takes, such as "
    "activations.detach().cpu().float() of PyTorch.",
)
case(
    "arrays: complex",
    arrays(image_features=AXES[:3] * 1j),
    "image_features is an array of type complex64: expected real numbers.",
)
case(
    "arrays: masked",
    arrays(activations=np.ma.masked_less(AXES[:3, :3], 0.5)),
    "activations is an array of type masked float32: expected real numbers.",
)
case(
    "arrays: source for names",
    arrays(images="folder:photos"),
    "images is 'folder:photos': expected a list of texts, one per row.",
)
case(
    "arrays: concepts in no order",
    arrays(concepts={"a"}),
    "concepts is {'a'}: expected a list of texts, one per row.",
)
case(
    "arrays: number for a name",
    arrays(images=["a", "b", 3]),
    "images[2] is 3: expected a text.",
)
case(
    "arrays: κ is text",
    arrays(kappa="16"),
    "config.score.kappa is '16': expected a value of type float.",
)
case("arrays: α = 0", arrays(alpha=0.0), "config.score.alpha is 0.0: expected a share in (0, 1].")


# Whole calls, and scripts as they run from a shell.


def asked(**changes):
    """`describe` on five scenes, with the embedded world's CLIP and a user's network."""

    def run(place):
        valid = {
            "target": plain_target(),
            "clip": jd.load_clip("scenes"),
            "images": "scenes:count=5",
        }
        jd.describe(
            **(valid | {"concepts": ["sky", "cat"], "exemplars": 2, "quiet": True} | changes)
        )

    return run


def not_a_number():
    weights = parameters()
    weights["bias"][2] = np.nan
    return plain_target(weights, name="mine")


case(
    "describe: fewer images than exemplars",
    asked(exemplars=6),
    "config.score.exemplars is 6, but scenes:split=probe,seed=0,count=5,correlation=0 "
    "holds only 5 images: ask for at most as many.",
)
case(
    "describe: unknown layer",
    asked(layer="layer5"),
    "Unknown layer 'layer5' of target: expected one of fc, patches.",
)
case(
    "describe: unknown view",
    asked(view="attenton"),
    "config.crop.view is 'attenton': expected one of ('centre', 'attention', 'random', "
    "'box', 'full').",
)
case(
    "describe: concept too long for this CLIP",
    asked(concepts=["sky", "cat " * 40]),
    "scenes reads at most 24 tokens, but 1 of 2 texts have more: 'A photo of a <cat>cat' "
    "with 46; shorten or remove them.",
)
case(
    "describe: names of other classes",
    asked(target=plain_target(classes=(("a",),))),
    "target has 6 logits, but names for 1 classes: give names for each class, or none at all.",
)
case(
    "describe: a class without a name",
    asked(target=plain_target(classes=((),) * 6)),
    "Class 0 of target has no name: give names for each class, or none at all.",
)
case(
    "describe: NaN in weights",
    asked(target=not_a_number()),
    "Layer 'fc' of mine gives NaN or infinity: its weights or its preprocessing are broken; check "
    "the checkpoint.",
)
case(
    "describe: encoder of another length",
    asked(target=plain_target(classes=(("a",),) * 6), sentence_encoder=lambda texts: np.eye(3)),
    "The sentence encoder returned shape (3, 3) for 4 texts: expected one row of "
    "features for each.",
)
case(
    "describe: swapped",
    lambda p: asked(target=jd.load_clip("scenes"), clip=plain_target())(p),
    "target is a CLIP, and clip a target: give them the other way round.",
)
case(
    "describe: name of a target",
    asked(target="timm/resnet50.tv2_in1k"),
    "target is the text 'timm/resnet50.tv2_in1k': load it with "
    "jaxdesc.load_target('timm/resnet50.tv2_in1k').",
)
case(
    "describe: no clip",
    asked(clip=None),
    "clip is of type NoneType: expected a Namer, as jaxdesc.load_clip returns it.",
)
case(
    "describe: name of a scorer",
    asked(scorer="scenes"),
    "scorer is the text 'scenes': load it with jaxdesc.load_clip('scenes').",
)
case(
    "describe: sentence encoder of another kind",
    asked(sentence_encoder=3),
    "sentence_encoder is of type int: expected a SentenceEncoder, as "
    "jaxdesc.load_sentence_encoder returns it.",
)
case("describe: workdir is a number", asked(workdir=3), "workdir is 3: give the path of a folder.")
case("describe: quiet is 1", asked(quiet=1), "quiet is 1: expected a value of type bool.")
case(
    "describe: config is a path",
    asked(config="configs/scenes.py"),
    "config is 'configs/scenes.py': expected a group of settings.",
)
case(
    "features: name of a CLIP",
    lambda p: jd.image_features("scenes", "scenes:count=5"),
    "clip is the text 'scenes': load it with jaxdesc.load_clip('scenes').",
)


def explained(**changes):
    """`explain` of a picture, with a user's network."""

    def run(place):
        found = Result(tuple(Neuron("patches", unit, (), 0.0, 0.0, ()) for unit in range(10)))
        valid = {"target": plain_target(), "image": Image.new("RGB", (8, 8)), "found": found}
        jd.explain(**(valid | changes))

    return run


PICTURE = ": expected a PIL image or uint8 of shape (H, W, 3)."
case(
    "explain: floats",
    explained(image=np.zeros((8, 9, 3), np.float32)),
    "image is float32 of shape (8, 9, 3)" + PICTURE,
)
case(
    "explain: channels first",
    explained(image=np.zeros((3, 8, 9), np.uint8)),
    "image is uint8 of shape (3, 8, 9)" + PICTURE,
)
case(
    "explain: 32 bits",
    explained(image=Image.new("I", (8, 8))),
    "image has mode I and size (8, 8): expected pixels of 8 bits.",
)
case("explain: nothing", explained(image=None), "image is None" + PICTURE)
case(
    "explain: peers of another kind",
    explained(peers=[np.zeros(3)]),
    "one of peers is float64 of shape (3,)" + PICTURE,
)
case(
    "explain: number of peers",
    explained(peers=3),
    "peers is 3: expected images, such as a list of them.",
)
case(
    "explain: a neuron",
    explained(found=Neuron("patches", 0, (), 0.0, 0.0, ())),
    "found is of type Neuron: expected a Result, as jaxdesc.describe returns it.",
)
case(
    "explain: true neurons",
    explained(neurons=True),
    "neurons is True: expected a value of type int.",
)
case(
    "workdir: below a file",
    lambda p: Store(p.file("run") / "artifacts").lock(),
    "The folder <here>/run/artifacts can't be made or written (Not a directory): give a working "
    "directory that can.",
)


def read_only(place):
    """Simulated, as root may write everything."""

    def refuse(*arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    place.patch.setattr("pathlib.Path.open", refuse)
    Store(place.folder / "run").lock()


case(
    "workdir: read-only",
    read_only,
    "The folder <here>/run can't be made or written (Permission denied): give a working directory "
    "that can.",
)


def shell(*flags, command="describe"):
    return lambda place: place.launch(command, *flags)


def with_config(text, *flags):
    return lambda place: place.launch("describe", place.config(text), *flags)


def photos(place, *flags):
    """The photo config on one picture, with the embedded world's networks."""
    place.file("photos/a.png", saved("PNG"))
    place.launch(
        "describe",
        PHOTOS,
        f"--workdir={place.folder / 'run'}",
        "--config.target.source=scenes",
        "--config.clip.source=scenes",
        f"--config.images.source=folder:{place.folder / 'photos'}",
        "--config.vocabulary.source=scenes",
        *flags,
    )


def foreign(place):
    place.file("run/config.json", '{"model_type": "clip"}')
    photos(place, "--config.score.exemplars=1")


case("script: no config", shell(), f"--config is missing: expected {CONFIGS}")
case(
    "script: config is missing",
    shell("--config=/none/of/it.py"),
    f"The config '/none/of/it.py' is unknown: expected {CONFIGS}",
)
case(
    "script: config is a folder",
    lambda p: p.launch("describe", f"--config={p.folder}"),
    f"The config '<here>' is unknown: expected {CONFIGS}",
)
case(
    "script: config without a setting",
    shell("--config=scenes:hrad"),
    "scenes has no setting 'hrad': expected one of hard, validation, wide.",
)
case(
    "script: config of a number",
    with_config("def get_config(): return 3"),
    "get_config of '<here>/config.py' gave 3: expected a ConfigDict.",
)
for what, text, error in (
    ("is no Python", "def get_config(:", "SyntaxError"),
    ("is binary", "\0\0", "SyntaxError"),
    ("imports nothing", "import no_such_module", "ModuleNotFoundError"),
    ("without get_config", "x = 1", "KeyError"),
    ("divides by zero", "def get_config(): return 1 / 0", "ZeroDivisionError"),
    ("never returns", "def get_config(): return get_config()", "RecursionError"),
    ("takes no setting", "def get_config(setting): return 1", "TypeError"),
):
    case(
        f"script: config {what}",
        with_config(text),
        f"The config '<here>/config.py' can't be loaded ({error}(<said>)): expected Python with a "
        "function get_config that returns a ConfigDict.",
    )
case(
    "script: no workdir",
    shell(PHOTOS),
    "--workdir is missing: give the folder of artifacts and results.",
)
case(
    "script: unknown flag",
    shell("--wrkdir=x"),
    "jaxdesc describe has no flag --wrkdir: did you mean --workdir?",
)
case(
    "script: no flag",
    shell(PHOTOS, "kappa=4"),
    "'kappa=4' is not a flag: give flags as --name=value.",
)
case(
    "script: unknown key",
    shell(PHOTOS, "--config.score.kapa=4"),
    "Unknown config key config.score.kapa: did you mean config.score.kappa?",
)
case(
    "script: no number",
    shell(PHOTOS, "--config.score.kappa=much"),
    "flag --config.score.kappa=much: could not convert string to float: 'much'" + HELP,
)
case(
    "script: a fraction for a count",
    shell(PHOTOS, "--config.images.batch=1.5"),
    "flag --config.images.batch=1.5: invalid literal for int() with base 10: '1.5'" + HELP,
)
case(
    "script: a group for a value",
    shell(PHOTOS, "--config.score=4"),
    "flag --config.score=4: Failed to parse '4' as a ConfigDict: `4` is not a dict." + HELP,
)
case(
    "script: a list that never ends",
    shell(PHOTOS, "--config.ablation.kappas=(1,"),
    "flag --config.ablation.kappas=(1,: <said>" + HELP,
)
case(
    "script: a code for a list",
    shell(PHOTOS, "--config.ablation.kappas=__import__('os')"),
    "config.ablation.kappas is \"__import__('os')\": expected a value of type float.",
)
case(
    "script: κ < 0",
    shell(PHOTOS, "--config.score.kappa=-1"),
    "config.score.kappa is -1.0: expected a number in [0, 1e+06].",
)
case(
    "script: quiet is perhaps",
    shell(PHOTOS, "--quiet=perhaps"),
    "flag --quiet=perhaps: <said>" + HELP,
)
case("script: flags from nowhere", shell("--flagfile=/none"), "<said>" + HELP)
case(
    "script: fewer images than exemplars",
    photos,
    "config.score.exemplars is 40, but folder:<here>/photos holds only 1 images: ask for "
    "at most as many.",
)
case(
    "script: no boxes",
    lambda p: photos(p, "--config.score.exemplars=1", "--config.crop.view=box"),
    "config.crop.view is 'box', but folder:<here>/photos has no boxes: choose another view.",
)
case(
    "script: workdir of another program",
    foreign,
    "<here>/run/config.json is not a config of a run (KeyError('config')): give another "
    "working directory.",
)
case(
    "script: names for other classes",
    lambda p: photos(
        p, "--config.score.exemplars=1", f"--config.target.classes=file:{p.file('c.txt', 'a')}"
    ),
    "scenes has 32 logits, but names for 1 classes: give names for each class, or none at all.",
)
case(
    "sweep: no number",
    shell(PHOTOS, "--kappa=1,x", command="sweep"),
    "--kappa=1,x can't be read: expected numbers between commas.",
)
case(
    "sweep: κ < 0",
    shell(PHOTOS, "--kappa=0,-1", command="sweep"),
    "config.score.kappa is -1.0: expected a number in [0, 1e+06].",
)
case(
    "sweep: nothing",
    shell(PHOTOS, "--exemplars=", command="sweep"),
    "--exemplars is empty: give it a value, or leave it out.",
)
case(
    "tables: nothing measured",
    lambda p: p.launch("tables", f"--workdir={p.folder}"),
    "<here>/ablation.csv does not exist: nothing was measured there yet; give --config to measure.",
)
case(
    "tables: another file",
    lambda p: p.launch(
        "tables", f"--workdir={p.file('ablation.csv', 'a,b' + chr(10) + '1,2').parent}"
    ),
    "<here>/ablation.csv is not an ablation of this version ('a'): measure again in another "
    "working directory.",
)
case(
    "convert: no flags",
    shell(command="convert"),
    "--source and --output are needed: what to convert, and where to.",
)
