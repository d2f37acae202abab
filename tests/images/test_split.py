"""Images that are kept aside, and everything else that a source offers."""

import pickle

import numpy as np
import pytest

from jaxdesc.config import ImagesConfig
from jaxdesc.errors import InputError
from jaxdesc.images.example import Source
from jaxdesc.images.folder import Folder
from jaxdesc.images.labels import matched
from jaxdesc.images.split import kept_aside, open_images, side_of
from jaxdesc.scenes.source import Scenes
from tests import plain_target

HALF = ImagesConfig(source="scenes:count=20", split=0.25)


def names(source):
    return [source.identify(index) for index in range(len(source))]


def test_both_sides_are_disjoint_and_seeded():
    every = names(Scenes("count=20"))
    found, aside = open_images(HALF), kept_aside(open_images(HALF), HALF)
    assert len(aside) == 5
    assert sorted(names(found) + names(aside)) == every
    assert names(found) == sorted(names(found))
    again = ImagesConfig(source="scenes:count=20", split=0.25, split_seed=1)
    assert names(open_images(again)) != names(found)
    prints = [each.fingerprint() for each in (found, aside, open_images(again), Scenes("count=20"))]
    assert len(set(prints)) == 4
    assert found.spec == Scenes("count=20").spec
    assert isinstance(found, Source)


def test_no_split_changes_nothing():
    source = Scenes("count=20")
    assert side_of(source, ImagesConfig()) is source


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_an_empty_side_is_refused(share):
    with pytest.raises(InputError, match=f"^config.images.split is {share}, which keeps"):
        side_of(Scenes("count=20"), ImagesConfig(split=share))


def test_truth_and_labels_belong_to_the_part():
    whole, part = Scenes("count=20"), pickle.loads(pickle.dumps(open_images(HALF)))
    chosen = [names(whole).index(name) for name in names(part)]
    concepts = ["star", "red", "no phrase"]
    np.testing.assert_array_equal(part.shows(concepts), whole.shows(concepts)[:, chosen])
    assert [part[i].label for i in range(3)] == [whole[i].label for i in chosen[:3]]


def test_a_folder_is_split_before_its_labels_are_matched(tmp_path, rng):
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(6):
            pixels = rng.integers(256, size=(8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
    images = ImagesConfig(source=f"folder:{tmp_path}", split=0.5)
    target = plain_target.plain_target(plain_target.parameters(2), (("dog",), ("cat",)))
    found = matched(side_of(Folder(str(tmp_path)), images), target)
    aside = matched(kept_aside(found, images), target)
    assert len(found) == len(aside) == 6
    for part in (found, aside):
        expected = [int(name.startswith("cat")) for name in names(part)]
        assert [part[index].label for index in range(6)] == expected
