"""Every method on one run's probe pass, against the methods called directly."""

from dataclasses import replace

import numpy as np
import pytest

from jaxdesc.config import Config, ScoreConfig
from jaxdesc.errors import InputError, UnusableImage
from jaxdesc.evaluation.methods import AGAINST, METHODS, Method, discovered
from jaxdesc.evaluation.statistics import bootstrap, mcnemar, paired, proportion
from jaxdesc.images.views import cut_view
from jaxdesc.models.encoder import Namer
from jaxdesc.models.target import Target
from jaxdesc.pipeline import compare, describe, probe_pass
from jaxdesc.scenes import captions
from jaxdesc.scenes.world import CLASSES
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.store import Store
from jaxdesc.vocabulary.vocabulary import load_vocabulary
from tests import plain_target
from tests.album import Album
from tests.scoring.features import listed

SIX = tuple(CLASSES.values())[:6]
# Phrases, and names of five classes of the six, one in capitals.
CONCEPTS = [*captions.vocabulary()[::37], *(names[0] for names in SIX[1:]), SIX[0][0].upper()]
IMAGES, BROKEN, DEAD = 110, 7, 2
CONFIG = Config.from_dict(
    {
        "images": {"batch": 40, "max_skipped": 0.05},
        "clip": {"batch": 20},
        "score": {"kappa": 4.0, "alpha": 0.6, "exemplars": 5, "block": 16},
    }
)


class Damaged(Album):
    """An album with one image that can't be decoded."""

    def __getitem__(self, index):
        if index == BROKEN:
            raise UnusableImage(repr(self.identify(index)), "can't be decoded")
        return super().__getitem__(index)


def begin(folder, clip, source=None, classes=SIX, params=None):
    target = plain_target.plain_target(params, classes)
    source = source or Damaged(IMAGES)
    inputs = Inputs(target, clip, source, load_vocabulary(CONCEPTS), clip)
    return Run(CONFIG, inputs, Store(folder), quiet=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory, clip):
    """A run, its result, its arrays and the comparison of all methods."""
    folder = tmp_path_factory.mktemp("run")
    params = plain_target.parameters()
    params["weight"][:, DEAD] = 0
    described = describe(begin(folder, clip, params=params))
    run = begin(folder, clip, params=params)
    found = compare(run)
    return run, described, probe_pass(run), found


def test_every_image_that_can_be_used_is_encoded_and_nothing_else_is_computed(done, clip):
    run, described, probe, _ = done
    assert set(run.seconds) == {"embed", "chances"}
    assert len(probe.images) == len(probe.activations) == IMAGES - 1
    kept = [index for index in range(IMAGES) if index != BROKEN]
    exemplars = [{e.index for e in neuron.exemplars} for neuron in described]
    assert [{kept[row] for row in rows} for rows in listed(probe.exemplars)] == exemplars
    assert [len(indices) for indices in exemplars] == [5, 5, 0, 5, 5, 5]
    np.testing.assert_array_equal(probe.dead, np.arange(6) == DEAD)
    (folder,) = run.store.root.local.glob("activate-*")
    place = run.store.root.at(folder.name)
    centres = place.get(place.open("centres"))
    for row in (0, BROKEN, IMAGES - 2):
        image = run.inputs.source[kept[row]].image
        view = cut_view(clip.preprocess, CONFIG.crop, image, tuple(centres[kept[row]]))
        feature = np.asarray(clip.encode_views(view[None]))[0]
        np.testing.assert_allclose(probe.images[row], feature, atol=1e-5)


def test_a_line_is_the_method_called_directly(done):
    _, described, probe, found = done
    assert list(found.lines) == list(METHODS)
    score = replace(CONFIG.score, kappa=0.0)
    direct = {name: method.select(probe, CONFIG.score) for name, method in METHODS.items()}
    direct |= {"WWW": discovered(probe, score), AGAINST: discovered(probe, CONFIG.score)}
    values = {}
    for name, selected in direct.items():
        assert not len(selected[DEAD])
        texts = [[CONCEPTS[row].lower() for row in rows] or ["none"] for rows in selected]
        right = [sum(n in own for n in names) for own, names in zip(texts, SIX, strict=True)]
        hits = np.array(right) > 0
        f1 = 2 * np.array(right) / [len(p) + len(g) for p, g in zip(texts, SIX, strict=True)]
        values[name] = hits.astype(float), f1
    other_hits, other_f1 = values[AGAINST]
    for name, (hits, f1) in values.items():
        line = found.lines[name]
        np.testing.assert_array_equal(line.metrics.values["hit"], hits)
        np.testing.assert_allclose(line.metrics.values["f1"], f1)
        assert line.bounds["hit"] == proportion(int(sum(hits)), 6)
        assert line.bounds["f1"] == bootstrap(f1)
        assert line.differences["hit"] == paired(hits, other_hits)
        assert line.differences["f1"] == paired(f1, other_f1)
        assert line.test == mcnemar(hits == 1, other_hits == 1)
        assert line.seconds > 0
    # The methods can be told apart, and capitals are the same name.
    assert len({tuple(line.metrics.values["f1"]) for line in found.lines.values()}) > 3
    assert any(line.metrics.values["hit"][0] for line in found.lines.values())
    assert found.kappa == 4.0
    assert found.result.neurons == described.neurons


def test_a_method_registered_from_outside(done, monkeypatch):
    run, _, _, _ = done
    mine = Method(lambda probe, options: [np.arange(3)] * probe.activations.shape[1])
    monkeypatch.setitem(METHODS, "mine", mine)
    line = compare(run, ["mine"]).lines["mine"]
    texts = {text.lower() for text in CONCEPTS[:3]}
    expected = [float(bool(texts & set(names))) for names in SIX]
    np.testing.assert_array_equal(line.metrics.values["hit"], expected)


def test_after_a_run_with_the_cosine_the_papers_method_has_the_usual_kappa(done):
    _, _, probe, _ = done
    options = ScoreConfig(kappa=0.0, alpha=0.6, exemplars=5)
    usual = METHODS[AGAINST].select(probe, options)
    for found, expected in zip(usual, discovered(probe, replace(options, kappa=16.0)), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_second_start_runs_no_network(done, monkeypatch):
    run, *_, found = done
    monkeypatch.setattr(Namer, "encode_views", None)
    monkeypatch.setattr(Namer, "encode_texts", None)
    monkeypatch.setattr(Target, "activations", None)
    again = replace(run, seconds={})
    second = compare(again)
    assert again.seconds == {}
    for name, line in second.lines.items():
        assert line.bounds == found.lines[name].bounds


def test_what_can_not_be_compared(tmp_path, clip):
    message = "^Methods are compared by Hit Rate and F1, but the neurons of layer 'fc' have no"
    with pytest.raises(InputError, match=message):
        compare(begin(tmp_path, clip, classes=()))
    with pytest.raises(InputError, match="Unknown method 'wpim': expected one of WWW"):
        compare(begin(tmp_path, clip), ["WWW", "wpim"])
    able = "WWW,t-vMF,cos,cos_cubed,wpmi,INVERT"
    message = (
        "^album of 39, 0 holds 39 images, but rank_reorder needs 40 and soft_wpmi needs 100 and "
        f"linear needs 100: give more images, or ask for other methods, --methods={able}\\.$"
    )
    with pytest.raises(InputError, match=message):
        compare(begin(tmp_path, clip, Album(39)))
    assert not list(tmp_path.iterdir())
