"""Judge: labels of units, from any source, on images that had no part in finding them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from scipy import sparse

from jaxdesc.config import AblationConfig, Config
from jaxdesc.errors import InputError, shown
from jaxdesc.evaluation.judging import presence as presences
from jaxdesc.evaluation.judging.ablation import (
    NOTHING,
    Effect,
    check_ablation,
    chosen_images,
    effect,
    logits_without,
)
from jaxdesc.evaluation.judging.control import FEWEST, Control, against_control
from jaxdesc.evaluation.judging.labels import Labels
from jaxdesc.evaluation.judging.measures import SHOWN
from jaxdesc.evaluation.judging.presence import (
    LABELS,
    SCORER,
    TRUTH,
    Presence,
    Sigmoid,
    folded,
)
from jaxdesc.images.example import Example, Source
from jaxdesc.images.labels import IMAGENET
from jaxdesc.images.loader import batches, padded
from jaxdesc.models.encoder import Namer
from jaxdesc.runtime.mesh import device_count, local_mesh
from jaxdesc.stages.activate import activate
from jaxdesc.stages.embed import embed_all
from jaxdesc.stages.encode import encode
from jaxdesc.stages.latents import are_packed, packed_blocks
from jaxdesc.stages.run import Run
from jaxdesc.store import Artifact, Draft
from jaxdesc.vocabulary import imagenet
from jaxdesc.vocabulary.vocabulary import Vocabulary, prompts

KINDS = (TRUTH, LABELS, SCORER)
SEED = 0  # of the images and the other units of ablation
ZEROED = 16  # units that are zeroed at once, per device


def on_images(run: Run, source: Source) -> Run:
    """Return the run on other images: whole ones, since a concept may be anywhere in them."""
    config = run.config
    crop = replace(config.crop, view="full", of="class", rank="window")
    changed = replace(
        config,
        images=replace(config.images, source=source.spec),
        crop=crop,
        clip=replace(config.clip, input="view"),
        ablation=AblationConfig(),
    )
    return replace(run, config=changed, inputs=replace(run.inputs, source=source))


@dataclass(frozen=True)
class Jury:
    """Images that judge a layer's units: what these do on them, and what the images show.

    Attributes:
        run: of `on_images`.
        scorer: loads the network that says what images show, if nothing else does.
    """

    run: Run
    scorer: Callable[[], Namer]

    @cached_property
    def activated(self) -> Artifact:
        """Activations on all images."""
        return activate(self.run)

    @cached_property
    def usable(self) -> Int[np.ndarray, "image"]:
        """Indices of the images that can be used."""
        return np.flatnonzero(~self.activated.read("skipped"))

    @cached_property
    def labels(self) -> Int[np.ndarray, "image"]:
        """Class of each usable image, −1 if it is unknown."""
        return _labels(self.run, self.activated, self.usable)

    def presence(self, kind: str = "", vocabulary: bool = False) -> Presence:
        """Presence of concepts by what is known best, or by a kind of `KINDS`.

        If the whole vocabulary will be asked for, a scorer encodes it at once, as a stage that is
        kept. `InputError` for a kind on which nothing is known.
        """
        shows, classes = getattr(self.run.inputs.source, "shows", None), _classes(self.run)
        labelled = bool(classes) and bool((self.labels >= 0).any())
        able = {TRUTH: bool(shows), LABELS: labelled, SCORER: True}
        kind = kind or next(kind for kind in KINDS if able[kind])
        if not able.get(kind):
            raise InputError(
                f"Presence by {shown(kind)} is not known for the images of "
                f"{self.run.inputs.source.spec}: expected one of "
                f"{', '.join(kind for kind in KINDS if able[kind])} (--presence)."
            )
        if kind == TRUTH and shows:
            every = np.ones(len(self.usable), bool)
            return presences.by_truth(lambda concepts: shows(concepts)[:, self.usable], every)
        if kind == LABELS:
            return presences.by_labels(self.labels, classes, _wnids(self.run))
        scorer = self.scorer()
        seeing = replace(self.run, inputs=replace(self.run.inputs, clip=scorer))
        everything = embed_all(seeing, self.activated)
        sigmoid, notes = sigmoid_of(seeing, self.activated, everything)
        texts: dict[str, np.ndarray] = {}
        if vocabulary:
            concepts = seeing.inputs.vocabulary.concepts
            texts = dict(zip(concepts, encode(seeing).read("features"), strict=True))
        reading = partial(_encoded, scorer, self.run.config)
        by_scorer = presences.by_scorer(everything.read("features"), reading, sigmoid, texts)
        return replace(by_scorer, notes=notes)

    def read(self, known: np.ndarray) -> Callable[[Sequence[int]], Float[np.ndarray, "image unit"]]:
        """Return what reads the activations of some units on the known ones of the images."""
        return lambda units: self.on(units)[known]

    def on(self, units: Sequence[int]) -> Float32[np.ndarray, "image unit"]:
        """Activations of some units on the usable images."""
        some = self._columns[:, list(units)]
        return some.toarray() if sparse.issparse(some) else some

    @cached_property
    def _columns(self) -> Any:
        """Activations on the usable images: dense, or of latents without their zeros."""
        if not are_packed(self.activated):
            return self.activated.read("activations")[self.usable]
        blocks = [block for _, block in packed_blocks(self.activated)]
        return sparse.vstack(blocks, format="csr")[self.usable].tocsc()

    @property
    def units(self) -> int:
        """Number of the layer's units."""
        return int(self.run.inputs.target.shapes[self.run.config.target.layer][-1])


def sigmoid_of(
    run: Run, activated: Artifact, embedded: Artifact
) -> tuple[Sigmoid, tuple[str, ...]]:
    """Return how the cosines of a run's name encoder become chances, and what was assumed.

    `embedded` is of all usable images.
    """
    labels, classes = _labels(run, activated, embedded.read("rows")), _classes(run)
    labels, clip = np.where(labels < len(classes), labels, -1), run.inputs.clip
    if clip.logit_bias is not None or not (labels >= 0).any():
        return presences.sigmoid_of(clip, embedded.read("features"), labels, None)
    names = [each[0] for each in classes]
    inputs = {"embed": embedded.name, "classes": names, "template": run.config.vocabulary.template}

    def compute(draft: Draft) -> None:
        of_classes = _encoded(clip, run.config, names)
        found = presences.sigmoid_of(clip, embedded.read("features"), labels, of_classes)
        draft.values |= {"sigmoid": list(found[0]), "notes": list(found[1])}

    stored = run.stage("chances", inputs, compute).values
    return Sigmoid(*stored["sigmoid"]), tuple(stored["notes"])


def _classes(run: Run) -> Sequence[Sequence[str]]:
    """Names of the target's classes, ImageNet's if it has as many."""
    target = run.inputs.target
    return target.classes or (imagenet.names() if target.logit_count == IMAGENET else ())


def _wnids(run: Run) -> Sequence[str]:
    target = run.inputs.target
    return target.wnids or (imagenet.wnids() if target.logit_count == IMAGENET else ())


def _labels(run: Run, activated: Artifact, rows: Int[np.ndarray, "row"]) -> np.ndarray:
    """Class of some images, −1 if it is unknown."""
    if not run.inputs.source.has_labels:
        return np.full(len(rows), -1)
    return np.asarray(activated.read("label")[rows])


def _encoded(
    namer: Namer, config: Config, concepts: Sequence[str]
) -> Float32[np.ndarray, "text feature"]:
    vocabulary = Vocabulary(tuple(concepts), "labels")
    return namer.encode_texts(prompts(vocabulary, config.vocabulary.template))


# CoSy.


def check_folders(source: Source) -> None:
    """Refuse images for CoSy that are in no folders, whose names would be their concepts."""
    if not any("/" in source.identify(index) for index in range(len(source))):
        raise InputError(
            f"The images of {source.spec} are in no folders: give a folder of images for each "
            "concept, named by it (--concept-images)."
        )


def controls(
    jury: Jury, made: Run, sources: Mapping[str, Labels]
) -> tuple[dict[str, dict[int, Control]], list[str]]:
    """Compare each unit's activations on images of its concept with those on the jury's.

    `made` is the run on images in a folder for each concept. Of a weighted sum the heaviest concept
    counts. Returns what was found, by source and unit, and the concepts that have no folder, or
    one of fewer than two images.
    """
    images = Jury(made, jury.scorer)
    folders: dict[str, list[int]] = {}
    for row, index in enumerate(images.usable.tolist()):
        folder, _, below = made.inputs.source.identify(index).partition("/")
        if below:
            folders.setdefault(folded(folder), []).append(row)
    ready = {concept for concept, some in folders.items() if len(some) >= FEWEST}
    found: dict[str, dict[int, Control]] = {source: {} for source in sources}
    missing: dict[str, None] = {}
    wanted = sorted({unit for labels in sources.values() for unit in labels})
    for unit in wanted:
        values: tuple[np.ndarray, np.ndarray] | None = None
        for source, labels in sources.items():
            if unit not in labels:
                continue
            concept = labels[unit].concepts[0]
            if folded(concept) not in ready:
                missing[concept] = None
                continue
            if values is None:
                values = images.on([unit])[:, 0], jury.on([unit])[:, 0]
            found[source][unit] = against_control(values[0][folders[folded(concept)]], values[1])
    return found, list(missing)


# Ablation.


def effects(
    jury: Jury, presence: Presence, sources: Mapping[str, Labels], units: Sequence[int], each: int
) -> dict[str, dict[int, Effect]]:
    """Zero units, and see which logits fall where their labels' concepts are shown.

    Of each label `each` images that show its concept are looked at, and as many that don't. A
    weighted sum is judged by its heaviest concept.
    """
    layer, target = jury.run.config.target.layer, jury.run.inputs.target
    check_ablation(target, layer)
    rng, rows = np.random.default_rng(SEED), jury.usable[presence.known]
    order = rng.permutation(len(rows)).tolist()
    others = {unit: int((unit + rng.integers(1, jury.units)) % jury.units) for unit in units}
    seen: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
    asked: dict[int, set[int]] = {}
    for unit in units:
        for source, labels in sources.items():
            if unit not in labels:
                continue
            (shown_in,) = presence.of(labels[unit].concepts[:1])
            if np.isnan(shown_in).any():
                continue
            shows = shown_in >= SHOWN
            some = chosen_images(shows, each, order)
            seen[source, unit] = some, shows[some]
            for image in some.tolist():
                asked.setdefault(image, set()).update({unit, others[unit]})
    falls = _falls(jury, rows, asked)
    found: dict[str, dict[int, Effect]] = {source: {} for source in sources}
    for (source, unit), (images, shows) in seen.items():
        zeroed = unit, others[unit]
        pair = [[falls[image, which] for image in images.tolist()] for which in zeroed]
        found[source][unit] = effect(np.array(pair, np.float64), shows)
    return found


def _falls(
    jury: Jury, rows: Int[np.ndarray, "image"], asked: Mapping[int, set[int]]
) -> dict[tuple[int, int], float]:
    """Fall of the logit of an image's predicted class, by image and zeroed unit."""
    run, mesh = jury.run, local_mesh()
    target, layer = run.inputs.target.on(mesh), run.config.target.layer
    squash, images, size = target.preprocess.squash, sorted(asked), ZEROED * device_count(mesh)

    def prepare(_: int, example: Example) -> UInt8[np.ndarray, "size size 3"]:
        return squash(example.image)

    falls: dict[tuple[int, int], float] = {}
    indices, source = rows[images].tolist(), run.inputs.source
    each = batches(source, indices, prepare, run.config.images.batch)
    with run.bar(len(images), "ablate") as bar:
        for image, view in zip(images, chain.from_iterable(each), strict=True):
            units, logits = [NOTHING, *sorted(asked[image])], []
            for first in range(0, len(units), size):
                some = np.array(units[first : first + size], np.int32)
                logits.append(logits_without(target, layer, view, padded(some, size))[: len(some)])
            found = np.concatenate(logits)
            lost = found[0].max() - found[:, found[0].argmax()]
            falls |= {(image, unit): float(fall) for unit, fall in zip(units, lost, strict=True)}
            bar.update(1)
    return falls
