"""A comparison is the methods themselves on the run's arrays, and its certainty their own."""

from dataclasses import replace

import numpy as np
import pytest
from jaxdesc.evaluation.null import null, significance
from jaxdesc.evaluation.stability import stability

from jaxdesc.config import Config, ScoreConfig
from jaxdesc.errors import InputError, UnusableImage
from jaxdesc.evaluation.comparison import AGAINST, compare, methods_of
from jaxdesc.evaluation.methods import METHODS, discovered
from jaxdesc.evaluation.statistics import bootstrap, mcnemar, paired, wilson
from jaxdesc.images.views import cut_view
from jaxdesc.models.encoder import ClipEncoder, load_clip
from jaxdesc.models.target import Target
from jaxdesc.pipeline import describe, probe_pass
from jaxdesc.scenes import captions
from jaxdesc.scenes.world import CLASSES
from jaxdesc.scoring import discover
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.store import Store
from jaxdesc.vocabulary.vocabulary import load_vocabulary
from tests import plain_target
from tests.album import Album
from tests.scoring.features import listed

SIX = tuple(CLASSES.values())[:6]
# Names of five classes of the six, one in capitals; phrases beside them.
CONCEPTS = [*captions.vocabulary()[::37], *(own[0] for own in SIX[1:]), SIX[0][0].upper()]
IMAGES, BROKEN = 110, 7
CONFIG = Config.from_dict(
    {
        "images": {"batch": 40, "max_skipped": 0.05},
        "clip": {"batch": 40},
        "score": {"kappa": 4.0, "alpha": 0.6, "exemplars": 5, "block": 16},
    }
)


class Damaged(Album):
    """One image in it can't be decoded."""

    def __getitem__(self, index):
        if index == BROKEN:
            raise UnusableImage(repr(self.identify(index)), "can't be decoded")
        return super().__getitem__(index)


@pytest.fixture(scope="module")
def clip(networks):
    return load_clip(str(networks.clip))


def begin(folder, clip, source=None, config=CONFIG, classes=SIX, params=None):
    target = plain_target.plain_target(params, classes)
    source = source or Damaged(IMAGES)
    inputs = Inputs(target, clip, source, load_vocabulary(CONCEPTS), clip)
    return Run(config, inputs, Store(folder), quiet=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory, clip):
    """The folder of a run whose neuron 2 is dead, what describe gave, its arrays, what compared."""
    folder = tmp_path_factory.mktemp("run")
    params = plain_target.parameters()
    params["weight"][:, 2] = 0
    described = describe(begin(folder, clip, params=params))
    run = begin(folder, clip, params=params)
    found = compare(run)
    return run, described, probe_pass(run), found


def test_every_image_that_can_be_used_is_encoded_and_nothing_else_is_computed(done, clip):
    run, described, probe, _ = done
    assert set(run.seconds) == {"embed"}
    assert len(probe.images) == len(probe.activations) == IMAGES - 1
    kept = [index for index in range(IMAGES) if index != BROKEN]
    own = [{e.index for e in neuron.exemplars} for neuron in described]
    assert [{kept[row] for row in rows} for rows in listed(probe.exemplars)] == own
    assert list(map(len, own)) == [5, 5, 0, 5, 5, 5]  # a dead neuron has none
    for neuron, rows in zip(described, listed(probe.exemplars), strict=True):
        values = [exemplar.activation for exemplar in neuron.exemplars]
        np.testing.assert_array_equal(probe.activations[rows, neuron.unit], values)
    np.testing.assert_array_equal(probe.dead, [unit == 2 for unit in range(6)])


def test_each_row_is_its_own_view(done, clip):
    run, _, probe, _ = done
    (folder,) = run.store.root.local.glob("activate-*")
    centres = run.store.root.at(folder.name)
    centres = centres.get(centres.open("centres"))
    for row in (0, BROKEN - 1, BROKEN, IMAGES - 2):
        index = row + (row >= BROKEN)
        example = run.inputs.source[index]
        y, x = centres[index]
        view = cut_view(clip.preprocess, CONFIG.crop, example.image, (y, x))[0]
        feature = np.asarray(clip.encode_views(view[None]))[0]
        np.testing.assert_allclose(probe.images[row], feature, atol=1e-5)


def test_a_line_is_the_method_called_directly(done):
    _, _, probe, found = done
    direct = METHODS | {
        "WWW": lambda own: discovered(own, 0.0, 0.6),
        "t-vMF": lambda own: discovered(own, 4.0, 0.6),
    }
    assert list(found.lines) == list(METHODS)
    values = {}
    for name, method in direct.items():
        hits, f1 = [], []
        for rows, names in zip(method(probe).selected, SIX, strict=True):
            selected = [CONCEPTS[row].lower() for row in rows] or ["none"]
            right = sum(name in selected for name in names)
            hits.append(float(right > 0))
            f1.append(2 * right / (len(selected) + len(names)))
        values[name] = np.array(hits), np.array(f1)
        line = found.lines[name]
        np.testing.assert_array_equal(line.metrics.values["hit"], hits)
        np.testing.assert_allclose(line.metrics.values["f1"], f1)
        assert line.seconds > 0
    for name, (hits, f1) in values.items():
        line, (other_hits, other_f1) = found.lines[name], values[AGAINST]
        assert line.bounds == {"hit": wilson(int(sum(hits)), 6), "f1": bootstrap(f1)}
        assert line.differences == {"hit": paired(hits, other_hits), "f1": paired(f1, other_f1)}
        assert line.test == mcnemar(hits == 1, other_hits == 1)
    # The methods can be told apart, and so can capitals.
    assert len({tuple(line.metrics.values["f1"]) for line in found.lines.values()}) > 3
    assert any(line.metrics.values["hit"][0] for line in found.lines.values())


def test_the_certainty_is_that_of_the_runs_own_concepts(done):
    _, described, probe, found = done
    rows = found.certainty.rows
    assert [(row.unit, row.concept) for row in rows] == [
        (neuron.unit, text) for neuron in described for text, _ in neuron.concepts
    ]
    assert not [row for row in rows if row.unit == 2]
    arrays = probe.images, probe.exemplars, probe.concepts, probe.base
    selection = discover(*arrays, 4.0, 0.6).without(probe.dead)
    pool, _ = probe.exemplars.distinct()  # the run's own distinct exemplar views
    chance = null(probe.images[pool], probe.concepts, probe.base, 4.0, 0.6, [5])
    judged = significance(chance, selection, probe.exemplars.counts)
    kept = stability(*arrays, 4.0, 0.6, selection).selected
    np.testing.assert_allclose([row.z for row in rows], judged.z, rtol=1e-4)
    np.testing.assert_allclose([row.q for row in rows], judged.q, atol=2e-3)
    np.testing.assert_allclose([row.stability for row in rows], kept, atol=0.02)
    best = [min((row.q for row in rows if row.unit == unit), default=1) for unit in range(6)]
    assert found.certainty.unnamed == pytest.approx(np.mean(np.array(best) > 0.05))
    assert found.certainty.unnamed >= 1 / 6  # the dead one
    hubs = {CONCEPTS[hub]: chance.share[hub] for hub in chance.hubs}
    assert found.certainty.hubs == pytest.approx(hubs)
    assert found.kappa == 4.0


def test_of_a_run_with_the_cosine_the_papers_method_has_the_usual_kappa(done):
    _, _, probe, _ = done
    methods = methods_of(ScoreConfig(kappa=0.0, alpha=0.6, exemplars=5))
    for name, kappa in (("WWW", 0.0), (AGAINST, 16.0)):
        own, expected = methods[name](probe), discovered(probe, kappa, 0.6)
        np.testing.assert_array_equal(own.scores, expected.scores)
        np.testing.assert_array_equal(own.concepts, expected.concepts)


def test_a_second_start_runs_no_network(done, clip, monkeypatch):
    run, *_, found = done
    for network in ("encode_views", "encode_texts"):
        monkeypatch.setattr(ClipEncoder, network, None)
    monkeypatch.setattr(Target, "activations", None)
    again = replace(run, seconds={})
    second = compare(again)
    assert again.seconds == {}
    assert second.certainty == found.certainty
    for name, line in second.lines.items():
        assert line.bounds == found.lines[name].bounds


def test_what_can_not_be_compared(tmp_path, clip):
    message = "^Methods are compared by Hit Rate and F1, but the neurons of layer 'fc' have no"
    with pytest.raises(InputError, match=message):
        compare(begin(tmp_path, clip, classes=()))
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="Unknown method 'wpim': expected one of WWW"):
        compare(begin(tmp_path, clip), ["WWW", "wpim"])
    able = "WWW,t-vMF,cos,cos_cubed,wpmi,INVERT"
    message = (
        "^album of 39, 0 holds 39 images, but rank_reorder needs 40 and soft_wpmi needs 100: give "
        f"more images, or ask for other methods, --methods={able}\\.$"
    )
    with pytest.raises(InputError, match=message):
        compare(begin(tmp_path, clip, Album(39)))
    assert not list(tmp_path.iterdir())
    found = compare(begin(tmp_path, clip, Album(39)), ["wpmi", "cos"])
    assert list(found.lines) == [AGAINST, "cos", "wpmi"]
