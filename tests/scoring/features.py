"""Made-up features of the shapes that CLIP's have, and of shapes that it should never have."""

import numpy as np

from jaxdesc.exemplars import Slots


def unit(features):
    return (features / np.linalg.norm(features, axis=-1, keepdims=True)).astype(np.float32)


def problem(seed, images=30, neurons=5, n=6, concepts=37, width=12):
    """Random features with a common part, as CLIP's have, and exemplars that neurons share."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=width)
    views = unit(common + rng.normal(size=(images, width)))
    texts = unit(common + rng.normal(size=(concepts, width)))
    base = unit(common + rng.normal(size=width))
    return views, rng.integers(0, images, (neurons, n)), texts, base


def classes(seed, concepts=400, width=48, neurons=12, n=8, spread=0.35, purity=1.0):
    """Images in a narrow cone, near to those of their class; exemplars of a class each."""
    rng = np.random.default_rng(seed)
    cone, of_class = rng.normal(size=width), rng.normal(size=(neurons, width))
    texts = unit(0.6 * rng.normal(size=width) + rng.normal(size=(concepts, width)))
    own = texts[rng.choice(concepts, neurons)] * np.sqrt(width)
    views = np.repeat(cone + of_class + 0.5 * own, 2 * n, axis=0)
    views = unit(views + spread * 2 * rng.normal(size=views.shape))
    rows = (
        np.arange(neurons)[:, None] * 2 * n
        + rng.permuted(np.tile(np.arange(2 * n), (neurons, 1)), axis=1)[:, :n]
    )
    strange = rng.random(rows.shape) > purity
    rows = np.where(strange, rng.integers(0, len(views), rows.shape), rows)
    return views, rows, texts, unit(0.6 * rng.normal(size=width))


def adversarial(seed):
    """Images that are concepts, the base or each other; concepts a bit apart, copied, opposite."""
    rng = np.random.default_rng(seed)
    texts = unit(rng.normal(size=(60, 7)))
    near = unit(texts[:20] + 1e-6 * rng.normal(size=(20, 7)))
    texts = np.concatenate([texts, near, texts[:9], -texts[:5], np.eye(7, dtype=np.float32)])
    views = np.concatenate([texts[:30], near[:10], np.eye(7, dtype=np.float32), -texts[:3]])
    rows = rng.integers(0, len(views), (14, 5))
    rows[:5] = rows[:5, :1]
    rows[5] = [0, 30, 0, 30, 0]
    rows[6] = [0, 47, 0, 47, 0]
    return views, rows, texts, views[rng.integers(0, len(views))]


MAKERS = {
    "random": lambda seed: problem(seed, images=60, neurons=9, n=7, concepts=300, width=33),
    "classes": classes,
    "mixed": lambda seed: classes(seed, purity=0.7),
    "one exemplar": lambda seed: classes(seed, n=1),
    "adversarial": adversarial,
}


def cone(seed):
    """`classes` with concepts in a narrow cone, like those of one template."""
    views, rows, texts, base = classes(seed)
    middle = texts.mean(axis=0)
    return unit(views + middle), rows, unit(texts + 5 * middle), unit(base + 5 * middle)


MAKERS["cone"] = cone


def partly(rows, seed=0):
    """Drop random exemplars of every second neuron."""
    rng, counts = np.random.default_rng(seed), np.full(len(rows), rows.shape[1], np.int32)
    counts[::2] = rng.integers(1, rows.shape[1] + 1, len(counts[::2]))
    return Slots(rows, counts)


def listed(slots):
    """Rows of each neuron's exemplars, as the oracles take them."""
    return [row[:count] for row, count in zip(slots.rows, slots.counts, strict=True)]


def firsts(rows, counts):
    """The first exemplars of each neuron, by their number."""
    return {count: Slots.full(rows[:, :count]) for count in counts}


EVERY_KAPPA = [0.0, 1e-3, 16.0, 1e6]


def same(found, expected):
    """Two selections are equal bit for bit."""
    for name in ("counts", "concepts", "scores", "maximum", "threshold"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
