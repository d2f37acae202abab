"""The pipeline's results against the oracle's, which takes one image and one text at a time."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import CLIPModel

import jaxdesc as jd
from jaxdesc.attention import CAMS
from jaxdesc.models.taps import recorded
from jaxdesc.scenes.world import CLASSES
from jaxdesc.stages.activate import activate
from jaxdesc.vocabulary.vocabulary import load_vocabulary
from tests import plain_target
from tests.album import Album
from tests.reference import pipeline as reference
from tests.runs import CONCEPTS, CONFIG, IMAGES, SIX, artifact, begin, changed, run


@pytest.fixture(scope="module")
def album():
    return Album(IMAGES)


@pytest.fixture(scope="module")
def towers(networks, clip):
    """CLIP as Hugging Face computes it, an image and a text at a time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so little work is slowed down by sharing it
    model = CLIPModel.from_pretrained(networks.clip, local_files_only=True).eval()

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
def target(networks):
    return jd.load_target(str(networks.target))


@pytest.fixture(scope="module")
def networks_one_by_one(target, towers):
    return one_by_one(target, towers)


def check(result, wanted, source, config, concepts):
    """A result against the oracle's, up to float32."""
    assert result.fallbacks == wanted.fallbacks
    assert len(result) == len(wanted.exemplars)
    ambiguous = 0
    for neuron, exemplars, scores in zip(result, wanted.exemplars, wanted.scores, strict=True):
        assert [e.image for e in neuron.exemplars] == [source.identify(int(i)) for i in exemplars]
        assert [e.index for e in neuron.exemplars] == list(exemplars)
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


CASES = {
    "attention": {"images": {"batch": 50}},
    "attention on the centre, cosine": {"crop": {"cam_input": "centre"}, "score": {"kappa": 0.0}},
    "attention of the label": {"crop": {"cam_class": "label", "field": 0.5}},
    "centre": {"crop": {"view": "centre"}, "clip": {"input": "image"}, "score": {"block": 1}},
    "random": {"crop": {"view": "random", "seed": 3, "field": 0.6}, "images": {"batch": 7}},
    "full": {"crop": {"view": "full"}, "vocabulary": {"template": "a {concept}, seen"}},
    "layer2, largest": {"target": {"layer": "layer2", "pooling": "max"}, "crop": {"view": "box"}},
}


@pytest.mark.parametrize(
    "case",
    [case if case == "attention" else pytest.param(case, marks=pytest.mark.full) for case in CASES],
)
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


OTHERS = [name for name, cam in CAMS.items() if not cam.probabilities and name != "grad_cam"]


@pytest.mark.parametrize("cam", OTHERS)
def test_windows_lie_at_the_peaks_of_the_chosen_map(cam, tmp_path, clip, album, towers):
    plain = plain_target.plain_target(classes=SIX)
    config = changed(CONFIG, crop={"cam": cam, "field": 0.4})
    boxes = activate(begin(tmp_path, config, plain, clip, album)).read("boxes")
    networks = one_by_one(plain, towers)
    for index in range(len(album)):
        example = album[index]
        centre, found = reference.centre(config, networks, album, example, index)
        _, box = reference.cut(config, plain.preprocess, example.image, centre)
        np.testing.assert_allclose(boxes[index], box, rtol=1e-6, err_msg=f"{index}, {found}")
