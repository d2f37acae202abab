"""A seeded world of scenes: a salient object among context things, all of them known.

A scene is 96 × 128 pixels: a background texture at half contrast, one to three muted context things
and one bright object, its class, at a uniform position and independent of its context (unless
`correlation` is set). Scenes of different splits come from disjoint random streams, so a network is
never probed with scenes on which it was trained.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from jaxdesc.errors import InputError
from jaxdesc.scenes import shapes

HEIGHT, WIDTH = 96, 128  # px
# A thing's longest side as a share of the scene's height, before it is stretched by up to a tenth
# and turned by up to 12 degrees: the boxes of 640 objects measured 0.28 to 0.69.
OBJECT_SIDE = (0.3, 0.6)
CONTEXT_SIDE = (0.2, 0.45)
SPLITS = ("train", "validation", "probe", "pairs")

# Names of each class by its shape: the truth for Hit Rate and F1.
CLASSES: dict[str, tuple[str, str]] = {
    "star": ("star", "pentagram"),
    "heart": ("heart", "love heart"),
    "moon": ("moon", "crescent"),
    "ring": ("ring", "hoop"),
    "cross": ("cross", "plus sign"),
    "arrow": ("arrow", "pointer"),
    "house": ("house", "cottage"),
    "tree": ("tree", "pine"),
    "fish": ("fish", "goldfish"),
    "cat": ("cat", "kitten"),
    "rabbit": ("rabbit", "bunny"),
    "car": ("car", "automobile"),
    "truck": ("truck", "lorry"),
    "sailboat": ("sailboat", "yacht"),
    "mug": ("mug", "cup"),
    "key": ("key", "latchkey"),
    "umbrella": ("umbrella", "parasol"),
    "mushroom": ("mushroom", "toadstool"),
    "flower": ("flower", "blossom"),
    "butterfly": ("butterfly", "moth"),
    "bell": ("bell", "chime"),
    "anchor": ("anchor", "kedge"),
    "ladder": ("ladder", "steps"),
    "hammer": ("hammer", "mallet"),
    "bottle": ("bottle", "flask"),
    "crown": ("crown", "tiara"),
    "lightning": ("lightning", "thunderbolt"),
    "bicycle": ("bicycle", "bike"),
    "glasses": ("glasses", "spectacles"),
    "hat": ("hat", "bowler"),
    "gear": ("gear", "cogwheel"),
    "sun": ("sun", "sunburst"),
}
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 30, 30),
    "orange": (250, 135, 10),
    "yellow": (245, 225, 20),
    "green": (30, 190, 45),
    "blue": (35, 75, 235),
    "purple": (135, 35, 190),
    "pink": (255, 120, 195),
    "white": (252, 252, 252),
}
PATTERNS = ("plain", "striped", "dotted", "checked")
BACKGROUNDS = ("grass", "sand", "water", "brick wall", "snow", "wood", "night sky", "tiles")
CONTEXTS: dict[str, tuple[int, int, int]] = {
    "bush": (52, 88, 48),
    "rock": (112, 108, 104),
    "fence": (128, 96, 66),
    "barrel": (104, 66, 44),
    "crate": (148, 118, 78),
    "puddle": (74, 96, 116),
    "post": (84, 84, 92),
    "cone": (158, 92, 60),
}

Box = tuple[float, float, float, float]


def inside(box: Box, window: Box) -> float:
    """Share of a box inside a window, both (left, top, right, bottom)."""
    wide = min(box[2], window[2]) - max(box[0], window[0])
    high = min(box[3], window[3]) - max(box[1], window[1])
    return max(wide, 0.0) * max(high, 0.0) / ((box[2] - box[0]) * (box[3] - box[1]))


@dataclass(frozen=True)
class Scene:
    """One rendered scene and its truth.

    Attributes:
        pixels: [96, 128, 3] uint8.
        kind, colour, pattern, background: indices into `CLASSES`, `COLOURS`, `PATTERNS` and
            `BACKGROUNDS`.
        box: the object's (left, top, right, bottom) in pixels.
        contexts: index into `CONTEXTS` and box of each context thing, in drawing order.
    """

    pixels: np.ndarray
    kind: int
    colour: int
    pattern: int
    background: int
    box: Box
    contexts: tuple[tuple[int, Box], ...]


@dataclass(frozen=True)
class Fixed:
    """Attributes that a scene gets instead of those that it draws; None keeps the drawn ones.

    Indices are as in `Scene`, context things from front to back; those beyond the number that a
    scene draws, one to three, are not used.
    """

    kind: int | None = None
    colour: int | None = None
    pattern: int | None = None
    background: int | None = None
    contexts: tuple[int, ...] = ()


FREE = Fixed()


def render(
    split: str, seed: int, index: int, correlation: float = 0.0, fixed: Fixed = FREE
) -> Scene:
    """Render scene `index` of a split; the same arguments give the same scene, pixel for pixel.

    Args:
        split: "train", "validation", "probe" or "pairs"; their random streams are disjoint.
        seed: world of that split.
        index: scene; its class is `index` modulo the number of classes, so a split is balanced.
        correlation: probability that background and first context thing follow from the class
            instead of being drawn at random.
        fixed: attributes to set after everything was drawn, so that all else stays: positions,
            sizes (as far as another shape allows) and noise.

    Raises:
        InputError: for an unknown split or a correlation outside [0, 1].
    """
    if split not in SPLITS:
        raise InputError(f"Unknown split {split!r} of the scenes: expected one of {SPLITS}.")
    if not 0 <= correlation <= 1:
        raise InputError(f"The scenes' correlation is {correlation}: expected a value in [0, 1].")
    rng = np.random.default_rng([SPLITS.index(split), seed, index])
    kind = index % len(CLASSES)
    correlated = rng.random() < correlation
    background = kind % len(BACKGROUNDS) if correlated else int(rng.integers(len(BACKGROUNDS)))
    background = _or(fixed.background, background)
    canvas = _background(background, rng)
    contexts: list[tuple[int, Box]] = []
    for behind in range(int(rng.integers(1, 4)) - 1, -1, -1):
        follows = correlated and not contexts
        thing = kind % len(CONTEXTS) if follows else int(rng.integers(len(CONTEXTS)))
        thing = fixed.contexts[behind] if behind < len(fixed.contexts) else thing
        name = tuple(CONTEXTS)[thing]
        contexts.append((thing, _paste(canvas, name, CONTEXT_SIDE, CONTEXTS[name], 0, rng)))
    colour = int(rng.integers(len(COLOURS)))
    pattern = 0 if rng.random() < 0.8 else int(rng.integers(1, len(PATTERNS)))
    kind, colour = _or(fixed.kind, kind), _or(fixed.colour, colour)
    pattern, paint = _or(fixed.pattern, pattern), tuple(COLOURS.values())[colour]
    box = _paste(canvas, tuple(CLASSES)[kind], OBJECT_SIDE, paint, pattern, rng)
    canvas += rng.standard_normal(canvas.shape, np.float32) * 4
    pixels = np.clip(canvas, 0, 255).astype(np.uint8)
    return Scene(pixels, kind, colour, pattern, background, box, tuple(contexts))


def _or(fixed: int | None, drawn: int) -> int:
    return drawn if fixed is None else fixed


def _paste(
    canvas: np.ndarray,
    shape: str,
    side: tuple[float, float],
    paint: tuple[int, int, int],
    pattern: int,
    rng: np.random.Generator,
) -> Box:
    """Draw one thing at a uniform position, entirely inside; return its box in pixels."""
    mask = shapes.mask(shape)
    longest = rng.uniform(*side) * HEIGHT
    scale = longest / max(mask.size)
    stretch = rng.uniform(0.9, 1.1)
    sides = mask.width * scale * stretch, mask.height * scale / stretch
    mask = mask.resize([max(4, round(side)) for side in sides], Image.Resampling.BILINEAR)
    mask = mask.rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR, expand=True)
    mask = mask.crop(mask.getbbox())
    top = int(rng.integers(0, HEIGHT - mask.height + 1))
    left = int(rng.integers(0, WIDTH - mask.width + 1))
    alpha = np.asarray(mask, np.float32)[..., None] / 255
    jitter = rng.uniform(-14, 14, 3).astype(np.float32)
    tone = np.asarray(paint, np.float32) + jitter
    fill = _pattern(pattern, mask.height, mask.width, tone, longest, rng)
    region = canvas[top : top + mask.height, left : left + mask.width]
    region += alpha * (fill - region)
    return (left, top, left + mask.width, top + mask.height)


def _pattern(
    pattern: int, height: int, width: int, paint: np.ndarray, side: float, rng: np.random.Generator
) -> np.ndarray:
    """Fill [height, width, 3]: the paint, shaded, with a darker second tone in a pattern."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    shade = 1.0 - 0.15 * y[..., None] / height
    period = max(4.0, side / rng.uniform(4.0, 6.0))
    u, v = x / period, y / period
    name = PATTERNS[pattern]
    if name == "striped":
        dark = (u + v) % 1 < 0.5
    elif name == "dotted":
        dark = ((u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2) < 0.09
    elif name == "checked":
        dark = (np.floor(u) + np.floor(v)) % 2 < 1
    else:
        return paint * shade
    return np.where(dark[..., None], paint * 0.25, paint) * shade


def _background(kind: int, rng: np.random.Generator) -> np.ndarray:
    texture = _texture(kind)
    top = rng.integers(texture.shape[0] - HEIGHT + 1)
    left = rng.integers(texture.shape[1] - WIDTH + 1)
    window = texture[top : top + HEIGHT, left : left + WIDTH]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    return window * np.float32(rng.uniform(0.85, 1.15))


@cache
def _texture(kind: int) -> np.ndarray:
    """A texture [288, 384, 3] float32 to cut backgrounds from, at half contrast."""
    rng = np.random.default_rng([99, kind])
    height, width = 3 * HEIGHT, 3 * WIDTH
    y, x = np.mgrid[:height, :width].astype(np.float32)
    noise = rng.standard_normal((height, width)).astype(np.float32)
    grain = (noise + np.roll(noise, 1, 0) + np.roll(noise, 2, 0)) / 2  # short vertical strokes
    name = BACKGROUNDS[kind]
    tone, relief = {
        "grass": ((40, 150, 40), 60 * grain),
        "sand": ((215, 180, 110), 24 * noise),
        "water": ((40, 110, 200), 50 * np.sin(y / 2.4 + 2.2 * np.sin(x / 11))),
        "brick wall": ((175, 75, 55), -85.0 * _mortar(y, x)),
        "snow": ((238, 242, 250), 8 * noise),
        "wood": ((150, 100, 55), 42 * np.sin(x / 3 + 1.6 * np.sin(y / 17)) + 10 * noise),
        "night sky": ((18, 18, 55), np.where(noise > 2.4, 230, 0)),
        "tiles": ((175, 195, 195), -90.0 * ((x % 14 < 1.5) | (y % 14 < 1.5))),
    }[name]
    texture = np.asarray(tone, np.float32) + np.asarray(relief, np.float32)[..., None]
    return (128 + 0.5 * (texture - 128)).astype(np.float32)


def _mortar(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    offset = 8 * (np.floor(y / 8) % 2)
    return (y % 8 < 1.5) | ((x + offset) % 16 < 1.5)
