"""A rival of the whole pipeline in PyTorch: from photos to concepts, by the paper's method.

Photos are decoded and cut in threads, two batches ahead of the networks, and windows of one batch
are cut while Grad-CAM of the next is computed. The library's `Preprocess`, which is PIL and NumPy,
cuts the pixels, so that both sides work on the same ones. `probe` is the pass over all photos;
`describe` is everything but the texts, whose features are arguments.
"""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch

from jaxdesc.benchmark.rivals.clip import image_features
from jaxdesc.benchmark.rivals.resnet import grad_cam
from jaxdesc.benchmark.rivals.scoring import distinct

THREADS = os.cpu_count() or 1
MIDDLE = (0.5, 0.5)


class Networks(NamedTuple):
    """Target and CLIP of the rivals, and the preprocessing of each."""

    target: Any
    preprocess: Any
    clip: Any
    clip_preprocess: Any


class Probed(NamedTuple):
    """Activations [I, N], boxes of the windows [I, 4] and their centres [I, 2]."""

    activations: np.ndarray
    boxes: np.ndarray
    centres: np.ndarray


class Described(NamedTuple):
    """The probe pass, exemplars [N, n] and (concept, score) pairs of each neuron."""

    probed: Probed
    exemplars: np.ndarray
    concepts: list[list[tuple[int, float]]]


def probe(networks, source, batch=64, field=224 / 256):
    """Compute Grad-CAM of every photo, and the logits on the window around its peak.

    Args:
        networks: the target is probed.
        source: photos by index, as the library's sources give them.
        batch: photos per forward pass.
        field: side of a window as a share of the shorter side.
    """
    preprocess, found = networks.preprocess, []

    def prepare(index):
        image = source[index].image
        return preprocess.squash(image), preprocess.shrink(image, field), image.size

    def finish(centres, cuts):
        windows, boxes = zip(*cuts, strict=True)
        logits = networks.target.logits(normalised(preprocess, windows))
        found.append((logits.numpy(), np.array(boxes, np.float32), centres))

    with ThreadPoolExecutor(THREADS) as readers, ThreadPoolExecutor(THREADS) as cutters:
        waiting = None
        for chunk in ahead(readers, prepare, range(len(source)), batch):
            squashed, shrunk, sizes = zip(*chunk, strict=True)
            centres = peaks(grad_cam(networks.target, normalised(preprocess, squashed)))
            fields = [field] * len(chunk)
            cuts = cutters.map(preprocess.cut, shrunk, map(tuple, centres), fields, sizes)
            if waiting:
                finish(*waiting)
            waiting = centres, cuts
        finish(*waiting)
    return Probed(*map(np.concatenate, zip(*found, strict=True)))


def describe(
    networks, source, texts, base, exemplars=40, kappa=16.0, alpha=0.95, batch=64, field=224 / 256
):
    """The concepts of every class neuron.

    Args:
        networks: both.
        source: photos by index.
        texts: unit features [T, d] of the concepts' prompts.
        base: unit feature [d] of the base template.
        exemplars: most activating views per neuron.
        kappa: concentration of t-vMF.
        alpha: concept sensitivity.
        batch: photos per forward pass.
        field: side of a window as a share of the shorter side.
    """
    probed = probe(networks, source, batch, field)
    best = most_activating(probed.activations, exemplars)
    images, rows = np.unique(best, return_inverse=True)
    features = embed(networks, source, images, probed.centres, batch, field)
    scores = distinct(features, rows.reshape(best.shape), texts, base, kappa)
    dead = np.ptp(probed.activations, axis=0) == 0
    return Described(probed, best, selected(scores, alpha, dead))


def embed(networks, source, images, centres, batch, field):
    """CLIP's unit features [U, d] of the windows of some photos, each decoded once more."""

    def prepare(index):
        centre = tuple(centres[index])
        return networks.clip_preprocess.cut(source[index].image, centre, field)[0]

    with ThreadPoolExecutor(THREADS) as readers:
        features = [
            image_features(networks.clip, normalised(networks.clip_preprocess, views)).numpy()
            for views in ahead(readers, prepare, images.tolist(), batch)
        ]
    return np.concatenate(features)


def ahead(threads, prepare, indices, batch):
    """Lists of `prepare`'s results per batch, made in threads up to two batches ahead."""
    chunks = deque(indices[start : start + batch] for start in range(0, len(indices), batch))
    begun = deque()
    while chunks or begun:
        while chunks and len(begun) < 3:
            begun.append([threads.submit(prepare, index) for index in chunks.popleft()])
        yield [future.result() for future in begun.popleft()]


def normalised(preprocess, views):
    """Pixels [B, 3, S, S], channels last in memory, of views [S, S, 3] in bytes."""
    mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
    pixels = torch.from_numpy(np.stack(views)).float().div_(255).sub_(mean).div_(std)
    return pixels.permute(0, 3, 1, 2)


def peaks(cams):
    """Centres (y, x) of each map's highest cell, as fractions; the middle for an empty map."""
    count, height, width = cams.shape
    highest, cell = cams.reshape(count, -1).max(1)  # the first of equal ones; NaN above all
    row, column = np.divmod(cell.numpy(), width)
    centres = np.stack([(row + 0.5) / height, (column + 0.5) / width], axis=1)
    return np.where((highest > 0).numpy()[:, None], centres, MIDDLE)


def most_activating(activations, count):
    """Indices [N, n] of each neuron's most activating images, the first of equal ones first."""
    order = torch.from_numpy(activations).T.sort(dim=1, descending=True, stable=True).indices
    return order[:, :count].numpy()


def selected(scores, alpha, dead):
    """Each neuron's concepts above α × its best score, best first; none if that isn't positive.

    Args:
        scores: S [N, T].
        alpha: concept sensitivity.
        dead: [N], neurons that get none.
    """
    threshold = np.maximum(alpha * scores.max(axis=1).astype(np.float64), 0)
    threshold[dead] = np.inf
    neurons, concepts = np.nonzero(scores > threshold[:, None])
    order = np.lexsort((concepts, -scores[neurons, concepts], neurons))
    found = [[] for _ in scores]
    for neuron, concept in zip(neurons[order].tolist(), concepts[order].tolist(), strict=True):
        found[neuron].append((concept, float(scores[neuron, concept])))
    return found
