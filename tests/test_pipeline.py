from collections import Counter
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import CLIPModel

from jaxdesc.attention import CAMS
from jaxdesc.config import AblationConfig, Config
from jaxdesc.errors import InputError
from jaxdesc.images.sources import open_source
from jaxdesc.models import encoder
from jaxdesc.models.clip import CLIP
from jaxdesc.models.encoder import Namer
from jaxdesc.models.taps import recorded
from jaxdesc.pipeline import describe
from jaxdesc.scenes import captions
from jaxdesc.scenes.world import CLASSES
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.store import Artifact, Place, Store
from jaxdesc.vocabulary.vocabulary import load_vocabulary
from tests import plain_target
from tests.album import Album
from tests.reference import pipeline as reference
from tests.scenes.quick import quick_clip, quick_networks, quick_target

IMAGES = 32
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return quick_networks(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def target(folder):
    return quick_target(folder)


@pytest.fixture(scope="module")
def clip(folder):
    return quick_clip(folder)


@pytest.fixture(scope="module")
def album():
    return Album(IMAGES)


@pytest.fixture(scope="module")
def towers(folder, clip):
    """CLIP as Hugging Face computes it, an image and a text at a time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so little work is slowed down by sharing it
    model = CLIPModel.from_pretrained(folder / "clip", local_files_only=True).eval()

    @torch.inference_mode()
    def image(pixels):
        return model.get_image_features(
            torch.from_numpy(pixels).permute(2, 0, 1)[None]
        ).pooler_output[0].numpy()  # fmt: skip

    @cache
    @torch.inference_mode()
    def text(words):
        tokens = clip.tokenizer(words, return_tensors="pt")
        return model.get_text_features(**tokens).pooler_output[0].numpy()

    yield {"image": image, "text": text, "clip_preprocess": clip.preprocess}
    torch.set_num_threads(threads)


def one_by_one(target, towers):
    """The oracle's networks; a head that is linear in the maps' mean is found by probing it."""

    @jax.jit
    def single(pixels):
        logits, values = recorded(target.apply, target.params, pixels[None], target.layers)
        values = {name: value[0] for name, value in values.items()}
        return values[target.attention_layer], values, logits[0]

    size = target.preprocess.size
    channels = single(np.zeros((size, size, 3), np.float32))[0].shape[-1]
    probes = np.vstack([np.zeros(channels), np.eye(channels)]).astype(np.float32)[:, None, None]
    bias, *columns = np.asarray(plain_target.logits_behind(target, jnp.asarray(probes)), np.float64)
    weight = np.array(columns).T - bias[:, None]
    return reference.Networks(single, weight, bias, target.preprocess, **towers)


@pytest.fixture(scope="module")
def networks_one_by_one(target, towers):
    return one_by_one(target, towers)


def run(tmp_path, config, target, clip, source, concepts=CONCEPTS, **more):
    """One pass; returns its result and the names of the stages that it computed."""
    inputs = Inputs(target, clip, source, load_vocabulary(concepts), clip, **more)
    result = describe(Run(config, inputs, Store(tmp_path / "artifacts"), quiet=True))
    return result, set(result.seconds)


def artifact(tmp_path, result, stage):
    return Artifact(Place(tmp_path / "artifacts" / result.fingerprints[stage]), {})


def check(result, wanted, source, config, concepts):
    """A result against the oracle's, up to float32."""
    assert result.fallbacks == wanted.fallbacks
    assert len(result) == len(wanted.exemplars)
    ambiguous = 0
    for neuron, exemplars, scores in zip(result, wanted.exemplars, wanted.scores, strict=True):
        assert [e.image for e in neuron.exemplars] == [source.identify(int(i)) for i in exemplars]
        values = wanted.activations[exemplars, neuron.unit]
        np.testing.assert_allclose(
            [e.activation for e in neuron.exemplars], values, rtol=1e-5, atol=1e-5
        )
        for exemplar, index in zip(neuron.exemplars, exemplars, strict=True):
            np.testing.assert_allclose(exemplar.box, wanted.boxes[index], rtol=1e-6)
        # Features in float32 leave cosines off by some 1e-7; scores differ by about 1e-2.
        slack = 1e-4 * np.abs(scores).max()
        threshold = config.score.alpha * scores.max()
        np.testing.assert_allclose(neuron.maximum, scores.max(), atol=slack)
        np.testing.assert_allclose(neuron.threshold, threshold, atol=slack)
        found = [(concepts.index(text), score) for text, score in neuron.concepts]
        np.testing.assert_allclose([s for _, s in found], scores[[j for j, _ in found]], atol=slack)
        assert [s for _, s in found] == sorted((s for _, s in found), reverse=True)
        margin = scores - max(threshold, 0)
        kept = {j for j, _ in found}
        assert set(np.flatnonzero(margin > slack)) <= kept <= set(np.flatnonzero(margin > -slack))
        ambiguous += np.sum(np.abs(margin) <= slack)
    assert ambiguous < 0.01 * wanted.scores.size
    for name, values in wanted.metrics.items():
        np.testing.assert_allclose(result.metrics.values[name], values, rtol=1e-5, err_msg=name)


# What the pipeline computes.


CASES = {
    "attention": {},
    "attention on the centre, cosine": {"crop": {"cam_input": "centre"}, "score": {"kappa": 0.0}},
    "attention of the label": {"crop": {"cam_class": "label", "field": 0.5}},
    "centre": {"crop": {"view": "centre"}, "clip": {"input": "image"}},
    "random": {"crop": {"view": "random", "seed": 3, "field": 0.6}},
    "full": {"crop": {"view": "full"}, "vocabulary": {"template": "a {concept}, seen"}},
    "layer2, largest": {"target": {"layer": "layer2", "pooling": "max"}, "crop": {"view": "box"}},
}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_oracle(case, tmp_path, target, clip, album, networks_one_by_one):
    config = changed(CONFIG, **CASES[case])
    names = CLASSES.values() if config.target.layer == "fc" else ()
    result, _ = run(tmp_path, config, target, clip, album)
    concepts = list(load_vocabulary(CONCEPTS).concepts)
    wanted = reference.describe(
        config, networks_one_by_one, album, concepts, [list(of_class) for of_class in names]
    )
    check(result, wanted, album, config, concepts)
    activations = artifact(tmp_path, result, "activate").read("activations")
    np.testing.assert_allclose(activations, wanted.activations, rtol=1e-5, atol=1e-5)
    # The case can tell the pipeline's parts apart: views differ, and so do neurons' concepts.
    assert len({neuron.concepts for neuron in result}) > 5
    assert (result.metrics is None) == (not names)


@pytest.mark.parametrize("cam", [name for name in CAMS if name != "grad_cam"])
def test_windows_lie_at_the_peaks_of_the_chosen_map(cam, tmp_path, plain, clip, album, towers):
    config = changed(CONFIG, crop={"cam": cam, "field": 0.4}, score={"exemplars": 1})
    result, _ = run(tmp_path, config, plain, clip, album, CONCEPTS[:5])
    boxes = artifact(tmp_path, result, "activate").read("boxes")
    networks = one_by_one(plain, towers)
    for index in range(len(album)):
        example = album[index]
        centre, found = reference.centre(config, networks, album, example, index)
        _, box = reference.cut(config, plain.preprocess, example.image, centre)
        np.testing.assert_allclose(boxes[index], box, rtol=1e-6, err_msg=f"{index}, {found}")


def test_scenes_too(tmp_path, clip, towers):
    """As configured from the command line, with labels and boxes of the scenes themselves."""
    source = open_source(f"scenes:count={IMAGES - 7}")
    config = changed(CONFIG, crop={"cam_class": "label"})
    target = plain_target.plain_target(plain_target.parameters(neurons=32), tuple(CLASSES.values()))
    result, _ = run(tmp_path, config, target, clip, source)
    concepts = list(load_vocabulary(CONCEPTS).concepts)
    names = [list(of_class) for of_class in CLASSES.values()]
    wanted = reference.describe(config, one_by_one(target, towers), source, concepts, names)
    check(result, wanted, source, config, concepts)
    assert 0 < result.fallbacks < len(source)


@pytest.fixture(scope="module")
def plain():
    return plain_target.plain_target(classes=SIX)


def test_batches_change_nothing(tmp_path, plain, clip, album):
    results = [
        run(
            tmp_path / str(batch),
            changed(CONFIG, images={"batch": batch}, score={"block": block}),
            plain, clip, album,
        )[0]
        for batch, block in ((32, 2048), (7, 16), (50, 1))
    ]  # fmt: skip
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert [(e.image, e.box) for e in one.exemplars] == [
                (e.image, e.box) for e in two.exemplars
            ]
            assert [text for text, _ in one.concepts] == [text for text, _ in two.concepts]
            np.testing.assert_allclose(
                [s for _, s in one.concepts], [s for _, s in two.concepts], atol=1e-6
            )
        assert other.fallbacks == results[0].fallbacks


# What it computes again.


SCORED = {"score", "certainty", "evaluate"}
EVERYTHING = {"activate", "select", "embed", "encode", "words"} | SCORED


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, plain, clip, album):
    """A working directory in which CONFIG has run; every test changes something else."""
    folder = tmp_path_factory.mktemp("done")
    assert run(folder, CONFIG, plain, clip, album)[1] == EVERYTHING
    return folder


def test_nothing_is_computed_twice(tmp_path, plain, clip, album):
    first, _ = run(tmp_path, CONFIG, plain, clip, album)
    # New objects, as in another process: only what they hold may count.
    again = plain_target.plain_target(classes=SIX)
    second, computed = run(tmp_path, CONFIG, again, replaced(clip), Album(IMAGES))
    assert computed == set()
    assert second.neurons == first.neurons
    assert second.fingerprints == first.fingerprints


UNNAMED = {"activate", "select", "embed", "score", "certainty"}
CHANGES = {
    "kappa": ({"score": {"kappa": 4.0}}, SCORED),
    "exemplars": ({"score": {"exemplars": 4}}, {"select", "embed"} | SCORED),
    "template": ({"vocabulary": {"template": "a {concept}"}}, {"encode"} | SCORED),
    "clip input": ({"clip": {"input": "image"}}, {"embed"} | SCORED),
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


def replaced(clip, kind=Namer, **changes):
    given = {field.name: getattr(clip, field.name) for field in fields(Namer)}
    return kind(**(given | changes))


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


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_weights_in_a_closure_count(wrap, tmp_path, clip, album):
    """A user's network may hold its weights in a closure, jitted or not."""
    source, found = Album(12), []
    config = changed(CONFIG, crop={"view": "centre"})
    for seed in (0, 1):
        held = {"mix": plain_target.parameters(seed=seed)["mix"]}
        target = plain_target.plain_target(
            apply=plain_target.network(
                wrap(lambda _, pixels, held=held: plain_target.patches(held, pixels))
            )
        )
        result, computed = run(tmp_path, config, target, clip, source)
        assert "activate" in computed
        found.append(result.neurons)
    assert found[0] != found[1]


# How often it computes.


class Counting(Namer):
    """Keeps the views that it encodes."""

    def encode_views(self, views):
        self.seen.append(views)
        return super().encode_views(views)


def test_clip_sees_each_exemplar_once(tmp_path, plain, clip, album):
    counting = replaced(clip, Counting)
    counting.__dict__["seen"] = []
    result, _ = run(tmp_path, CONFIG, plain, counting, album)
    exemplars = {e.image for neuron in result for e in neuron.exemplars}
    batch = CONFIG.clip.batch
    assert len(exemplars) < 6 * CONFIG.score.exemplars  # some are shared by neurons
    assert [len(views) for views in counting.seen] == [batch] * -(-len(exemplars) // batch)
    shown = [view.tobytes() for views in counting.seen for view in views]
    assert len(set(shown)) == len(exemplars)
    assert set(shown[len(exemplars) :]) <= {shown[len(exemplars) - 1]}  # padding
    stored = artifact(tmp_path, result, "embed").read("images").tolist()
    assert {album.identify(i) for i in stored} == exemplars
    assert stored == sorted(set(stored))


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
    stages = ("_activate", "_attend", "update", "_views", "_look")
    # Neurons and random sets are looked at alike, but there are not as many of both.
    expected = dict.fromkeys(stages, 1) | {"_look": 2}
    assert {name: names[f"jit({name})"] for name in stages} == expected
    with compiled() as names:
        run(tmp_path, changed(config, score={"kappa": 2.0}), target, clip, source, concepts)
        run(tmp_path, config, target, clip, Album(29, seed=1), concepts)
    assert not {f"jit({name})" for name in stages} & set(names)


def test_one_trace_a_stage_and_shape(tmp_path, clip, monkeypatch):
    """Over many batches, the padded last one of each included, and over two runs."""
    traced = Counter()

    def counted(name, function):
        def counting(*args):
            traced[name, *args[1].shape[:2]] += 1
            return function(*args)

        return counting

    for name in ("encode_images", "encode_texts"):
        monkeypatch.setattr(CLIP, name, counted(name, getattr(CLIP, name)))
    target = plain_target.plain_target(apply=counted("target", plain_target.apply))
    sources = [Album(23), Album(23, seed=1)]
    concepts = [" ".join(["word"] * (1 + i % 3)) + f" {i}" for i in range(40)]
    config = changed(CONFIG, images={"batch": 6}, clip={"batch": 5})
    fingerprints = target.fingerprint, target.layers, clip.fingerprint
    assert all(fingerprints)
    traced.clear()  # those look at one image, or one text, to name the artifacts
    for function in (encoder._views, encoder._texts):
        function.compiled.clear_cache()  # other tests may have had these shapes
    for source in sources:
        _, computed = run(tmp_path, config, target, clip, source, concepts)
        assert {"activate", "embed"} <= set(computed)
    passes, images, texts = (
        [n for (traced_name, *_), n in traced.items() if traced_name == name]
        for name in ("target", "encode_images", "encode_texts")
    )
    assert passes == [2]  # activations and Grad-CAM, each for one shape
    assert images == [1]
    assert texts
    assert set(texts) == {1}


# Neurons and images that are out of the ordinary.


@pytest.mark.parametrize("kind", ["no gradient", "NaN"])
def test_empty_attention_falls_back_to_the_centre(kind, tmp_path, clip):
    def head(params, maps):
        logits = plain_target.head(params, maps)
        return 0 * logits if kind == "no gradient" else logits * jnp.nan

    source = Album(22)
    target = plain_target.plain_target(apply=plain_target.network(head=head))
    config = changed(CONFIG, target={"layer": "patches"})
    result, _ = run(tmp_path, config, target, clip, source)
    assert result.fallbacks == len(source)
    assert artifact(tmp_path, result, "activate").read("fallback").all()
    centre, _ = run(tmp_path, changed(config, crop={"view": "centre"}), target, clip, source)
    assert centre.fallbacks == 0
    assert centre.neurons == result.neurons


def test_some_empty_maps_are_counted_without_the_padding(tmp_path, clip):
    """A head that is flat for dark images; the last image, which fills its batch up, is dark."""

    def dim_head(params, maps):
        bright = maps.mean(axis=(1, 2, 3))[:, None]
        return jnp.where(bright > level, plain_target.head(params, maps), 0.0)

    source, size = Album(20), plain_target.PREPROCESS.size
    params = plain_target.parameters()
    params["weight"] = np.abs(params["weight"])  # no other map is empty
    squashed = np.stack([plain_target.PREPROCESS.squash(source[i].image) for i in range(20)])
    assert squashed.shape == (20, size, size, 3)
    maps = plain_target.patches(params, plain_target.PREPROCESS.normalise(squashed))
    brightness = np.asarray(maps).mean(axis=(1, 2, 3))
    level = float(brightness[-1]) + 1e-3
    target = plain_target.plain_target(params, apply=plain_target.network(head=dim_head))
    config = changed(CONFIG, target={"layer": "patches"}, images={"batch": 16})
    result, _ = run(tmp_path, config, target, clip, source)
    dark = brightness < level
    assert 0 < dark.sum() < 20
    assert result.fallbacks == dark.sum()
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
        assert neuron.flags[:2] == (("dead", "no concept") if unit in (1, 4) else neuron.flags)
    for unit, neuron in enumerate(result):
        assert bool(neuron.concepts) == (unit not in (1, 4))
        if not neuron.concepts:
            assert neuron.exemplars == ()
            assert result.metrics.values["hit"][unit] == 0


def test_nothing_selected_is_a_result_too(tmp_path, plain, clip, album):
    result, _ = run(tmp_path, changed(CONFIG, score={"alpha": 1.0}), plain, clip, album)
    assert [neuron.concepts for neuron in result] == [()] * 6
    assert {neuron.flags for neuron in result} == {("no concept",)}
    assert result.metrics.estimates["hit"].mean == 0
    again, computed = run(tmp_path, changed(CONFIG, score={"alpha": 1.0}), plain, clip, album)
    assert again.neurons == result.neurons
    assert not computed


# What does not fit together.


class Bare(Album):
    has_boxes = has_labels = False


@pytest.mark.parametrize(
    ("parts", "source", "message"),
    [
        ({"ablation": {"views": ("centre", "box"), "kappas": (0.0,)}}, Bare(12),
         "view is 'box', but album of 12, 0 has no boxes"),
        ({"score": {"exemplars": 13}}, Album(12), r"^config.score.exemplars is 13, but album of "
         "12, 0 holds only 12 images: ask for at most as many"),
        ({"crop": {"view": "box"}}, Bare(12), "view is 'box', but album of 12, 0 has no boxes"),
        ({"crop": {"cam_class": "label"}}, Bare(12), "is 'label', but album of 12, 0 has no la"),
        ({"target": {"layer": "layer9"}}, Album(12), r"^Unknown layer 'layer9' of target: "
         "expected one of fc, patches"),
        ({"vocabulary": {"template": "a" + " {concept}" * 30}}, Album(12),
         "reads at most 24 tokens, but"),
    ],
)  # fmt: skip
def test_errors(parts, source, message, tmp_path, plain, clip):
    with pytest.raises(InputError, match=message):
        run(tmp_path, changed(CONFIG, **parts), plain, clip, source)
    # Said before hours of images, not after.
    assert not [*(tmp_path / "artifacts").glob("activate*")]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (SIX[:5], "mine has 6 logits, but names for 5 classes"),
        ((*SIX[:5], ()), "^Class 5 of mine has no name: give names for each class"),
    ],
)
def test_names_must_fit_the_neurons(classes, message, tmp_path, clip):
    target = plain_target.plain_target(classes=classes, name="mine")
    with pytest.raises(InputError, match=message):
        run(tmp_path, CONFIG, target, clip, Album(12))


def test_labels_must_be_classes(tmp_path, clip):
    """Album has 32 classes and the target six."""
    with pytest.raises(InputError, match="labelled 6, and target has classes 0 to 5: choose"):
        run(tmp_path, changed(CONFIG, crop={"cam_class": "label"}),
            plain_target.plain_target(), clip, Album(12))  # fmt: skip


def test_cam_needs_a_linear_head(tmp_path, clip):
    def head(params, maps):
        return jax.nn.relu(plain_target.head(params, maps))

    bent = plain_target.plain_target(apply=plain_target.network(head=head))
    config = changed(CONFIG, crop={"cam": "cam"})
    with pytest.raises(InputError, match=r"^target: CAM needs logits that are one linear layer on"):
        run(tmp_path, config, bent, clip, Album(12))
    assert not (tmp_path / "artifacts").exists()
    run(tmp_path, changed(config, crop={"view": "centre"}), bent, clip, Album(12))


# Tables of several runs.


def test_one_pass_cuts_every_view_of_an_ablation(tmp_path, plain, clip):
    """The main run's too; but not those of another probe set."""
    config = changed(CONFIG, crop={"view": "centre"}, images={"source": "own"})
    for probes, expected in ((("own",), 3), (("other",), 1)):
        options = AblationConfig(views=("attention", "full"), kappas=(0.0,), probes=probes)
        folder, source = tmp_path / probes[0], Album(12)
        run(folder, replace(config, ablation=options), plain, clip, source)
        activated = [path for path in (folder / "artifacts").iterdir() if "activate" in path.name]
        assert len(activated) == expected


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


def test_exemplars_tell_their_image_and_its_place(workdir, plain, clip, album):
    found, _ = run(workdir, CONFIG, plain, clip, album)
    exemplars = [exemplar for neuron in found for exemplar in neuron.exemplars]
    assert {album.identify(e.index) == e.image for e in exemplars} == {True}
    assert len({e.index for e in exemplars}) > 3


def test_memory_is_noted_for_what_was_computed(tmp_path, plain, clip, album):
    first, _ = run(tmp_path, CONFIG, plain, clip, album)
    assert set(first.memory) == set(first.seconds)
    assert min(first.memory.values()) > 2**20
    again, _ = run(tmp_path, CONFIG, plain, clip, album)
    assert again.memory == {}
