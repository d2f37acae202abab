import dataclasses
import json
import math

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from jaxdesc.config import AblationConfig, Config, ScoreConfig, converted, differences
from jaxdesc.errors import InputError
from jaxdesc.sweep import Grid

# A value other than the default for every key.
OTHER = {
    "target": {
        "source": "resnet50",
        "revision": "v1",
        "preprocess": "imagenet_v2",
        "classes": "imagenet",
        "layer": "layer4",
        "pooling": "max",
    },
    "clip": {
        "source": "clip",
        "revision": "v2",
        "preprocess": "openai",
        "input": "image",
        "batch": 3,
    },
    "images": {"source": "folder:photos", "batch": 5, "max_skipped": 0.25},
    "vocabulary": {"source": "scenes", "template": "a {concept}", "compat": "www"},
    "crop": {
        "view": "random",
        "field": 0.5,
        "cam": "layer_cam",
        "cam_input": "centre",
        "cam_class": "label",
        "seed": 7,
    },
    "score": {"exemplars": 10, "fewest": 3, "kappa": 0.5, "alpha": 0.9, "block": 64},
    "evaluation": {"scorer": "larger", "sentence": "mpnet"},
    "ablation": {
        "views": ["full", "box"],
        "kappas": [0.0, 4.0],
        "probes": ["scenes:"],
        "vocabularies": ["broden", "wordnet"],
    },
    "precision": "bfloat16",
}


def keys(values, where=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from keys(value, f"{where}{key}.")
        else:
            yield f"{where}{key}"


def nested(key, value):
    section, _, name = key.partition(".")
    return {section: {name: value} if name else value}


def at(values, key):
    """The value of a dotted key."""
    for part in key.split("."):
        values = values[part]
    return values


def test_round_trip():
    default = Config().to_dict()
    assert list(keys(OTHER)) == list(keys(default))
    config = Config.from_dict(OTHER)
    for key in keys(default):
        assert at(config.to_dict(), key) != at(default, key), key
    assert Config.from_dict(config.to_dict()) == config
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert json.loads(json.dumps(config.to_dict())) == OTHER
    assert Config.from_dict({}) == Config()


def test_configs_are_values():
    assert hash(Config.from_dict(OTHER)) == hash(Config.from_dict(OTHER))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().score.kappa = 1.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scores": {}}, r"Unknown config key config\.scores: did you mean config\.score\?"),
        (
            nested("score.kapa", 1.0),
            r"Unknown config key config\.score\.kapa: did you mean config\.score\.kappa\?",
        ),
        (
            nested("target.pool", "max"),
            r"Unknown config key config\.target\.pool: did you mean config\.target\.pooling\?",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest(values, message):
    with pytest.raises(InputError, match=f"^{message}"):
        Config.from_dict(values)


CAMS = "('cam', 'grad_cam', 'grad_cam_pp', 'layer_cam', 'score_cam')"
PREPROCESSINGS = "('', 'imagenet', 'imagenet_v2', 'imagenet_bicubic', 'inception', 'openai')"
VIEWS = "('centre', 'attention', 'random', 'box', 'full')"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("target.pooling", "sum", "one of ('mean', 'max')"),
        ("target.preprocess", "vgg", f"one of {PREPROCESSINGS}"),
        ("clip.preprocess", "vgg", f"one of {PREPROCESSINGS}"),
        ("clip.batch", 0, "at least 1"),
        ("images.batch", -1, "at least 1"),
        ("images.max_skipped", 1.0, "a share in [0, 1)"),
        ("images.max_skipped", -0.1, "a share in [0, 1)"),
        ("images.max_skipped", float("nan"), "a share in [0, 1)"),
        ("vocabulary.compat", "WWW", "'' or 'www'"),
        ("vocabulary.template", "a photo of a", "a text with '{concept}' in it"),
        ("crop.view", "center", f"one of {VIEWS}"),
        ("crop.field", 0.0, "a share in (0, 1]"),
        ("crop.field", 1.01, "a share in (0, 1]"),
        ("crop.field", math.nan, "a share in (0, 1]"),
        ("clip.input", "full", "one of ('view', 'image', 'method')"),
        ("crop.cam", "gradcam", f"one of {CAMS}"),
        ("crop.cam_input", "full", "one of ('whole', 'centre')"),
        ("crop.cam_class", "true", "one of ('predicted', 'label')"),
        ("crop.seed", -1, "an integer in [0, 2**32)"),
        ("crop.seed", 2**32, "an integer in [0, 2**32)"),
        ("score.exemplars", 0, "at least 1"),
        ("score.fewest", 0, "at least 1"),
        ("score.kappa", -1.0, "a number in [0, 1e+06]"),
        ("score.kappa", math.inf, "a number in [0, 1e+06]"),
        ("score.kappa", math.nan, "a number in [0, 1e+06]"),
        ("score.alpha", 0.0, "a share in (0, 1]"),
        ("score.alpha", 1.5, "a share in (0, 1]"),
        ("score.alpha", math.nan, "a share in (0, 1]"),
        ("score.block", 0, "at least 1"),
        ("ablation.views", ("centre", "corner"), f"each one of {VIEWS}"),
        ("ablation.kappas", (0.0, -1.0), "a number in [0, 1e+06]"),
        ("ablation.kappas", (math.nan,), "a number in [0, 1e+06]"),
    ],
)
def test_a_value_out_of_range(key, value, expected):
    culprit = value[-1] if isinstance(value, tuple) else value
    with pytest.raises(InputError) as error:
        Config.from_dict(nested(key, value))
    assert str(error.value) == f"config.{key} is {culprit!r}: expected {expected}."


def test_the_ends_of_ranges_are_inside():
    score = {"exemplars": 1, "kappa": 0.0, "alpha": 1.0, "block": 1}
    crop = {"field": 1.0, "seed": 0}
    Config.from_dict({"score": score, "crop": crop, "ablation": {"kappas": [0.0]}})


def test_ranges_hold_without_a_dict():
    with pytest.raises(InputError, match=r"config\.score\.alpha is 1\.5: expected a share"):
        ScoreConfig(alpha=1.5)
    with pytest.raises(InputError, match=r"config\.ablation\.views is 'corner'"):
        AblationConfig(views=("corner",))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("target.source", None, "a value of type str"),
        ("score.kappa", "16", "a value of type float"),
        ("score.kappa", True, "a value of type float"),
        ("score.exemplars", 40.0, "a value of type int"),
        ("score.exemplars", True, "a value of type int"),
        ("images.source", ["folder:photos"], "a value of type str"),
        ("ablation.views", "centre", "a tuple of str"),
        ("ablation.views", {"centre": 1}, "a tuple of str"),
        ("ablation.kappas", 16.0, "a tuple of float"),
        ("ablation.kappas", None, "a tuple of float"),
    ],
)
def test_a_value_of_a_wrong_type(key, value, expected):
    with pytest.raises(InputError) as error:
        Config.from_dict(nested(key, value))
    assert str(error.value) == f"config.{key} is {value!r}: expected {expected}."


def test_a_wrong_type_within_a_tuple_is_named():
    with pytest.raises(InputError, match=r"config\.ablation\.kappas is '4': expected a .* float"):
        Config.from_dict(nested("ablation.kappas", (1.0, "4")))


@pytest.mark.parametrize("values", [5, None, ["kappa"], "kappa"])
def test_a_group_must_be_one(values):
    message = f"config.score is {values!r}: expected a group of settings."
    with pytest.raises(InputError) as error:
        Config.from_dict({"score": values})
    assert str(error.value) == message


def test_a_whole_number_is_good_where_a_float_is_wanted():
    """1 and 1.0 must be one config: its text names the artifacts."""
    config = Config.from_dict({"score": {"kappa": 1}, "ablation": {"kappas": [0, 1]}})
    assert type(config.score.kappa) is float
    assert [type(kappa) for kappa in config.ablation.kappas] == [float, float]


NUMBERS = [
    np.float32, np.float16, np.float64, np.longdouble, np.array, jnp.float32, jnp.bfloat16,
]  # fmt: skip
WHOLE = [np.int64, np.uint8, np.array, jnp.int32]


@pytest.fixture
def as_a_user(monkeypatch):
    """No annotation is an assertion."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("build", [ScoreConfig, lambda **v: Config.from_dict({"score": v}).score])
def test_numbers_of_numpy_and_jax_are_pythons(number, build, as_a_user):
    config = build(kappa=number(4.5), alpha=number(0.5))
    assert config == ScoreConfig(kappa=4.5, alpha=0.5)
    assert {type(config.kappa), type(config.alpha)} == {float}
    json.dumps(Config(score=config).to_dict())


@pytest.mark.parametrize("number", WHOLE)
def test_whole_numbers_of_numpy_and_jax_are_pythons(number, as_a_user):
    config = ScoreConfig(exemplars=number(7), kappa=number(2))
    assert config == ScoreConfig(exemplars=7, kappa=2.0)
    assert (type(config.exemplars), type(config.kappa)) == (int, float)


def test_lists_are_any_iterables(as_a_user):
    expected = AblationConfig(views=("box", "full"), kappas=(0.0, 8.0, 16.0))
    kappas = np.linspace(0, 16, 3, dtype=np.float32)
    assert AblationConfig(views=np.array(["box", "full"]), kappas=kappas) == expected
    assert AblationConfig(views=iter(["box", "full"]), kappas=jnp.asarray(kappas)) == expected
    # Python orders a set differently in every process.
    assert AblationConfig(views={"full", "box"}, kappas={16, 0, 8}) == expected
    grid = Grid(kappas, (a for a in (0.9,)), np.arange(1, 3), ["full"])
    assert grid == Grid((0.0, 8.0, 16.0), (0.9,), (1, 2), ("full",))
    assert {type(value) for value in (*grid.kappas, *grid.exemplars)} == {float, int}


NO_NUMBERS = ["4", True, np.bool_(True), None, [4.0], np.array([4.0]), 4j, b"4"]


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_not_a_number_is_refused_everywhere(value, as_a_user):
    for build in (ScoreConfig, lambda **v: Config.from_dict({"score": v})):
        for key, kind in (("kappa", "float"), ("exemplars", "int")):
            with pytest.raises(InputError, match=rf"^config\.score\.{key} is .*of type {kind}\.$"):
                build(**{key: value})
    with pytest.raises(InputError, match=r"^The sweep's kappas is .*: expected a value of type fl"):
        Grid((value,), (0.9,), (1,), ("full",))
    with pytest.raises(InputError, match=r"is 4\.0: expected a value of type int"):
        ScoreConfig(exemplars=np.float32(4))


def test_one_is_not_true(as_a_user):
    assert converted(bool, np.bool_(True), "quiet") is True
    with pytest.raises(InputError, match=r"^quiet is 1: expected a value of type bool"):
        converted(bool, 1, "quiet")


def test_differences():
    old, new = Config().to_dict(), Config().to_dict()
    assert differences(old, new) == []
    new["score"]["kappa"] = 4.0
    new["target"]["layer"] = "layer4"
    del old["crop"]["seed"]
    new["later"] = {"key": 1}
    assert differences(old, new) == [
        "crop.seed: None -> 0",
        "later: None -> {'key': 1}",
        "score.kappa: 16.0 -> 4.0",
        "target.layer: 'fc' -> 'layer4'",
    ]
    assert differences({"score": 3}, {"score": {"kappa": 4.0}}) == ["score: 3 -> {'kappa': 4.0}"]
