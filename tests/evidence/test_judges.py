"""The study of judges: labels that are known to be right or wrong, and orders that are known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from jaxdesc.evaluation.judging.scores import BEST, RANDOM
from jaxdesc.evaluation.metrics import hit
from jaxdesc.evidence import judges
from jaxdesc.evidence.world import SETTING
from jaxdesc.models.architectures import load_target
from jaxdesc.models.taps import untouched
from jaxdesc.scenes import captions
from jaxdesc.scenes.attributes import KINDS, NAMES
from jaxdesc.scenes.captions import phrases, vocabulary
from jaxdesc.scenes.source import Scenes
from jaxdesc.scenes.world import CLASSES


def test_mixtures_have_the_share_of_right_labels_that_they_say():
    for share in (1.0, 0.75, 0.25):
        labels = judges.ladder(share)
        right = [hit(label.concepts, NAMES[unit]) for unit, label in labels.items()]
        assert len(right) == 59  # no phrase says that a thing is plain
        assert sum(right) == pytest.approx(share * 59, abs=1)


def test_misleading_labels_are_wrong_in_the_way_that_they_say():
    truth = Scenes("count=640").shows(vocabulary())
    row = {text: truth[place] for place, text in enumerate(vocabulary())}
    for kind in (judges.PART, judges.WHOLE):
        for unit, label in judges.misleading(kind).items():
            ours, other = row[NAMES[unit][0]], row[label.concepts[0]]
            assert not hit(label.concepts, NAMES[unit])
            less, more = (other, ours) if kind == judges.PART else (ours, other)
            assert (less <= more).all(), (kind, label)
            assert less.sum() < more.sum()
    correlated = Scenes("count=320,correlation=1")
    shown = correlated.shows([each.text for each in phrases()])
    place = {each.text: k for k, each in enumerate(phrases())}
    labels = judges.misleading(judges.COMPANION)
    assert len(labels) == len(CLASSES)
    for unit, label in labels.items():
        of_class = shown[place[NAMES[unit][0]]] == 1
        assert shown[place[label.concepts[0]]][of_class].all()
    assert all(label.bias == 1e3 for label in judges.misleading(judges.BIAS).values())


def test_the_order_is_spearmans(rng):
    scores, truth = rng.random((6, 40)), (rng.random((6, 40)) < 0.5).astype(float)
    scores[2, 5:] = np.nan
    found = judges.rank_correlation(scores, truth)
    expected = stats.spearmanr(np.nanmean(scores, axis=1), truth.mean(axis=1)).statistic
    assert found.mean == pytest.approx(expected)
    assert found.low < found.mean < found.high
    perfect = truth.mean(axis=1)[:, None] + np.zeros((6, 40))
    assert judges.rank_correlation(perfect, truth).mean == pytest.approx(1)
    assert judges.rank_correlation(np.full((6, 40), np.nan), truth) is None


def test_right_labels_above_wrong_ones_of_a_unit():
    truth = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, np.nan]])
    scores = np.array([[0.5, 0.5], [0.25, 0.5], [0.75, 9.0]])
    assert judges._within(scores, truth).mean == pytest.approx((0.5 + 0.5) / 2)


def test_the_head_sums_one_attribute_of_each_kind():
    bare = load_target("scenes:attributes")
    source = Scenes("count=2")
    pixels = np.stack([bare.preprocess.squash(source[index].image) for index in range(2)])
    normal = bare.preprocess.normalise(pixels)
    units = np.maximum(np.asarray(bare.apply(bare.params, normal, untouched)) + judges.REST, 0)
    found = np.asarray(judges._Head(bare.apply)(bare.params, normal, untouched))
    best = sum(units[:, kind == KINDS].max(axis=1) for kind in judges.READ)
    np.testing.assert_allclose(found.max(axis=1), best, rtol=1e-5)
    counts = [(kind == KINDS).sum() for kind in judges.READ]
    assert found.shape == (2, np.prod(counts))


@pytest.mark.full
def test_tables_of_a_small_study(tmp_path, monkeypatch):
    monkeypatch.setattr(judges, "MADE", 4)
    images = replace(SETTING.images, source="scenes:split=probe,seed=0,count=200")
    means, order, fooled, sanity = judges.tables(
        tmp_path,
        images="scenes:split=probe,seed=1,count=240",
        correlated="scenes:split=probe,seed=1,count=240,correlation=0.9",
        methods=("WWW", "t-vMF", "cos"),
        config=replace(SETTING, images=images),
    )
    assert means.at("right", presence="truth", labels="100% right").mean == 1
    assert means.at("right", presence="truth", labels=BEST) is None
    best, chance = (
        means.at("correlation", presence="truth", labels=source).mean
        for source in ("100% right", RANDOM)
    )
    assert best > 0.4 > 0.1 > abs(chance)
    assert means.at("cosy_auc", presence="scorer", labels="WWW") is None
    assert order.at("order of all", presence="truth", measure="correlation").mean > 0.7
    assert order.at("right above wrong", presence="truth", measure="iou@0.05").mean > 0.8
    assert fooled.at("fooled", label="a part", measure="correlation").mean < 0.2
    assert {row[0] for row in sanity.rows} >= {"correlation", "iou@0.05"}
    assert all(len(row) == len(table.columns) for table in (means, order) for row in table.rows)


def test_made_scenes_show_their_phrase():
    made = judges.Made(("blue heart", "grass"))
    assert len(made) == 2 * judges.MADE
    assert made.identify(judges.MADE + 1) == "grass/01.png"
    assert made[0].image.size == made[judges.MADE].image.size
    assert captions.vocabulary().count("grass") == 1
