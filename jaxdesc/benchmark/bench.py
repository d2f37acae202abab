"""Parts that the sections of a device's report share: random networks, chip, time left."""

import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from jaxdesc.benchmark.plan import this_machine
from jaxdesc.benchmark.subjects import Options
from jaxdesc.errors import SHOWN
from jaxdesc.models.architectures import load_target
from jaxdesc.models.encoder import Namer
from jaxdesc.models.namers import load_namer
from jaxdesc.models.target import Target
from jaxdesc.runtime.chips import CHIPS, Chip
from jaxdesc.scenes import clip as scenes_clip
from jaxdesc.scenes import target as scenes_target

TOKENS = 8  # of a prompt such as "A photo of a goldfinch", with both ends


class Sizes(NamedTuple):
    """Sizes of a report: batches that are timed, the effect of bfloat16, and the scoring.

    `compiles` says if `torch.compile` is among PyTorch's ways.
    """

    batches: tuple[int, ...]
    views: int
    words: int
    neurons: int
    exemplars: int
    images: int
    concepts: int
    width: int
    compiles: bool


SIZES = {
    "small": Sizes((8,), 48, 60, 16, 4, 64, 600, 32, False),
    "full": Sizes((64, 256), 1024, 2000, 1000, 40, 40_000, 67_186, 512, True),
}


@dataclass
class Bench:
    """Parts that all sections share: networks, chip, the time that is left, what failed.

    Attributes:
        size: a name in `SIZES`.
        minutes: time to spend.
        folder: for the networks' files.
        failures: title of each section or row that failed.
    """

    size: str
    minutes: float
    folder: Path
    failures: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    loaded: dict[tuple[str, str], Any] = field(default_factory=dict)
    longest: float = 0.0  # seconds of a row

    @property
    def sizes(self) -> Sizes:
        """The sizes by their name."""
        return SIZES[self.size]

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return 60 * self.minutes - (time.perf_counter() - self.began)

    @cached_property
    def rivals(self) -> Any:
        """The package `rivals`; `InputError` without PyTorch."""
        return Options(rivals=True).rival

    @cached_property
    def rival_device(self) -> str:
        """PyTorch's device."""
        chosen: str = self.rivals.device.choose(jax.default_backend())
        return chosen

    @cached_property
    def chip(self) -> Chip:
        """The device with its maker's figures, or with measured rates."""
        kind = jax.devices()[0].device_kind
        for chip in CHIPS.values():
            if kind.startswith(chip.kind):
                return chip
        return replace(this_machine()[0], title=f"{kind}, rates measured now")

    def target(self, precision: str) -> Target:
        """The target network, read from its folder."""
        if ("target", precision) not in self.loaded:
            self.loaded["target", precision] = load_target(self.target_folder, precision=precision)
        target: Target = self.loaded["target", precision]
        return target

    def clip(self, precision: str) -> Namer:
        """The CLIP, read from its folder."""
        if ("clip", precision) not in self.loaded:
            self.loaded["clip", precision] = load_namer(self.clip_folder, precision=precision)
        clip: Namer = self.loaded["clip", precision]
        return clip

    @cached_property
    def target_folder(self) -> Path:
        """A target's folder with random weights: ResNet-50, or the embedded world's ResNet."""
        folder, write = self.folder / "target", self.rivals.random_networks.write_resnet
        if self.size == "full":
            write(folder, {"architecture": "resnet50", "num_classes": 1000})
            return folder
        args = scenes_target.MODEL_ARGS
        shape = {"channels": args["channels"], "stem": args["stem_width"]}
        write(folder, scenes_target.CONFIG, "basic", args["layers"], **shape)
        return folder

    @cached_property
    def clip_folder(self) -> Path:
        """A CLIP's folder with random weights: ViT-B/32, or the embedded world's sizes."""
        folder, tokenizer = self.folder / "clip", scenes_clip.build_tokenizer()
        towers: tuple[dict[str, Any], dict[str, Any]] = {"patch_size": 32}, {}
        if self.size == "small":
            config = scenes_clip.config(tokenizer)
            towers = config["vision_config"], config["text_config"]
        self.rivals.random_networks.write_clip(folder, tokenizer, *towers)
        return folder

    def views(self, count: int, side: int) -> np.ndarray:
        """Smooth random images in bytes, the same ones at every size."""
        rng = np.random.default_rng(0)
        seeds = rng.integers(0, 256, (count, 7, 7, 3), dtype=np.uint8)
        size, way = (side, side), Image.Resampling.BICUBIC
        return np.stack([np.asarray(Image.fromarray(seed).resize(size, way)) for seed in seeds])

    def tokens(self, count: int) -> np.ndarray:
        """Random token ids of texts of `TOKENS` tokens, both ends included."""
        tokenizer = self.clip("float32").tokenizer
        ends = tokenizer.bos_token_id, tokenizer.eos_token_id
        ids = np.random.default_rng(0).integers(0, min(ends), (count, TOKENS), dtype=np.int32)
        ids[:, 0], ids[:, -1] = ends
        return ids

    def attempt(self, title: str, compute: Callable[[], Any]) -> tuple[Any, str]:
        """Return what a function gives, and a sentence if it fails, which is then remembered."""
        began = time.perf_counter()
        try:
            return compute(), ""
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self.failures.append(title)
            reason = " ".join(str(error).split())[:SHOWN]
            return None, f"**{title} failed** ({type(error).__name__}): {reason}"
        finally:
            self.longest = max(self.longest, time.perf_counter() - began)
