from dataclasses import replace

import jax
import pytest

from jaxdesc.commands import configs
from jaxdesc.config import Config, ImagesConfig
from jaxdesc.errors import InputError
from jaxdesc.stages import batches
from tests import plain_target


@pytest.fixture(scope="module")
def network():
    return plain_target.plain_target()


OPEN = Config.from_dict({"images": {"batch": "auto"}, "clip": {"batch": "auto"}})


def test_auto_is_a_batch_of_its_own():
    assert OPEN.images.batch == OPEN.clip.batch == 0
    given = configs.load("photos", ["--config.images.batch=auto", "--config.clip.batch=32"])
    assert (given.images.batch, given.clip.batch) == (0, 32)
    with pytest.raises(InputError, match=r"--config\.crop\.seed=auto"):
        configs.load("photos", ["--config.crop.seed=auto"])
    with pytest.raises(InputError, match="in \\[1, 65536\\], or auto"):
        ImagesConfig(batch=-1)


def test_a_large_device_takes_the_most(network, clip):
    found = batches.fitting(OPEN, network, clip, 1000)
    assert found.images.batch == found.clip.batch == batches.MOST_ON_CPU
    one = replace(OPEN, images=ImagesConfig(batch=7))
    assert batches.fitting(one, network, clip, 1000).images.batch == 7
    assert batches.fitting(Config(), network, clip, 1000) == Config()


def test_a_small_device_takes_what_fits(network, clip, monkeypatch):
    whole = batches.programs(
        batches.with_batches(OPEN, 64), network, clip, batches.Size(1000, 1, {}), jax.devices()[:1]
    )
    needed = {}
    for program in whole:
        if program.stage in ("activate", "embed"):
            memory = batches.Compiled.of(program.lower()).memory
            needed[program.stage] = max(needed.get(program.stage, 0), memory)
    # A tenth stays free, so that not even half of the larger need leaves room for all 64.
    monkeypatch.setattr(batches, "capacity", lambda _: needed["embed"])
    found = batches.fitting(OPEN, network, clip, 1000)
    assert found.clip.batch == 32
    assert found.images.batch == (64 if needed["activate"] < 0.9 * needed["embed"] else 32)
