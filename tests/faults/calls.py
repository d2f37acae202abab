"""Bad configs and arrays, and calls and scripts that are given what does not fit."""

import numpy as np
import scipy.sparse
from jax.experimental.sparse import BCOO
from PIL import Image

import jaxdesc as jd
from jaxdesc.config import Config
from jaxdesc.result import Neuron, Result
from jaxdesc.stages.check import check_names
from jaxdesc.store import Store
from tests.faults.images import saved
from tests.faults.place import PHOTOS
from tests.plain_target import parameters, plain_target


def config(key, value):
    def run(place):
        section, _, name = key.partition(".")
        check_names(Config.from_dict({section: {name: value} if name else value}))

    return run


CONFIGS = {
    # Of a key that would steer a terminal.
    "Unknown config key config.score.\\x1b[2J: did you mean config.score.kappa?": config(
        "score.\x1b[2J", 1
    ),
    "config.score is 3: expected a group of settings.": config("score", 3),
    "config.score.kappa is -0.5: expected a number in [0, 1e+06].": config("score.kappa", -0.5),
    "config.score.kappa is of type int and too large to be ... of type float": config(
        "score.kappa", 10**5000
    ),
    "config.vocabulary.template is 'x': expected words with": config("vocabulary.template", "x"),
    "config.vocabulary.template is '\\ud83d {concept}': expected a text that UTF-8": config(
        "vocabulary.template", "\ud83d {concept}"
    ),
    "config.ablation.views is 'x': expected a tuple of str.": config("ablation.views", "x"),
    "config.target.layers is ('norm', 'Norm'): expected names of layers, each once": config(
        "target.layers", ("norm", "Norm")
    ),
    "config.clip.preprocess is 'vgg': expected one of ('',": config("clip.preprocess", "vgg"),
    "config.crop.view is 'xxx...…: expected one of": config("crop.view", "x" * 10_000),
}

AXES = np.eye(4, dtype=np.float32)


def arrays(**changes):
    """`describe_activations` of three images, neurons and concepts."""
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
    return arrays(activations=np.where(AXES[:3, :3] * [0, 0, 1], value, 1))


ARRAYS = {
    "Activations of neuron 2 hold NaN: expected finite numbers.": spoilt(np.nan),
    "Activations of neuron 2 hold infinity: expected finite numbers.": spoilt(np.inf),
    "row 0 of image_features has length nan (3 such rows of 3), but": arrays(
        image_features=np.full((3, 4), np.nan)
    ),
    "row 0 of concept_features has length 2": arrays(concept_features=2 * AXES[:3]),
    "features are 4 wide for images, 3 for concepts": arrays(concept_features=np.eye(3)),
    "4 exemplars are asked for, but there are 3 images: ask": arrays(exemplars=4),
    "There are 3 rows of activations, but 2 image": arrays(image_features=AXES[:2]),
    "There are 1 concepts, but 3 concept features: expected": arrays(concepts=["a"]),
    "There are 3 image features, but 1 names of images: expected": arrays(images=["a"]),
    "activations has shape (3,): expected (image, neuron)": arrays(activations=AXES[0, 1:]),
    "activations has shape (3, 0): expected (image, neuron)": arrays(activations=np.ones((3, 0))),
    "activations is a sparse array of type BCOO: give one of scipy.sparse": arrays(
        activations=BCOO.fromdense(AXES[:3, :3])
    ),
    "activations has shape (4,): expected (image, neuron)": arrays(
        activations=scipy.sparse.coo_array(AXES[0])
    ),
    "Activations of neuron 1 hold infinity: expected finite": arrays(
        activations=scipy.sparse.csr_array([[0, np.inf, 1]] * 3)
    ),
    "There are 4 rows of activations, but 3 image features": arrays(
        activations=iter([AXES[:2, :3], AXES[:2, :3]])
    ),
    "batch 1 of activations has 2 neurons, but those before it have 3": arrays(
        activations=iter([AXES[:2, :3], AXES[:1, :2]])
    ),
    "activations: a sparse batch has an activation below zero: give": arrays(
        activations=iter([scipy.sparse.csr_array(-AXES[:3, :3])])
    ),
    "There are 0 rows of activations, but 3 image features": arrays(activations=iter([])),
    "activations can't be read as an array ('...'): give": arrays(activations=[[1, 2], [3]]),
    "image_features is an array of type complex64:": arrays(image_features=AXES[:3] * 1j),
    "activations is an array of type masked float32: expected real": arrays(
        activations=np.ma.masked_less(AXES[:3, :3], 0.5)
    ),
    "images is 'folder:photos': expected a list of texts, one": arrays(images="folder:photos"),
    "concepts is {'a'}: expected a list of texts, one per row.": arrays(concepts={"a"}),
    "images[2] is 3: expected a text.": arrays(images=["a", "b", 3]),
    "config.score.alpha is 0.0: expected a share in (0, 1].": arrays(alpha=0.0),
}


def asked(**changes):
    """`describe` on five scenes, with the embedded world's CLIP and a user's network."""

    def run(place):
        valid = {"target": plain_target(), "clip": jd.load_clip("scenes"), "exemplars": 2}
        valid |= {"images": "scenes:count=5", "concepts": ["sky", "cat"], "quiet": True}
        jd.describe(**(valid | changes))

    return run


BROKEN = plain_target(parameters() | {"bias": np.full(6, np.nan, np.float32)}, name="mine")
NAMED = (("a",),)

DESCRIBE = {
    "config.score.exemplars is 6, but scenes:... holds only 5 images: ask": asked(exemplars=6),
    "Unknown layer 'layer5' of target: expected one of fc, patches.": asked(layer="layer5"),
    "config.crop.view is 'attenton': expected one of": asked(view="attenton"),
    "target has 6 logits, but names for 1 classes:": asked(target=plain_target(classes=NAMED)),
    "Class 0 of target has no name: give": asked(target=plain_target(classes=((),) * 6)),
    "Layer 'fc' of mine gives NaN or infinity: its weights": asked(target=BROKEN),
    "The sentence encoder returned shape (3, 3) for 4 texts: expected one row": asked(
        target=plain_target(classes=NAMED * 6), sentence_encoder=lambda texts: np.eye(3)
    ),
    "target is a name encoder, and clip a target: give them the other way round.": lambda p: asked(
        target=jd.load_clip("scenes"), clip=plain_target()
    )(p),
    "target is the text 'o/n': load it with jaxdesc.load_target('o/n').": asked(target="o/n"),
    "clip is of type NoneType: expected a Namer, as jaxdesc.load_namer": asked(clip=None),
    "scorer is the text 'scenes': load it with jaxdesc.load_namer": asked(scorer="scenes"),
    "sentence_encoder is of type int: expected a SentenceEncoder,": asked(sentence_encoder=3),
    "namer is of type Target: expected a Namer, as jaxdesc.load_namer": lambda p: jd.zero_shot(
        plain_target(), ["cat", "dog"]
    ),
    "workdir is 3: give the path of a folder.": asked(workdir=3),
    "quiet is 1: expected a value of type bool.": asked(quiet=1),
    "config is 'photos.py': expected a group of settings.": asked(config="photos.py"),
    "clip is the text 'scenes': load it with jaxdesc.load_namer": lambda p: jd.image_features(
        "scenes", "scenes:count=5"
    ),
    "The folder <here>/run/artifacts can't be made or written (Not a directory): give": lambda p: (
        Store(p.file("run") / "artifacts").lock()
    ),
}


def explained(**changes):
    """`explain` of a picture, with a user's network."""

    def run(place):
        found = Result(tuple(Neuron("patches", unit, (), 0.0, 0.0, ()) for unit in range(10)))
        valid = {"target": plain_target(), "image": Image.new("RGB", (8, 8)), "found": found}
        jd.explain(**(valid | changes))

    return run


EXPLAIN = {
    "image is float64 of shape (8, 9): expected a PIL image": explained(image=np.zeros((8, 9))),
    "image has mode I and size (8, 8): expected pixels": explained(image=Image.new("I", (8, 8))),
    "image is None: expected a PIL image": explained(image=None),
    "one of peers is float64 of shape (3,): expected a PIL image": explained(peers=[np.zeros(3)]),
    "peers is 3: expected images, such as a list of them.": explained(peers=3),
    "found is of type tuple: expected a Result, as jaxdesc.describe": explained(found=()),
    "neurons is True: expected a value of type int.": explained(neurons=True),
}


def shell(command, *flags):
    return lambda place: place.launch(command, *flags)


def describe(*flags):
    return shell("describe", PHOTOS, *flags)


def python(text):
    """A config file of this text."""
    return lambda place: place.launch("describe", place.config(text))


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
        "--config.score.exemplars=1",
        *flags,
    )


def foreign(place):
    place.file("run/config.json", '{"model_type": "clip"}')
    photos(place)


def ablation(place, table=None):
    if table:
        place.file("ablation.csv", table)
    place.launch("tables", f"--workdir={place.folder}")


SCRIPTS = {
    "--config is missing: expected one of paper, photos, ..., or the path": shell("describe"),
    "The config '/none.py' is unknown: expected one of": shell("describe", "--config=/none.py"),
    "scenes has no setting 'hrad': expected one of": shell("describe", "--config=scenes:hrad"),
    "get_config of '<here>/config.py' gave 3: expected": python("def get_config(): return 3"),
    "The config '<here>/config.py' can't be loaded (KeyError(...)): expected": python("x = 1"),
    "The config '<here>/config.py' can't be loaded (RecursionError(...)): expected": python(
        "def get_config(): return get_config()"
    ),
    "--workdir is missing: give the folder of artifacts and results.": describe(),
    "jaxdesc describe has no flag --wrkdir: did you mean --workdir?": describe("--wrkdir=x"),
    "'kappa=4' is not a flag: give flags as --name=value.": describe("kappa=4"),
    "Unknown config key config.score.kapa: did you mean config.score.kappa?": describe(
        "--config.score.kapa=4"
    ),
    "flag --config.score.kappa=x: ...; run with --help": describe("--config.score.kappa=x"),
    "flag --config.ablation.kappas=(1,: ...; run": describe("--config.ablation.kappas=(1,"),
    "config.ablation.kappas is \"__import__('os')\": expected a value of type float.": describe(
        "--config.ablation.kappas=__import__('os')"
    ),
    "flag --quiet=perhaps: ...; run with --help": describe("--quiet=perhaps"),
    "config.crop.view is 'box', but folder:<here>/photos has no boxes: choose": lambda p: photos(
        p, "--config.crop.view=box"
    ),
    "<here>/run/config.json is not a config of a run (KeyError('config')): give another": foreign,
    "--kappa=1,x can't be read: expected numbers": shell("sweep", PHOTOS, "--kappa=1,x"),
    "config.score.kappa is -1.0: expected": shell("sweep", PHOTOS, "--kappa=0,-1"),
    "--exemplars is empty: give it a value, or": shell("sweep", PHOTOS, "--exemplars="),
    "<here>/ablation.csv does not exist: nothing was measured there yet; give --config": ablation,
    "<here>/ablation.csv is not an ablation of this version ('a'): measure again in": lambda p: (
        ablation(p, "a,b\n1,2")
    ),
    "--source and --output are needed: what to convert, and where to.": shell("convert"),
}

ROWS = CONFIGS | ARRAYS | DESCRIBE | EXPLAIN | SCRIPTS
