import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from jaxdesc import Preprocess, load_clip, load_target
from jaxdesc.errors import InputError
from jaxdesc.images.preprocess import PRESETS
from jaxdesc.models import encoder, texts
from jaxdesc.models.clip import CLIP
from jaxdesc.models.convert import convert

TEXTS = [
    "a cat",
    "star on night sky near nothing at all, some more",
    "moth",
    "a photo of a key",
    "A  CAT",
]


@pytest.fixture(scope="module")
def folder(networks):
    return networks.clip.parent


@pytest.fixture(scope="module")
def clip(folder):
    return load_clip(str(folder / "clip"))


def test_features_equal_full_padding(clip, rng):
    """Sorted by length, cut to it and batched on the way, each text has its own features."""
    words = ["cat", "red", "a", "photo", "of", "night", "sky", "key", "dog", "blue"]
    sentences = [" ".join(rng.choice(words, rng.integers(1, 12))) for _ in range(300)] + TEXTS
    # As Hugging Face pads: every text to the most tokens that the tower reads.
    ids = clip.tokenizer(sentences, padding="max_length", max_length=clip.length)["input_ids"]
    wanted = np.asarray(clip.reading(np.array(ids, np.int32), np.zeros(len(ids), np.int32)))
    distances = np.abs(wanted[-5:-1, None] - wanted[None, -5:-1]).max(axis=2)
    assert distances[~np.eye(4, dtype=bool)].min() > 1e-3
    found = clip.encode_texts(sentences)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    # Equal to the tokenizer, equal to the last bit.
    np.testing.assert_array_equal(found[-5], found[-1])


def test_few_traces(clip, monkeypatch):
    """One program for each shape, for any texts and however often they are encoded."""
    traces, encode_texts = [], CLIP.encode_texts
    monkeypatch.setattr(
        CLIP, "encode_texts", lambda *a: traces.append(a[1].shape) or encode_texts(*a)
    )
    encoder._texts.compiled("cpu").clear_cache()
    for sentences in (["a"], ["b", "c d"], ["a b c d e f g h"], ["a", "a b c d e f"], ["d"] * 500):
        clip.encode_texts(sentences)
    assert len(traces) == len(set(traces)) <= 3
    assert max(rows for rows, _ in traces) == texts.FEW_ROWS[0]


def test_the_fingerprint_is_what_it_holds(clip, folder):
    used = load_clip(str(folder / "clip"))
    used.encode_texts(["a", "a cat"])
    assert used.fingerprint == clip.fingerprint
    used.tokenizer(["a", "a cat"], padding=True, truncation=True, max_length=5)
    del used.__dict__["fingerprint"]
    assert used.fingerprint == clip.fingerprint
    used.tokenizer.add_tokens(["zebra"])
    del used.__dict__["fingerprint"]
    assert used.fingerprint != clip.fingerprint


def test_all_texts_that_are_too_long_are_counted(clip):
    long = [f"{word} " * 30 for word in ("cat", "star", "key", "moth")]
    with pytest.raises(
        InputError,
        match=r"clip reads at most \d+ tokens, but 4 of 6 texts have more: 'cat cat .*' with 32, "
        r"'star .*' with 32, 'key .*' with 32, …; shorten or remove them\.$",
    ):
        clip.encode_texts(["a cat", *long, "a dog"])


# Preprocessing and packagings.


def copied(folder, place, *without):
    shutil.copytree(folder / "clip", place, ignore=shutil.ignore_patterns(*without))
    return place


def test_a_preprocessing_that_is_assumed_is_told(folder, tmp_path):
    place = copied(folder, tmp_path / "clip", "preprocessor_config.json")
    clip, size = load_clip(place), load_clip(folder / "clip").preprocess.size
    assert clip.preprocess == replace(PRESETS["openai"], size=size)
    (note,) = clip.notes
    assert note.startswith(
        f"{place}/preprocessor_config.json does not give its preprocessing: openai's was assumed ("
    )
    assert "state it with --config.clip.preprocess=openai, in Python preprocess='openai'" in note
    stated = load_clip(place, preprocess="openai")
    assert (stated.preprocess, stated.notes) == (clip.preprocess, ())
    assert stated.fingerprint == clip.fingerprint
    stated = Preprocess(size, 0.5, "bilinear", (0.5,) * 3, (0.5,) * 3)
    assert load_clip(place, preprocess=stated).preprocess == stated
    with pytest.raises(InputError, match=r"makes images of 224 pixels, but .* image_size"):
        load_clip(place, preprocess=PRESETS["openai"])
    (place / "preprocessor_config.json").write_text(json.dumps({"size": size, "crop_size": size}))
    (note,) = load_clip(place).notes
    assert "its preprocessing's resample, image_mean, image_std: openai's was assumed" in note


def packaged(folder, place, *modules):
    """A folder of sentence-transformers."""
    copied(folder, place / "0_CLIPModel")
    listed = [
        {"idx": n, "name": str(n), "path": f"{n}_{kind}", "type": f"sentence_transformers.{kind}"}
        for n, kind in enumerate(("models.CLIPModel", *modules))
    ]
    listed[0]["path"] = "0_CLIPModel"
    (place / "modules.json").write_text(json.dumps(listed))
    return place


def test_the_clip_of_sentence_transformers(folder, tmp_path):
    clip = load_clip(packaged(folder, tmp_path / "st", "models.Normalize"))
    assert clip.fingerprint == load_clip(folder / "clip").fingerprint
    assert clip.name == str(tmp_path / "st")
    (note,) = clip.notes
    assert note == f"{tmp_path}/st was packaged by sentence-transformers: its 0_CLIPModel was read."
    done = convert(tmp_path / "st", tmp_path / "converted")
    assert (done.kind, done.name) == ("name encoder", str(tmp_path / "st"))
    assert load_clip(tmp_path / "converted").fingerprint == clip.fingerprint
    assert load_target(tmp_path / "st").fingerprint == load_target(folder / "clip").fingerprint
    with pytest.raises(InputError, match=r"modules.json lists Dense after its CLIP, which is not"):
        load_clip(packaged(folder, tmp_path / "dense", "models.Dense"))
