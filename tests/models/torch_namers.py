"""Folders of small name encoders other than CLIP, as their makers publish them."""

import json
import string

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from jaxdesc.scenes.clip import build_tokenizer
from tests.models.torch_checkpoints import SMALL, SMALL_VISION, small_torch_clip, torch_model

LENGTH = 16  # tokens of a text
WORDS = ["a", "photo", "of", "cat", "dog", "the", "red", "star", "night", "sky"]
LETTERS = string.ascii_letters + string.digits + string.punctuation
ENDS = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
GEMMA = {"eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<bos>"}


def unigrams(canonical=False):
    """SigLIP's kind of tokenizer: SentencePiece's unigrams, `</s>` behind a text and as padding.

    Case and punctuation are left to a Python class, or removed as in published `tokenizer.json`s.
    """
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(letter, -9.0) for letter in ["▁", *LETTERS]]
    pieces += [(f"▁{word}", -3.0) for word in WORDS]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    if canonical:
        punctuation = Regex(r"[!\"\#\$%\&'\(\)\*\+,\-\./:;<=>\?@\[\\\]\^_`\{\|\}\~]")
        steps = normalizers.Lowercase(), normalizers.Replace(punctuation, "")
        spaces = normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()
        tokenizer.normalizer = normalizers.Sequence([*steps, *spaces])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    end = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.post_processor = end
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=LENGTH, **ENDS
    )


def byte_pairs():
    """SigLIP 2's kind of tokenizer, Gemma's: byte pairs, `<eos>` behind a text, then `<pad>`."""
    merges, tokens = [], ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *LETTERS]
    for word in WORDS:
        for end in range(1, len(word)):
            merges.append((word[:end], word[end]))
            tokens.append(word[: end + 1])
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    model = models.BPE(vocabulary, list(dict.fromkeys(merges)), fuse_unk=True, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    end = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.post_processor = end
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=LENGTH, padding_side="right", **GEMMA
    )


TOKENIZERS = {"SigLIP": unigrams, "SigLIP 2": byte_pairs}


def small_siglip(**text):
    """A SiglipModel of two narrow layers a tower, its towers of different widths."""
    texts = SMALL | {"hidden_size": 48, "projection_size": 32, "vocab_size": 160}
    texts |= {"max_position_embeddings": LENGTH} | text
    return torch_model("SiglipModel", {"vision_config": SMALL_VISION, "text_config": texts})


def write_siglip(folder, tokenizer=None):
    """Write a small SigLIP, and return transformers' of the same weights."""
    model = small_siglip()
    model.save_pretrained(folder)
    (tokenizer or unigrams()).save_pretrained(folder)
    side = SMALL_VISION["image_size"]
    transformers.SiglipImageProcessorPil(
        size={"height": side, "width": side}, resample=2
    ).save_pretrained(folder)
    return model


# open_clip's names of transformers' tensors, as its conversion script to transformers maps them.
OPEN_CLIP = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "pre_layrnorm": "ln_pre",
    "post_layernorm": "ln_post",
    "final_layer_norm": "ln_final",
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn": "attn",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "vision_model.": "visual.",
    "text_model.": "",
    "visual_projection.weight": "visual.proj",
    "text_projection.weight": "text_projection",
}


def open_clip_tensors(model):
    """The tensors of a CLIPModel as open_clip names and lays them out."""
    found = {}
    for name, tensor in model.state_dict().items():
        projection = name.endswith("projection.weight")
        for theirs, ours in OPEN_CLIP.items():
            name = name.replace(theirs, ours)
        found[name] = (tensor.T if projection else tensor).contiguous()
    for name in [name for name in found if ".attn.q_proj." in name]:
        parts = [found.pop(name.replace("q_proj", f"{x}_proj")) for x in "qkv"]
        found[name.replace("q_proj.", "in_proj_")] = torch.cat(parts)
    return found


def write_open_clip(folder, *, quick_gelu=True, tokenizer=True, **preprocess):
    """Write a small CLIP in open_clip's packaging, and return transformers' of the same weights."""
    words, act = build_tokenizer(), "quick_gelu" if quick_gelu else "gelu"
    vision = {"hidden_act": act, "layer_norm_eps": 1e-5}
    text = vision | {"intermediate_size": 96, "vocab_size": len(words), "eos_token_id": 2}
    model = small_torch_clip(vision, text)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(open_clip_tensors(model), folder / "open_clip_model.safetensors")
    sizes = {"layers": 2, "mlp_ratio": 2.0}
    entries = {
        "model_cfg": {
            "embed_dim": 16,
            "vision_cfg": sizes | {"width": 32, "head_width": 8, "image_size": 24, "patch_size": 8},
            "text_cfg": sizes
            | {"width": 48, "heads": 4, "context_length": 12, "vocab_size": len(words)},
        }
        | ({"quick_gelu": True} if quick_gelu else {}),
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], **preprocess},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(entries))
    if tokenizer:
        words.save_pretrained(folder)
    return model
