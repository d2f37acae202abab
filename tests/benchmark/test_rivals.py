"""The rivals in PyTorch compute what the library does, so that they are timed for the same work.

Tolerances are float32's: sums in another order, through up to twenty layers.
"""

import shutil
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxdesc as jd
from jaxdesc.benchmark.rivals import clip, pipeline, resnet
from jaxdesc.config import Config
from jaxdesc.images.sources import open_source
from jaxdesc.images.windows import peaks
from jaxdesc.models.namers import load_clip
from jaxdesc.models.taps import recorded
from jaxdesc.stages.activate import activate
from jaxdesc.stages.embed import embed
from jaxdesc.stages.look import Windows
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.stages.select import select
from jaxdesc.store import Store
from jaxdesc.vocabulary.vocabulary import base_template, load_vocabulary, prompts
from tests.models.torch_checkpoints import (
    channels_first,
    save_torch_resnet,
    small_torch_clip,
    torch_resnet,
)

PHOTOS, EXEMPLARS, ALPHA = 14, 4, 0.3
CONCEPTS = ["star", "cat", "red square", "sky", "a dog", "moon", "bunny", "green"]
SMALL = {"layers": [2, 1, 1, 1], "channels": [8, 12, 16, 20], "stem_width": 8}


pytestmark = pytest.mark.full


class Pair(NamedTuple):
    """One network on both sides."""

    ours: jd.Target
    rival: resnet.Target


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so little work is slowed down by sharing it
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=[None, False], ids=["default", "eager"])
def pair(request, tmp_path_factory):
    """Bottlenecks whose BatchNorm vectors all differ; with oneDNN if available, and without."""
    folder = tmp_path_factory.mktemp("bottleneck")
    sizes = SMALL | {"block": "bottleneck"}
    entries = {"architecture": "resnet50", "num_classes": 10, "model_args": sizes}
    save_torch_resnet(torch_resnet("bottleneck", *SMALL.values(), classes=10), folder, entries)
    return Pair(jd.load_target(str(folder)), resnet.load_target(folder, request.param))


@pytest.fixture(scope="module")
def pixels():
    """Oblong images whose means and contrasts differ, so that their logits do."""
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(5, 64, 96, 3)) * rng.uniform(0.3, 1.5, (5, 1, 1, 3))
    return (noise + rng.normal(size=(5, 1, 1, 3))).astype(np.float32)


def agree(theirs, ours, tolerance=1e-5):
    """Equal up to a share of the largest value."""
    ours = np.asarray(ours)
    largest = np.abs(ours).max()
    assert largest > 0
    np.testing.assert_allclose(np.asarray(theirs), ours, rtol=0, atol=tolerance * largest)


def test_the_network(pair, pixels):
    _, ours = recorded(pair.ours.apply, pair.ours.params, jnp.asarray(pixels), ["layer4"])
    agree(pair.rival.trunk(channels_first(pixels)).permute(0, 2, 3, 1), ours["layer4"])
    agree(pair.rival.logits(channels_first(pixels)), pair.ours.logits(pixels))


def test_networks_take_any_size_in_any_order(pair, pixels):
    for count, side in ((2, 64), (5, 64), (1, 96), (5, 64), (3, 32)):
        some = pixels[:count, :side, :side]
        some = np.pad(some, [(0, 0), (0, side - some.shape[1]), (0, 0), (0, 0)])
        expected = pair.rival.model(channels_first(some)).detach()
        agree(pair.rival.logits(channels_first(some)), expected)


def package(target, pixels, classes=None):
    """pytorch-grad-cam if it is installed, else its method."""
    if resnet.package_available():
        return resnet.grad_cam_package(target, pixels, classes, raw=True)
    return resnet.grad_cam_hooks(target, pixels, classes)


@pytest.mark.parametrize(
    "way", [resnet.grad_cam, resnet.grad_cam_hooks, package], ids=["head alone", "hooks", "package"]
)
def test_grad_cam(way, pair, pixels):
    for classes in (None, np.array([3, 0, 9, 3, 1])):
        theirs = way(pair.rival, channels_first(pixels), classes)
        agree(theirs, jd.attention.attention_maps(pair.ours, pixels, classes)[0])


def test_networks_as_they_come(networks, clips, pixels):
    """Basic blocks; the fused network runs if there is one."""
    theirs = resnet.grad_cam_hooks(resnet.load_plain(networks.target), channels_first(pixels))
    agree(theirs, jd.attention.attention_maps(jd.load_target(str(networks.target)), pixels)[0])
    trunk = resnet.load_target(networks.target)._trunk
    assert isinstance(trunk, resnet.FusedTrunk) == resnet.FusedTrunk.available()
    assert isinstance(clips[1].tower, clip.FusedTower) == clip.FusedTower.available()


@pytest.fixture(scope="module")
def clips(networks):
    return load_clip(str(networks.clip)), clip.load_clip(networks.clip)


@pytest.mark.parametrize(
    ("fused", "activation"), [(None, "quick_gelu"), (None, "gelu"), (False, "quick_gelu")]
)
def test_image_features(fused, activation, networks, rng, tmp_path):
    text = {"vocab_size": 1000}  # as many as its tokenizer has, or more
    small_torch_clip({"hidden_act": activation}, text).save_pretrained(tmp_path)
    for file in networks.clip.glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    ours, rival = load_clip(str(tmp_path)), clip.load_clip(tmp_path, fused)
    size = ours.preprocess.size
    for count in (3, 5, 2):
        pixels = rng.normal(size=(count, size, size, 3)).astype(np.float32)
        theirs = clip.image_features(rival, channels_first(pixels))
        np.testing.assert_allclose(theirs, ours.encode_images(pixels), rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def source(photos, tmp_path_factory):
    """A folder of a few of the photos."""
    folder = tmp_path_factory.mktemp("probe")
    for path in photos[:PHOTOS]:
        (folder / path.name).symlink_to(path)
    return open_source(f"folder:{folder}")


@pytest.fixture(scope="module")
def both(networks, clips, source):
    """Inputs of the library and of the rival; neither batch divides the photos."""
    target, clip = jd.load_target(str(networks.target)), clips[0]
    rival = pipeline.Networks(
        resnet.load_target(networks.target), target.preprocess, clips[1], clip.preprocess
    )
    score = {"exemplars": EXEMPLARS, "alpha": ALPHA}
    config = Config.from_dict({"images": {"batch": 3}, "clip": {"batch": 5}, "score": score})
    return config, Inputs(target, clip, source, load_vocabulary(CONCEPTS), clip), rival


def test_the_whole_pipeline(both, source, tmp_path):
    config, inputs, rival = both
    ours = jd.describe(
        inputs.target, inputs.clip, images=source, concepts=CONCEPTS, config=config, quiet=True
    )
    texts = inputs.clip.encode_texts(prompts(inputs.vocabulary))
    base = inputs.clip.encode_texts([base_template()])[0]
    theirs = pipeline.describe(rival, source, texts, base, EXEMPLARS, alpha=ALPHA, batch=3)

    run = Run(config, inputs, Store(tmp_path), quiet=True)
    activated = activate(run)
    np.testing.assert_array_equal(theirs.probed.centres, activated.read("centres"))
    np.testing.assert_allclose(theirs.probed.boxes, activated.read("boxes"), rtol=1e-6)
    agree(theirs.probed.activations, activated.read("activations"))
    assert len({tuple(centre) for centre in theirs.probed.centres}) > 1
    selected = select(run, activated)
    np.testing.assert_array_equal(theirs.exemplars, selected.read("images"))
    embedded = embed(run, Windows.of_images(activated), selected)
    images = embedded.read("rows")
    features = pipeline.embed(rival, source, images, theirs.probed.centres, 3, 224 / 256)
    np.testing.assert_allclose(features, embedded.read("features"), rtol=0, atol=1e-6)

    for neuron, found in zip(ours, theirs.concepts, strict=True):
        assert [text for text, _ in neuron.concepts] == [CONCEPTS[concept] for concept, _ in found]
        scores = [[score for _, score in pairs] for pairs in (found, neuron.concepts)]
        np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-7)
    assert max(map(len, theirs.concepts)) > 1


def test_ties_and_empty_maps():
    activations = np.float32([[1, 2], [3, 2], [3, 0], [0, 2], [3, 1]])
    assert pipeline.most_activating(activations, 3).tolist() == [[1, 2, 4], [0, 1, 3]]
    cams = torch.zeros(3, 2, 4)
    cams[1, 1, 2] = cams[1, 1, 3] = 0.5
    cams[2, 0, 0], cams[2, 1, 1] = 1.0, float("nan")
    np.testing.assert_array_equal(pipeline.peaks(cams), peaks(cams.numpy())[0])
