"""Silhouettes of the world's objects, one per class and context thing.

Every shape is drawn once, white on black in the unit square (x right, y down), as a PIL mask large
enough to be scaled down for any scene.
"""

import math
from collections.abc import Callable
from functools import cache

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
    radii = [outer, inner] * count
    return [
        (
            0.5 + r * math.cos(turn + math.pi * k / count),
            0.5 + r * math.sin(turn + math.pi * k / count),
        )
        for k, r in enumerate(radii)
    ]


def _star(pen: Pen) -> None:
    pen.polygon(*_spikes(5, 0.5, 0.2))


def _heart(pen: Pen) -> None:
    pen.disc(0.27, 0.3, 0.25)
    pen.disc(0.73, 0.3, 0.25)
    pen.polygon((0.05, 0.42), (0.5, 0.35), (0.95, 0.42), (0.5, 0.98))


def _moon(pen: Pen) -> None:
    pen.disc(0.5, 0.5, 0.48)
    pen.disc(0.72, 0.42, 0.42, fill=0)


def _ring(pen: Pen) -> None:
    pen.ring(0.5, 0.5, 0.49, 0.17)


def _cross(pen: Pen) -> None:
    pen.box(0.36, 0.02, 0.64, 0.98)
    pen.box(0.02, 0.36, 0.98, 0.64)


def _arrow(pen: Pen) -> None:
    pen.box(0.0, 0.38, 0.6, 0.62)
    pen.polygon((0.55, 0.1), (1.0, 0.5), (0.55, 0.9))


def _house(pen: Pen) -> None:
    pen.polygon((0.0, 0.48), (0.5, 0.02), (1.0, 0.48))
    pen.box(0.12, 0.48, 0.88, 0.98)
    pen.box(0.4, 0.64, 0.6, 0.98, fill=0)


def _tree(pen: Pen) -> None:
    for top, half in ((0.0, 0.28), (0.25, 0.38), (0.5, 0.48)):
        pen.polygon((0.5, top), (0.5 + half, top + 0.34), (0.5 - half, top + 0.34))
    pen.box(0.42, 0.8, 0.58, 1.0)


def _fish(pen: Pen) -> None:
    pen.disc(0.4, 0.5, 0.38, 0.26)
    pen.polygon((0.68, 0.5), (1.0, 0.2), (1.0, 0.8))
    pen.disc(0.2, 0.44, 0.05, fill=0)


def _cat(pen: Pen) -> None:
    pen.disc(0.5, 0.6, 0.42, 0.38)
    pen.polygon((0.1, 0.55), (0.12, 0.04), (0.48, 0.3))
    pen.polygon((0.9, 0.55), (0.88, 0.04), (0.52, 0.3))
    pen.disc(0.34, 0.56, 0.07, fill=0)
    pen.disc(0.66, 0.56, 0.07, fill=0)


def _rabbit(pen: Pen) -> None:
    pen.disc(0.5, 0.7, 0.32, 0.29)
    pen.disc(0.34, 0.28, 0.1, 0.28)
    pen.disc(0.66, 0.28, 0.1, 0.28)
    pen.disc(0.39, 0.67, 0.05, fill=0)
    pen.disc(0.61, 0.67, 0.05, fill=0)


def _car(pen: Pen) -> None:
    pen.polygon((0.2, 0.48), (0.34, 0.22), (0.7, 0.22), (0.84, 0.48))
    pen.box(0.0, 0.46, 1.0, 0.7)
    for x in (0.24, 0.76):
        pen.disc(x, 0.7, 0.15)
        pen.disc(x, 0.7, 0.06, fill=0)


def _truck(pen: Pen) -> None:
    pen.box(0.0, 0.12, 0.62, 0.68)
    pen.polygon((0.66, 0.34), (0.86, 0.34), (1.0, 0.52), (1.0, 0.68), (0.66, 0.68))
    for x in (0.18, 0.46, 0.82):
        pen.disc(x, 0.74, 0.12)
        pen.disc(x, 0.74, 0.04, fill=0)


def _sailboat(pen: Pen) -> None:
    pen.polygon((0.48, 0.0), (0.48, 0.66), (0.05, 0.66))
    pen.polygon((0.54, 0.1), (0.54, 0.66), (0.88, 0.66))
    pen.polygon((0.0, 0.72), (1.0, 0.72), (0.8, 0.98), (0.2, 0.98))


def _mug(pen: Pen) -> None:
    pen.ring(0.7, 0.5, 0.27, 0.1)
    pen.box(0.05, 0.1, 0.68, 0.92)


def _key(pen: Pen) -> None:
    pen.ring(0.24, 0.5, 0.24, 0.1)
    pen.box(0.44, 0.44, 1.0, 0.56)
    pen.box(0.74, 0.54, 0.82, 0.74)
    pen.box(0.9, 0.54, 0.98, 0.74)


def _umbrella(pen: Pen) -> None:
    pen.pie(0.5, 0.5, 0.5, 180, 360, 0.5)
    for x in (0.17, 0.5, 0.83):
        pen.disc(x, 0.5, 0.17, 0.07, fill=0)
    pen.line((0.5, 0.42), (0.5, 0.88), (0.62, 0.95), (0.7, 0.86), width=0.07)


def _mushroom(pen: Pen) -> None:
    pen.pie(0.5, 0.5, 0.48, 180, 360, 0.48)
    pen.box(0.36, 0.48, 0.64, 0.98)


def _flower(pen: Pen) -> None:
    for k in range(5):
        angle = 2 * math.pi * k / 5 - math.pi / 2
        pen.disc(0.5 + 0.29 * math.cos(angle), 0.5 + 0.29 * math.sin(angle), 0.2)
    pen.disc(0.5, 0.5, 0.11, fill=0)


def _butterfly(pen: Pen) -> None:
    pen.polygon((0.48, 0.5), (0.0, 0.05), (0.1, 0.55))
    pen.polygon((0.52, 0.5), (1.0, 0.05), (0.9, 0.55))
    pen.disc(0.28, 0.74, 0.2)
    pen.disc(0.72, 0.74, 0.2)
    pen.disc(0.5, 0.55, 0.07, 0.36)


def _bell(pen: Pen) -> None:
    pen.pie(0.5, 0.4, 0.32, 180, 360, 0.36)
    pen.polygon((0.18, 0.38), (0.82, 0.38), (0.98, 0.8), (0.02, 0.8))
    pen.disc(0.5, 0.88, 0.11)


def _anchor(pen: Pen) -> None:
    pen.ring(0.5, 0.13, 0.13, 0.06)
    pen.line((0.5, 0.24), (0.5, 0.92), width=0.1)
    pen.line((0.28, 0.36), (0.72, 0.36), width=0.09)
    pen.line((0.08, 0.62), (0.2, 0.84), (0.5, 0.94), (0.8, 0.84), (0.92, 0.62), width=0.1)


def _ladder(pen: Pen) -> None:
    for x in (0.26, 0.74):
        pen.box(x - 0.06, 0.0, x + 0.06, 1.0)
    for y in (0.14, 0.38, 0.62, 0.86):
        pen.box(0.26, y - 0.045, 0.74, y + 0.045)


def _hammer(pen: Pen) -> None:
    pen.box(0.42, 0.2, 0.58, 1.0)
    pen.box(0.1, 0.02, 0.8, 0.3)
    pen.polygon((0.8, 0.02), (0.98, 0.22), (0.8, 0.3))


def _bottle(pen: Pen) -> None:
    pen.box(0.42, 0.0, 0.58, 0.3)
    pen.polygon((0.42, 0.26), (0.58, 0.26), (0.74, 0.46), (0.26, 0.46))
    pen.box(0.26, 0.45, 0.74, 1.0)


def _crown(pen: Pen) -> None:
    pen.polygon(
        (0.04, 0.2), (0.28, 0.52), (0.5, 0.08), (0.72, 0.52), (0.96, 0.2), (0.88, 0.9), (0.12, 0.9)
    )


def _lightning(pen: Pen) -> None:
    pen.polygon((0.56, 0.0), (0.14, 0.56), (0.44, 0.56), (0.3, 1.0), (0.86, 0.38), (0.54, 0.38))


def _bicycle(pen: Pen) -> None:
    for x in (0.23, 0.77):
        pen.ring(x, 0.64, 0.23, 0.07)
    pen.line((0.23, 0.64), (0.4, 0.3), (0.66, 0.3), (0.5, 0.64), (0.23, 0.64), width=0.06)
    pen.line((0.5, 0.64), (0.4, 0.24), width=0.06)
    pen.line((0.77, 0.64), (0.64, 0.2), (0.78, 0.18), width=0.06)


def _glasses(pen: Pen) -> None:
    for x in (0.24, 0.76):
        pen.ring(x, 0.55, 0.24, 0.09)
    pen.line((0.4, 0.48), (0.6, 0.48), width=0.09)
    pen.line((0.04, 0.48), (0.02, 0.3), width=0.07)
    pen.line((0.96, 0.48), (0.98, 0.3), width=0.07)


def _hat(pen: Pen) -> None:
    pen.box(0.24, 0.12, 0.76, 0.74)
    pen.disc(0.5, 0.78, 0.5, 0.12)


def _gear(pen: Pen) -> None:
    for k in range(8):
        angle = math.pi * k / 4
        ux, uy = math.cos(angle), math.sin(angle)
        pen.line((0.5, 0.5), (0.5 + 0.41 * ux, 0.5 + 0.41 * uy), width=0.17)
    pen.disc(0.5, 0.5, 0.36)
    pen.disc(0.5, 0.5, 0.15, fill=0)


def _sun(pen: Pen) -> None:
    pen.polygon(*_spikes(12, 0.5, 0.3))


def _bush(pen: Pen) -> None:
    for x, y, r in ((0.25, 0.65, 0.25), (0.5, 0.4, 0.3), (0.76, 0.65, 0.24), (0.5, 0.7, 0.28)):
        pen.disc(x, y, r)


def _rock(pen: Pen) -> None:
    pen.polygon((0.05, 0.85), (0.15, 0.4), (0.5, 0.18), (0.8, 0.35), (0.98, 0.85))


def _fence(pen: Pen) -> None:
    for x in (0.0, 0.29, 0.57, 0.85):
        pen.polygon((x, 0.3), (x + 0.07, 0.15), (x + 0.15, 0.3), (x + 0.15, 0.95), (x, 0.95))
    pen.box(0.0, 0.42, 1.0, 0.52)
    pen.box(0.0, 0.68, 1.0, 0.78)


def _barrel(pen: Pen) -> None:
    pen.disc(0.5, 0.5, 0.36, 0.5)
    pen.box(0.0, 0.28, 1.0, 0.33, fill=0)
    pen.box(0.0, 0.67, 1.0, 0.72, fill=0)


def _crate(pen: Pen) -> None:
    pen.box(0.05, 0.05, 0.95, 0.95)
    for points in (((0.2, 0.3), (0.2, 0.8), (0.7, 0.8)), ((0.3, 0.2), (0.8, 0.2), (0.8, 0.7))):
        pen.polygon(*points, fill=0)


def _puddle(pen: Pen) -> None:
    pen.disc(0.4, 0.55, 0.4, 0.18)
    pen.disc(0.65, 0.65, 0.34, 0.15)


def _post(pen: Pen) -> None:
    pen.box(0.42, 0.2, 0.58, 1.0)
    pen.box(0.12, 0.0, 0.88, 0.34)


def _cone(pen: Pen) -> None:
    pen.polygon((0.44, 0.0), (0.56, 0.0), (0.82, 0.86), (0.18, 0.86))
    pen.box(0.05, 0.86, 0.95, 1.0)
    pen.box(0.2, 0.42, 0.8, 0.52, fill=0)


_SHAPES: dict[str, Callable[[Pen], None]] = {
    name.removeprefix("_"): drawing
    for name, drawing in list(globals().items())
    if callable(drawing) and name.startswith("_") and drawing.__annotations__.get("pen") is Pen
}


@cache
def mask(name: str) -> Image.Image:
    """Silhouette called `name`, cut to its bounds.

    Returns:
        A PIL image of mode L, at most `MASK_SIDE` pixels per side, 255 inside the shape.
    """
    pen = Pen()
    _SHAPES[name](pen)
    return pen.mask.crop(pen.mask.getbbox())
