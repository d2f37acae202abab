"""WWW is the same pipeline with the centre view, κ = 0, CLIP's own preprocessing and duplicates."""

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

import jaxdesc as jd
from jaxdesc.config import ClipConfig, Config, ImagesConfig, ScoreConfig, VocabularyConfig
from jaxdesc.scenes import captions
from jaxdesc.scenes.world import render
from jaxdesc.scoring import discover
from jaxdesc.vocabulary.vocabulary import load_vocabulary
from tests import plain_target
from tests.reference import exemplars as exemplar_reference
from tests.reference import metrics, www

# No two scores in the tests below lie nearer to each other, or to a threshold, than rounding.
ROUNDING = 1e-6


def unit(features):
    return (features / np.linalg.norm(features, axis=-1, keepdims=True)).astype(np.float32)


def clear(scores, alpha):
    """True if float32 can tell each neuron's distinct scores apart, its threshold too."""
    for row in scores:
        told = np.unique([*row, alpha * max(row)])
        if np.diff(told).min() < ROUNDING * np.abs(told).max():
            return False
    return True


def problem(seed, neurons=6, n=5, distinct=23, entries=61, width=16):
    """Random features, and a vocabulary whose words repeat, also in another case."""
    rng = np.random.default_rng(seed)
    common = 0.7 * rng.normal(size=width)
    images = unit(common + rng.normal(size=(40, width)))
    of_word = {f"word {k}": unit(common + rng.normal(size=width)) for k in range(distinct)}
    words = rng.choice([*of_word, *(word.title() for word in of_word)], entries).tolist()
    base = unit(common + rng.normal(size=width))
    return images, rng.integers(0, 40, (neurons, n)), words, of_word, base


@pytest.mark.parametrize("seed", range(3))
def test_selection_on_random_features(seed):
    images, rows, words, of_word, base = problem(seed)
    concepts = load_vocabulary(words, compat="www").concepts
    assert concepts == tuple(words)
    features = np.stack([of_word[concept.lower()] for concept in concepts])
    for alpha, block in itertools.product((0.5, 0.8, 0.95), (4, 2048)):
        assert clear([www.scores(images[row], features, base) for row in rows], alpha)
        found = discover(images, rows, features, base, 0.0, alpha, block=block)
        selected = [[concept for concept, _ in found.of(i)] for i in range(len(rows))]
        assert selected == www.discover(images[rows], features, base, alpha)
        assert max(map(len, selected)) > 1  # a word and its copies


# From photos to concepts, against parts of other libraries.

NAMES = (("Cat", "feline"), ("moth",), ("star",), ("hut", "cabin"), ("none",), ("leaf", "Leaf"))
WORDS = [*captions.vocabulary()[::61], "cat", "Cat", "moth", "hut", "MOTH", "star", "Star", "cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos of several shapes, losslessly."""
    path = tmp_path_factory.mktemp("photos")
    for index in range(14):
        image = Image.fromarray(render("probe", 5, index).pixels)
        width, height = image.size
        shape = [(width, height), (width * 2, height + 7), (width - 21, height * 2)][index % 3]
        image.resize(shape).save(path / f"{index:02d}.png")
    return path


def centre(path, shorter, resampling, preprocess):
    """Torchvision's Resize, CenterCrop and Normalize, as WWW and OpenAI's CLIP call them.

    Of an odd margin torchvision leaves one pixel more on the left or above where half of it rounds
    so, to the even side; Hugging Face's processor always leaves the smaller half there.
    """
    size = preprocess.size
    image = Image.open(path).convert("RGB")
    width, height = image.size
    short, long = sorted((width, height))
    other = int(shorter * long / short)
    shape = (shorter, other) if width <= height else (other, shorter)
    image = image.resize(shape, resampling)
    left, top = (round((side - size) / 2) for side in shape)
    pixels = np.asarray(image.crop((left, top, left + size, top + size)), np.float64) / 255
    return ((pixels - preprocess.mean) / preprocess.std).astype(np.float32)


@torch.inference_mode()
def www_describe(folder, networks, params, exemplars, alpha):
    """WWW by slow parts: each neuron's selected concept indices, all scores, best images."""
    paths = sorted(folder.iterdir())
    bilinear, bicubic = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
    views = [centre(path, 37, bilinear, plain_target.PREPROCESS) for path in paths]
    maps = plain_target.patches(params, np.stack(views))
    best = exemplar_reference.exemplars(np.asarray(plain_target.head(params, maps)), exemplars)

    openai = jd.Preprocess(
        size=48, field=1.0, interpolation="bicubic",
        mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711),
    )  # fmt: skip
    model = CLIPModel.from_pretrained(networks.clip, local_files_only=True).eval()
    tokenizer = CLIPTokenizer.from_pretrained(networks.clip, local_files_only=True)

    @cache
    def image_feature(index):
        pixels = centre(paths[index], openai.size, bicubic, openai)
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        return model.get_image_features(tensor).pooler_output[0].double().numpy()

    @cache
    def text_feature(text):
        tokens = tokenizer(text, return_tensors="pt")
        return model.get_text_features(**tokens).pooler_output[0].double().numpy()

    features = [np.stack([image_feature(int(index)) for index in row]) for row in best]
    texts = np.stack([text_feature(f"A photo of a {word}") for word in WORDS])
    base = text_feature("A photo of a")
    scores = [www.scores(of_neuron, texts, base) for of_neuron in features]
    return [www.select(row, alpha) for row in scores], scores, best


def test_the_whole_of_www(folder, networks):
    params, alpha, n = plain_target.parameters(), 0.4, 4
    target = plain_target.plain_target(params, NAMES)
    clip = jd.load_clip(str(networks.clip))
    found = jd.describe(
        target, clip, images=f"folder:{folder}", concepts=WORDS, layer="fc", view="centre",
        kappa=0.0, alpha=alpha, exemplars=n, quiet=True,
        config=Config(
            clip=ClipConfig(input="image", batch=8),
            images=ImagesConfig(batch=8),
            vocabulary=VocabularyConfig(compat="www"),
            score=ScoreConfig(block=9),
        ),
    )  # fmt: skip
    assert target.preprocess.size / target.preprocess.field == pytest.approx(37, abs=0.5)
    selected, scores, best = www_describe(folder, networks, params, n, alpha)
    assert clear(scores, alpha)
    assert sum(len(chosen) > len({WORDS[k].lower() for k in chosen}) for chosen in selected) > 1
    for neuron, chosen, row, images in zip(found, selected, scores, best, strict=True):
        assert [exemplar.image for exemplar in neuron.exemplars] == [f"{i:02d}.png" for i in images]
        assert [text for text, _ in neuron.concepts] == [WORDS[k] for k in chosen]
        np.testing.assert_allclose(
            [score for _, score in neuron.concepts], [row[k] / n for k in chosen], atol=1e-6
        )
        concepts = [WORDS[k] for k in chosen]
        assert found.metrics.values["hit"][neuron.unit] == metrics.hit(concepts, NAMES[neuron.unit])
        f1 = metrics.f1(concepts, NAMES[neuron.unit])
        assert found.metrics.values["f1"][neuron.unit] == pytest.approx(f1)
