import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxdesc as jd
from jaxdesc.config import ImagesConfig
from jaxdesc.errors import InputError
from jaxdesc.evaluation.top1 import Top1
from jaxdesc.pipeline import order
from tests import plain_target

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
EACH = 5
# Each colour's logit is its channel's mean.
SEES = {"mix": np.eye(3, 10), "weight": np.eye(10, 3), "bias": np.zeros(3)}
SEES = {name: value.astype(np.float32) for name, value in SEES.items()}


@pytest.fixture
def colours(tmp_path):
    """Pictures of one colour each, in folders of that name."""
    for name, colour in COLOURS.items():
        (tmp_path / name).mkdir()
        for index in range(EACH):
            picture = Image.new("RGB", (40, 32 + index), colour)
            picture.save(tmp_path / name / f"{index}.png")
    return tmp_path


def seer(**changes):
    return plain_target.plain_target(SEES, (("red",), ("green",), ("blue",)), **changes)


def test_a_target_that_sees(colours, capsys):
    found = seer(name="seer").check(colours)
    assert found.layers == {"fc": (3,), "patches": (4, 4, 10)}
    assert (found.images, found.top1, found.top5, found.doubts) == (15, 1.0, 1.0, ())
    assert capsys.readouterr().out.splitlines() == [
        "seer: fc 3, patches 4×4×10",
        "top-1 100.0%, top-5 100.0% on 15 labelled images",
        "no doubt, on 15 images",
    ]
    few = seer().check(f"folder:{colours}", count=3)  # evenly among all
    assert (few.images, few.top1) == (3, 1.0)
    for sheet in (found.sheet, few.sheet):
        pixels = {tuple(pixel) for pixel in np.asarray(sheet).reshape(-1, 3)}
        assert pixels >= set(COLOURS.values())
    assert found._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"notes": ("its preprocessing was assumed",)}, "^its preprocessing was assumed$"),
        ({"classes": (("blue",), ("red",), ("green",))},
         r"^target is near chance \(top-1 0\.0% on 15 labelled images, centre views"),
        ({"classes": (("a",), ("b",), ("c",))}, "are labelled by the order of their categories, "),
        ({"classes": (("a",), ("b",), ("blue",))},
         "^the images of folder:.* have no labels: of their 3 categories, 'green', 'red' match"),
        ({"params": {**SEES, "weight": np.zeros((10, 3), np.float32)}},
         "^every neuron of fc has the same activation on all 15 images$"),
    ],
)  # fmt: skip
def test_doubts(colours, changes, doubt):
    found = replace(seer(), **changes).check(colours)
    assert any(re.search(doubt, own) for own in found.doubts)


def tapping(offer):
    """A network whose tap gets its maps as `offer` says."""

    def apply(params, pixels, tap):
        return plain_target.head(params, offer(tap, plain_target.patches(params, pixels)))

    return seer(name="seer", apply=apply)


def answering(head):
    return seer(name="seer", apply=plain_target.network(head=head))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (tapping(lambda tap, maps: maps + tap("flat", maps[:, 0, 0])[:, None, None]),
         r"^seer gives flat the shape \(2, 10\) for pixels of shape \(2, 32, "),
        (tapping(lambda tap, maps: tap("a", tap("a", maps))),
         "^seer offers its tap a layer 'a' twice, or one with the name of the logits, 'fc'"),
        (tapping(lambda tap, maps: jax.jit(lambda x: tap("inner", x))(maps)),
         "^seer offers its tap the layer 'inner' within a scan, a vmap, a remat or a jit"),
        (tapping(lambda tap, maps: jax.vmap(lambda x: tap("each", x))(maps)),
         "^seer offers its tap the layer 'each' within"),
        (answering(lambda params, maps: maps),
         r"^seer gives logits the shape \(2, 4, 4, 10\) for pixels .*: expected \(batch, cl"),
        (answering(lambda params, maps: maps @ params["gone"]),
         r"^apply of seer fails for pixels of shape .*: KeyError\('gone'\); expected apply\("),
        (answering(lambda params, maps: (maps, {})),
         r"^apply of seer gives .*: expected apply\(params, pixels, tap\) -> logits"),
        (answering(lambda params, maps: maps.mean(axis=(1, 2)) * jnp.nan),
         "^Layer 'fc' of seer gives NaN or infinity"),
    ],
)  # fmt: skip
def test_a_target_that_can_t_be_used(colours, target, message):
    with pytest.raises(InputError, match=message):
        target.check(colours)


def test_a_layer_and_images_that_can_t_be_used(colours):
    with pytest.raises(InputError, match=r"^Unknown layer 'layer4' of seer: expected one of fc"):
        seer(name="seer").check(colours, layer="layer4")
    for file in colours.glob("*/*.png"):
        file.write_bytes(b"")
    message = r"^None of 15 images of folder:.* that were looked at can be used: 'blue/0\.png'"
    with pytest.raises(InputError, match=message):
        seer().check(colours)


def described(clip, target, images, **options):
    given = {"concepts": ["red", "green", "blue"], "exemplars": 4, "view": "centre", "quiet": True}
    return jd.describe(target, clip, images=images, **(given | options))


def test_a_run_of_any_layer_on_labelled_images_prints_the_top1(clip, colours, tmp_path, capsys):
    given = {"layer": "patches", "workdir": tmp_path / "out"}
    found = described(clip, seer(name="seer"), colours, **given)
    assert (found.top1, found.notes) == (Top1(15, 15, 3, "centre"), ())
    said = "seer: top-1 100.0% on 15 labelled images, centre views; chance is 33.3%"
    assert capsys.readouterr().err.splitlines().count(said) == 1
    again = described(clip, seer(name="seer"), colours, **given)
    assert (again.top1, again.seconds) == (found.top1, {})
    assert said in capsys.readouterr().err


def test_a_wrong_order_of_classes_is_reported_twice(clip, colours, capsys):
    """Before the run, for the images tried, and after it, as a note of the result."""
    order = (("blue",), ("red",), ("green",))
    wrong = replace(seer(notes=("its preprocessing was assumed",)), classes=order)
    found = described(clip, wrong, colours, config=jd.Config(images=ImagesConfig(batch=4)))
    first, after = found.notes
    assert first == "its preprocessing was assumed"
    assert re.match(r"target is near chance \(top-1 0\.0% on 15 labelled images, centre vie", after)
    err = capsys.readouterr().err
    assert all(err.count(f"note: {note}\n") == 1 for note in found.notes)
    assert "doubt: target is near chance (top-1 0.0% on 4 labelled images, centre views; " in err


def test_what_can_t_be_right_stops_a_run_before_texts_are_encoded(clip, colours, monkeypatch):
    monkeypatch.setattr(order, "encode", lambda run: pytest.fail("too late"))
    nan = plain_target.network(head=lambda params, maps: maps.mean(axis=(1, 2))[:, :3] * jnp.nan)
    broken = seer(apply=nan)
    with pytest.raises(InputError, match=r"^Layer 'fc' of target gives NaN"):
        described(clip, broken, colours)


def test_labels_are_unknown_of_images_without_a_category(clip, colours):
    (colours / "stray.png").write_bytes((colours / "red" / "0.png").read_bytes())
    (colours / "red" / "4.png").write_bytes(b"")
    config = jd.Config(images=ImagesConfig(max_skipped=0.5))
    found = described(clip, seer(), colours, config=config)
    assert found.top1 == Top1(14, 14, 3, "centre")
    assert [own.image for own in found.skipped] == ["red/4.png"]


@pytest.mark.parametrize(
    ("right", "images", "classes", "near"),
    [
        (49, 1000, 1000, True),  # below 5 %
        (50, 1000, 1000, False),
        (124, 1000, 40, True),  # below five times chance, 12.5 %
        (125, 1000, 40, False),
        (74, 100, 2, True),  # below the middle between chance and 1
        (75, 100, 2, False),
    ],
)
def test_near_chance(right, images, classes, near):
    assert Top1(right, images, classes, "centre").near_chance == near
