import dataclasses
import json
import math

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from jaxdesc.config import AblationConfig, Config, ScoreConfig, converted, differences
from jaxdesc.errors import InputError
from jaxdesc.pipeline import Grid

# A value other than the default for every key.
OTHER = {
    "target": {"source": "resnet50", "revision": "v1", "preprocess": "imagenet_v2",
               "classes": "imagenet", "layer": "layer4",
               "layers": ["layer3", "fc"], "pooling": "max", "dictionary": "sae", "kept": 64},
    "clip": {"source": "clip", "revision": "v2", "preprocess": "openai", "input": "image",
             "batch": 3},
    "images": {"source": "folder:photos", "batch": 5, "max_skipped": 0.25, "workers": 3,
               "split": 0.3, "split_seed": 4},
    "vocabulary": {"source": "scenes", "template": "a {concept}", "compat": "www"},
    "crop": {"view": "random", "field": 0.5, "cam": "layer_cam", "cam_input": "centre",
             "cam_class": "label", "of": "unit", "rank": "image", "candidates": 3, "seed": 7},
    "score": {"exemplars": 10, "fewest": 3, "similarity": "cosine", "kappa": 0.5, "alpha": 0.9,
              "block": 64},
    "evaluation": {"scorer": "larger", "sentence": "mpnet"},
    "ablation": {"views": ["full", "box"], "kappas": [0.0, 4.0], "probes": ["scenes:"],
                 "vocabularies": ["broden", "wordnet"]},
    "precision": "bfloat16",
}  # fmt: skip


def flat(values, where=""):
    """Values by their dotted keys."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value


def nested(key, value):
    section, _, name = key.partition(".")
    return {section: {name: value} if name else value}


def test_round_trip():
    default, other = dict(flat(Config().to_dict())), dict(flat(OTHER))
    assert list(other) == list(default)
    config = Config.from_dict(OTHER)
    assert not {key for key, value in flat(config.to_dict()) if value == default[key]}
    assert json.loads(json.dumps(config.to_dict())) == OTHER
    assert Config.from_dict({}) == Config()
    assert hash(config) == hash(Config.from_dict(config.to_dict()))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.score.kappa = 1.0


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("target.pooling", "sum", "one of ('', 'mean', 'max', 'class')"),
        ("clip.batch", -1, "an integer in [1, 65536], or auto"),
        ("images.max_skipped", 1.0, "a share in [0, 1)"),
        ("images.max_skipped", -0.1, "a share in [0, 1)"),
        ("vocabulary.compat", "WWW", "one of ('', 'www')"),
        ("crop.field", 0.0, "a share in (0, 1]"),
        ("crop.field", 1.01, "a share in (0, 1]"),
        ("crop.seed", 2**32, "an integer in [0, 2**32)"),
        ("score.exemplars", 0, "at least 1"),
        ("score.kappa", math.inf, "a number in [0, 1e+06]"),
        ("score.alpha", math.nan, "a share in (0, 1]"),
        ("ablation.kappas", (0.0, -1.0), "each a number in [0, 1e+06]"),
        ("target.source", None, "a value of type str"),
        ("score.exemplars", 40.0, "a value of type int"),
        ("ablation.views", "centre", "a tuple of str"),
        ("ablation.views", {"centre": 1}, "a tuple of str"),
        ("ablation.kappas", None, "a tuple of float"),
    ],
)
def test_a_value_out_of_range_or_of_a_wrong_type(key, value, expected):
    with pytest.raises(InputError) as error:
        Config.from_dict(nested(key, value))
    assert str(error.value) == f"config.{key} is {value!r}: expected {expected}."


def test_the_ends_of_ranges_are_inside():
    score = {"exemplars": 1, "kappa": 0.0, "alpha": 1.0, "block": 1}
    crop = {"field": 1.0, "seed": 0}
    Config.from_dict({"score": score, "crop": crop, "ablation": {"kappas": [0.0]}})


def test_a_wrong_type_within_a_tuple_is_named():
    with pytest.raises(InputError, match=r"config\.ablation\.kappas is '4': expected a .* float"):
        Config.from_dict(nested("ablation.kappas", (1.0, "4")))


@pytest.fixture
def as_a_user(monkeypatch):
    """Annotations are not checked."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("number", [np.float32, np.longdouble, np.array, jnp.bfloat16])
@pytest.mark.parametrize("build", [ScoreConfig, lambda **v: Config.from_dict({"score": v}).score])
def test_numbers_become_pythons(number, build, as_a_user):
    """1 and 1.0 must be the same config: its text names the artifacts."""
    config = build(kappa=number(4.5), alpha=1, exemplars=np.uint8(7))
    assert config == ScoreConfig(kappa=4.5, alpha=1.0, exemplars=7)
    kinds = {type(config.kappa), type(config.alpha), type(config.exemplars)}
    assert kinds == {float, int}
    json.dumps(Config(score=config).to_dict())


def test_lists_are_any_iterables(as_a_user):
    expected = AblationConfig(views=("box", "full"), kappas=(0.0, 8.0, 16.0))
    kappas = np.linspace(0, 16, 3, dtype=np.float32)
    assert AblationConfig(views=np.array(["box", "full"]), kappas=kappas) == expected
    assert AblationConfig(views=iter(["box", "full"]), kappas=jnp.asarray(kappas)) == expected
    # Python orders a set differently in every process.
    assert AblationConfig(views={"full", "box"}, kappas={16, 0, 8}) == expected
    grid = Grid(kappas, (a for a in (0.9,)), np.arange(1, 3), ["full"])
    assert grid == Grid((0.0, 8.0, 16.0), (0.9,), (1, 2), ("full",))


@pytest.mark.parametrize("value", ["4", True, np.bool_(True), None, [4.0], np.array([4.0]), 4j])
def test_what_is_not_a_number_is_refused(value, as_a_user):
    for key, kind in (("kappa", "float"), ("exemplars", "int")):
        with pytest.raises(InputError, match=rf"^config\.score\.{key} is .*of type {kind}\.$"):
            ScoreConfig(**{key: value})


def test_one_is_not_true(as_a_user):
    assert converted(bool, np.bool_(True), "quiet") is True
    with pytest.raises(InputError, match=r"^quiet is 1: expected a value of type bool"):
        converted(bool, 1, "quiet")


def test_differences():
    old, new = Config().to_dict(), Config().to_dict()
    assert differences(old, new) == []
    new["score"]["kappa"] = 4.0
    del old["crop"]["seed"]
    new["later"] = {"key": 1}
    assert differences(old, new) == [
        "crop.seed: None -> 0",
        "later: None -> {'key': 1}",
        "score.kappa: 16.0 -> 4.0",
    ]
    assert differences({"score": 3}, {"score": {"kappa": 4.0}}) == ["score: 3 -> {'kappa': 4.0}"]
