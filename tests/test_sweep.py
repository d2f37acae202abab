"""A sweep is the runs that it stands for, with every network run once."""

import json
from collections import Counter
from dataclasses import fields, replace
from itertools import pairwise, product

import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.config import AblationConfig, Config
from jaxdesc.errors import InputError
from jaxdesc.models.encoder import ClipEncoder, load_clip
from jaxdesc.pipeline import describe
from jaxdesc.scenes import captions
from jaxdesc.scenes.world import CLASSES
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.stages.select import chosen
from jaxdesc.store import Artifact, Place, Store
from jaxdesc.sweep import Grid, sweep_probes
from jaxdesc.vocabulary.vocabulary import load_vocabulary
from tests import plain_target
from tests.album import Album

SIX = tuple(CLASSES.values())[:6]
CONCEPTS = [*captions.vocabulary()[::37], "Cat", "star"]
PROBES = {"own": 0, "other": 1}
# κ and α of its own are none of the grid's; the number of exemplars is the largest of them.
CONFIG = Config.from_dict(
    {
        "images": {"source": "own", "batch": 12},
        "clip": {"batch": 20},
        "score": {"kappa": 2.0, "alpha": 0.7, "exemplars": 5, "block": 16},
        "ablation": {"probes": tuple(PROBES)},
    }
)
GRID = Grid((0.0, 4.0), (0.5, 0.9), (2, 5), ("centre", "attention"))
IMAGES = 24


class Counting(Album):
    def __init__(self, count, seed=0):
        super().__init__(count, seed)
        self.decoded = Counter()

    def __getitem__(self, index):
        self.decoded[index] += 1
        return super().__getitem__(index)


class CountingClip(ClipEncoder):
    """Keeps what it encodes."""

    def encode_views(self, views):
        self.seen.append(np.asarray(views))
        return super().encode_views(views)

    def text_batches(self, texts):
        self.texts.update(texts)
        return super().text_batches(texts)


@pytest.fixture(scope="module")
def clip(networks):
    return load_clip(str(networks.clip))


@pytest.fixture(scope="module")
def target():
    return plain_target.plain_target(classes=SIX)


def counting(clip):
    own = CountingClip(**{field.name: getattr(clip, field.name) for field in fields(ClipEncoder)})
    own.__dict__.update(seen=[], texts=Counter())
    return own


def begin(folder, target, clip, source, config=CONFIG):
    inputs = Inputs(target, clip, source, load_vocabulary(CONCEPTS), clip)
    return Run(config, inputs, Store(folder), quiet=True)


def open_other(name):
    assert name == "other"  # the main one is open
    return Album(IMAGES, PROBES[name])


@pytest.fixture(scope="module")
def swept(tmp_path_factory, target, clip):
    """The folder of a sweep, its cells, its CLIP and its main probe set."""
    folder, own, source = tmp_path_factory.mktemp("sweep"), counting(clip), Counting(IMAGES)
    cells = list(sweep_probes(begin(folder, target, own, source), GRID, open_other))
    return folder, cells, own, source


def stages(folder):
    return Counter(path.name.rpartition("-")[0] for path in folder.glob("*-*"))


def test_no_network_runs_twice(swept, target):
    folder, cells, clip, source = swept
    runs = len(PROBES) * len(GRID.views)
    assert stages(folder) == {
        "encode": 1, "words": 1, "activate": runs, "select": runs, "embed": runs, "sweep": runs,
    }  # fmt: skip
    assert len(cells) == runs * 2 * 2 * 2
    # A look at one batch, one pass for both views, and one more for a view's exemplars.
    assert set(source.decoded) == set(range(IMAGES))
    assert max(source.decoded.values()) <= 2 + len(GRID.views)
    embedded = [
        len(Artifact(Place(path), {}).read("images"))
        for path in folder.iterdir()
        if "embed" in path.name
    ]
    batch = CONFIG.clip.batch
    assert sum(map(len, clip.seen)) == sum(-(-count // batch) * batch for count in embedded)
    assert set(clip.texts.values()) == {1}


def selections(artifact, settings):
    """Each setting's selection, as {neuron: [(concept, score), ...]}, out of the sweep's arrays."""
    counts, concepts, scores = (artifact.read(name) for name in ("counts", "concepts", "scores"))
    ends = np.concatenate([[0], np.cumsum(counts)])
    pairs = list(zip(concepts.tolist(), scores.tolist(), strict=True))
    each = [pairs[start:stop] for start, stop in pairwise(ends.tolist())]
    neurons = counts.shape[1]
    return {own: each[i * neurons : (i + 1) * neurons] for i, own in enumerate(settings)}


def artifacts_of(folder, stage):
    for path in folder.iterdir():
        if path.name.startswith(f"{stage}-"):
            yield (
                json.loads((path / "manifest.json").read_text())["inputs"],
                Artifact(Place(path), {}),
            )


def test_every_cell_is_a_run_of_its_own(swept, tmp_path, target, clip):
    folder, cells, _, _ = swept
    found = {(c.probe, c.view, c.kappa, c.alpha, c.exemplars): c for c in cells}
    assert len(found) == len(cells)
    settings = list(product(GRID.kappas, GRID.alphas, GRID.exemplars))
    assert [key[2:] for key in found][: len(settings)] == settings
    vocabulary = load_vocabulary(CONCEPTS).concepts
    for probe, view in product(PROBES, GRID.views):
        source = Album(IMAGES, PROBES[probe])
        config = replace(CONFIG, crop=replace(CONFIG.crop, view=view), ablation=AblationConfig())
        # What the networks gave is shared with a run of the config's own; scores are of this run.
        shared = begin(folder, target, clip, source, config)
        embedded = describe(shared).fingerprints["embed"]
        assert set(shared.seconds) == {"score", "certainty", "evaluate"}
        (artifact,) = (a for i, a in artifacts_of(folder, "sweep") if i["embed"] == embedded)
        chosen = selections(artifact, settings)
        for setting in settings:
            kappa, alpha, count = setting
            score = replace(CONFIG.score, kappa=kappa, alpha=alpha, exemplars=count)
            alone = replace(config, score=score)
            result = describe(begin(tmp_path, target, clip, source, alone))
            cell = found[(probe, view, *setting)]
            for own, theirs in ((cell.metrics, result.metrics), (cell.ceilings, result.ceilings)):
                assert list(own.values) == list(theirs.values)
                for name, values in theirs.values.items():
                    np.testing.assert_array_equal(own.values[name], values, err_msg=name)
            for neuron, pairs in zip(result, chosen[setting], strict=True):
                assert [vocabulary[j] for j, _ in pairs] == [text for text, _ in neuron.concepts]
                # Another number of views in CLIP's batches rounds their features differently.
                theirs = [score for _, score in neuron.concepts]
                np.testing.assert_allclose([s for _, s in pairs], theirs, rtol=1e-4, atol=1e-7)
    # The cells can be told apart.
    assert len({tuple(c.metrics.values["clip_cos"]) for c in cells}) > len(cells) // 2


def test_fewer_exemplars_are_the_best_of_more(swept, tmp_path, target, clip):
    folder, *_ = swept
    config = replace(CONFIG, score=replace(CONFIG.score, exemplars=2))
    describe(begin(tmp_path, target, clip, Album(IMAGES), config))
    ((fewer, own),) = artifacts_of(tmp_path, "select")
    (more,) = (a for i, a in artifacts_of(folder, "select") if i["activate"] == fewer["activate"])
    fewer = chosen(more).first(2, pytest.fail)
    for name, values in chosen(own)._asdict().items():
        np.testing.assert_array_equal(getattr(fewer, name), values)


def values_of(cells):
    return [(vars(c) | {"metrics": c.metrics.estimates, "ceilings": 0}) for c in cells]


def test_a_second_start_reads_what_is_there(swept, target, clip, monkeypatch):
    folder, cells, _, _ = swept
    for network in ("encode_views", "encode_texts"):
        monkeypatch.setattr(ClipEncoder, network, None)
    monkeypatch.setattr(jd.Target, "activations", None)
    again = begin(folder, target, clip, Album(IMAGES))
    shuffled = Grid(GRID.kappas[::-1], GRID.alphas[::-1], GRID.exemplars[::-1], GRID.views)
    found = list(sweep_probes(again, shuffled, open_other))
    assert again.seconds == {}
    assert values_of(found) == values_of(cells)
    # Other κ, α and smaller numbers of exemplars need scores alone.
    more = Grid((0.0, 1.0, 4.0), (0.5, 0.8), (5, 1, 3), GRID.views)
    extended = begin(folder, target, clip, Album(IMAGES))
    found = list(sweep_probes(extended, more, open_other))
    assert set(extended.seconds) == {"sweep"}
    known = [own for own in values_of(found) if own in values_of(cells)]
    assert len(known) == len(PROBES) * len(GRID.views) * 2  # κ 0 and 4, α 0.5, 5 exemplars


def test_a_dead_neuron_has_no_concept(tmp_path, clip):
    params = plain_target.parameters()
    params["weight"][:, [1, 4]] = 0
    dead = plain_target.plain_target(params, SIX)
    config = replace(CONFIG, ablation=AblationConfig())
    run = begin(tmp_path, dead, clip, Album(IMAGES), config)
    assert len(list(sweep_probes(run, GRID, pytest.fail))) == 16  # of the main probe set alone
    for _, artifact in artifacts_of(tmp_path, "sweep"):
        counts = artifact.read("counts")
        assert not counts[:, [1, 4]].any()
        assert (counts[:, [0, 2, 3, 5]] > 0).all()


# What does not fit together.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kappas": ()}, "^The sweep's kappa is an empty list: give at least one value"),
        ({"views": ()}, "^The sweep's view is an empty list"),
        ({"kappas": (0.0, -1.0)}, r"^The sweep's kappa holds -1.0: expected a number in \[0, 1e"),
        ({"kappas": (float("nan"),)}, "kappa holds nan: expected a number in"),
        ({"kappas": (1e7,)}, r"kappa holds 10000000\.0: expected a number in"),
        ({"alphas": (0.9, 0.0)}, r"^The sweep's alpha holds 0.0: expected a share in \(0, 1\]"),
        ({"alphas": (1.5,)}, "alpha holds 1.5: expected a share"),
        ({"exemplars": (4, 0)}, "^The sweep's exemplars holds 0: expected at least 1"),
        ({"views": ("center",)}, "^The sweep's view holds 'center': expected one of"),
        ({"kappas": (4.0, 0.0, 4.0)}, "^The sweep's kappa holds 4.0 2 times: give it once"),
        ({"exemplars": (4, 4)}, "exemplars holds 4 2 times: give it once"),
    ],
)
def test_grids_that_can_not_be(change, message):
    with pytest.raises(InputError, match=message):
        replace(GRID, **change)


class Bare(Album):
    has_boxes = False


@pytest.mark.parametrize(
    ("grid", "source", "other", "message"),
    [
        ({"exemplars": (2, 25)}, Album(24), Album(30),
         "^The sweep's exemplars go up to 25, but album of 24, 0 holds only 24 images: ask for"),
        ({"exemplars": (25,)}, Album(30), Album(24, 1), "but album of 24, 1 holds only 24 images"),
        ({"views": ("centre", "box")}, Album(24), Bare(24, 1), "album of 24, 1 has no boxes"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_found_before_anything_runs(
    grid, source, other, message, tmp_path, target, clip
):
    run = begin(tmp_path, target, clip, source)
    with pytest.raises(InputError, match=message):
        next(sweep_probes(run, replace(GRID, **grid), lambda _: other))
    assert not stages(tmp_path)


def test_neurons_without_names_have_no_metrics(tmp_path, clip):
    run = begin(tmp_path, plain_target.plain_target(), clip, Album(IMAGES))
    message = "^A sweep compares metrics, but the neurons of layer 'fc' have no known names: use"
    with pytest.raises(InputError, match=message):
        next(sweep_probes(run, GRID, pytest.fail))
    assert not stages(tmp_path)
