import numpy as np
import pytest

from jaxdesc.errors import InputError
from jaxdesc.images.example import Source
from jaxdesc.images.sources import open_source
from jaxdesc.scenes.source import Scenes
from jaxdesc.scenes.world import CLASSES


def test_scenes():
    source = open_source("scenes: seed=3, count=40 ,split=validation")
    assert source.spec == "scenes:split=validation,seed=3,count=40,correlation=0"
    assert isinstance(source, Source)
    assert len(source) == 40
    assert source.identify(33) == "validation-3/00033_heart.png"
    example = source[33]
    assert example.image.mode == "RGB"
    assert list(CLASSES)[example.label] == "heart"
    left, top, right, bottom = example.box
    assert 0 <= left < right <= example.image.width
    assert 0 <= top < bottom <= example.image.height
    np.testing.assert_array_equal(example.image, open_source(source.spec)[33].image)
    assert len(open_source("scenes")) == 1600


def test_fingerprints_depend_on_the_options():
    variants = ("", "seed=1", "count=3", "split=train", "correlation=0.5")
    assert len({Scenes(options).fingerprint() for options in variants}) == 5
    assert Scenes("seed=1").fingerprint() == Scenes("split=probe,seed=01").fingerprint()


@pytest.mark.parametrize("options", ["seed=-1", "count=0", f"count={10**30}", "correlation=1.5"])
def test_options_out_of_range(options):
    with pytest.raises(InputError, match=f"source 'scenes:{options}' can't be read"):
        open_source(f"scenes:{options}")
