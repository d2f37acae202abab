"""A grid is the runs that it stands for, with every network run once."""

import json
from collections import Counter
from dataclasses import fields, replace
from itertools import pairwise, product

import numpy as np
import pytest

import jaxdesc as jd
from jaxdesc.config import AblationConfig, Config
from jaxdesc.errors import InputError
from jaxdesc.models.encoder import Namer
from jaxdesc.pipeline import Grid, describe, sweep
from jaxdesc.scenes import captions
from jaxdesc.scenes.world import CLASSES
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.store import Artifact, Place, Store
from jaxdesc.vocabulary.vocabulary import load_vocabulary
from tests import plain_target
from tests.album import Album, Counting

SIX = tuple(CLASSES.values())[:6]
CONCEPTS = {"words": [*captions.vocabulary()[::37], "Cat", "star"], "few": ["star", "cat", "moon"]}
PROBES = {"own": 0, "other": 1}
# The config's κ, α and number of exemplars are not in the grid.
CONFIG = Config.from_dict(
    {
        "images": {"source": "own", "batch": 12},
        "clip": {"batch": 20},
        "vocabulary": {"source": "words"},
        "score": {"kappa": 2.0, "alpha": 0.7, "exemplars": 3, "block": 16},
    }
)
SCORES = {"kappas": (0.0, 4.0), "alphas": (0.5, 0.9), "exemplars": (2, 5)}
GRID = Grid(**SCORES, views=("centre", "attention"), probes=tuple(PROBES))
SETTINGS = list(product(*SCORES.values()))
IMAGES = 24


class CountingClip(Namer):
    """A CLIP that keeps the views it encodes."""

    def encode_views(self, views):
        self.seen.append(np.asarray(views))
        return super().encode_views(views)

    def text_batches(self, texts):
        self.encoded.update(texts)
        return super().text_batches(texts)


@pytest.fixture(scope="module")
def target():
    """One of its neurons is dead."""
    params = plain_target.parameters()
    params["weight"][:, 4] = 0
    return plain_target.plain_target(params, SIX)


def begin(folder, target, clip, source, config=CONFIG, words="words"):
    inputs = Inputs(target, clip, source, load_vocabulary(CONCEPTS[words]), clip)
    return Run(config, inputs, Store(folder), quiet=True)


def open_other(name):
    assert name == "other"  # the main source is open
    return Album(IMAGES, PROBES[name])


def open_few(name):
    assert name == "few"
    return load_vocabulary(CONCEPTS[name])


@pytest.fixture(scope="module")
def swept(tmp_path_factory, target, clip):
    """Folder of a sweep, its cells, its CLIP and its main probe set."""
    counting = CountingClip(**{f.name: getattr(clip, f.name) for f in fields(Namer)})
    counting.__dict__.update(seen=[], encoded=Counter())
    folder, source = tmp_path_factory.mktemp("sweep"), Counting(IMAGES)
    cells = list(sweep(begin(folder, target, counting, source), GRID, open_other))
    return folder, cells, counting, source


def stages(folder):
    return Counter(path.name.rpartition("-")[0] for path in folder.glob("*-*"))


def artifacts_of(folder, stage):
    for path in folder.glob(f"{stage}-*"):
        inputs = json.loads((path / "manifest.json").read_text())["inputs"]
        yield inputs, Artifact(Place(path), {})


def test_no_network_runs_twice(swept):
    folder, cells, clip, source = swept
    runs = len(PROBES) * len(GRID.views)
    assert stages(folder) == {
        "encode": 1, "words": 1, "activate": runs, "select": runs, "embed": runs, "sweep": runs,
    }  # fmt: skip
    assert len(cells) == runs * len(SETTINGS)
    # A look at one batch, one pass for both views, and one more for a view's exemplars.
    assert set(source.decoded) == set(range(IMAGES))
    assert max(source.decoded.values()) <= 2 + len(GRID.views)
    embedded = [len(artifact.read("rows")) for _, artifact in artifacts_of(folder, "embed")]
    batch = CONFIG.clip.batch
    assert sum(map(len, clip.seen)) == sum(-(-count // batch) * batch for count in embedded)
    assert set(clip.encoded.values()) == {1}


def selections(artifact):
    """Each setting's (concept, score) pairs per neuron, from the sweep's arrays."""
    counts, concepts, scores = (artifact.read(name) for name in ("counts", "concepts", "scores"))
    pairs = list(zip(concepts.tolist(), scores.tolist(), strict=True))
    ends = np.concatenate([[0], np.cumsum(counts)]).tolist()
    each = iter([pairs[start:stop] for start, stop in pairwise(ends)])
    return {setting: [next(each) for _ in range(counts.shape[1])] for setting in SETTINGS}


def test_every_cell_is_a_run_of_its_own(swept, tmp_path, target, clip):
    folder, cells, _, _ = swept
    found = {(c.probe, c.view, c.kappa, c.alpha, c.exemplars): c for c in cells}
    assert len(found) == len(cells)
    assert [key[2:] for key in found][: len(SETTINGS)] == SETTINGS
    for number, (probe, view) in enumerate(product(PROBES, GRID.views)):
        source = Album(IMAGES, PROBES[probe])
        config = replace(CONFIG, crop=replace(CONFIG.crop, view=view))
        # A run of the config's own shares the networks' results; scores are of this run.
        most = replace(config, score=replace(CONFIG.score, exemplars=5))
        shared = begin(folder, target, clip, source, most)
        embedded = describe(shared).fingerprints["embed"]
        assert set(shared.seconds) == {"score", "certainty", "properties", "evaluate"}
        (artifact,) = (a for i, a in artifacts_of(folder, "sweep") if i["embed"] == embedded)
        for setting, selected in [*selections(artifact).items()][number::4]:
            score = replace(CONFIG.score, kappa=setting[0], alpha=setting[1], exemplars=setting[2])
            result = describe(begin(tmp_path, target, clip, source, replace(config, score=score)))
            cell = found[(probe, view, *setting)]
            for ours, theirs in ((cell.metrics, result.metrics), (cell.ceilings, result.ceilings)):
                assert list(ours.values) == list(theirs.values)
                for name, values in theirs.values.items():
                    np.testing.assert_array_equal(ours.values[name], values, err_msg=name)
            for neuron, pairs in zip(result, selected, strict=True):
                texts = [CONCEPTS["words"][j] for j, _ in pairs]
                assert texts == [text for text, _ in neuron.concepts]
                # Another number of views in CLIP's batches rounds their features differently.
                theirs = [score for _, score in neuron.concepts]
                np.testing.assert_allclose([s for _, s in pairs], theirs, rtol=1e-4, atol=1e-7)
    assert result[4].flags[0] == "dead"
    # The cells can be told apart.
    assert len({tuple(c.metrics.values["clip_cos"]) for c in cells}) > len(cells) // 2


def values_of(cells):
    return {
        (c.vocabulary, c.probe, c.view, c.kappa, c.alpha, c.exemplars): c.metrics.estimates
        for c in cells
    }


@pytest.mark.full
def test_a_second_start_reads_what_is_there(swept, target, clip, monkeypatch):
    folder, cells, _, _ = swept
    for network in ("encode_views", "encode_texts"):
        monkeypatch.setattr(Namer, network, None)
    monkeypatch.setattr(jd.Target, "activations", None)
    again = begin(folder, target, clip, Album(IMAGES))
    shuffled = {name: (*values[::-1], values[0]) for name, values in SCORES.items()}
    found = list(sweep(again, replace(GRID, **shuffled), open_other))
    assert again.seconds == {}
    assert values_of(found) == values_of(cells)
    # Other κ, α and smaller numbers of exemplars need scores alone.
    more = replace(GRID, kappas=(0.0, 1.0, 4.0), alphas=(0.5, 0.8), exemplars=(5, 1, 3))
    extended = begin(folder, target, clip, Album(IMAGES))
    found = values_of(sweep(extended, more, open_other))
    assert set(extended.seconds) == {"sweep"}
    known = found.keys() & values_of(cells).keys()
    assert len(known) == len(PROBES) * len(GRID.views) * 2  # κ 0 and 4, α 0.5, 5 exemplars
    assert {key: found[key] for key in known} == {key: values_of(cells)[key] for key in known}


@pytest.mark.full
def test_the_grid_of_an_ablation(tmp_path, target, clip):
    """Several vocabularies; the config's α and number of exemplars."""
    options = AblationConfig(views=("centre",), kappas=(4.0, 0.0), vocabularies=("words", "few"))
    config = replace(CONFIG, ablation=options)
    run = begin(tmp_path, target, clip, Album(IMAGES), config)
    cells = list(sweep(run, Grid.of_ablation(config), pytest.fail, open_few))
    assert list(values_of(cells)) == [
        (words, "own", "centre", kappa, 0.7, 3)
        for words in ("words", "few")
        for kappa in (4.0, 0.0)
    ]
    for cell in cells:
        alone = replace(
            CONFIG,
            crop=replace(CONFIG.crop, view="centre"),
            score=replace(CONFIG.score, kappa=cell.kappa),
        )
        result = describe(begin(tmp_path, target, clip, Album(IMAGES), alone, cell.vocabulary))
        assert not {"activate", "embed"} & set(result.seconds)
        for name, values in result.metrics.values.items():
            np.testing.assert_array_equal(cell.metrics.values[name], values)


# What does not fit together.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kappas": ()}, "^The sweep's kappas is an empty list: give at least one value"),
        ({"kappas": (0.0, -1.0)}, r"^config.score.kappa is -1.0: expected a number in \[0, 1e"),
        ({"views": ("center",)}, "^config.crop.view is 'center': expected one of"),
    ],
)
def test_grids_that_can_not_be(change, message):
    with pytest.raises(InputError, match=message):
        replace(GRID, **change)


class Bare(Album):
    has_boxes = False


def test_what_does_not_fit_is_found_before_anything_runs(tmp_path, target, clip):
    run = begin(tmp_path, target, clip, Album(30))
    for grid, other, message in (
        ({"exemplars": (25,)}, Album(24, 1), "is 25, but album of 24, 1 holds only 24 images"),
        ({"views": ("centre", "box")}, Bare(24, 1), "album of 24, 1 has no boxes"),
    ):
        with pytest.raises(InputError, match=message):
            next(sweep(run, replace(GRID, **grid), lambda _, other=other: other))
    nameless = begin(tmp_path, plain_target.plain_target(), clip, Album(IMAGES))
    message = "^A sweep compares metrics, but the neurons of layer 'fc' have no known names: use"
    with pytest.raises(InputError, match=message):
        next(sweep(nameless, GRID, pytest.fail))
    assert not stages(tmp_path)
