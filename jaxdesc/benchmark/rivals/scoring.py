"""Rivals of the scoring engine in PyTorch; they return the whole of S [N, T] in float32.

`loop` works as WWW's code does (ailab-kyunghee/WWW, concept_matching.py: one exemplar against all
concepts by `cosine_similarity`, moved to NumPy and added up), with t-vMF after the cosine.
`batched` is one product per neuron. `distinct` takes each distinct image once, a block of concepts
at a time, and averages exemplars by a sparse product or by `embedding_bag`; `compiled` fuses the
steps between the two products with `torch.compile`.
"""

from functools import cache

import numpy as np
import torch
from torch.nn import functional


def difference(cosine, base, kappa):
    """φ(u; κ) − φ(w; κ) in its stable form, reusing memory."""
    widths = (1 - cosine).clamp_(min=0).mul_(kappa).add_(1)
    widths.mul_(1 + kappa * (1 - base).clamp(min=0))
    return (cosine - base).mul_(1 + 2 * kappa).div_(widths)


@torch.inference_mode()
def loop(images, exemplars, texts, base, kappa):
    """WWW's way, one exemplar of one neuron at a time."""
    images, texts, base = (torch.from_numpy(a) for a in (images, texts, base))
    found = []
    for rows in exemplars:
        weight = np.zeros(len(texts), np.float32)
        for row in rows:
            image = images[row].reshape(1, -1)
            with_base = functional.cosine_similarity(image, base[None])
            cosine = functional.cosine_similarity(image, texts)
            weight += difference(cosine, with_base, kappa).numpy()
        found.append(weight / len(rows))
    return np.stack(found)


@torch.inference_mode()
def batched(images, exemplars, texts, base, kappa):
    """One product per neuron, all concepts at a time."""
    images, texts, base = (torch.from_numpy(a) for a in (images, texts, base))
    found = torch.empty(len(exemplars), len(texts))
    for neuron, rows in enumerate(torch.from_numpy(exemplars)):
        views = images[rows]
        differences = difference(views @ texts.T, (views @ base)[:, None], kappa)
        torch.mean(differences, 0, out=found[neuron])
    return found.numpy()


def distinct(images, exemplars, texts, base, kappa, aggregate="sparse", block=512):
    """One product per image; exemplars are averaged by "sparse" or by "bag"."""
    return scores(images, exemplars, texts, base, kappa, aggregate, block).numpy()


@torch.inference_mode()
def scores(
    images,
    exemplars,
    texts,
    base,
    kappa,
    aggregate="sparse",
    block=512,
    between=difference,
    device="cpu",
):
    """Score as `distinct` does, on a device of PyTorch's, where the scores stay."""
    images, texts, base = (torch.from_numpy(a).to(device) for a in (images, texts, base))
    rows = torch.from_numpy(exemplars.astype(np.int64)).to(device)
    neurons, count = rows.shape
    starts = torch.arange(0, neurons * count + 1, count, device=device)
    share = torch.full((neurons * count,), 1 / count, device=device)
    chosen = torch.sparse_csr_tensor(starts, rows.ravel(), share, (neurons, len(images)))
    with_base = (images @ base)[:, None]
    found = torch.empty(neurons, len(texts), device=device)
    cosines = torch.empty(len(images), block, device=device)
    for start in range(0, len(texts), block):
        texts_now = texts[start : start + block]
        torch.mm(images, texts_now.T, out=cosines[:, : len(texts_now)])
        differences = between(cosines[:, : len(texts_now)], with_base, kappa)
        if aggregate == "bag":
            means = functional.embedding_bag(rows, differences, mode="mean")
        else:
            means = chosen @ differences
        found[:, start : start + block] = means
    return found


def compiled(images, exemplars, texts, base, kappa, aggregate="sparse", block=512):
    """Score as `distinct` does, with φ of a block in one pass; needs a C++ compiler."""
    between = fused()
    return scores(images, exemplars, texts, base, kappa, aggregate, block, between).numpy()


@cache
def fused():
    """φ(u; κ) − φ(w; κ) in one pass, by `torch.compile`."""

    def plain(cosine, base, kappa):
        widths = (1 + kappa * (1 - cosine).clamp(min=0)) * (1 + kappa * (1 - base).clamp(min=0))
        return (cosine - base) * (1 + 2 * kappa) / widths

    return torch.compile(plain, dynamic=False)
