"""Strict settings for every test: shapes checked, dtypes never promoted in silence."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook
from PIL import Image

import tests.typechecker  # noqa: F401 - the hook below looks it up by name

ROOT = Path(__file__).parents[1]
# Every jaxtyping annotation of the package becomes an assertion while the tests run. Modules that
# have none are mypy's: to check them here too would take a tenth of the time of all tests.
TYPED = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "jaxdesc").rglob("*.py")
    if "jaxtyping" in path.read_text()
]
install_import_hook(TYPED, "tests.typechecker.check")

jax.config.update("jax_numpy_rank_promotion", "raise")

import jaxdesc.scenes  # noqa: E402, F401 - registers the embedded world

# The longest files, which start first: one that starts last keeps a single worker busy.
SLOWEST = [
    "test_pipeline.py",
    "test_api.py",
    "launch/test_commands.py",
    "test_oracle.py",
    "models/test_resnet.py",
    "attention/test_cams.py",
    "models/test_clip.py",
    "models/test_sentence.py",
    "report/test_page_in_browser.py",
    "models/test_vit.py",
    "models/bridges/test_flax_equinox.py",
    "test_sweep.py",
    # Those of make test-full.
    "survival/test_faults.py",
    "survival/test_processes.py",
    "evidence/test_crops.py",
    "evidence/test_similarity.py",
    "evidence/test_sparse.py",
    "benchmark/test_rivals.py",
    "launch/test_device_report.py",
    "scenes/test_networks.py",
]
PHOTOS = ROOT.parent / "shared" / "data" / "imagenet_sample"
SIZES = [
    (500, 375), (333, 500), (256, 256), (1023, 301),
    (97, 640), (120, 90), (31, 47), (224, 225),
]  # fmt: skip


def pytest_collection_modifyitems(items):
    """The slowest files first; `make test` keeps xdist from another order."""
    places = {ROOT / "tests" / name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_configure(config):
    """Share compiled programs among all tests and their processes."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # a worker has its parent's
        folder = tempfile.mkdtemp(prefix="programs-")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
        jax.config.update("jax_compilation_cache_dir", folder)
        config.add_cleanup(partial(shutil.rmtree, folder, ignore_errors=True))


class Networks(NamedTuple):
    """Folders of two small untrained networks, in the formats that real ones come in."""

    target: Path
    clip: Path


@pytest.fixture
def rng():
    """A seeded NumPy generator, fresh for each test."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def server():
    """A server that stands in for buckets; TensorStore reads the environment only once."""
    from tests.store.bucket import served

    with served() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Paths of photos of varied sizes; where ImageNet's sample is not at hand, made-up ones."""
    return sorted(PHOTOS.glob("*.JPEG")) or _made_up_photos(tmp_path_factory.mktemp("photos"))


def _made_up_photos(folder):
    """JPEGs with structure at every scale: a blurred and a sharp noise, added."""
    rng, paths = np.random.default_rng(0), []
    for index, (width, height) in enumerate(SIZES):
        coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        large = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        sharp = rng.normal(0, 24, (height, width, 3))
        pixels = np.clip(np.asarray(large) + sharp, 0, 255).astype(np.uint8)
        paths.append(folder / f"photo_{index}.JPEG")
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    """A target of the embedded world's 32 classes and a CLIP, both with random weights."""
    return build_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="session")
def clip(networks):
    """The CLIP with random weights, loaded."""
    from jaxdesc.api import load_clip

    return load_clip(str(networks.clip))


def build_networks(folder):
    """The two networks in folders of their own."""
    from flax import nnx
    from transformers import CLIPImageProcessorPil

    from jaxdesc.models.clip import CLIP, save_clip_model
    from jaxdesc.models.clip_config import CLIPConfig
    from jaxdesc.models.resnet import ResNet, save_resnet
    from jaxdesc.models.resnet_config import ResNetConfig
    from jaxdesc.scenes import clip, target

    found = Networks(folder / "target", folder / "clip")
    resnet = _random(lambda: ResNet(ResNetConfig.from_timm(target.CONFIG), rngs=nnx.Rngs(0)))
    save_resnet(resnet, found.target, target.CONFIG)
    tokenizer = clip.build_tokenizer()
    config = CLIPConfig.from_huggingface(clip.config(tokenizer))
    # With this seed neurons have concepts, and not all the same ones.
    save_clip_model(_random(lambda: CLIP(config, rngs=nnx.Rngs(0)), seed=7), found.clip)
    tokenizer.save_pretrained(found.clip)
    CLIPImageProcessorPil(
        size={"shortest_edge": clip.SIZE}, crop_size={"height": clip.SIZE, "width": clip.SIZE}
    ).save_pretrained(found.clip)
    return found


def _random(build, seed=0):
    """A model whose weights NumPy draws: its own initialisers would take seconds to compile."""
    from flax import nnx

    rng = np.random.default_rng(seed)
    graph, state = nnx.split(nnx.eval_shape(build))

    def drawn(path, variable):
        shape = variable.shape
        if path[-1] in ("scale", "var"):
            return variable.replace(jax.numpy.asarray(rng.uniform(0.9, 1.1, shape), "float32"))
        spread = np.prod(shape[:-1], dtype=float) ** -0.5 if len(shape) > 1 else 0.02
        return variable.replace(jax.numpy.asarray(rng.normal(0, spread, shape), "float32"))

    return nnx.merge(graph, nnx.map_state(drawn, state))
