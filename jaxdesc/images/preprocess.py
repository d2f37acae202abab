"""Preprocessing of images for a network: PIL-exact resizing, windows, normalisation."""

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image

from jaxdesc.errors import InputError, UnusableImage, shown
from jaxdesc.images.example import Box
from jaxdesc.images.windows import Centre, corner, resized_shape

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
LARGEST_SIZE = 4096  # pixels; a batch of such inputs already is gigabytes
# Mean and std of each channel.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class Preprocess:
    """Preprocessing of a network's images.

    Attributes:
        size: side of the square input in pixels.
        field: side of the centre crop as a share of the resized shorter side (224/256).
        interpolation: "bilinear" or "bicubic", antialiased as in PIL.
        mean, std: of the normalisation, one number per channel, for pixels in [0, 1].

    Raises:
        InputError: an impossible value, or a mean or std of pixels in [0, 255].
    """

    size: int
    field: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        try:  # numbers of any library become Python's, which can be hashed
            numbers = {
                "size": operator.index(self.size),
                "field": float(self.field),
                "mean": tuple(map(float, self.mean)),
                "std": tuple(map(float, self.std)),
            }
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{shown(self)} is not a preprocessing ({error}): expected a whole number as size, "
                "a number as field, and three numbers for mean and for std."
            ) from error
        for name, value in numbers.items():
            object.__setattr__(self, name, value)
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(
                f"Unknown interpolation {self.interpolation!r} in a network's preprocessing: "
                f"expected one of {', '.join(INTERPOLATIONS)}."
            )
        channels = (*self.mean, *self.std)
        if (
            not (1 <= self.size <= LARGEST_SIZE and 0 < self.field <= 1)
            or not len(self.mean) == len(self.std) == 3
            or not all(map(math.isfinite, channels))
            or min(self.std) <= 0
        ):
            raise InputError(
                f"{self} is not a preprocessing: expected a size in [1, {LARGEST_SIZE}], a field "
                "in (0, 1], and three finite numbers for mean and for std, those of std positive."
            )
        if max(map(abs, channels)) > 1:
            raise InputError(
                f"The preprocessing's mean {self.mean} and std {self.std} are not of pixels in "
                "[0, 1], where neither exceeds 1: divide those of pixels in [0, 255] by 255."
            )

    @classmethod
    def from_timm(cls, pretrained: Mapping[str, Any]) -> "Preprocess":
        """Read timm's `pretrained_cfg`; absent entries take ImageNet's usual values.

        timm's `test_*` entries hold the size for evaluation if the network was trained on another,
        as torchvision's V2 weights were (176 and 224 pixels). `InputError` for an impossible value.
        """
        try:
            entries = {"input_size": (3, 224, 224), "crop_pct": 0.875, **pretrained}
            channels, height, size = map(int, entries.get("test_input_size", entries["input_size"]))
            if (channels, height) != (3, size):
                raise ValueError(f"input_size [{channels}, {height}, {size}] is not a square")
            crop_pct = entries.get("test_crop_pct", entries["crop_pct"])
            # timm resizes to the floor of this; `cut` rounds any field.
            field = size / math.floor(size / crop_pct)
            if entries.get("crop_mode", "center") != "center":
                raise ValueError(f"crop_mode {entries['crop_mode']!r} is not implemented")
            mean = tuple(map(float, pretrained.get("mean", IMAGENET[0])))
            std = tuple(map(float, pretrained.get("std", IMAGENET[1])))
            if not len(mean) == len(std) == 3:
                raise ValueError("mean and std need three numbers each")
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
            raise InputError(
                f"A network's pretrained_cfg can't be read ({error}): expected input_size "
                "[3, side, side], crop_pct in (0, 1], and mean and std of three numbers; correct "
                "its config.json."
            ) from error
        return cls(size, field, str(pretrained.get("interpolation", "bilinear")), mean, std)

    def normalise(
        self, pixels: UInt8[Array, "batch size size 3"] | UInt8[np.ndarray, "batch size size 3"]
    ) -> Float[Array, "batch size size 3"]:
        """Turn bytes into what the network expects, as torchvision's ToTensor and Normalize do."""
        scaled = pixels.astype(jnp.float32) / 255
        mean, std = (jnp.asarray(c, jnp.float32)[None, None, None] for c in (self.mean, self.std))
        return jax.lax.sub(scaled, jnp.broadcast_to(mean, scaled.shape)) / std

    def squash(self, image: Image.Image) -> UInt8[np.ndarray, "size size 3"]:
        """Resize the whole image to the square input; nothing is cut off."""
        resample = INTERPOLATIONS[self.interpolation]
        return np.asarray(image.resize((self.size, self.size), resample))

    def shrink(self, image: Image.Image, field: float | None = None) -> Image.Image:
        """Resize an image as `cut` does first, if that makes it smaller.

        It takes far less memory than a photo, and `cut`, given the photo's size, cuts the same
        pixels and raises the same.
        """
        width, height = self._resized(image.size, field)
        if width * height >= image.width * image.height:
            return image
        return image.resize((width, height), INTERPOLATIONS[self.interpolation])

    def cut(
        self,
        image: Image.Image | UInt8[np.ndarray, "height width 3"],
        centre: Centre,
        field: float | None = None,
        size: tuple[int, int] | None = None,
    ) -> tuple[UInt8[np.ndarray, "size size 3"], Box]:
        """Cut the square window around `centre`, (y, x) as fractions, clamped inside the image.

        Like torchvision's Resize and CenterCrop it resizes first, so that a centred window is the
        centre view, pixel for pixel. The window's side is `field` of the shorter side, by default
        `self.field`. Returned with the pixels is the window's (left, top, right, bottom) in pixels
        of the image before `shrink`, whose (width, height) was `size`. Raises `UnusableImage` for
        an image that is too long for its shorter side.
        """
        if size is None:
            size = image.size if isinstance(image, Image.Image) else image.shape[1::-1]
        (width, height), (top, left), box = self._placed(size, centre, field)
        if isinstance(image, np.ndarray) and image.shape[:2] != (height, width):
            image = Image.fromarray(image)
        if isinstance(image, Image.Image):
            image = np.asarray(image.resize((width, height), INTERPOLATIONS[self.interpolation]))
        window = image[top : top + self.size, left : left + self.size]
        return np.ascontiguousarray(window), box

    def box(self, size: tuple[int, int], centre: Centre, field: float | None = None) -> Box:
        """Return the box that `cut` gives for an image of (width, height) in pixels."""
        return self._placed(size, centre, field)[2]

    def _placed(
        self, size: tuple[int, int], centre: Centre, field: float | None
    ) -> tuple[tuple[int, int], tuple[int, int], Box]:
        """(width, height) of the resized image, the window's (top, left) there, and its box."""
        width, height = self._resized(size, field)
        top, left = corner(height, width, self.size, centre)
        corners = (left, top, left + self.size, top + self.size)
        across, down = size[0] / width, size[1] / height
        x0, y0, x1, y1 = (c * s for c, s in zip(corners, (across, down) * 2, strict=True))
        return (width, height), (top, left), (x0, y0, x1, y1)

    def _resized(self, size: tuple[int, int], field: float | None) -> tuple[int, int]:
        """(width, height) of the whole image at the window's scale."""
        shorter = max(self.size, round(self.size / (field or self.field)))
        height, width = resized_shape(size[1], size[0], shorter)
        if height * width > (Image.MAX_IMAGE_PIXELS or math.inf):
            raise UnusableImage(
                f"of {size[0]} × {size[1]} pixels",
                f"would become {width} × {height}, too long for its shorter side",
            )
        return width, height


# Preprocessings by name, for checkpoints that do not state theirs.
PRESETS = {
    "imagenet": Preprocess(224, 224 / 256, "bilinear", *IMAGENET),  # torchvision's V1 weights
    "imagenet_v2": Preprocess(224, 224 / 232, "bilinear", *IMAGENET),  # torchvision's V2 weights
    "imagenet_bicubic": Preprocess(224, 224 / 256, "bicubic", *IMAGENET),  # microsoft/resnet-50
    "inception": Preprocess(224, 224 / 256, "bilinear", (0.5,) * 3, (0.5,) * 3),  # [-1, 1]
    "openai": Preprocess(224, 1.0, "bicubic", *OPENAI),  # OpenAI's CLIPs
    "siglip": Preprocess(224, 1.0, "bicubic", (0.5,) * 3, (0.5,) * 3),
}


def check_preset(name: Any) -> None:
    """Raise `InputError` for anything but a name in `PRESETS`."""
    if not isinstance(name, str) or name not in PRESETS:
        raise InputError(
            f"Unknown preprocessing {shown(name)}: expected one of {', '.join(PRESETS)}."
        )
