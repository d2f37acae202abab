import json
import os
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, CLIPTokenizer

import jaxdesc as jd
from jaxdesc.scenes import attributes, captions, clip, target, vit
from jaxdesc.scenes.training import Schedule, cut, fit, render_split
from jaxdesc.scenes.world import CLASSES, HEIGHT, WIDTH, render
from tests.conftest import ROOT
from tests.parity import clip_errors, scene_views

ODD_TEXTS = ["", "Zürich 日本 🙂 \x00\x7f", "ÅÉ ﬁ", "a photo of a white cat near a post", "x" * 9]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Folder of a quick training, by the command as a user would, three networks at once.

    XLA compiles without optimising, which halves the time of a training that is all compilation.
    """
    workdir = tmp_path_factory.mktemp("quick")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()
    command = [sys.executable, "-m", "launch.train_scenes", f"--workdir={workdir}", "--quick"]
    trainings = [
        subprocess.Popen(
            [*command, f"--network={network}"],
            cwd=ROOT, env=os.environ | {"XLA_FLAGS": flags}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for network in ("target", "clip", "vit")
    ]  # fmt: skip
    for training in trainings:
        said, _ = training.communicate(timeout=600)
        assert training.returncode == 0, said
    return workdir / "quick"


@pytest.fixture(scope="module")
def tokenizer():
    return clip.build_tokenizer()


def test_the_tokenizer_knows_every_text_and_tells_captions_apart(tokenizer):
    vocabulary = tokenizer.get_vocab()
    for letter in ByteLevel.alphabet():
        assert {letter, f"{letter}</w>"} < set(vocabulary)
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert tokenizer.unk_token_id == tokenizer.eos_token_id  # so no text may hold the end token
    for ids in tokenizer(ODD_TEXTS)["input_ids"]:
        assert ids[0] == tokenizer.bos_token_id
        assert ids.index(tokenizer.eos_token_id) == len(ids) - 1
    every = tokenizer(captions.texts())["input_ids"]
    assert len({tuple(ids) for ids in every}) == len(every)
    assert max(map(len, every)) <= clip.CONTEXT_LENGTH
    assert tokenizer("A Photo of a CAT")["input_ids"] == tokenizer("a photo of a cat")["input_ids"]


@pytest.mark.full
def test_another_process_and_the_folder_have_the_same_tokens(quick, tokenizer):
    """A training that goes on in another process must read its captions by the same tokens."""
    texts = [*captions.texts()[::50], *ODD_TEXTS]
    expected = tokenizer(texts)["input_ids"]
    for kind in (CLIPTokenizer, AutoTokenizer):
        loaded = kind.from_pretrained(quick / "clip", local_files_only=True)
        assert loaded.get_vocab() == tokenizer.get_vocab()
        assert loaded(texts)["input_ids"] == expected
        assert loaded.model_max_length == clip.CONTEXT_LENGTH
        padded = loaded(["a cat", "a"], padding=True)["input_ids"]
        assert padded[1] == [*loaded("a")["input_ids"], loaded.pad_token_id]


# The losses.

contrastive_loss = jax.jit(jax.value_and_grad(clip._contrastive_loss, (0, 1, 2)))


def contrastive_oracle(images, texts, logit_scale, true):
    """CLIP's loss by its definition, a softmax at a time, without what is true by chance."""
    scale = min(np.exp(np.float64(logit_scale)), 100.0)
    count, total = len(images), 0.0
    for i in range(count):
        for rows, columns in (([i] * count, range(count)), (range(count), [i] * count)):
            logits = [
                scale * np.dot(images[r], texts[c])
                for r, c in zip(rows, columns, strict=True)
                if (r == i and c == i) or not true[r, c]
            ]
            label = scale * np.dot(images[i], texts[i])
            total += np.log(np.sum(np.exp(np.array(logits) - label)))
    return total / (2 * count)


def features(rng, count):
    vectors = rng.normal(size=(count, 6))
    return np.float32(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.mark.parametrize(("logit_scale", "chance"), [(0.0, 0.0), (2.6592, 0.4), (7.0, 1.0)])
def test_contrastive_loss_equals_the_definition(rng, chance, logit_scale):
    given = features(rng, 7), features(rng, 7), np.float32(logit_scale)
    true = rng.random((7, 7)) < chance
    loss, slopes = contrastive_loss(*given, true)
    np.testing.assert_allclose(loss, contrastive_oracle(*given, true), rtol=1e-5, atol=1e-6)
    for slope in slopes:  # finite, and 0 where all else is true
        assert np.isfinite(slope).all()
        assert np.any(slope) == (chance < 1)


def cross_entropy(row, label):
    return np.log(np.exp(row).sum()) - row[label]


@pytest.mark.full
def test_clip_s_loss_equals_its_definition(rng):
    """Class + 0.3 colour of visible objects, 0.2 background; captions after the warm-up."""
    logits = [rng.normal(size=(5, count)) for count in (32, 8, 6)]
    kind, colour, background = np.array([3, -1, 0, 31, -1]), np.arange(5), np.array([0, 5, 1, 2, 3])
    shown = [i for i in range(5) if kind[i] >= 0]
    of_object = [
        cross_entropy(logits[0][i], kind[i]) + 0.3 * cross_entropy(logits[1][i], colour[i])
        for i in shown
    ]
    of_place = [cross_entropy(logits[2][i], background[i]) for i in range(5)]
    supervised = np.mean(of_object) + 0.2 * np.mean(of_place)

    images, texts, true = features(rng, 5), features(rng, 5), rng.random((5, 5)) < 0.4
    towers = SimpleNamespace(
        vision=SimpleNamespace(pooled=lambda pixels: jnp.asarray(3 * images)),
        visual_projection=jnp.asarray,
        encode_texts=lambda tokens: jnp.asarray(texts),
        logit_scale={...: jnp.float32(1.5)},
    )
    heads = [partial(lambda values, _: jnp.float32(values), values) for values in logits]
    batch = {"kind": kind, "colour": colour, "background": background}
    batch |= {"pixels": np.zeros((5, 4, 4, 3), np.uint8), "tokens": None, "true": true}
    batch = jax.tree.map(jnp.asarray, batch)
    contrastive = contrastive_oracle(images, texts, 1.5, true)
    for progress, expected in (
        (0.99 * clip.WARM_UP, supervised),
        (clip.WARM_UP, supervised + contrastive),
    ):
        model = SimpleNamespace(clip=towers, heads=heads)
        loss, metrics = clip._loss(model, batch, jnp.float32(progress))
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        right = [logits[0][i].argmax() == kind[i] for i in shown]
        assert metrics["class"] == pytest.approx(np.mean(right))


# The batches.


def test_attributes_are_learnt_from_whole_scenes_and_from_windows():
    scenes = [render("train", 0, index) for index in range(64)]
    batch = attributes._batch(scenes, np.random.default_rng(0))
    whole = [cut(s, target.WHOLE, target.SIZE, Image.Resampling.BILINEAR) for s in scenes]
    seen = (batch["pixels"] == np.stack(whole)).all(axis=(1, 2, 3))
    assert 0.3 < seen.mean() < 0.7
    lost = np.stack([attributes.present(scene) for scene in scenes]) ^ batch["present"]
    assert not (lost & batch["present"]).any()
    assert set(attributes.KINDS[lost.any(axis=0)]) == {"context"}  # which a window leaves out
    assert not lost[seen].any()


def test_the_transformer_learns_from_windows_before_whole_scenes():
    scenes = [render("train", 0, index) for index in range(48)]
    for reach, size in ((0.0, vit.SIZE // 2), (0.5, 64), (1.0, vit.SIZE)):
        batch = vit._batch(scenes, reach, np.random.default_rng(0))
        assert batch["pixels"].shape == (48, size, size, 3)
        assert batch["classes"].tolist() == [scene.kind for scene in scenes]
    for scene in scenes:
        rng = np.random.default_rng(scene.kind)
        assert vit._window(scene, 0.0, rng) == scene.box
        x0, y0, x1, y1 = vit._window(scene, 0.5, rng)
        left, top, right, bottom = scene.box
        assert left / 2 <= x0 <= left
        assert top / 2 <= y0 <= top
        assert right <= x1 <= (right + WIDTH) / 2
        assert bottom <= y1 <= (bottom + HEIGHT) / 2


def test_batches_hold_true_captions(tokenizer):
    scenes = render_split("train", 32)
    tokens = tokenizer(captions.texts(), padding=True, return_tensors="np")["input_ids"]
    batch = clip._batch(scenes, 1.0, True, tokens, np.random.default_rng(0))
    assert batch["pixels"].shape == (32, clip.SIZE, clip.SIZE, 3)
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
        x0, y0, x1, y1 = scene.box
        for reach, strays in ((0.0, False), (1.0, False), (1.0, True)):
            top, left, side = clip._window(scene, reach, strays, rng)
            assert min(top, left) >= 0
            assert (top + side <= HEIGHT, left + side <= WIDTH) == (True, True)
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
    seen, model = [], Small()

    def batch_of(step):
        if step == stop:
            raise StoppedError
        seen.append(step)
        x = np.random.default_rng(step).normal(size=(8, 3)).astype(np.float32)
        return {"x": x, "y": x.sum(axis=1)}

    schedule = Schedule(steps=6, batch=8, learning_rate=0.1, save_every=3)
    fit(model, squared_error, batch_of, schedule, directory)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model))], seen


@pytest.mark.full
def test_a_stopped_training_ends_where_it_would_have(tmp_path, capsys):
    whole, _ = train_small(tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_small(tmp_path / "parts", stop=4)  # one step after the checkpoint
    parts, seen = train_small(tmp_path / "parts")
    assert "resumed from step 3" in capsys.readouterr().out
    assert min(seen) == 3
    for start, resumed, value in zip(
        jax.tree.leaves(nnx.state(Small())), parts, whole, strict=True
    ):
        np.testing.assert_array_equal(resumed, value)
        assert not np.array_equal(start, value)


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
    pixels = cut(scene, (10, 20, 58, 68), 48, Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pixels, scene.pixels[20:68, 10:58])


@pytest.mark.full
def test_a_training_leaves_its_record_and_folders_in_their_formats(quick):
    for name, network in (("target", target), ("clip", clip), ("vit", vit)):
        record = json.loads((quick / name / "training.json").read_text())
        assert record["samples"] == network.QUICK.steps * network.QUICK.batch
        assert 0 <= record["accuracy"] <= 1
        assert record["device"] == "cpu"
    found = jd.load_target(str(quick / "target"))
    assert found.classes == tuple(CLASSES.values())
    assert found.preprocess == target.PREPROCESS
    assert found.shapes["layer4"] == (4, 4, 128)
    assert np.ptp(found.logits(found.preprocess.normalise(scene_views(112))), axis=0).max() > 1e-3
    assert jd.load_target(str(quick / "vit")).preprocess == vit.PREPROCESS
    assert jd.load_clip(str(quick / "clip")).preprocess == clip.PREPROCESS
    images, texts = clip_errors(quick / "clip", scene_views(clip.SIZE))
    assert max(images, texts) < 1e-5
