"""Silhouettes of the world's objects, one per class and context thing.

Every shape is drawn once, white on black in the unit square (x right, y down), as a PIL mask large
enough to be scaled down for any scene.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from operator import methodcaller

from PIL import Image, ImageDraw

MASK_SIDE = 192  # px: three times the largest object of a scene


class Pen:
    """Draws in unit coordinates on a mask of `MASK_SIDE` pixels."""

    def __init__(self) -> None:
        self.mask = Image.new("L", (MASK_SIDE, MASK_SIDE), 0)
        self._draw = ImageDraw.Draw(self.mask)

    def polygon(self, *points: tuple[float, float], fill: int = 255) -> None:
        """Fill the polygon through `points`."""
        self._draw.polygon([(x * MASK_SIDE, y * MASK_SIDE) for x, y in points], fill=fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: int = 255) -> None:
        """Fill an axis-parallel rectangle."""
        self.polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1), fill=fill)

    def disc(self, x: float, y: float, r: float, ry: float | None = None, fill: int = 255) -> None:
        """Fill a disc, or an ellipse if `ry` is given."""
        ry = r if ry is None else ry
        corners = (x - r, y - ry, x + r, y + ry)
        self._draw.ellipse([c * MASK_SIDE for c in corners], fill=fill)

    def pie(self, x: float, y: float, r: float, start: float, end: float, ry: float) -> None:
        """Fill a sector from `start` to `end` degrees, clockwise from three o'clock."""
        corners = (x - r, y - ry, x + r, y + ry)
        self._draw.pieslice([c * MASK_SIDE for c in corners], start, end, fill=255)

    def line(self, *points: tuple[float, float], width: float = 0.08) -> None:
        """Draw a thick open line with round ends."""
        scaled = [(x * MASK_SIDE, y * MASK_SIDE) for x, y in points]
        self._draw.line(scaled, fill=255, width=round(width * MASK_SIDE), joint="curve")
        for x, y in points:
            self.disc(x, y, width / 2)

    def ring(self, x: float, y: float, r: float, width: float) -> None:
        """Draw a circle of the given outer radius and line width."""
        corners = [c * MASK_SIDE for c in (x - r, y - r, x + r, y + r)]
        self._draw.ellipse(corners, outline=255, width=round(width * MASK_SIDE))


def _spikes(
    count: int, outer: float, inner: float, turn: float = -math.pi / 2
) -> list[tuple[float, float]]:
    angles = [turn + math.pi * k / count for k in range(2 * count)]
    radii = [outer, inner] * count
    return [
        (0.5 + r * math.cos(angle), 0.5 + r * math.sin(angle))
        for r, angle in zip(radii, angles, strict=True)
    ]


polygon, box, disc, pie, line, ring = (
    partial(methodcaller, stroke) for stroke in ("polygon", "box", "disc", "pie", "line", "ring")
)
# Strokes of each shape, in the order in which they are drawn.
_SHAPES: dict[str, tuple[Callable[[Pen], None], ...]] = {
    "star": (polygon(*_spikes(5, 0.5, 0.2)),),
    "heart": (
        disc(0.27, 0.3, 0.25),
        disc(0.73, 0.3, 0.25),
        polygon((0.05, 0.42), (0.5, 0.35), (0.95, 0.42), (0.5, 0.98)),
    ),
    "moon": (disc(0.5, 0.5, 0.48), disc(0.72, 0.42, 0.42, fill=0)),
    "ring": (ring(0.5, 0.5, 0.49, 0.17),),
    "cross": (box(0.36, 0.02, 0.64, 0.98), box(0.02, 0.36, 0.98, 0.64)),
    "arrow": (box(0.0, 0.38, 0.6, 0.62), polygon((0.55, 0.1), (1.0, 0.5), (0.55, 0.9))),
    "house": (
        polygon((0.0, 0.48), (0.5, 0.02), (1.0, 0.48)),
        box(0.12, 0.48, 0.88, 0.98),
        box(0.4, 0.64, 0.6, 0.98, fill=0),
    ),
    "tree": (
        *(
            polygon((0.5, top), (0.5 + half, top + 0.34), (0.5 - half, top + 0.34))
            for top, half in ((0.0, 0.28), (0.25, 0.38), (0.5, 0.48))
        ),
        box(0.42, 0.8, 0.58, 1.0),
    ),
    "fish": (
        disc(0.4, 0.5, 0.38, 0.26),
        polygon((0.68, 0.5), (1.0, 0.2), (1.0, 0.8)),
        disc(0.2, 0.44, 0.05, fill=0),
    ),
    "cat": (
        disc(0.5, 0.6, 0.42, 0.38),
        polygon((0.1, 0.55), (0.12, 0.04), (0.48, 0.3)),
        polygon((0.9, 0.55), (0.88, 0.04), (0.52, 0.3)),
        disc(0.34, 0.56, 0.07, fill=0),
        disc(0.66, 0.56, 0.07, fill=0),
    ),
    "rabbit": (
        disc(0.5, 0.7, 0.32, 0.29),
        disc(0.34, 0.28, 0.1, 0.28),
        disc(0.66, 0.28, 0.1, 0.28),
        disc(0.39, 0.67, 0.05, fill=0),
        disc(0.61, 0.67, 0.05, fill=0),
    ),
    "car": (
        polygon((0.2, 0.48), (0.34, 0.22), (0.7, 0.22), (0.84, 0.48)),
        box(0.0, 0.46, 1.0, 0.7),
        *(
            stroke
            for x in (0.24, 0.76)
            for stroke in (disc(x, 0.7, 0.15), disc(x, 0.7, 0.06, fill=0))
        ),
    ),
    "truck": (
        box(0.0, 0.12, 0.62, 0.68),
        polygon((0.66, 0.34), (0.86, 0.34), (1.0, 0.52), (1.0, 0.68), (0.66, 0.68)),
        *(
            stroke
            for x in (0.18, 0.46, 0.82)
            for stroke in (disc(x, 0.74, 0.12), disc(x, 0.74, 0.04, fill=0))
        ),
    ),
    "sailboat": (
        polygon((0.48, 0.0), (0.48, 0.66), (0.05, 0.66)),
        polygon((0.54, 0.1), (0.54, 0.66), (0.88, 0.66)),
        polygon((0.0, 0.72), (1.0, 0.72), (0.8, 0.98), (0.2, 0.98)),
    ),
    "mug": (ring(0.7, 0.5, 0.27, 0.1), box(0.05, 0.1, 0.68, 0.92)),
    "key": (
        ring(0.24, 0.5, 0.24, 0.1),
        box(0.44, 0.44, 1.0, 0.56),
        box(0.74, 0.54, 0.82, 0.74),
        box(0.9, 0.54, 0.98, 0.74),
    ),
    "umbrella": (
        pie(0.5, 0.5, 0.5, 180, 360, 0.5),
        *(disc(x, 0.5, 0.17, 0.07, fill=0) for x in (0.17, 0.5, 0.83)),
        line((0.5, 0.42), (0.5, 0.88), (0.62, 0.95), (0.7, 0.86), width=0.07),
    ),
    "mushroom": (pie(0.5, 0.5, 0.48, 180, 360, 0.48), box(0.36, 0.48, 0.64, 0.98)),
    "flower": (
        *(
            disc(0.5 + 0.29 * math.cos(angle), 0.5 + 0.29 * math.sin(angle), 0.2)
            for angle in (2 * math.pi * k / 5 - math.pi / 2 for k in range(5))
        ),
        disc(0.5, 0.5, 0.11, fill=0),
    ),
    "butterfly": (
        polygon((0.48, 0.5), (0.0, 0.05), (0.1, 0.55)),
        polygon((0.52, 0.5), (1.0, 0.05), (0.9, 0.55)),
        disc(0.28, 0.74, 0.2),
        disc(0.72, 0.74, 0.2),
        disc(0.5, 0.55, 0.07, 0.36),
    ),
    "bell": (
        pie(0.5, 0.4, 0.32, 180, 360, 0.36),
        polygon((0.18, 0.38), (0.82, 0.38), (0.98, 0.8), (0.02, 0.8)),
        disc(0.5, 0.88, 0.11),
    ),
    "anchor": (
        ring(0.5, 0.13, 0.13, 0.06),
        line((0.5, 0.24), (0.5, 0.92), width=0.1),
        line((0.28, 0.36), (0.72, 0.36), width=0.09),
        line((0.08, 0.62), (0.2, 0.84), (0.5, 0.94), (0.8, 0.84), (0.92, 0.62), width=0.1),
    ),
    "ladder": (
        *(box(x - 0.06, 0.0, x + 0.06, 1.0) for x in (0.26, 0.74)),
        *(box(0.26, y - 0.045, 0.74, y + 0.045) for y in (0.14, 0.38, 0.62, 0.86)),
    ),
    "hammer": (
        box(0.42, 0.2, 0.58, 1.0),
        box(0.1, 0.02, 0.8, 0.3),
        polygon((0.8, 0.02), (0.98, 0.22), (0.8, 0.3)),
    ),
    "bottle": (
        box(0.42, 0.0, 0.58, 0.3),
        polygon((0.42, 0.26), (0.58, 0.26), (0.74, 0.46), (0.26, 0.46)),
        box(0.26, 0.45, 0.74, 1.0),
    ),
    "crown": (
        polygon(
            (0.04, 0.2),
            (0.28, 0.52),
            (0.5, 0.08),
            (0.72, 0.52),
            (0.96, 0.2),
            (0.88, 0.9),
            (0.12, 0.9),
        ),
    ),
    "lightning": (
        polygon((0.56, 0.0), (0.14, 0.56), (0.44, 0.56), (0.3, 1.0), (0.86, 0.38), (0.54, 0.38)),
    ),
    "bicycle": (
        *(ring(x, 0.64, 0.23, 0.07) for x in (0.23, 0.77)),
        line((0.23, 0.64), (0.4, 0.3), (0.66, 0.3), (0.5, 0.64), (0.23, 0.64), width=0.06),
        line((0.5, 0.64), (0.4, 0.24), width=0.06),
        line((0.77, 0.64), (0.64, 0.2), (0.78, 0.18), width=0.06),
    ),
    "glasses": (
        *(ring(x, 0.55, 0.24, 0.09) for x in (0.24, 0.76)),
        line((0.4, 0.48), (0.6, 0.48), width=0.09),
        line((0.04, 0.48), (0.02, 0.3), width=0.07),
        line((0.96, 0.48), (0.98, 0.3), width=0.07),
    ),
    "hat": (box(0.24, 0.12, 0.76, 0.74), disc(0.5, 0.78, 0.5, 0.12)),
    "gear": (
        *(
            line((0.5, 0.5), (0.5 + 0.41 * math.cos(a), 0.5 + 0.41 * math.sin(a)), width=0.17)
            for a in (math.pi * k / 4 for k in range(8))
        ),
        disc(0.5, 0.5, 0.36),
        disc(0.5, 0.5, 0.15, fill=0),
    ),
    "sun": (polygon(*_spikes(12, 0.5, 0.3)),),
    "bush": (
        *(
            disc(x, y, r)
            for x, y, r in (
                (0.25, 0.65, 0.25),
                (0.5, 0.4, 0.3),
                (0.76, 0.65, 0.24),
                (0.5, 0.7, 0.28),
            )
        ),
    ),
    "rock": (polygon((0.05, 0.85), (0.15, 0.4), (0.5, 0.18), (0.8, 0.35), (0.98, 0.85)),),
    "fence": (
        *(
            polygon((x, 0.3), (x + 0.07, 0.15), (x + 0.15, 0.3), (x + 0.15, 0.95), (x, 0.95))
            for x in (0.0, 0.29, 0.57, 0.85)
        ),
        box(0.0, 0.42, 1.0, 0.52),
        box(0.0, 0.68, 1.0, 0.78),
    ),
    "barrel": (
        disc(0.5, 0.5, 0.36, 0.5),
        box(0.0, 0.28, 1.0, 0.33, fill=0),
        box(0.0, 0.67, 1.0, 0.72, fill=0),
    ),
    "crate": (
        box(0.05, 0.05, 0.95, 0.95),
        *(
            polygon(*points, fill=0)
            for points in (
                ((0.2, 0.3), (0.2, 0.8), (0.7, 0.8)),
                ((0.3, 0.2), (0.8, 0.2), (0.8, 0.7)),
            )
        ),
    ),
    "puddle": (disc(0.4, 0.55, 0.4, 0.18), disc(0.65, 0.65, 0.34, 0.15)),
    "post": (box(0.42, 0.2, 0.58, 1.0), box(0.12, 0.0, 0.88, 0.34)),
    "cone": (
        polygon((0.44, 0.0), (0.56, 0.0), (0.82, 0.86), (0.18, 0.86)),
        box(0.05, 0.86, 0.95, 1.0),
        box(0.2, 0.42, 0.8, 0.52, fill=0),
    ),
}


@cache
def mask(name: str) -> Image.Image:
    """Silhouette cut to its bounds: mode L, at most `MASK_SIDE` px per side, 255 inside."""
    pen = Pen()
    for stroke in _SHAPES[name]:
        stroke(pen)
    return pen.mask.crop(pen.mask.getbbox())
