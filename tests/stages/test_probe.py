"""The pass over the images: several views at once, and images that can't be used."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import jaxdesc as jd
from jaxdesc import pipeline
from jaxdesc.config import AblationConfig, Config
from jaxdesc.errors import InputError
from jaxdesc.images.folder import Folder
from jaxdesc.images.windows import VIEWS
from jaxdesc.result import Skipped
from jaxdesc.scenes.world import render
from jaxdesc.stages import activate as activating
from jaxdesc.stages.activate import activate, activate_all
from jaxdesc.stages.embed import embed
from jaxdesc.stages.look import Windows
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.stages.select import select
from jaxdesc.store import Store
from jaxdesc.vocabulary.vocabulary import load_vocabulary
from tests import plain_target
from tests.album import Album, Counting

CONFIG = Config.from_dict(
    {
        "images": {"batch": 4, "max_skipped": 0.5},
        "clip": {"batch": 4},
        "score": {"exemplars": 3, "alpha": 0.5},
    }
)
COUNT = 13
BROKEN = {"00.png": b"", "07.png": b"text", "12.png": b"\x89PNG\r\n\x1a\n half of an image"}
CONCEPTS = ["star", "cat", "sky"]


@pytest.fixture(scope="module")
def target():
    return plain_target.plain_target()


@pytest.fixture
def folder(tmp_path):
    """Thirteen pictures."""
    root = tmp_path / "photos"
    root.mkdir()
    for index in range(COUNT):
        Image.fromarray(render("probe", 0, index).pixels).save(root / f"{index:02d}.png")
    return root


@pytest.fixture
def broken(folder):
    """Three of which can't be decoded: the first, one in the middle and the last."""
    for name, content in BROKEN.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def begin(tmp_path, target, clip):
    def begin(source, config=CONFIG, target=target, workdir="run"):
        inputs = Inputs(target, clip, source, load_vocabulary(CONCEPTS), clip)
        return Run(config, inputs, Store(tmp_path / workdir), quiet=True)

    return begin


def with_view(config, view):
    return replace(config, crop=replace(config.crop, view=view))


# Several views in one pass.


def of_views(artifacts):
    """The artifacts of the run's only layer, by their views."""
    assert {key.layer for key in artifacts} == {"fc"}
    return {key.view: artifact for key, artifact in artifacts.items()}


ARRAYS = ("activations", "boxes", "centres", "fallback", "skipped")


def test_one_pass_for_all_views(begin, monkeypatch):
    calls, forward = [], jd.Target.activate

    def activate_counted(self, views, *options):
        calls.append(len(views))
        return forward(self, views, *options)

    monkeypatch.setattr(jd.Target, "activate", activate_counted)
    source = Counting(COUNT)
    together = of_views(activate_all(begin(source), VIEWS))
    assert list(together) == list(VIEWS)
    assert source.decoded == dict.fromkeys(range(COUNT), 1)
    assert calls == [4] * (len(VIEWS) * 4)  # one forward pass per view and batch
    assert len({artifact.name for artifact in together.values()}) == len(VIEWS)
    for view in VIEWS:
        alone = activate(begin(source, with_view(CONFIG, view), workdir="alone"))
        assert alone.name == together[view].name
        assert alone.values == together[view].values
        for array in ARRAYS:
            np.testing.assert_array_equal(alone.read(array), together[view].read(array))
        again = activate(begin(source, with_view(CONFIG, view)))
        assert (alone.computed, again.computed) == (True, False)


def test_only_views_that_are_missing_are_computed(begin):
    source = Counting(COUNT)
    first = of_views(activate_all(begin(source), ["centre", "attention"]))
    run = begin(source)
    more = of_views(activate_all(run, ["centre", "random", "attention", "random"]))
    assert [view for view, artifact in more.items() if artifact.computed] == ["random"]
    assert more["centre"].name == first["centre"].name
    assert source.decoded == dict.fromkeys(range(COUNT), 2)
    assert set(run.seconds) == {"activate"}


def test_a_batch_is_started_before_the_last_one_is_waited_for(begin, monkeypatch):
    events = []

    def start(*arguments):
        events.append("start")
        return began(*arguments)

    def finish(*arguments):
        events.append("finish")
        return finished(*arguments)

    began, finished = jd.Target.activate, activating._rows
    monkeypatch.setattr(jd.Target, "activate", start)
    monkeypatch.setattr(activating, "_rows", finish)
    activate_all(begin(Album(COUNT)), ["attention"])
    s, f = "start", "finish"
    assert events == [s, s, f, s, f, s, f, f]


def test_a_pass_that_fails_leaves_nothing(begin, tmp_path):
    broken = plain_target.network(head=lambda *given: np.nan * plain_target.head(*given))
    run = begin(Album(COUNT), target=plain_target.plain_target(apply=broken))
    with pytest.raises(InputError, match=r"^Layer 'fc' of target gives NaN"):
        activate_all(run, ["centre", "full"])
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["lock"]


# Images that can't be used.


def good_only(folder, tmp_path):
    """Copy a folder without its broken images."""
    other = tmp_path / "good"
    other.mkdir()
    for path in folder.iterdir():
        if path.name not in BROKEN:
            (other / path.name).write_bytes(path.read_bytes())
    return other


def shown(neuron):
    """Show a neuron as a reader sees it, up to the rounding of activations and scores."""
    exemplars = [(e.image, e.box, pytest.approx(e.activation)) for e in neuron.exemplars]
    return exemplars, [(text, pytest.approx(score, abs=1e-6)) for text, score in neuron.concepts]


@pytest.mark.parametrize(("view", "batch"), [("attention", 4), ("centre", 20)])
def test_it_is_as_if_they_were_not_there(view, batch, broken, begin, tmp_path):
    """But they keep their place, so that what is found elsewhere by index still holds."""
    config = with_view(replace(CONFIG, images=replace(CONFIG.images, batch=batch)), view)
    run = begin(Folder(str(broken)), config)
    skipped = np.array([f"{i:02d}.png" in BROKEN for i in range(COUNT)])
    activated = activate(run)
    np.testing.assert_array_equal(activated.read("skipped"), skipped)
    activations = activated.read("activations")
    assert np.isnan(activations[skipped]).all()
    assert np.isnan(activated.read("boxes")[skipped]).all()
    assert np.isnan(activated.read("centres")[skipped]).all()
    assert [image for image, _ in activated.values["skipped"]] == sorted(BROKEN)
    reference = activate(begin(Folder(str(good_only(broken, tmp_path))), config))
    np.testing.assert_allclose(activations[~skipped], reference.read("activations"), rtol=1e-5)
    assert activated.values["fallbacks"] == reference.values["fallbacks"]

    found = pipeline.describe(run)
    expected = pipeline.describe(begin(Folder(str(tmp_path / "good")), config))
    assert [shown(neuron) for neuron in found] == [shown(neuron) for neuron in expected]
    assert [(one.image, one.source) for one in found.skipped] == [
        (name, f"folder:{broken}") for name in sorted(BROKEN)
    ]
    assert found.skipped[0].reason == "is empty"
    assert all(one.reason.startswith("can't be decoded (") for one in found.skipped[1:])
    assert expected.skipped == ()


def test_no_fallback_is_counted_of_them(broken, begin):
    flat = plain_target.network(head=lambda *given: 0 * plain_target.head(*given))
    target = plain_target.plain_target(apply=flat)
    activated = activate(begin(Folder(str(broken)), target=target))
    assert activated.values["fallbacks"] == COUNT - len(BROKEN)
    np.testing.assert_array_equal(activated.read("fallback"), ~activated.read("skipped"))


def test_no_exemplar_even_of_a_neuron_that_is_always_negative(broken, begin):
    """All usable activations are below 0, so zeros for unusable images would win."""
    params = plain_target.parameters()
    params["bias"] -= 1000
    run = begin(Folder(str(broken)), target=plain_target.plain_target(params))
    assert (activate(run).read("activations")[1] < 0).all()
    chosen = select(run, activate(run)).read("images")
    assert not {0, 7, 12} & set(chosen.flat)
    assert (chosen >= 0).all()


def allowing(share):
    return replace(CONFIG, images=replace(CONFIG.images, max_skipped=share))


def test_how_many_may_be_skipped(broken, begin):
    message = (
        rf"^3 of the 13 images of folder:{broken} can't be used, more than the share 0\.23 "
        r"that config\.images\.max_skipped allows: 00\.png \(is empty\), "
        r"07\.png \(.*\), 12\.png \(.*\); repair or remove them, or allow a larger "
        r"share\.$"
    )
    run = begin(Folder(str(broken)), allowing(0.23))
    with pytest.raises(InputError, match=message):
        activate(run)
    assert {one.image for one in run.skipped} == set(BROKEN)
    # Nothing that was computed is lost.
    allowed = begin(Folder(str(broken)), allowing(3 / 13))
    assert not activate(allowed).computed
    assert allowed.skipped == run.skipped


def test_of_many_the_first_few_are_named_and_none_is_none(folder, begin):
    run = begin(Folder(str(folder)), allowing(0.0))
    activate(run)
    assert run.skipped == set()
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(
        InputError, match=r"^13 of the 13 .*: 00\.png .*, 02\.png \(.*\) and 10 more;"
    ):
        activate(begin(Folder(str(folder))))


def test_more_exemplars_than_images_that_can_be_used(broken, begin):
    config = replace(CONFIG, score=replace(CONFIG.score, exemplars=11))
    message = (
        r"^config\.score\.exemplars is 11, but only 10 of the 13 images of folder:.* can be used"
    )
    with pytest.raises(InputError, match=message):
        activate(begin(Folder(str(broken)), config))


def test_an_image_that_breaks_in_between_is_an_error(folder, begin, monkeypatch):
    source = Folder(str(folder))
    monkeypatch.setattr(source, "fingerprint", lambda: "as it was")
    run = begin(source)
    activated = activate(run)
    selected = select(run, activated)
    best = source.files[int(selected.read("images")[0, 0])]
    best.write_bytes(b"")
    with pytest.raises(InputError, match=rf"^The image '{best}' is empty: repair or remo"):
        embed(run, Windows.of_images(activated), selected)


def test_ablations_note_them_too(broken, begin):
    target = plain_target.plain_target(classes=tuple((name,) for name in "abcdef"))
    options = AblationConfig(views=("centre", "full"), kappas=(0.0, 16.0))
    run = begin(Folder(str(broken)), replace(CONFIG, ablation=options), target)
    cells = list(pipeline.sweep(run, pipeline.Grid.of_ablation(run.config)))
    assert len(cells) == 4
    assert {one.image for one in run.skipped} == set(BROKEN)


def test_a_notebook_sees_them(broken, target, clip, tmp_path):
    def ask(**more):
        return jd.describe(
            target, clip, images=f"folder:{broken}", concepts=CONCEPTS, exemplars=3, quiet=True,
            workdir=tmp_path / "work", **({"config": CONFIG} | more),
        )  # fmt: skip

    skipped = tmp_path / "work" / "skipped.csv"
    for _ in range(2):  # computed, and read
        found = ask()
        assert found.skipped[0] == Skipped("00.png", "is empty", f"folder:{broken}")
        assert [one.image for one in found.skipped] == sorted(BROKEN)
        with skipped.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        assert rows == [["image", "reason", "source"], *map(list, found.skipped)]
        skipped.unlink()
    with pytest.raises(InputError, match="3 of the 13 images"):
        ask(config=Config())
    assert len(skipped.read_text(encoding="utf-8").splitlines()) == 4
