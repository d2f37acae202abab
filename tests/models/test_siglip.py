"""SigLIP and SigLIP 2 against transformers' PyTorch; every parameter is random."""

import json
import re
import string

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

import jaxdesc as jd
from jaxdesc.commands.inputs import open_clip
from jaxdesc.config import Config
from jaxdesc.models.checkpoint import abstract, assign
from jaxdesc.models.clip_config import SigLIPConfig
from jaxdesc.models.convert import convert
from jaxdesc.models.siglip import HUGGING_FACE_SIGLIP, JOINED, SigLIP, canonical
from jaxdesc.models.tensors import renamed
from tests.models.test_clip import encode
from tests.models.torch_checkpoints import channels_first, torch_model, unit
from tests.models.torch_namers import LENGTH, TOKENIZERS, byte_pairs, unigrams, write_siglip

TEXTS = ["a cat", "A photo of the red Star!", "night-sky", "a dog, of a  cat", "A CAT"]


def as_in_training(text, kind):
    """Canonical text, as transformers' SiglipTokenizer and Siglip2Tokenizer have it."""
    text = text.lower()
    if kind == "SigLIP":
        text = text.translate(str.maketrans("", "", string.punctuation))
        text = re.sub(r"\s+", " ", text).strip()
    return text


def padded(kind, texts, length=LENGTH):
    """Token ids of canonical texts, by a tokenizer that leaves them as they are."""
    plain = [as_in_training(text, kind) for text in texts]
    ids = TOKENIZERS[kind]()(plain, padding="max_length", max_length=length)["input_ids"]
    return torch.tensor(ids)


@pytest.fixture(scope="module", params=TOKENIZERS)
def both(request, tmp_path_factory):
    """A kind of SigLIP, ours from its folder, and transformers'."""
    folder = tmp_path_factory.mktemp("siglip")
    reference = write_siglip(folder, TOKENIZERS[request.param]())
    return request.param, jd.load_namer(folder), reference


def test_features_equal_torch(both, rng):
    kind, namer, reference = both
    pixels = rng.normal(size=(3, 24, 24, 3)).astype(np.float32)
    with torch.inference_mode():
        images = reference.get_image_features(channels_first(pixels)).pooler_output
        texts = reference.get_text_features(padded(kind, TEXTS)).pooler_output
        shorter = reference.get_text_features(padded(kind, TEXTS[:1], 8)).pooler_output
    np.testing.assert_allclose(namer.encode_images(pixels), unit(images), rtol=0, atol=1e-5)
    found = namer.encode_texts(TEXTS)
    np.testing.assert_allclose(found, unit(texts), rtol=0, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-2
    assert np.abs(found[0] - unit(shorter).numpy()).max() > 1e-2  # padding is read
    np.testing.assert_array_equal(found[0], found[4])


def test_logits_equal_torch(both, rng):
    kind, namer, reference = both
    pixels = rng.normal(size=(3, 24, 24, 3)).astype(np.float32)
    with torch.inference_mode():
        given = {"pixel_values": channels_first(pixels), "input_ids": padded(kind, TEXTS)}
        theirs = reference(**given).logits_per_image
    cosines = np.asarray(namer.encode_images(pixels)) @ namer.encode_texts(TEXTS).T
    logits = cosines * namer.logit_scale + namer.logit_bias
    np.testing.assert_allclose(logits, theirs, rtol=0, atol=1e-5 * np.exp(1))
    assert namer.logit_bias != 0


def test_texts_have_one_length(both):
    _, namer, _ = both
    assert {tokens for _, tokens in namer.text_batches(TEXTS * 20).shapes} == {LENGTH}


@pytest.mark.parametrize("given", ["unigrams", "canonical unigrams", "byte pairs"])
def test_texts_are_read_as_in_training(given):
    kind = "SigLIP 2" if given == "byte pairs" else "SigLIP"
    texts = [*TEXTS, "it's 'A' \t (b) #1", "..."]
    plain = TOKENIZERS[kind]()
    wanted = plain([as_in_training(text, kind) for text in texts])["input_ids"]
    tokenizer = byte_pairs() if kind == "SigLIP 2" else unigrams(given != "unigrams")
    assert canonical(tokenizer)(texts)["input_ids"] == wanted
    if given != "canonical unigrams":
        assert plain(texts)["input_ids"] != wanted


def test_case_stays_if_the_checkpoint_says_so(tmp_path):
    write_siglip(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_lower_case": False}))
    tokenizer = jd.load_namer(tmp_path).tokenizer
    assert tokenizer(["A cat."])["input_ids"] == unigrams()(["A cat"])["input_ids"]


def test_preprocessing_equals_transformers_on_squares(tmp_path, rng):
    write_siglip(tmp_path)
    namer = jd.load_namer(tmp_path)
    (note,) = namer.notes
    assert "squashes images to a square" in note
    image = rng.integers(0, 256, (50, 50, 3), dtype=np.uint8)
    processor = transformers.SiglipImageProcessorPil.from_pretrained(tmp_path)
    theirs = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    ours = namer.preprocess.normalise(namer.preprocess.cut(image, (0.5, 0.5))[0][None])[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    (tmp_path / "preprocessor_config.json").unlink()
    namer = jd.load_namer(tmp_path)
    assert namer.preprocess == jd.Preprocess(24, 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3)
    assert "siglip's was assumed" in namer.notes[0]


def test_a_converted_one_is_the_same(tmp_path):
    write_siglip(tmp_path / "siglip")
    done = convert(tmp_path / "siglip", tmp_path / "out")
    assert done.kind == "name encoder"
    before, after = (jd.load_namer(tmp_path / name) for name in ("siglip", "out"))
    assert before.fingerprint == after.fingerprint
    assert (before.logit_scale, before.logit_bias) == (after.logit_scale, after.logit_bias)


def test_a_whole_run(tmp_path):
    write_siglip(tmp_path)
    target, namer = jd.load_target("scenes"), jd.load_namer(tmp_path)
    concepts = ["cat", "dog", "night sky", "red star"]
    options = {"images": "scenes:count=12", "concepts": concepts, "layer": "layer4"}
    found = jd.describe(target, namer, **options, exemplars=4, view="centre", quiet=True)
    assert {concept for neuron in found for concept, _ in neuron.concepts} <= set(concepts)
    assert any(neuron.concepts for neuron in found)


def test_features_in_bfloat16_are_near(tmp_path, rng):
    write_siglip(tmp_path)
    pixels = rng.normal(size=(3, 24, 24, 3)).astype(np.float32)
    low, full = (jd.load_namer(tmp_path, precision=p) for p in ("bfloat16", "float32"))
    for a, b in (
        (low.encode_images(pixels), full.encode_images(pixels)),
        (low.encode_texts(TEXTS), full.encode_texts(TEXTS)),
    ):
        assert a.dtype == np.float32
        assert (np.asarray(a) * np.asarray(b)).sum(axis=1).min() > 0.99
        assert not np.array_equal(a, b)


def test_a_config_s_source_reaches_it(tmp_path):
    write_siglip(tmp_path)
    namer = open_clip(Config.from_dict({"clip": {"source": str(tmp_path)}}))
    assert (namer.name, namer.reads_padding) == (str(tmp_path), True)


FULL = {
    "siglip-base-patch16-224": {"vocab_size": 32000},
    "siglip2-base-patch16-224": {"vocab_size": 256000},
}


@pytest.mark.full
@pytest.mark.parametrize("name", FULL)
def test_full_size_features_equal_torch(name, rng):
    reference = torch_model("SiglipModel", {"text_config": FULL[name], "vision_config": {}})
    config = SigLIPConfig.from_huggingface(reference.config.to_dict())
    tensors = {name: tensor.numpy() for name, tensor in reference.state_dict().items()}
    shapes = abstract(SigLIP, config)
    model = assign(shapes, renamed(tensors, JOINED), HUGGING_FACE_SIGLIP, "memory")
    pixels = rng.normal(size=(2, 224, 224, 3)).astype(np.float32)
    ids = rng.integers(0, FULL[name]["vocab_size"], (2, 64))
    with torch.inference_mode():
        images = reference.get_image_features(channels_first(pixels)).pooler_output
        texts = reference.get_text_features(torch.from_numpy(ids)).pooler_output
    found = encode(model, jnp.asarray(pixels), jnp.asarray(ids))
    for ours, theirs in zip(found, (unit(images), unit(texts)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
        assert np.abs(theirs[0] - theirs[1]).max() > 1e-2
