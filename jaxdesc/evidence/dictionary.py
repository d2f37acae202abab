"""Dictionaries whose latents are known concepts: are they named, however seldom they fire?

Planted: a layer that is a sum of the directions of the concepts that an image shows, and noise;
features like CLIP's (`evaluation.planted`). The embedded world: the image tower of its CLIP, whose
latents are linear functions of a patch that detect an attribute each (ridge regression on
validation scenes). Both dictionaries have latents of one concept, of two, and dead ones, and each
latent has a threshold above which it fires on a given number of images.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32
from PIL import Image
from scipy import sparse, stats

from jaxdesc.api import describe_activations
from jaxdesc.evaluation.metrics import hit
from jaxdesc.evaluation.planted import Recipe, plant
from jaxdesc.evaluation.statistics import bootstrap, proportion
from jaxdesc.evidence.table import Cell, Table
from jaxdesc.evidence.world import PROBES, SETTING, open_run, scenes_of
from jaxdesc.models.architectures import load_target
from jaxdesc.models.dictionary import LATENTS, RELU, Coding, Dictionary
from jaxdesc.models.namers import load_clip
from jaxdesc.models.taps import positions, recorded
from jaxdesc.models.target import Target
from jaxdesc.pipeline import describe
from jaxdesc.result import Neuron, Result
from jaxdesc.scenes import NETWORKS
from jaxdesc.scenes.attributes import ATTRIBUTES, NAMES, present
from jaxdesc.scenes.world import HEIGHT, WIDTH, Box, Scene

ONE, TWO, DEAD = "one", "two", "none, dead"
PLANTED, TOWER = "planted", "CLIP tower"
LAYER = "blocks.3"
VALIDATION = tuple(f"scenes:split=validation,seed={seed},count=640" for seed in range(1, 4))
FEW = 10  # images
NEVER = 1e6  # threshold of a dead latent


@dataclass(frozen=True)
class Study:
    """Sizes of the study; the defaults are those of the page.

    Attributes:
        recipe: of the planted images; its neurons are not used.
        width: of the planted layer.
        noise: standard deviation in each of its channels.
        fires: images on which a planted latent fires.
        shares: shares of the validation scenes on which a latent of the tower fires.
        pairs: latents of two concepts, for each of these.
        dead: dead latents of each dictionary.
        probes, validation: sets of scenes.
    """

    recipe: Recipe = field(default_factory=lambda: Recipe(5000, neurons=1, exemplars=40))
    width: int = 256
    noise: float = 0.05
    fires: tuple[int, ...] = (3, 5, 10, 20, 40, 80)
    shares: tuple[float, ...] = (0.005, 0.01, 0.02, 0.05, 0.1)
    pairs: int = 50
    dead: int = 20
    probes: tuple[str, ...] = PROBES
    validation: tuple[str, ...] = VALIDATION


class Latent(NamedTuple):
    """A latent of known concepts: what it was made for, and what was found."""

    world: str
    kind: str
    names: Sequence[str]
    purity: float  # share of its exemplars' images that show one of these; NaN without exemplars
    images: int  # on which it fires
    neuron: Neuron


def tables(workdir: str | Path, study: Study | None = None) -> tuple[Table, Table, Table]:
    """Return "dictionary", "dictionary purity" and "dictionary properties".

    The first has the shares of latents that are named correctly, named correctly or flagged, and
    named wrongly without a flag, by the number of images that they fire on. The others are of
    latents that fire on at least ten: these shares by how many of the exemplars show the concept,
    and their properties, and how well these separate one concept from two. Runs of the tower are
    kept in `workdir`.
    """
    study = study or Study()
    found = [*_planted(study), *_of_tower(workdir, study)]
    rows: list[tuple[Cell, ...]] = []
    for world in (PLANTED, TOWER):
        for kind in (ONE, TWO, DEAD):
            for least, most in ((0, 0), (1, 4), (5, 9), (10, 19), (20, 39), (40, 10**9)):
                some = [
                    each
                    for each in found
                    if (each.world, each.kind) == (world, kind) and least <= each.images <= most
                ]
                if some:
                    rows.append((world, kind, _between(least, most), *_shares(some)))
    shares = ("right", "right or flagged", "wrong, no flag")
    head = ("world", "concepts", "fires on", "latents", *shares)
    return Table("dictionary", head, tuple(rows)), _by_purity(found), _properties(found)


def _by_purity(found: Sequence[Latent]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for world in (PLANTED, TOWER):
        for kind in (ONE, TWO):
            for least, most in ((0.0, 0.5), (0.5, 0.8), (0.8, 1.1)):
                some = [
                    each
                    for each in found
                    if (each.world, each.kind) == (world, kind)
                    and each.images >= FEW
                    and least <= each.purity < most
                ]
                between = f"{least:.0%} to {min(most, 1):.0%}"
                if some:
                    rows.append((world, kind, between, *_shares(some)))
    shares = ("right", "right or flagged", "wrong, no flag")
    head = ("world", "concepts", "exemplars that show it", "latents", *shares)
    return Table("dictionary purity", head, tuple(rows))


def _between(least: int, most: int) -> str:
    if most == 0:
        return "0"
    return f"{least} to {most}" if most < 10**9 else f"{least} or more"


def _shares(latents: Sequence[Latent]) -> tuple[Cell, ...]:
    right = np.array([_is_right(each) for each in latents])
    flagged = np.array([bool(each.neuron.flags) for each in latents])
    shares = right, right | flagged, ~(right | flagged)
    return len(latents), *(proportion(int(share.sum()), len(share)) for share in shares)


def _is_right(latent: Latent) -> bool:
    """True if the first concept is one that the latent was made for."""
    return bool(hit([text for text, _ in latent.neuron.concepts[:1]], latent.names))


def _properties(found: Sequence[Latent]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for world in (PLANTED, TOWER):
        by_kind = {}
        for kind in (ONE, TWO):
            some = [e for e in found if (e.world, e.kind) == (world, kind) and e.images >= FEW]
            some = [each for each in some if "clarity" in each.neuron.properties]
            values = {
                name: np.array([each.neuron.properties[name] for each in some])
                for name in ("clarity", "polysemanticity")
            }
            by_kind[kind] = values
            rows.append((world, kind, len(some), *map(bootstrap, values.values())))
        areas = [
            stats.mannwhitneyu(by_kind[high][name], by_kind[low][name]).statistic
            / (len(by_kind[ONE][name]) * len(by_kind[TWO][name]))
            for name, high, low in (("clarity", ONE, TWO), ("polysemanticity", TWO, ONE))
        ]
        rows.append((world, "AUC, one against two", None, *map(float, areas)))
    return Table(
        "dictionary properties",
        ("world", "concepts", "latents", "clarity", "polysemanticity"),
        tuple(rows),
    )


# Planted features.


def _planted(study: Study) -> list[Latent]:
    planted, rng = plant(study.recipe), np.random.default_rng(1)
    shown = np.flatnonzero(planted.present.any(axis=0))
    directions = rng.normal(size=(len(shown), study.width))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    strengths = planted.present[:, shown] * rng.uniform(0.5, 1.5, (len(planted.present), 1))
    x = strengths @ directions + study.noise * rng.normal(size=(len(strengths), study.width))
    pairs = [rng.choice(len(shown), 2, replace=False) for _ in range(study.pairs)]
    members: list[Sequence[int]] = [*([place] for place in range(len(shown))), *map(list, pairs)]
    encoder = np.stack([directions[each].sum(axis=0) for each in members])
    z = x @ encoder.T
    made: list[tuple[Sequence[int], int]] = []
    columns, thresholds = [], []
    for fires in study.fires:
        for latent, each in enumerate(members):
            made.append((each, fires))
            columns.append(encoder[latent])
            # Between the last image on which it fires and the next.
            thresholds.append(np.sort(z[:, latent])[[-fires, -fires - 1]].mean())
    columns += [encoder[0]] * study.dead
    thresholds += [NEVER] * study.dead
    dictionary = _dictionary(np.stack(columns).T, np.array(thresholds))
    activations = sparse.csr_array(np.asarray(dictionary.encode(x.astype(np.float32))))
    result = describe_activations(
        activations,
        planted.probe.images,
        planted.probe.concepts,
        planted.probe.base,
        [str(concept) for concept in range(len(planted.kind))],
        exemplars=study.recipe.exemplars,
    )
    lenient = planted.original
    names = [[str(c) for c in np.flatnonzero(np.isin(lenient, shown[each]))] for each, _ in made]
    kinds = [ONE if len(each) == 1 else TWO for each, _ in made]
    fired = np.asarray((activations > 0).sum(axis=0)).ravel().tolist()
    shows = [planted.present[:, shown[each]].any(axis=1) for each, _ in made]
    return _latents(PLANTED, kinds, names, shows, fired, result)


def _latents(
    world: str,
    kinds: Sequence[str],
    names: Sequence[Sequence[str]],
    shows: Sequence[Any],  # [image] each
    fired: Sequence[int],
    result: Result,
) -> list[Latent]:
    """Put together what the latents were made for and what was found; the last ones are dead."""
    living = zip(kinds, names, shows, fired, result, strict=False)
    found = [
        Latent(world, kind, named, _purity(neuron, shown), images, neuron)
        for kind, named, shown, images, neuron in living
    ]
    dead = zip(fired[len(kinds) :], result[len(kinds) :], strict=True)
    return found + [Latent(world, DEAD, (), float("nan"), *each) for each in dead]


def _purity(neuron: Neuron, shows: Bool[np.ndarray, "image"]) -> float:
    """Share of the exemplars' images that show what the latent was made for."""
    images = [exemplar.index for exemplar in neuron.exemplars]
    return float(shows[images].mean()) if images else float("nan")


def _dictionary(
    encoder: Float[np.ndarray, "channel latent"], thresholds: Float[np.ndarray, "latent"]
) -> Dictionary:
    """Latents relu(x · w − threshold)."""
    params = {"W_enc": encoder.astype(np.float32), "b_enc": -thresholds.astype(np.float32)}
    return Dictionary(Coding(RELU), params)


# The tower of the embedded world's CLIP.


def _of_tower(workdir: str | Path, study: Study) -> list[Latent]:
    target = replace(load_target(NETWORKS / "clip"), name="CLIP tower")
    scenes = [scene for images in study.validation for scene in scenes_of(images)]
    tokens = _tokens(target, scenes)
    encoder = _regressed(tokens, scenes)
    rng = np.random.default_rng(2)
    pairs = [list(rng.choice(len(NAMES), 2, replace=False)) for _ in range(study.pairs)]
    members = [*([place] for place in range(len(NAMES))), *pairs]
    columns = np.stack([encoder[:, each].sum(axis=1) for each in members], axis=1)
    highest = (tokens @ columns).max(axis=1)
    thresholds = [np.quantile(highest, 1 - share, axis=0) for share in study.shares]
    dictionary = _dictionary(
        np.concatenate([columns] * len(study.shares) + [columns[:, : study.dead]], axis=1),
        np.concatenate([*thresholds, np.full(study.dead, NEVER)]),
    )
    target = target.with_dictionary(LAYER, dictionary)
    names = [[name for place in each for name in NAMES[place]] for each in members]
    kinds = [ONE if len(each) == 1 else TWO for each in members]
    kinds, names = kinds * len(study.shares), names * len(study.shares)
    found: list[Latent] = []
    for images in study.probes:
        result = _described(workdir, target, images)
        shown = np.stack([present(scene) for scene in scenes_of(images)])
        shows = [shown[:, each].any(axis=1) for each in members] * len(study.shares)
        fired = [round(neuron.properties["density"] * len(shown)) for neuron in result]
        found += _latents(TOWER, kinds, names, shows, fired, result)
    return found


def _tokens(target: Target, scenes: Sequence[Scene]) -> Float32[np.ndarray, "scene patch channel"]:
    """The layer's patches of whole scenes, as a run sees them first."""
    found = []
    for first in range(0, len(scenes), 128):
        pixels = np.stack([_squashed(target, scene) for scene in scenes[first : first + 128]])
        given = target.preprocess.normalise(pixels)
        _, values = recorded(target.apply, target.params, given, (LAYER,))
        found.append(np.asarray(positions(values[LAYER], target.prefix), np.float32))
    return np.concatenate(found)


def _squashed(target: Target, scene: Scene) -> np.ndarray:
    return target.preprocess.squash(Image.fromarray(scene.pixels))


def _regressed(
    tokens: Float32[np.ndarray, "scene patch channel"], scenes: Sequence[Scene]
) -> Float[np.ndarray, "channel attribute"]:
    """Weights that detect patches of each attribute, by ridge regression."""
    shows = np.concatenate([_patches(scene, tokens.shape[1]) for scene in scenes])
    x = tokens.reshape(-1, tokens.shape[-1]).astype(np.float64)
    x = x - x.mean(axis=0)
    y = shows - shows.mean(axis=0)
    penalty = 1e-3 * np.trace(x.T @ x) / x.shape[1]
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    return np.asarray(weights / np.linalg.norm(weights, axis=0))


def _patches(scene: Scene, count: int) -> Bool[np.ndarray, "patch attribute"]:
    """Attributes that each patch shows: the object's within its box, the background's outside."""
    side = round(count**0.5)
    cells, kinds = np.ndindex(side, side), _offsets()
    places = [((c + 0.5) / side * WIDTH, (r + 0.5) / side * HEIGHT) for r, c in cells]
    of_object = {"class": scene.kind, "colour": scene.colour, "pattern": scene.pattern}
    shows = np.zeros((count, len(NAMES)), bool)
    for patch, (x, y) in enumerate(places):
        if _holds(scene.box, x, y):
            for kind, place in of_object.items():
                shows[patch, kinds[kind] + place] = True
        else:
            shows[patch, kinds["background"] + scene.background] = True
        for thing, box in scene.contexts:
            shows[patch, kinds["context"] + thing] |= _holds(box, x, y)
    return shows


def _offsets() -> dict[str, int]:
    ends = np.cumsum([0, *(len(names) for names in ATTRIBUTES.values())]).tolist()
    return dict(zip(ATTRIBUTES, ends, strict=False))


def _holds(box: Box, x: float, y: float) -> bool:
    left, top, right, bottom = box
    return bool(left <= x < right and top <= y < bottom)


def _described(workdir: str | Path, target: Target, images: str) -> Result:
    """Describe the latents of the tower with the defaults of dictionaries."""
    config: Any = replace(
        SETTING,
        target=replace(SETTING.target, source=target.name, layer=f"{LAYER}{LATENTS}"),
        images=replace(SETTING.images, source=images),
    )
    run = open_run(workdir, config, target, load_clip("scenes"))
    with run.store.held():
        return describe(run)
