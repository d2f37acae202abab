"""The embedded world's CLIP: a supervised demo CLIP, small enough to train on two cores.

Supervised, because its warm-up uses labels and true boxes: heads for class, colour and background
on the class token, over windows from tight to wide. A contrastive loss alone learns backgrounds,
which are larger and easier than shapes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPImageProcessorPil, CLIPTokenizer

from jaxdesc.images.preprocess import Preprocess
from jaxdesc.models.clip import CLIP, save_clip_model
from jaxdesc.models.clip_config import CLIPConfig
from jaxdesc.scenes import captions
from jaxdesc.scenes.training import (
    Batch,
    Schedule,
    batches,
    cut,
    fit,
    render_split,
    sine_positions,
)
from jaxdesc.scenes.world import BACKGROUNDS, CLASSES, COLOURS, HEIGHT, WIDTH, Scene

SIZE, PATCH, WIDTH_OF_TOWERS = 48, 8, 128
CONTEXT_LENGTH = 24  # tokens: the longest caption has 13
PREPROCESS = Preprocess(
    SIZE,
    1.0,
    "bicubic",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
WARM_UP = 0.16  # of all steps: the heads alone
FULL = Schedule(steps=4_800, batch=64)
QUICK = Schedule(steps=8, batch=16)
GATE_WINDOW = 1.2  # side of the gate's true-box window, in longest sides of the box


def config(tokenizer: CLIPTokenizer) -> dict[str, Any]:
    """Hugging Face's `config.json` of this CLIP, as a dict."""
    tower = {
        "hidden_size": WIDTH_OF_TOWERS,
        "intermediate_size": 4 * WIDTH_OF_TOWERS,
        "num_attention_heads": 4,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "projection_dim": WIDTH_OF_TOWERS,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": WIDTH_OF_TOWERS,
        "logit_scale_init_value": 2.6592,
        "vision_config": tower | {"num_hidden_layers": 4, "image_size": SIZE, "patch_size": PATCH},
        "text_config": {
            **tower,
            "num_hidden_layers": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": CONTEXT_LENGTH,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
    }


def build_tokenizer() -> CLIPTokenizer:
    """Learn CLIP's kind of byte-pair encoding on the world's captions.

    As in CLIP, the vocabulary has every byte both inside and at the end of a word, so that no text
    is unknown.
    """
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        end_of_word_suffix="</w>",
        initial_alphabet=letters,
        # Merges of equal frequency come in the order of their parts' ids. Without this, letters
        # that end a word would get ids in the order of a randomly seeded hash.
        special_tokens=[f"{c}</w>" for c in letters],
        show_progress=False,
    )
    bpe.train_from_iterator(captions.texts(), trainer)
    merges = [(left, right) for left, right in json.loads(bpe.to_str())["model"]["merges"]]
    ends = ("<|startoftext|>", "<|endoftext|>")
    tokens = [*letters, *(f"{c}</w>" for c in letters), *("".join(m) for m in merges), *ends]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    # transformers annotates merges as strings, but hands them to tokenizers, which wants pairs.
    options: dict[str, Any] = {"vocab": vocabulary, "merges": merges}
    return CLIPTokenizer(**options, model_max_length=CONTEXT_LENGTH)


class SupervisedCLIP(nnx.Module):
    """CLIP with linear heads for class, colour and background on the pooled image."""

    def __init__(self, config: CLIPConfig, rngs: nnx.Rngs):
        self.clip = CLIP(config, rngs=rngs)
        positions = self.clip.vision.positions
        positions[...] = sine_positions(SIZE // PATCH, config.vision.hidden_size)
        outputs = len(CLASSES), len(COLOURS), len(BACKGROUNDS)
        width = config.vision.hidden_size
        self.heads = nnx.List([nnx.Linear(width, count, rngs=rngs) for count in outputs])


def train(
    scenes: Sequence[Scene], tokenizer: CLIPTokenizer, schedule: Schedule, directory: Path
) -> CLIP:
    """Train the CLIP: heads, which are dropped, on tight to wide windows, then captions too."""
    settings = CLIPConfig.from_huggingface(config(tokenizer))
    model = SupervisedCLIP(settings, nnx.Rngs(0))
    tokens = tokenizer(captions.texts(), padding=True, return_tensors="np")["input_ids"]

    def batch(chosen: Sequence[Scene], rng: np.random.Generator, step: int) -> Batch:
        reach = step / (WARM_UP * schedule.steps)
        return _batch(chosen, min(reach, 1.0), reach >= 1, tokens, rng)

    fit(model, _loss, batches(scenes, 2, schedule, batch), schedule, directory)
    return model.clip


def _batch(
    scenes: Sequence[Scene],
    reach: float,
    strays: bool,
    tokens: np.ndarray,
    rng: np.random.Generator,
) -> Batch:
    """Windows, labels and captions, and the truth of every caption for every window."""
    windows = [_window(scene, reach, strays, rng) for scene in scenes]
    pixels = [
        cut(s, (left, top, left + side, top + side), SIZE, Image.Resampling.BICUBIC)
        for s, (top, left, side) in zip(scenes, windows, strict=True)
    ]
    visible, _ = captions.seen_through(scenes, np.array(windows))
    true = captions.truth(visible)
    phrase, template = captions.draw(true, rng)
    return {
        "pixels": np.stack(pixels),
        "kind": visible.kind,
        "colour": visible.colour,
        "background": visible.background,
        "tokens": tokens[phrase * len(captions.TEMPLATES) + template],
        "true": true[:, phrase],
    }


def _window(
    scene: Scene, reach: float, strays: bool, rng: np.random.Generator
) -> tuple[int, int, int]:
    """A square (top, left, side) around the object, from tight (reach 0) to any size (reach 1).

    One stray window in eight is anywhere, with or without the object, like a crop that misses it.
    """
    left, top, right, bottom = map(int, scene.box)
    tight = min(HEIGHT, max(right - left, bottom - top) + 2)
    side = int(rng.uniform(tight, tight + reach * (HEIGHT - tight) + 1))
    if strays and rng.random() < 1 / 8:
        side = int(rng.uniform(36, 72))
        return int(rng.integers(HEIGHT - side + 1)), int(rng.integers(WIDTH - side + 1)), side
    y = rng.integers(max(0, bottom - side), min(top, HEIGHT - side) + 1)
    x = rng.integers(max(0, right - side), min(left, WIDTH - side) + 1)
    return int(y), int(x), side


def _loss(model: Any, batch: Any, progress: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    clip = model.clip
    pooled = clip.vision.pooled(PREPROCESS.normalise(batch["pixels"]))
    supervised, accuracy = _heads_loss(model.heads, pooled, batch)
    images = _unit(clip.visual_projection(pooled))
    texts = clip.encode_texts(batch["tokens"])
    contrastive = _contrastive_loss(images, texts, clip.logit_scale[...], batch["true"])
    total = supervised + jnp.where(progress >= WARM_UP, contrastive, 0.0)
    return total, {"class": accuracy, "contrastive": contrastive}


def _heads_loss(heads: Any, pooled: jax.Array, batch: Any) -> tuple[jax.Array, jax.Array]:
    """Class + 0.3 colour + 0.2 background; the first two only if an object is visible."""
    shows = batch["kind"] >= 0
    kind, colour, background = (head(pooled) for head in heads)
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    of_object = cross_entropy(kind, jnp.maximum(batch["kind"], 0))
    of_object += 0.3 * cross_entropy(colour, batch["colour"])
    loss = jnp.mean(of_object, where=shows)
    loss += 0.2 * jnp.mean(cross_entropy(background, batch["background"]))
    return loss, jnp.mean(jnp.argmax(kind, -1) == batch["kind"], where=shows)


def _contrastive_loss(
    images: jax.Array, texts: jax.Array, logit_scale: jax.Array, true: jax.Array
) -> jax.Array:
    """CLIP's symmetric loss; a caption of another window is not a negative if it is true here."""
    logits = jnp.exp(jnp.minimum(logit_scale, jnp.log(100.0))) * images @ texts.T
    diagonal = jnp.eye(len(images), dtype=bool)
    logits = jnp.where(true & ~diagonal, -jnp.inf, logits)
    by_image = -jnp.diag(jax.nn.log_softmax(logits, 1))
    by_text = -jnp.diag(jax.nn.log_softmax(logits, 0))
    return jnp.mean(by_image + by_text) / 2


def _unit(vectors: jax.Array) -> jax.Array:
    return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)


def zero_shot_accuracy(
    clip: CLIP, tokenizer: CLIPTokenizer, scenes: Sequence[Scene], batch: int = 200
) -> float:
    """Share of true-box windows whose class "A photo of a {name}" is nearest, of all 32 names."""
    prompts = [f"A photo of a {names[0]}" for names in CLASSES.values()]
    tokens = tokenizer(prompts, padding=True, return_tensors="np")["input_ids"]
    texts = clip.encode_texts(jnp.asarray(tokens))
    encode = nnx.jit(lambda clip, pixels: clip.encode_images(PREPROCESS.normalise(pixels)))
    right = []
    for start in range(0, len(scenes), batch):
        part = scenes[start : start + batch]
        pixels = [cut(s, _true_box(s), SIZE, Image.Resampling.BICUBIC) for s in part]
        nearest = jnp.argmax(encode(clip, np.stack(pixels)) @ texts.T, axis=-1)
        right.append(np.asarray(nearest) == [s.kind for s in part])
    return float(np.mean(np.concatenate(right)))


def _true_box(scene: Scene) -> tuple[float, float, float, float]:
    """The square window on the true box, `GATE_WINDOW` times as wide, inside the scene."""
    left, top, right, bottom = scene.box
    side = min(HEIGHT, GATE_WINDOW * max(right - left, bottom - top))
    x = min(max((left + right - side) / 2, 0), WIDTH - side)
    y = min(max((top + bottom - side) / 2, 0), HEIGHT - side)
    return (x, y, x + side, y + side)


def build(
    schedule: Schedule, scenes: int, held_out: int, output: Path, checkpoints: Path
) -> dict[str, float]:
    """Train the CLIP, write its Hugging Face folder and return its zero-shot accuracy."""
    tokenizer = build_tokenizer()
    clip = train(render_split("train", scenes), tokenizer, schedule, checkpoints)
    gate = zero_shot_accuracy(clip, tokenizer, render_split("validation", held_out))
    save_clip_model(clip, output)
    # With the tokenizer's other special ids, which the network does not need but readers check.
    (output / "config.json").write_text(json.dumps(config(tokenizer), indent=2) + "\n")
    tokenizer.save_pretrained(output)
    CLIPImageProcessorPil(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}
    ).save_pretrained(output)
    return {"accuracy": gate}
