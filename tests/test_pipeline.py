from collections import Counter
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdesc.errors import InputError
from jaxdesc.models.encoder import Namer
from jaxdesc.scenes.world import CLASSES
from tests import plain_target
from tests.album import Album
from tests.runs import CONCEPTS, CONFIG, IMAGES, SIX, artifact, changed, run


@pytest.fixture(scope="module")
def plain():
    return plain_target.plain_target(classes=SIX)


@pytest.fixture(scope="module")
def album():
    return Album(IMAGES)


# What it computes again.


SCORED = {"score", "certainty", "evaluate"}
SEEN = {"embed", "properties"}  # exemplars
EVERYTHING = {"activate", "select", "encode", "words"} | SEEN | SCORED


@pytest.fixture(scope="module")
def first(tmp_path_factory, plain, clip, album):
    """Folder and result of a run of CONFIG; every test changes something else."""
    folder = tmp_path_factory.mktemp("done")
    result, computed = run(folder, CONFIG, plain, clip, album)
    assert computed == EVERYTHING
    assert min(result.memory.values()) > 2**20
    return folder, result


@pytest.fixture(scope="module")
def workdir(first):
    return first[0]


def test_nothing_is_computed_twice(first, clip):
    workdir, result = first
    # New objects, as in another process: only what they hold may count.
    again = plain_target.plain_target(classes=SIX)
    second, computed = run(workdir, CONFIG, again, replaced(clip), Album(IMAGES))
    assert computed == set()
    assert second.neurons == result.neurons
    assert second.fingerprints == result.fingerprints


UNNAMED = {"activate", "select", "score", "certainty"} | SEEN
CHANGES = {
    "kappa": ({"score": {"kappa": 4.0}}, SCORED),
    "alpha": ({"score": {"alpha": 0.9}}, SCORED),
    "similarity": ({"score": {"similarity": "cosine"}}, SCORED),
    "fewest": ({"score": {"fewest": 2}}, {"certainty", "properties"}),
    "exemplars": ({"score": {"exemplars": 4}}, {"select"} | SEEN | SCORED),
    "template": ({"vocabulary": {"template": "a {concept}"}}, {"encode"} | SCORED),
    "clip input": ({"clip": {"input": "image"}}, SEEN | SCORED),
    "view": ({"crop": {"view": "centre"}}, EVERYTHING - {"encode", "words"}),
    "cam": ({"crop": {"cam": "layer_cam"}}, EVERYTHING - {"encode", "words"}),
    "layer": ({"target": {"layer": "patches"}}, UNNAMED),
    "pooling": ({"target": {"layer": "patches", "pooling": "max"}}, UNNAMED),
    "batches": (
        {"images": {"batch": 7}, "clip": {"batch": 9}, "score": {"block": 5}},
        EVERYTHING - {"encode", "words"},
    ),
    "block": ({"score": {"block": 5}}, set()),
    "seed of another view": ({"crop": {"seed": 5}}, set()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_choice_recomputes_what_depends_on_it(change, workdir, plain, clip, album):
    parts, expected = CHANGES[change]
    _, computed = run(workdir, changed(CONFIG, **parts), plain, clip, album)
    assert computed == expected


class Renamed(Album):
    """An album by another name, as a folder that is written in two ways."""

    def __init__(self, count):
        super().__init__(count)
        self.same = super().fingerprint()
        self.spec = "renamed"

    def fingerprint(self):
        return self.same


@pytest.mark.full
def test_what_random_windows_depend_on(workdir, plain, clip, album):
    """Their seed, and the source's name, with which it is mixed."""
    config = changed(CONFIG, crop={"view": "random"})
    run(workdir, config, plain, clip, album)
    reseeded = changed(CONFIG, crop={"view": "random", "seed": 1})
    renamed = Renamed(IMAGES)
    assert renamed.fingerprint() == album.fingerprint()
    for other, source in ((reseeded, album), (config, renamed)):
        assert {"activate", "select"} <= run(workdir, other, plain, clip, source)[1]
    assert run(workdir, CONFIG, plain, clip, renamed)[1] == set()


def nudged(params, seed=0):
    """The parameters with one number of one array changed a little."""
    leaves, tree = jax.tree.flatten(params)
    leaves = [np.array(leaf) for leaf in leaves]
    leaves[seed].flat[-1] += 1e-3
    return jax.tree.unflatten(tree, leaves)


def replaced(clip, **changes):
    given = {field.name: getattr(clip, field.name) for field in fields(Namer)}
    return Namer(**(given | changes))


def test_a_changed_input_recomputes_what_depends_on_it(workdir, plain, clip, album):
    go = partial(run, workdir, CONFIG)
    other_weights = plain_target.plain_target(nudged(plain.params), SIX)
    assert go(other_weights, clip, album)[1] == EVERYTHING - {"encode", "words"}
    other_size = plain_target.plain_target(
        classes=SIX, preprocess=replace(plain.preprocess, interpolation="bicubic")
    )
    assert go(other_size, clip, album)[1] == EVERYTHING - {"encode", "words"}
    other_clip = replaced(clip, params=nudged(clip.params))
    assert go(plain, other_clip, album)[1] == EVERYTHING - {"activate", "select"}
    assert go(plain, clip, Album(IMAGES, seed=1))[1] == EVERYTHING - {"encode", "words"}
    fewer = go(plain, clip, album, CONCEPTS[1:])[1]
    assert fewer == {"encode", "words"} | SCORED
    other_names = plain_target.plain_target(classes=tuple(CLASSES.values())[1:7])
    assert go(other_names, clip, album)[1] == {"words", "evaluate"}
    assert go(plain, clip, album)[1] == set()


# How often it computes.


@contextmanager
def compiled():
    """Counts the programs that XLA compiles, by the name of their function."""
    names = Counter()

    def listen(event, duration, **details):
        if event.endswith("/backend_compile_duration"):
            names[details.get("fun_name")] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_one_program_a_stage(tmp_path, clip):
    target = plain_target.plain_target()
    assert target.fingerprint
    source, concepts = Album(29), [f"concept {i}" for i in range(31)]  # sizes of this test alone
    config = changed(CONFIG, images={"batch": 17}, clip={"batch": 11}, score={"block": 9})
    with compiled() as names:
        run(tmp_path, config, target, clip, source, concepts)
    stages = ("_activate", "_attend", "_views", "score_block", "score_sets")
    assert {name: names[f"jit({name})"] for name in stages} == dict.fromkeys(stages, 1)
    with compiled() as names:
        run(tmp_path, changed(config, score={"kappa": 2.0}), target, clip, source, concepts)
        run(tmp_path, config, target, clip, Album(29, seed=1), concepts)
    assert not {f"jit({name})" for name in stages} & set(names)


# Neurons and images that are out of the ordinary.


def test_some_empty_maps_are_counted_without_the_padding(tmp_path, clip):
    """A head that is flat for dark images; the last image, which fills its batch up, is dark."""

    def dim_head(params, maps):
        bright = maps.mean(axis=(1, 2, 3))[:, None]
        return jnp.where(bright > level, plain_target.head(params, maps), 0.0)

    source, preprocess = Album(20), plain_target.PREPROCESS
    params = plain_target.parameters()
    params["weight"] = np.abs(params["weight"])  # no other map is empty
    squashed = np.stack([preprocess.squash(source[i].image) for i in range(20)])
    maps = plain_target.patches(params, preprocess.normalise(squashed))
    brightness = np.asarray(maps).mean(axis=(1, 2, 3))
    level = float(brightness[-1]) + 1e-3
    target = plain_target.plain_target(params, apply=plain_target.network(head=dim_head))
    config = changed(CONFIG, target={"layer": "patches"}, images={"batch": 16})
    result, _ = run(tmp_path, config, target, clip, source)
    dark = brightness < level
    assert result.fallbacks == dark.sum()
    assert 0 < result.fallbacks < 20
    stored = artifact(tmp_path, result, "activate")
    np.testing.assert_array_equal(stored.read("fallback"), dark)
    np.testing.assert_array_equal(stored.read("centres")[dark], 0.5)


def test_nan_activations_are_an_error(tmp_path, clip):
    layer = "patches"

    def patches(params, pixels):
        broken = (pixels.mean(axis=(1, 2, 3)) < 0)[:, None, None, None]
        return jnp.where(broken, jnp.nan, plain_target.patches(params, pixels))

    target = plain_target.plain_target(apply=plain_target.network(patches), name="mine")
    config = changed(CONFIG, target={"layer": layer})
    message = f"^Layer '{layer}' of mine gives NaN or infinity: its weights or its preprocessing "
    with pytest.raises(InputError, match=message):
        run(tmp_path, config, target, clip, Album(30))
    assert not [*(tmp_path / "artifacts").glob("activate*")]


def test_dead_neurons_have_no_concepts(tmp_path, clip, album):
    params = plain_target.parameters()
    params["weight"][:, [1, 4]] = 0
    target = plain_target.plain_target(params, SIX)
    result, _ = run(tmp_path, CONFIG, target, clip, album)
    for unit, neuron in enumerate(result):
        dead = unit in (1, 4)
        assert (neuron.flags[:2] == ("dead", "no concept")) == dead
        assert (neuron.exemplars == ()) == dead
        assert not (dead and neuron.concepts)
    np.testing.assert_array_equal(result.metrics.values["hit"][[1, 4]], 0)


# What does not fit together.


class Bare(Album):
    has_boxes = has_labels = False


def bent(params, maps):
    """A head that is not linear."""
    return jax.nn.relu(plain_target.head(params, maps))


@pytest.mark.parametrize(
    ("parts", "changes", "source", "message"),
    [
        ({"ablation": {"views": ("centre", "box"), "kappas": (0.0,)}}, {}, Bare(12),
         "view is 'box', but album of 12, 0 has no boxes"),
        ({"crop": {"view": "box"}}, {}, Bare(12), "view is 'box', but album of 12, 0 has no boxes"),
        ({"crop": {"cam_class": "label"}}, {}, Bare(12), "'label', but album of 12, 0 has no la"),
        ({"crop": {"cam_class": "label"}}, {}, Album(12),
         "labelled 6, and target has classes 0 to 5: choose"),
        ({"vocabulary": {"template": "a" + " {concept}" * 30}}, {}, Album(12),
         "reads at most 24 tokens, but"),
        ({}, {"classes": (*SIX[:5], ())}, Album(12),
         "^Class 5 of target has no name: give names for each class"),
        ({"crop": {"cam": "cam"}}, {"apply": plain_target.network(head=bent)}, Album(12),
         r"^target: CAM needs logits that are one linear layer on"),
    ],
)  # fmt: skip
def test_errors(parts, changes, source, message, tmp_path, clip):
    target = plain_target.plain_target(**({"classes": SIX} | changes))
    with pytest.raises(InputError, match=message):
        run(tmp_path, changed(CONFIG, **parts), target, clip, source)
    # Said before hours of images, not after.
    assert not [*(tmp_path / "artifacts").glob("activate*")]


def test_each_method_shows_clip_its_own(tmp_path, plain, clip, album):
    """Input "method" shows WWW's CLIP whole images, and the paper's the view."""
    for view, input_ in (("centre", "image"), ("attention", "view")):
        crop = {"view": view, "field": 0.5}
        single = changed(CONFIG, crop=crop, clip={"input": input_})
        expected, _ = run(tmp_path, single, plain, clip, album)
        both = changed(CONFIG, crop=crop, clip={"input": "method"})
        found, computed = run(tmp_path, both, plain, clip, album)
        assert not computed
        assert found.neurons == expected.neurons
