"""Records what FlaxCLIPModel, the last Flax CLIP of Hugging Face, computes with a small network.

    pip install transformers==4.57.6 jax==0.10.2 flax==0.12.8    # in a separate environment
    python tests/models/record_flax_clip.py

writes `tests/models/data/flax_clip`: config.json and flax_model.msgpack as `save_pretrained` of
transformers 4.57.6 writes them, and outputs.safetensors with the inputs and what came out. That
version was the last with Flax models; the tests, which run with a newer one, read the record.
"""

from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save_file
from transformers import CLIPConfig, FlaxCLIPModel

FOLDER = Path(__file__).parent / "data" / "flax_clip"
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
VISION = {"image_size": 24, "patch_size": 8, "hidden_act": "quick_gelu"}
TOKENS = {"vocab_size": 100, "max_position_embeddings": 12, "eos_token_id": 90, "bos_token_id": 98}
CONFIG = CLIPConfig(
    vision_config=dict(zip(SIZES, (32, 48, 3, 4), strict=True)) | VISION,
    text_config=dict(zip(SIZES, (24, 40, 2, 3), strict=True)) | TOKENS | {"hidden_act": "gelu"},
    projection_dim=16,
)
# The first end-of-text token is neither the largest id nor the last token.
TEXTS = np.array([[98, 7, 95, 90, 2, 99, 99, 99], [98, 90, 2, 99, 1, 1, 1, 1]])


def drawn(rng, path, leaf):
    """Weights that all differ, and an attention that is not flat."""
    spread = 0.2 if leaf.ndim < 2 else np.prod(leaf.shape[:-1]) ** -0.5
    mean = 1.0 if path[-1].key == "scale" else 0.0
    return rng.normal(mean, spread, leaf.shape).astype(np.float32)


def main():
    """Draw the weights, run both towers, write the folder."""
    rng = np.random.default_rng(0)
    model = FlaxCLIPModel(CONFIG, input_shape=((1, 12), (1, 24, 24, 3)))
    model.params = jax.tree_util.tree_map_with_path(
        lambda p, leaf: drawn(rng, p, leaf), model.params
    )
    pixels = rng.normal(size=(2, 24, 24, 3)).astype(np.float32)
    out = model(TEXTS, pixels.transpose(0, 3, 1, 2), output_hidden_states=True)
    model.save_pretrained(FOLDER)
    arrays = {"pixels": pixels, "ids": TEXTS, "images": out.image_embeds, "texts": out.text_embeds}
    for tower, outputs in (("vision", out.vision_model_output), ("text", out.text_model_output)):
        arrays |= {f"{tower}.{i}": state for i, state in enumerate(outputs.hidden_states)}
    save_file(
        {k: np.ascontiguousarray(v) for k, v in arrays.items()}, FOLDER / "outputs.safetensors"
    )


if __name__ == "__main__":
    main()
