"""Labels judged on other images: what is measured on them, refused and said."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.config import Config
from jaxdesc.errors import InputError
from jaxdesc.evaluation.judging.ablation import NOTHING, logits_without
from jaxdesc.evaluation.judging.control import against_control
from jaxdesc.evaluation.judging.judgement import summary
from jaxdesc.evaluation.judging.labels import Label
from jaxdesc.evaluation.judging.measures import measured
from jaxdesc.evaluation.judging.scores import BEST, RANDOM
from jaxdesc.images.split import kept_aside, side_of
from jaxdesc.models.dictionary import RELU, Coding, Dictionary
from jaxdesc.pipeline.judging import Judging, judge
from jaxdesc.result import Exemplar, Neuron, Result
from jaxdesc.scenes.source import Scenes
from jaxdesc.scenes.world import CLASSES
from tests import plain_target
from tests.album import Album
from tests.runs import begin, changed

CONFIG = Config.from_dict(
    {
        "images": {"batch": 16, "source": "scenes:count=120"},
        "clip": {"batch": 20},
        "score": {"exemplars": 5},
        "target": {"layer": "patches"},
    }
)
CONCEPTS = ["star", "red", "grass", "cat", "blue heart", "animal"]
OTHER = Scenes("count=210,seed=3")


@pytest.fixture(scope="module")
def target():
    names = tuple(CLASSES.values())
    return plain_target.plain_target(plain_target.parameters(len(names)), names)


@pytest.fixture(scope="module")
def run(target, clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    return begin(folder, CONFIG, target, clip, Scenes("count=120"), CONCEPTS)


def activations(target, source):
    squash = target.preprocess.squash
    pixels = np.stack([squash(source[index].image) for index in range(len(source))])
    return np.asarray(target.activations(pixels, "patches"))


def test_labels_are_scored_by_the_truth_of_other_images(run, target):
    partly = Label(("red", "unheard of"), (2.0, 1.0))
    given = {"mine": {0: Label(("red",)), 4: Label(("unheard of",)), 5: partly}}
    found = judge(run, given, Judging(images=OTHER, methods=("WWW",)))
    assert found.sources == ("run", "mine", "WWW", RANDOM, BEST)
    assert (found.count, found.presence, found.held_out) == (210, "truth", True)
    values, shown = activations(target, OTHER), OTHER.shows(CONCEPTS)
    for source in ("run", "WWW"):
        for unit, label in found.labels[source].items():
            row = shown[[CONCEPTS.index(label.concepts[0])]]
            row = row if row.any() else row * np.nan  # no image shows it
            for name, (expected,) in measured(values[:, unit], row).items():
                score = found.scores[source][name][unit]
                assert score == pytest.approx(expected, abs=1e-4, nan_ok=True), (source, unit, name)
    known = np.isfinite(found.values("mine", "correlation"))
    assert np.flatnonzero(known).tolist() == [0, 5]
    assert found.notes == (
        "weighted sums of mine with concepts that can't be judged, which count as absent from all "
        "images: 1",
    )
    line = summary(found)["mine"]["correlation"]
    assert line.units == 2
    gaps = (found.values("mine", "correlation") - found.values("run", "correlation"))[known]
    assert line.against["run"].mean == pytest.approx(np.nanmean(gaps))


def test_a_scorer_that_named_the_units_is_marked(run):
    found = judge(run, {}, Judging(images=OTHER, presence="scorer", ceiling=False))
    assert found.presence == "scorer"
    assert found.ceilings == {}
    assert any("which named the units too" in note for note in found.notes)
    assert any("fitted on 210 labelled images" in note for note in found.notes)
    again = judge(
        run, {}, Judging(images=OTHER, presence="scorer")
    )  # the vocabulary is encoded before
    np.testing.assert_allclose(
        again.values("run", "correlation"), found.values("run", "correlation"), atol=1e-5
    )
    begun = replace(run, seconds={})
    judge(begun, {}, Judging(images=OTHER, presence="scorer", ceiling=False))
    assert begun.seconds == {}  # everything is read


def test_labels_judge_what_classes_are_called(run):
    found = judge(run, {}, Judging(images=OTHER, presence="labels"))
    assert any("can't be judged" in note for note in found.notes)
    for unit, label in found.labels["run"].items():
        named = label.concepts[0] in ("star", "cat")
        assert np.isnan(found.values("run", "correlation")[unit]) == (not named)


def test_images_that_chose_labels_do_not_judge_them(run):
    for images in (None, Scenes("count=120")):
        with pytest.raises(InputError, match="chose the labels, and would judge their own choice"):
            judge(run, {}, Judging(images=images))
    found = judge(run, {}, Judging(same=True, ceiling=False))
    assert not found.held_out
    assert any(note.startswith("not held out") for note in found.notes)


def test_a_split_judges_on_what_it_kept_aside(target, clip, tmp_path):
    config = changed(CONFIG, images={"split": 0.25})
    source = side_of(Scenes("count=120"), config.images)
    run = begin(tmp_path, config, target, clip, source, CONCEPTS)
    found = judge(run, {}, Judging(ceiling=False))
    assert (found.count, found.held_out) == (30, True)
    with pytest.raises(InputError, match="chose the labels"):  # half of them did
        judge(run, {}, Judging(images=Scenes("count=120")))
    aside = kept_aside(source, config.images)
    values = activations(target, aside)
    unit = int(np.flatnonzero(np.isfinite(found.values("run", "correlation")))[0])
    row = aside.shows(found.labels["run"][unit].concepts)
    expected = measured(values[:, unit], row)["correlation"][0]
    assert found.values("run", "correlation")[unit] == pytest.approx(expected, abs=1e-4)


def test_unknown_wishes_are_refused(run):
    for options, message in (
        (
            Judging(images=OTHER, presence="guess"),
            "Presence by 'guess' is not known for the images of",
        ),
        (Judging(images=OTHER, methods=("mine",)), "labels 'mine' have the name of another source"),
        (Judging(images=OTHER, methods=("wpim",)), "Unknown method 'wpim': expected one of WWW"),
    ):
        with pytest.raises(InputError, match=message):
            judge(run, {"mine": {0: Label(("star",))}}, options)
    with pytest.raises(InputError, match=r"^The images of album of 4, 0 are in no folders: give a"):
        judge(run, {}, Judging(images=OTHER, made=Album(4)))
    logits = replace(run, config=changed(run.config, target={"layer": "fc"}))
    with pytest.raises(InputError, match="Ablation zeroes units before the logits, but 'fc' is"):
        judge(logits, {}, Judging(images=OTHER, ablate=2))


class Folders(Scenes):
    """Scenes in a folder for each of two concepts, and one in a third."""

    def identify(self, index):
        return f"{('red', 'Blue_Heart')[index % 2] if index else 'cat'}/{index}.png"


def test_cosy_compares_folders_with_the_images_that_judge(run, target):
    made = Folders("count=9,seed=5")
    given = {
        "mine": dict(enumerate(Label((text,)) for text in ("red", "blue heart", "cat", "sea")))
    }
    found = judge(run, given, Judging(images=OTHER, made=made, ceiling=False))
    ours, others = activations(target, made), activations(target, OTHER)
    for unit, rows in ((0, [2, 4, 6, 8]), (1, [1, 3, 5, 7])):
        expected = against_control(ours[rows, unit], others[:, unit])
        assert found.controls["mine"][unit].auc == pytest.approx(expected.auc, abs=1e-4)
        assert found.values("mine", "cosy_mad")[unit] == pytest.approx(expected.mad.mean, rel=1e-3)
    assert set(found.controls["mine"]) == {0, 1}
    (note,) = (note for note in found.notes if note.startswith("CoSy"))
    assert "have no folder of two images" in note
    assert "cat" in note
    assert "sea" in note


def test_ablation_compares_images_with_and_without(run, target):
    given = {"mine": {unit: Label(("red",)) for unit in range(10)}}
    found = judge(run, given, Judging(images=OTHER, ablate=4, each=5, ceiling=False))
    zeroed = np.flatnonzero(np.isfinite(found.values("mine", "ablation"))).tolist()
    assert len(zeroed) == 4
    squash = target.preprocess.squash
    pixels = np.stack([squash(OTHER[index].image) for index in range(len(OTHER))])
    whole = np.asarray(target.logits(pixels))
    classes, shown = whole.argmax(axis=1), OTHER.shows(["red"])[0] == 1
    for unit in zeroed:
        alone = np.array([unit], np.int32)
        without = [np.asarray(logits_without(target, "patches", p, alone))[0] for p in pixels]
        falls = (whole - np.stack(without))[np.arange(len(whole)), classes]
        order = np.random.default_rng(0).permutation(len(OTHER))
        some = [*order[shown[order]][:5], *order[~shown[order]][:5]]
        expected = falls[some[:5]].mean() - falls[some[5:]].mean()
        assert found.values("mine", "ablation")[unit] == pytest.approx(expected, abs=1e-4)
    assert "ablation_gap" in found.measures


def test_each_unit_is_zeroed_alone(target, rng):
    pixels = rng.integers(256, size=(32, 32, 3)).astype(np.uint8)
    units = np.array([NOTHING, 2, 7], np.int32)
    found = np.asarray(logits_without(target, "patches", pixels, units))
    normal = jnp.asarray(target.preprocess.normalise(pixels[None]))
    for row, unit in enumerate(units):

        def tap(name, x, unit=unit):
            return x.at[..., unit].set(0) if unit != NOTHING else x

        expected = target.apply(target.params, normal, tap)
        np.testing.assert_allclose(found[row], expected[0], atol=1e-5)


def test_latents_are_zeroed_in_what_is_decoded(clip, target, tmp_path, rng):
    params = {
        "W_enc": rng.normal(size=(10, 14)).astype(np.float32),
        "b_enc": np.zeros(14, np.float32),
        "W_dec": rng.normal(size=(14, 10)).astype(np.float32),
        "b_dec": np.zeros(10, np.float32),
    }
    latents = target.with_dictionary("patches", Dictionary(Coding(RELU), params, "made up"))
    config = changed(CONFIG, target={"layer": "patches/sae"})
    run = begin(tmp_path, config, latents, clip, Scenes("count=120"), CONCEPTS)
    found = judge(run, {}, Judging(images=OTHER, ablate=14, each=4))
    assert np.isfinite(found.values("run", "ablation")).any()
    assert found.units == 14
    pixels = rng.integers(256, size=(32, 32, 3)).astype(np.uint8)
    zeroed = logits_without(latents, "patches/sae", pixels, np.array([3], np.int32))
    normal = jnp.asarray(target.preprocess.normalise(pixels[None]))

    def tap(name, x):
        codes = jnp.maximum(x @ params["W_enc"], 0)
        return x - codes[..., 3:4] * params["W_dec"][3][None, None, None]

    expected = target.apply(target.params, normal, tap)
    np.testing.assert_allclose(zeroed, expected, atol=1e-3, rtol=1e-4)
    with pytest.raises(InputError, match="latents of a dictionary: judge the run's labels"):
        judge(run, {}, Judging(images=OTHER, methods=("WWW",)))


def test_from_python(target, clip):
    found = jd.judge(
        target,
        clip,
        images=Scenes("count=120"),
        concepts=CONCEPTS,
        on=OTHER,
        labels={
            "mine": {2: "star"},
            "a result": Result((Neuron("patches", 1, (("red", 0.5),), 1, 1, ()),)),
        },
        layer="patches",
        quiet=True,
        config=CONFIG,
    )
    assert found.labels["mine"][2].concepts == ("star",)
    assert found.labels["a result"] == {1: Label(("red",))}
    assert np.isfinite(found.values("mine", "correlation")[2])


def test_a_result_is_judged_as_it_is(target, clip):
    """Also one with other choices than the default ones, which would be described otherwise."""
    mine = tuple(Neuron("patches", unit, (("red", 0.5),), 1, 1, ()) for unit in range(10))
    about = {"images": Scenes("count=120"), "concepts": CONCEPTS, "on": OTHER, "quiet": True}
    found = jd.judge(target, clip, found=Result(mine), config=CONFIG, **about)
    assert {label.concepts for label in found.labels["run"].values()} == {("red",)}
    assert found.layer == "patches"
    with pytest.raises(InputError, match=r"^found is of layer 'patches', but layer is 'fc'"):
        jd.judge(target, clip, found=Result(mine), layer="fc", **about)
    chosen = (Exemplar("picture 3", 1.0, (), 3),)
    other = Result((Neuron("patches", 0, (("red", 0.5),), 1, 1, chosen),))
    with pytest.raises(
        InputError, match=r"^found has the exemplar 'picture 3', which is not image 3"
    ):
        jd.judge(target, clip, found=other, **about)
