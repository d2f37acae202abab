"""Folders of sentence encoders as sentence-transformers writes them, with random weights."""

import json
import re
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers.initialization import no_init_weights

MODELS = {"bert": transformers.BertModel, "mpnet": transformers.MPNetModel}
CONFIGS = {"bert": transformers.BertConfig, "mpnet": transformers.MPNetConfig}
# Where BERT's and MPNet's vocabularies hold the tokens that are not words, and how large they are.
SPECIAL = {
    "bert": {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103},
    "mpnet": {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "[UNK]": 104, "<mask>": 30526},
}
SIZES = {"bert": 30522, "mpnet": 30527}
ROLES = {
    "bert": {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]", "unk": "[UNK]"},
    "mpnet": {"cls": "<s>", "sep": "</s>", "pad": "<pad>", "mask": "<mask>", "unk": "[UNK]"},
}
# all-mpnet-base-v2's and all-MiniLM-L6-v2's.
FULL = {
    "bert": {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536},
    "mpnet": {"max_position_embeddings": 514, "layer_norm_eps": 1e-5},
}
SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
}
LENGTHS = {"bert": 256, "mpnet": 384}
FOLDERS = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
MODULES = [
    {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
    for n, (kind, path) in enumerate(FOLDERS.items())
]
POOLING = {
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": True,
    "pooling_mode_max_tokens": False,
    "pooling_mode_mean_sqrt_len_tokens": False,
}
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def random_model(kind, **sizes):
    """A model whose vectors all differ, whose attention is not flat, in evaluation mode."""
    torch.manual_seed(0)
    config = CONFIGS[kind](vocab_size=SIZES[kind], **sizes)
    with no_init_weights():
        model = MODELS[kind](config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            scale = re.search(r"LayerNorm\.weight", name)
            torch.nn.init.normal_(parameter, mean=1.0 if scale else 0.0, std=0.2)
        elif "embeddings" in name or "relative" in name:
            torch.nn.init.normal_(parameter, std=0.5)
        else:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return model.eval()


def write_encoder(folder, model):
    """Write a folder as sentence-transformers has it, with a tokenizer of single letters."""
    kind = model.config.model_type
    model.save_pretrained(folder)
    files = {
        "modules.json": MODULES,
        "1_Pooling/config.json": POOLING | {"word_embedding_dimension": model.config.hidden_size},
        "sentence_bert_config.json": {"max_seq_length": LENGTHS[kind], "do_lower_case": False},
        "config_sentence_transformers.json": {"__version__": {"sentence_transformers": "2.0.0"}},
        "tokenizer_config.json": {
            "do_lower_case": True,
            "model_max_length": 512,
            "tokenizer_class": {"bert": "BertTokenizer", "mpnet": "MPNetTokenizer"}[kind],
            **{f"{role}_token": token for role, token in ROLES[kind].items()},
        },
    }
    for name, content in files.items():
        file = Path(folder) / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
    _tokenizer(kind).save(str(Path(folder) / "tokenizer.json"))


def _tokenizer(kind):
    """WordPiece over letters; like the published ones it pads and cuts to 128."""
    places = {place: token for token, place in SPECIAL[kind].items()}
    pieces = iter([*LETTERS, *(f"##{letter}" for letter in LETTERS), ",", ".", "é"])
    tokens = [places.get(n) or next(pieces, f"[unused{n}]") for n in range(SIZES[kind])]
    roles = ROLES[kind]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=roles["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    first, last = ((roles[role], vocabulary[roles[role]]) for role in ("cls", "sep"))
    tokenizer.post_processor = processors.BertProcessing(last, first)
    tokenizer.add_special_tokens(sorted(SPECIAL[kind], key=SPECIAL[kind].get))
    tokenizer.enable_truncation(128)
    tokenizer.enable_padding(length=128, pad_id=vocabulary[roles["pad"]], pad_token=roles["pad"])
    return tokenizer


def reference(folder, texts):
    """Unit sentence embeddings by sentence-transformers' definition, in PyTorch.

    Tokens cut at max_seq_length, the mean of the last layer over the attention mask, normalised.
    """
    length = json.loads((Path(folder) / "sentence_bert_config.json").read_text())["max_seq_length"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    batch = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
    with torch.inference_mode():
        tokens = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None].float()
    mean = (tokens * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
    return torch.nn.functional.normalize(mean, dim=1).numpy()
