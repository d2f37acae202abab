import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel, CLIPTokenizer

from jaxdesc.models.clip_config import CLIPConfig
from jaxdesc.models.resnet import ResNet, ResNetConfig
from jaxdesc.scenes import attributes, captions, clip, target
from jaxdesc.scenes.training import Schedule, cut, fit, render_split
from jaxdesc.scenes.world import CLASSES, HEIGHT, WIDTH, render
from tests.scenes.quick import quick_clip, quick_target

ODD_TEXTS = ["", "Zürich 日本 🙂 \x00\x7f", "ÅÉ ﬁ", "a photo of a white cat near a post", "x" * 9]


@pytest.fixture(scope="module")
def tokenizer():
    return clip.build_tokenizer()


# The tokenizer.


def test_the_tokenizer_is_always_the_same(tokenizer):
    """A training that goes on in another process must read its captions by the same tokens."""
    assert clip.build_tokenizer().get_vocab() == tokenizer.get_vocab()


def test_every_byte_is_known(tokenizer):
    vocabulary = tokenizer.get_vocab()
    for letter in ByteLevel.alphabet():
        assert {letter, f"{letter}</w>"} < set(vocabulary)
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))


@given(st.text(max_size=30))
@settings(deadline=None, max_examples=150)
def test_no_text_is_unknown(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id
    # The end token is the unknown one, too.
    inner = [] if "<|" in text else ids[1:-1]
    assert tokenizer.unk_token_id == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in inner


def test_different_texts_have_different_tokens(tokenizer):
    every = tokenizer(captions.texts())["input_ids"]
    assert len({tuple(ids) for ids in every}) == len(every)
    assert max(map(len, every)) <= clip.CONTEXT_LENGTH
    assert tokenizer("A Photo of a CAT")["input_ids"] == tokenizer("a photo of a cat")["input_ids"]


def test_the_folder_gives_the_same_tokens(quick, tokenizer):
    texts = [*captions.texts()[::50], *ODD_TEXTS]
    expected = tokenizer(texts)["input_ids"]
    for kind in (CLIPTokenizer, AutoTokenizer):
        loaded = kind.from_pretrained(quick / "clip", local_files_only=True)
        assert loaded(texts)["input_ids"] == expected
        assert loaded.model_max_length == clip.CONTEXT_LENGTH
        padded = loaded(["a cat", "a"], padding=True)["input_ids"]
        assert padded[0] == loaded("a cat")["input_ids"]
        assert padded[1] == [*loaded("a")["input_ids"], loaded.pad_token_id]


# The contrastive loss.

contrastive_loss = jax.jit(clip._contrastive_loss)


def contrastive_oracle(images, texts, logit_scale, true):
    """CLIP's loss by its definition, a softmax at a time, without what is true by chance."""
    scale = min(np.exp(np.float64(logit_scale)), 100.0)
    count, total = len(images), 0.0
    for i in range(count):
        for rows, columns in (([i] * count, range(count)), (range(count), [i] * count)):
            own = scale * np.dot(images[i], texts[i])
            others = [
                scale * np.dot(images[r], texts[c])
                for r, c in zip(rows, columns, strict=True)
                if (r == i and c == i) or not true[r, c]
            ]
            total += np.log(np.sum(np.exp(np.array(others) - own)))
    return total / (2 * count)


def features(rng, count):
    vectors = rng.normal(size=(count, 6))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("logit_scale", [0.0, 2.6592, 7.0])
@pytest.mark.parametrize("chance", [0.0, 0.4, 1.0])
def test_contrastive_loss_equals_the_definition(rng, chance, logit_scale):
    images, texts = features(rng, 7), features(rng, 7)
    true = rng.random((7, 7)) < chance
    expected = contrastive_oracle(images, texts, logit_scale, true)
    loss = contrastive_loss(*(np.float32(a) for a in (images, texts, logit_scale)), true)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


def test_contrastive_gradient_is_finite_where_all_else_is_true(rng):
    images, texts = (np.float32(features(rng, 4)) for _ in range(2))
    slopes = jax.jit(jax.grad(contrastive_loss, (0, 1, 2)))(
        images, texts, np.float32(1), np.ones((4, 4), bool)
    )
    for slope in slopes:
        np.testing.assert_array_equal(slope, np.zeros_like(slope))


# Each network's loss falls on a batch that it sees again and again.


def descent(model, loss, batch):
    """A function that trains on one batch from the model's weights, at a given progress.

    It returns the loss and its parts before each step, and the first gradient.
    """
    graph, start, rest = nnx.split(model, nnx.Param, ...)
    batch = jax.tree.map(jnp.asarray, batch)
    optimiser = optax.adam(1e-3)

    def value(params, progress):
        own = jax.tree.map(jnp.asarray, rest)  # BatchNorm writes into it
        total, metrics = loss(nnx.merge(graph, params, own), batch, progress)
        return total, {"loss": total, **metrics}

    # Compiled without optimising: nearly all the time goes into compiling.
    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def step(params, state, progress):
        (_, metrics), slope = jax.value_and_grad(value, has_aux=True)(params, progress)
        updates, state = optimiser.update(slope, state)
        return optax.apply_updates(params, updates), state, metrics, slope

    def descend(progress, steps=12):
        params, state, parts, gradients = start, optimiser.init(start), [], []
        for _ in range(steps):
            params, state, metrics, slope = step(params, state, jnp.float32(progress))
            parts.append({name: float(number) for name, number in metrics.items()})
            gradients.append(slope)
        return parts, nnx.to_pure_dict(gradients[0])

    return descend


def test_the_targets_loss_falls():
    rng = np.random.default_rng(0)
    scenes = [render("train", 0, index) for index in range(8)]
    batch = {
        "pixels": np.stack(
            [
                cut(scene, target.window(scene, rng), target.SIZE, Image.Resampling.BILINEAR)
                for scene in scenes
            ]
        ),
        "classes": np.array([scene.kind for scene in scenes]),
    }
    model = ResNet(ResNetConfig.from_timm(target.CONFIG), rngs=nnx.Rngs(0))
    model.train()
    parts, _ = descent(model, target._loss, batch)(0)
    assert parts[-1]["loss"] < 0.3 * parts[0]["loss"]
    assert parts[-1]["accuracy"] == 1


def test_the_attributes_loss_equals_its_definition(rng):
    logits, present = rng.normal(size=(3, 60)), rng.random((3, 60)) < 0.3
    chances = 1 / (1 + np.exp(-logits))
    expected = -np.log(np.where(present, chances, 1 - chances)).mean()
    pixels = np.zeros((3, 4, 4, 3), np.uint8)
    batch = {"pixels": pixels, "present": jnp.asarray(present)}
    loss, metrics = attributes._loss(lambda _: jnp.float32(logits), batch, jnp.float32(0))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert metrics["right"] == pytest.approx(np.mean((logits > 0) == present))


def test_every_logit_has_the_names_of_its_attribute():
    """What is present is what the phrases say that is true, read by each logit's names."""
    assert len(attributes.NAMES) == len(attributes.KINDS) == 60
    assert len({name for names in attributes.NAMES for name in names}) == 32 + 60
    places = {text: index for index, text in enumerate(captions.vocabulary())}
    scenes = [render("train", 0, index) for index in range(64)]
    whole = captions.seen_through(scenes, np.tile([0, 0, WIDTH], (len(scenes), 1)))[0]
    squares = [[0, 8 * (index % 5), HEIGHT] for index in range(len(scenes))]
    for visible, windows in (
        (whole, [target.WHOLE] * len(scenes)),
        (
            captions.seen_through(scenes, np.array(squares))[0],
            [(x, 0, x + s, s) for _, x, s in squares],
        ),
    ):
        true = captions.truth(visible)
        shows = visible.kind >= 0  # a window that the attributes are told of holds the object
        for logit, names in enumerate(attributes.NAMES):
            present = [
                attributes.present(*pair)[logit] for pair in zip(scenes, windows, strict=True)
            ]
            plain = names == ("plain",)
            expected = visible.pattern == 0 if plain else true[:, places[names[-1]]]
            np.testing.assert_array_equal(np.array(present)[shows], expected[shows])


def test_attributes_are_learnt_from_whole_scenes_and_from_windows():
    scenes = [render("train", 0, index) for index in range(64)]
    batch = attributes._batch(scenes, np.random.default_rng(0))
    whole = [cut(s, target.WHOLE, target.SIZE, Image.Resampling.BILINEAR) for s in scenes]
    seen = (batch["pixels"] == np.stack(whole)).all(axis=(1, 2, 3))
    assert 0.3 < seen.mean() < 0.7
    of_whole = np.stack([attributes.present(scene) for scene in scenes])
    np.testing.assert_array_equal(batch["present"][seen], of_whole[seen])
    fewer = (batch["present"] != of_whole)[:, attributes.KINDS == "context"]
    assert fewer[~seen].any()  # a window leaves context out
    assert not (batch["present"] & ~of_whole).any()


@pytest.fixture(scope="module")
def clip_batch(tokenizer):
    scenes = [render("train", 0, index) for index in range(8)]
    tokens = tokenizer(captions.texts(), padding=True, return_tensors="np")["input_ids"]
    return clip._batch(scenes, 1.0, True, tokens, np.random.default_rng(0))


def moves(gradient):
    return any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_clips_losses_fall_in_both_phases(tokenizer, clip_batch):
    """Before the end of the warm-up the heads alone are trained, and no word of a caption."""
    config = CLIPConfig.from_huggingface(clip.config(tokenizer))
    model = clip.SupervisedCLIP(config, nnx.Rngs(0))
    descend = descent(model, clip._loss, clip_batch)
    warming, of_heads = descend(0.99 * clip.WARM_UP)
    assert warming[-1]["loss"] < 0.6 * warming[0]["loss"]
    assert moves(of_heads["heads"])
    assert not moves(of_heads["clip"]["text"])
    parts, of_all = descend(clip.WARM_UP)
    assert parts[0]["loss"] == pytest.approx(warming[0]["loss"] + parts[0]["contrastive"])
    assert parts[-1]["contrastive"] < 0.6 * parts[0]["contrastive"]
    assert moves(of_all["heads"])
    assert moves(of_all["clip"]["text"])


def test_the_heads_loss_equals_its_definition(rng):
    """Class + 0.3 colour where an object shows, and 0.2 background everywhere."""
    logits = [rng.normal(size=(5, count)) for count in (32, 8, 6)]
    kind, colour, background = np.array([3, -1, 0, 31, -1]), np.arange(5), np.array([0, 5, 1, 2, 3])

    def cross_entropy(row, label):
        return np.log(np.exp(row).sum()) - row[label]

    of_object = [
        cross_entropy(logits[0][i], kind[i]) + 0.3 * cross_entropy(logits[1][i], colour[i])
        for i in range(5)
        if kind[i] >= 0
    ]
    of_place = [cross_entropy(logits[2][i], background[i]) for i in range(5)]
    expected = np.mean(of_object) + 0.2 * np.mean(of_place)
    heads = [partial(lambda values, _: jnp.float32(values), values) for values in logits]
    batch = {"kind": kind, "colour": colour, "background": background}
    loss, accuracy = clip._heads_loss(heads, jnp.zeros(()), batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    right = [logits[0][i].argmax() == kind[i] for i in range(5) if kind[i] >= 0]
    assert accuracy == pytest.approx(np.mean(right))


def test_batches_hold_true_captions():
    scenes, tokenizer = render_split("train", 32), clip.build_tokenizer()
    tokens = tokenizer(captions.texts(), padding=True, return_tensors="np")["input_ids"]
    batch = clip._batch(scenes, 1.0, True, tokens, np.random.default_rng(0))
    assert batch["pixels"].shape == (32, clip.SIZE, clip.SIZE, 3)
    assert batch["pixels"].dtype == np.uint8
    assert np.diag(batch["true"]).all()
    assert not batch["true"].all()
    said = [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in batch["tokens"]]
    assert set(said) <= set(captions.texts())
    # Row i is a window and column j a caption: one that names a class is true of that class alone.
    for text, windows in zip(said, batch["true"].T, strict=True):
        named = [k for k, names in enumerate(CLASSES.values()) if set(names) & set(text.split())]
        assert not named or set(batch["kind"][windows]) <= set(named)


def test_windows_hold_the_object_unless_they_stray():
    rng, held = np.random.default_rng(0), []
    for index in range(200):
        scene = render("train", 0, index % 40)
        for reach, strays in ((0.0, False), (1.0, False), (1.0, True)):
            top, left, side = clip._window(scene, reach, strays, rng)
            assert min(top, left) >= 0
            assert top + side <= 96
            assert left + side <= 128
            x0, y0, x1, y1 = scene.box
            inside = left <= x0 and top <= y0 and x1 <= left + side and y1 <= top + side
            assert inside or strays
            held.append(inside)
    assert np.mean(held) < 1


# Training and going on with it.


class Small(nnx.Module):
    """A network with parameters and running statistics, as the real ones have."""

    def __init__(self):
        self.first = nnx.Linear(3, 5, rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(5, rngs=nnx.Rngs(1))
        self.last = nnx.Linear(5, 1, rngs=nnx.Rngs(2))

    def __call__(self, x):
        return self.last(jax.nn.relu(self.norm(self.first(x))))


def squared_error(model, batch, progress):
    error = jnp.mean((model(batch["x"])[:, 0] - batch["y"]) ** 2)
    return error * (1 + progress), {"error": error}


class StoppedError(Exception):
    pass


def train_small(directory, stop=None):
    """Train 6 steps, saving every 3; `stop` at a step as a killed process would."""
    seen = []

    def batch_of(step):
        if step == stop:
            raise StoppedError
        seen.append(step)
        rng = np.random.default_rng(step)
        x = rng.normal(size=(8, 3)).astype(np.float32)
        return {"x": x, "y": x.sum(axis=1)}

    model = Small()
    schedule = Schedule(steps=6, batch=8, learning_rate=0.1, save_every=3)
    try:
        fit(model, squared_error, batch_of, schedule, directory)
    except StoppedError:
        return None, seen
    return nnx.to_pure_dict(nnx.state(model)), seen


def test_a_stopped_training_ends_where_it_would_have(tmp_path, capsys):
    whole, _ = train_small(tmp_path / "whole")
    nothing, _ = train_small(tmp_path / "parts", stop=4)  # one step after the checkpoint
    assert nothing is None
    parts, seen = train_small(tmp_path / "parts")
    assert "resumed from step 3" in capsys.readouterr().out
    assert min(seen) == 3
    for path, value in jax.tree_util.tree_leaves_with_path(parts):
        before = jax.tree_util.tree_leaves_with_path(whole)
        np.testing.assert_array_equal(value, dict(before)[path])
    start = jax.tree.leaves(nnx.to_pure_dict(nnx.state(Small())))
    assert any(not np.array_equal(a, b) for a, b in zip(start, jax.tree.leaves(whole), strict=True))


def test_matrices_alone_decay():
    optimiser = Schedule(steps=10, batch=1, weight_decay=0.5).optimiser()
    params = {"matrix": jnp.ones((2, 2)), "vector": jnp.ones(2)}
    state, update = optimiser.init(params), jax.jit(optimiser.update)
    for _ in range(2):  # the rate starts at zero
        updates, state = update(jax.tree.map(np.zeros_like, params), state, params)
    assert (np.asarray(updates["matrix"]) < 0).all()
    np.testing.assert_array_equal(updates["vector"], np.zeros(2))


def test_cut_takes_left_top_right_bottom():
    scene = render("train", 0, 0)
    window = (10, 20, 58, 68)
    pixels = cut(scene, window, 48, Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pixels, scene.pixels[20:68, 10:58])


# The folders that a training leaves.


def test_quick_training_writes_its_record(quick):
    for name, network in (("target", target), ("clip", clip)):
        record = json.loads((quick / name / "training.json").read_text())
        assert record["samples"] == network.QUICK.steps * network.QUICK.batch
        assert 0 <= record["accuracy"] <= 1
        assert record["device"] == "cpu"


def test_the_target_folder(quick):
    found = quick_target(quick)
    assert found.classes == tuple(CLASSES.values())
    assert (found.preprocess.size, found.preprocess.field) == (target.SIZE, 0.875)
    scenes = [Image.fromarray(render("probe", 0, i).pixels) for i in range(12)]
    pixels = found.preprocess.normalise(np.stack([found.preprocess.squash(s) for s in scenes]))
    assert found.shapes["layer4"] == (4, 4, 128)
    logits = found.logits(pixels)
    assert logits.shape == (12, 32)
    assert np.abs(logits[0] - logits[1]).max() > 1e-3


def test_the_clip_folder_is_hugging_faces(quick):
    found = quick_clip(quick)
    reference = CLIPModel.from_pretrained(quick / "clip", local_files_only=True).eval()
    processor = AutoImageProcessor.from_pretrained(quick / "clip", local_files_only=True)
    scenes = [Image.fromarray(render("probe", 0, i).pixels) for i in range(3)]
    texts = ["a photo of a", "a photo of a red dotted goldfish", "ﬁre 日本"]
    tokens = found.tokenizer(texts, padding=True, return_tensors="pt")
    given = processor(scenes, return_tensors="pt")
    with torch.inference_mode():
        images = reference.get_image_features(**given).pooler_output.numpy()
        words = reference.get_text_features(**tokens).pooler_output.numpy()
    views = np.stack([found.preprocess.cut(image, (0.5, 0.5))[0] for image in scenes])
    normalised = found.preprocess.normalise(views)
    np.testing.assert_allclose(
        normalised, given["pixel_values"].permute(0, 2, 3, 1).numpy(), atol=1e-5
    )
    for ours, theirs in (
        (found.encode_views(views), images),
        (found.encode_texts(texts), words),
    ):
        unit = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
        np.testing.assert_allclose(ours, unit, atol=1e-5)
        assert np.abs(unit[0] - unit[1]).max() > 1e-2
