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


@pytest.fixture(scope="module", params=["embedded world's", "bottleneck", "bottleneck, eager"])
def pair(request, networks, tmp_path_factory):
    """Basic blocks, and bottlenecks whose BatchNorm vectors all differ; with and without oneDNN."""
    folder = networks.target
    if request.param != "embedded world's":
        folder = tmp_path_factory.mktemp("bottleneck")
        sizes = SMALL | {"block": "bottleneck"}
        entries = {"architecture": "resnet50", "num_classes": 10, "model_args": sizes}
        save_torch_resnet(torch_resnet("bottleneck", *SMALL.values(), classes=10), folder, entries)
    fused = False if "eager" in request.param else None
    return Pair(jd.load_target(str(folder)), resnet.load_target(folder, fused))


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
    maps = pair.rival.trunk(channels_first(pixels))
    agree(
        maps.permute(0, 2, 3, 1),
        recorded(pair.ours.apply, pair.ours.params, jnp.asarray(pixels), ["layer4"])[1]["layer4"],
    )
    agree(pair.rival.logits(channels_first(pixels)), pair.ours.logits(pixels))


def test_fused_and_eager_networks_take_any_size_in_any_order(pair, pixels):
    for count, side in ((2, 64), (5, 64), (1, 96), (5, 64), (3, 32)):
        some = pixels[:count, :side, :side]
        some = np.pad(some, [(0, 0), (0, side - some.shape[1]), (0, 0), (0, 0)])
        expected = pair.rival.model(channels_first(some)).detach()
        agree(pair.rival.logits(channels_first(some)), expected)


def test_the_fused_network_is_what_runs_where_there_is_one(networks):
    trunk = resnet.load_target(networks.target)._trunk
    available = resnet.FusedTrunk.available()
    assert isinstance(trunk, resnet.FusedTrunk) == available


WAYS = {"head alone": resnet.grad_cam, "hooks": resnet.grad_cam_hooks}


def package(target, pixels, classes=None):
    """pytorch-grad-cam if it is installed, else its method."""
    if resnet.package_available():
        return resnet.grad_cam_package(target, pixels, classes, raw=True)
    return resnet.grad_cam_hooks(target, pixels, classes)


@pytest.mark.parametrize("way", [*WAYS.values(), package], ids=[*WAYS, "package"])
@pytest.mark.parametrize("classes", [None, [3, 0, 9, 3, 1]], ids=["predicted", "given"])
def test_grad_cam(way, classes, pair, pixels):
    classes = None if classes is None else np.array(classes)
    theirs = way(pair.rival, channels_first(pixels), classes)
    agree(theirs, jd.attention.attention_maps(pair.ours, pixels, classes)[0])


def test_grad_cam_of_a_network_as_it_comes(networks, pixels):
    theirs = resnet.grad_cam_hooks(resnet.load_plain(networks.target), channels_first(pixels))
    agree(theirs, jd.attention.attention_maps(jd.load_target(str(networks.target)), pixels)[0])


def test_the_class_matters_to_grad_cam(pair, pixels):
    maps = [
        np.asarray(resnet.grad_cam(pair.rival, channels_first(pixels), np.full(5, class_)))
        for class_ in (0, 1)
    ]
    assert np.abs(maps[0] - maps[1]).max() > 0.1 * maps[0].max()


@pytest.fixture(scope="module")
def clips(networks):
    return load_clip(str(networks.clip)), clip.load_clip(networks.clip)


@pytest.mark.parametrize("fused", [None, False], ids=["default", "eager"])
@pytest.mark.parametrize("activation", ["embedded world's", "quick_gelu", "gelu"])
def test_image_features(fused, activation, networks, rng, tmp_path):
    folder = networks.clip
    if activation != "embedded world's":
        folder = tmp_path
        text = {"vocab_size": 1000}  # as many as its tokenizer has, or more
        small_torch_clip({"hidden_act": activation}, text).save_pretrained(folder)
        for file in networks.clip.glob("tokenizer*"):
            shutil.copy(file, folder)
    ours, rival = load_clip(str(folder)), clip.load_clip(folder, fused)
    size = ours.preprocess.size
    for count in (3, 5, 2):
        pixels = rng.normal(size=(count, size, size, 3)).astype(np.float32)
        theirs = clip.image_features(rival, channels_first(pixels))
        np.testing.assert_allclose(theirs, ours.encode_images(pixels), rtol=0, atol=1e-6)


def test_the_fused_tower_is_what_runs_where_there_is_one(clips):
    available = clip.FusedTower.available()
    assert isinstance(clips[1].tower, clip.FusedTower) == available


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
    config = Config.from_dict(
        {
            "images": {"batch": 3},
            "clip": {"batch": 5},
            "score": {"exemplars": EXEMPLARS, "alpha": ALPHA},
        }
    )
    return config, Inputs(target, clip, source, load_vocabulary(CONCEPTS), clip), rival


def test_the_probe_pass(both, source, tmp_path):
    config, inputs, rival = both
    activated = activate(Run(config, inputs, Store(tmp_path), quiet=True))
    theirs = pipeline.probe(rival, source, batch=3)
    np.testing.assert_array_equal(theirs.centres, activated.read("centres"))
    np.testing.assert_allclose(theirs.boxes, activated.read("boxes"), rtol=1e-6)
    agree(theirs.activations, activated.read("activations"))
    assert len({tuple(centre) for centre in theirs.centres}) > 1


def test_photos_without_attention_are_seen_in_the_middle():
    cams = torch.zeros(3, 2, 4)
    cams[1, 1, 2] = cams[1, 1, 3] = 0.5
    cams[2, 0, 0], cams[2, 1, 1] = 1.0, float("nan")
    expected, found = peaks(cams.numpy())
    np.testing.assert_array_equal(pipeline.peaks(cams), expected)
    assert found.tolist() == [False, True, False]


def test_the_whole_pipeline(both, source, tmp_path):
    config, inputs, rival = both
    run = Run(config, inputs, Store(tmp_path), quiet=True)
    ours = jd.describe(
        inputs.target, inputs.clip, images=source, concepts=CONCEPTS, config=config, quiet=True
    )
    texts = inputs.clip.encode_texts(prompts(inputs.vocabulary))
    base = inputs.clip.encode_texts([base_template()])[0]
    theirs = pipeline.describe(rival, source, texts, base, EXEMPLARS, alpha=ALPHA, batch=3)

    activated = activate(run)
    selected = select(run, activated)
    np.testing.assert_array_equal(theirs.exemplars, selected.read("images"))
    embedded = embed(run, activated, selected)
    images = embedded.read("images")
    features = pipeline.embed(rival, source, images, theirs.probed.centres, 3, 224 / 256)
    np.testing.assert_allclose(features, embedded.read("features"), rtol=0, atol=1e-6)

    assert [[text for text, _ in neuron.concepts] for neuron in ours] == [
        [CONCEPTS[concept] for concept, _ in found] for found in theirs.concepts
    ]
    scores = [[score for _, score in found] for found in theirs.concepts]
    for neuron, own in zip(ours, scores, strict=True):
        np.testing.assert_allclose(own, [s for _, s in neuron.concepts], rtol=1e-4, atol=1e-7)
    assert max(map(len, scores)) > 1
    assert any(map(len, scores))


def test_what_is_selected(rng):
    """By the rule, pair by pair: nothing for a neuron that is dead or has no positive score."""
    scores = rng.normal(size=(6, 9)).astype(np.float32)
    scores[1] = -np.abs(scores[1])
    scores[2, 4] = scores[2, 7] = 5  # a tie
    scores[3, 0], scores[3, 1] = 2, 1  # the second just at half of the first
    dead = np.arange(6) == 5
    found = pipeline.selected(scores, 0.5, dead)
    for neuron, row in enumerate(scores):
        kept = [j for j in range(9) if row[j] > 0.5 * row.max() and row.max() > 0]
        kept = [] if dead[neuron] else sorted(kept, key=lambda j: (-row[j], j))
        assert [concept for concept, _ in found[neuron]] == kept
        assert [score for _, score in found[neuron]] == [row[j] for j in kept]
    assert found[1] == found[5] == []
    assert found[2][0][0] == 4


def test_the_first_of_equally_active_images_wins():
    activations = np.float32([[1, 2], [3, 2], [3, 0], [0, 2], [3, 1]])
    best = pipeline.most_activating(activations, 3)
    assert best.tolist() == [[1, 2, 4], [0, 1, 3]]
    many = np.arange(100, dtype=np.float32)[:, None] % 3
    assert pipeline.most_activating(many, 33).tolist() == [list(range(2, 100, 3))[:33]]
