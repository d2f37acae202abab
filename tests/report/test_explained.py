"""An image explained: each number against the oracle, each picture where it belongs."""

import re

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from PIL import Image

import jaxdesc as jd
from jaxdesc.attention.contribution import contributions
from jaxdesc.config import CropConfig, ScoreConfig
from jaxdesc.result import Neuron, Result
from tests import plain_target
from tests.reference import explanation as reference

HOSTILE = '<script>alert("$x$")</script> & $\\frac{1$'
NAMES = tuple((f"class {i}", HOSTILE) for i in range(6))


def described(layer="patches", neurons=10):
    concepts = [((f"thing {unit}", 0.5), (HOSTILE, 0.25)) for unit in range(neurons)]
    concepts[3] = ()
    return Result(
        tuple(
            Neuron(layer, unit, own, 0.5, 0.1, (), () if own else ("no concept",))
            for unit, own in enumerate(concepts)
        )
    )


@pytest.fixture
def images(rng):
    """Pictures of varied shapes."""
    sizes = [(60, 40), (33, 50), (32, 32), (90, 31)]
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


@pytest.fixture
def explained(images):
    return jd.explain(
        plain_target.plain_target(classes=NAMES), images[0], described(), peers=images[1:]
    )


def maps_of(target, image):
    pixels = target.preprocess.normalise(target.preprocess.squash(image)[None])
    return np.asarray(contributions(target, "patches", pixels).maps)[0]


def test_windows_of_units_are_those_of_a_run(images, clip, tmp_path):
    """Each neuron's own, and drawn."""
    target, saved = plain_target.plain_target(classes=NAMES), tmp_path / "photos"
    saved.mkdir()
    for index, image in enumerate(images):
        image.save(saved / f"{index}.png")
    config = jd.Config(crop=CropConfig(of="unit", field=0.5), score=ScoreConfig(exemplars=4))
    options = {"layer": "patches", "quiet": True, "config": config}
    found = jd.describe(target, clip, images=saved, concepts=["star", "sky"], **options)
    explanation = jd.explain(target, images[1], found, field=0.5, neurons=10)
    width, height = images[1].size
    for part in explanation.parts:
        (box,) = {e.box for e in part.neuron.exemplars if e.index == 1} or {None}
        if box is not None:
            scaled = [
                edge * side for edge, side in zip(part.window, 2 * (width, height), strict=True)
            ]
            np.testing.assert_allclose(scaled, box, atol=1e-4)
    written = explanation.to_dict()["neurons"][0]["window"]
    assert written == list(explanation.parts[0].window)
    plain = jd.explain(target, images[1], found, neurons=10)
    assert "window" not in plain.to_dict()["neurons"][0]
    assert plain.to_html() != explanation.to_html()
    with pytest.raises(jd.InputError, match=r"^field is 2\.0: expected a share"):
        jd.explain(target, images[1], found, field=2)


def test_what_where_and_why(explained, images):
    target, size = plain_target.plain_target(), 32
    maps = maps_of(target, images[0])
    pixels = target.preprocess.normalise(target.preprocess.squash(images[0])[None])
    logits = np.asarray(target.logits(pixels))[0].astype(np.float64)
    assert explained.label == logits.argmax()
    assert explained.names == NAMES[explained.label]
    assert explained.logit == pytest.approx(logits.max(), abs=1e-5)
    odds = np.exp(logits)
    assert explained.probability == pytest.approx(odds.max() / odds.sum(), rel=1e-5)

    weights = target.params["weight"][:, explained.label]
    why = reference.contributions(maps, weights)
    best = sorted(range(10), key=lambda k: -why[k])[:3]
    assert [part.neuron.unit for part in explained.parts] == best
    positive = sum(value for value in why if value > 0)
    for part in explained.parts:
        k = part.neuron.unit
        assert part.contribution == pytest.approx(why[k], abs=1e-5)
        assert part.share == pytest.approx(max(why[k], 0) / positive, abs=1e-5)
        np.testing.assert_allclose(part.where, reference.neuron_map(maps[..., k], size), atol=1e-5)
    sample = reference.image_map(why, maps, size)
    np.testing.assert_allclose(explained.where, sample, atol=1e-5)

    of_class = reference.class_contributions([maps_of(target, own) for own in images[1:]], weights)
    wanted = reference.image_map(of_class, maps, size)
    np.testing.assert_allclose(explained.class_where, wanted, atol=1e-5)
    assert explained.agreement == pytest.approx(reference.cosine(sample, wanted), abs=1e-5)


def test_any_picture_is_converted_to_rgb(images, explained, tmp_path, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as a user runs the library
    target, found, image = plain_target.plain_target(classes=NAMES), described(), images[0]
    image.save(tmp_path / "a.png")
    pixels = np.asarray(image)
    given = (
        tmp_path / "a.png", str(tmp_path / "a.png"), pixels, jnp.asarray(pixels),
        image.convert("RGBA"), np.dstack([pixels, pixels[..., 0]]),
    )  # fmt: skip
    peers = [np.asarray(images[1]), *images[2:]]
    for each in given:
        again = jd.explain(target, each, found, peers=peers, neurons=np.int64(3))
        assert again.to_dict() == explained.to_dict()
    grey = jd.explain(target, image.convert("L"), found)
    for each in (np.asarray(image.convert("L")), image.convert("L").convert("P")):
        np.testing.assert_array_equal(jd.explain(target, each, found).pixels, grey.pixels)
    # Without peers there is no class map.
    assert (grey.class_where, grey.to_dict()["agreement"]) == (None, None)
    assert np.isnan(grey.agreement)
    assert "class map" not in grey.to_html()


def test_pictures_and_a_fragment_that_escapes_whatever_it_shows(explained, tmp_path):
    html = explained._repr_html_()
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(&quot;$x$&quot;)&lt;/script&gt;") >= 2
    assert html.count("<img ") == 3 + len(explained.parts)
    assert set(re.findall(r'src="([^,]*),', html)) == {"data:image/png;base64"}
    for part in explained.parts:
        assert f"patches[{part.neuron.unit}]" in html
        assert f"{100 * part.share:.0f} % (φ = {part.contribution:.2f})" in html
    paths = explained.save(tmp_path / "new", "../../a")
    assert {path.parent for path in paths} == {tmp_path / "new"}
    assert sorted(path.suffix for path in paths) == [".html", ".png", ".svg"]
    assert "&lt;script&gt;" in paths[0].read_text()  # text, and no formula
    with Image.open(paths[1]) as picture:
        assert picture.width > picture.height > 300


def test_what_can_not_be_explained_is_a_sentence(images):
    target = plain_target.plain_target()
    for found, match in (
        (described("fc", 6), "describes 'fc', whose neurons are the classes themselves: describe"),
        (described("layer9"), "Unknown layer 'layer9' of target: expected one of fc, patches"),
        (described(neurons=9), "'patches' of target has 10 neurons, but 9 are described: give the"),
    ):
        with pytest.raises(jd.InputError, match=match):
            jd.explain(target, images[0], found)
    with pytest.raises(jd.InputError, match="0 neurons are asked for: expected at least 1"):
        jd.explain(target, images[0], described(), neurons=0)

    def ignorant(params, pixels, tap):
        maps = plain_target.patches(params, pixels)
        tap("patches", maps)
        return plain_target.head(params, maps)

    lost = plain_target.plain_target(apply=ignorant)
    with pytest.raises(
        jd.InputError, match="Nothing of target can be explained: no neuron of 'patches'"
    ):
        jd.explain(lost, images[0], described())
