"""Networks that are not there, and files that describe none, by the message that each gives."""

import json
from functools import partial
from unittest.mock import Mock

import huggingface_hub
from huggingface_hub import constants

import jaxdesc as jd
from jaxdesc.models.packaging import target_preprocess
from jaxdesc.models.source import locate
from tests.faults.place import rows

NAN = float("nan")
WEIGHTS = "model.safetensors"
DEEP = "[" * 100_000


def hub(kind, **settings):
    """Look for an id with an empty cache."""

    def run(place):
        for name, value in {"HF_HUB_CACHE": str(place.folder), **settings}.items():
            place.patch.setattr(constants, name, value)
        locate("owner/name@v1.0", kind)

    return run


def gated(place):
    error = PermissionError("403 Forbidden.\n\nAccess to owner/name is restricted.")
    place.patch.setattr(huggingface_hub, "snapshot_download", Mock(side_effect=error))
    locate("owner/name", "target")


def target(name, content):
    """Load the embedded world's target with one file replaced, or removed if None."""
    return lambda place: jd.load_target(place.network("target", name, content))


def target_of(**changes):
    return lambda place: jd.load_target(place.described("target", **changes))


def clip(name, content):
    return lambda place: jd.load_clip(place.network("clip", name, content))


def clip_of(**changes):
    return lambda place: jd.load_clip(place.described("clip", **changes))


def prepared(changes):
    return clip_of(file="preprocessor_config.json", **changes)


def load(loader, *arguments, **options):
    return lambda place: loader(*arguments, **options)


def folder(loader, files):
    """Load a folder that holds nothing but these JSON files."""

    def run(place):
        for name, entries in files.items():
            place.file(f"net/{name}.json", json.dumps(entries))
        loader(place.folder / "net")

    return run


def resnet(**entries):
    return folder(jd.load_target, {"config": {"model_type": "resnet"} | entries})


def resnet_prepared(entries):
    """A Hugging Face ResNet's preprocessing."""
    files = {"config": {"model_type": "resnet"}, "preprocessor_config": entries}
    return folder(lambda path: target_preprocess(path, "", []), files)


def sentences(files):
    config = {"model_type": "bert"} | files.get("config", {})
    return folder(jd.load_sentence_encoder, files | {"config": config})


def packaged(files):
    """A folder of these files, handed to the loader of CLIPs."""

    def run(place):
        for name in files:
            place.file(f"net/{name}", "{}")
        jd.load_clip(place.folder / "net")

    return run


def misfits(entries, where=""):
    """The refusal of config entries, each with its value and what was expected."""
    return ", ".join(
        f"{where}{key} = {value!r} (expected {expected})"
        for key, (value, expected) in entries.items()
    )


def values(entries):
    return {key: value for key, (value, _) in entries.items()}


LAYOUT = "a local folder with config.json, model.safetensors, tokenizer.json and preprocessor"

FOUND = {
    "The sentence encoder 'owner/name' is not a local folder and can't be fetched from Hugging "
    "Face at revision 'v1.0' (LocalEntryNotFoundError: ... refused ...): correct the id, or go "
    "online, or give a local folder with config.json, model.safetensors and tokenizer.json.": hub(
        "sentence encoder", ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE=False
    ),
    "The clip 'owner/name' is not a local folder and can't be fetched ... 'v1.0' (LocalEntry...): "
    f"correct the id, or go online, or give {LAYOUT}": hub("clip", HF_HUB_OFFLINE=True),
    "The target 'owner/name' is not ... (PermissionError: 403 Forbidden. Access to owner/name is "
    "restricted.): correct the id, or go online, or give": gated,
    f"The clip folder '/none' does not exist: give {LAYOUT}... or a Hugging Face id such as "
    "owner/name, or scenes:NAME with NAME one of attributes, clip": load(jd.load_clip, "/none"),
    "The target folder 'xxx...… does not exist: give": load(jd.load_target, "x" * 5000),
    f"The clip is 5: give {LAYOUT}": load(jd.load_clip, 5),
    "'o/n@a' names another revision than 'b': give": load(jd.load_target, "o/n@a", revision="b"),
    "The clip 'scenes' is a local path, which has": load(jd.load_clip, "scenes", revision="main"),
    "Unknown precision 'int8': expected": load(jd.load_clip, "scenes", precision="int8"),
    "Unknown precision 'half': expected": load(jd.load_target, "scenes", precision="half"),
    "Unknown preprocessing 'vgg': expected": load(jd.load_target, "scenes", preprocess="vgg"),
}

# Packagings of other tools, and other kinds of network.
PACKAGED = {
    **rows(
        "<here>/net holds a network in the form of ",
        packaged,
        {
            "open_clip (open_clip_model.bin), which is not read: give": ["open_clip_model.bin"],
            "diffusers (model_index.json), which is not read: give": ["model_index.json"],
            "ONNX (model.onnx), which is not read: give": ["tokenizer.json", "onnx/model.onnx"],
            "PyTorch (best.pt), which is not read: give the file itself": ["best.pt"],
        },
    ),
    "<here>/net holds an adapter of PEFT (adapter_config.json), which changes a network that it "
    "does not hold: merge both": packaged(["config.json", WEIGHTS, "adapter_config.json"]),
    "<here>/clip is a name encoder and not a sentence encoder: read it by load_namer or ...": (
        lambda p: jd.load_sentence_encoder(p.network("clip"))
    ),
    f"<here>/target is a target network and not a name encoder: ..., and give {LAYOUT}": (
        lambda p: jd.load_namer(p.network("target"))
    ),
    f"<here>/ViT.pt is a file, but a name encoder is {LAYOUT}": lambda p: jd.load_namer(
        p.file("ViT.pt")
    ),
}

# Values in configs, and what was expected: everything that is wrong is said at once.
COUNT, CODE = "a positive integer", ({"AutoModel": "own.Model"}, "only None")
TIMM = {
    "act_layer": ("silu", "only 'relu'"),
    "avg_down": (1, "true or false"),
    "block_args": ({"attn_layer": "se"}, "only None"),
    "norm_layer": ("groupnorm", "only 'batchnorm2d'"),
    "num_classes": (8, "only 32"),
    "output_stride": (16, "only 32"),
    "stem_type": ("deep_tiered", "'' or 'deep'"),
    "unheard_of": (1, "no such entry"),
}
RESNET = {
    "layer_type": (["basic"], "basic or bottleneck"),
    "depths": ([3, 4], "four positive integers"),
    "hidden_sizes": ([256, 512, 0, 1], "four positive integers"),
    "num_channels": (1, "only 3"),
    "id2label": (["a"], "an object"),
    "hidden_act": ("gelu", "only 'relu'"),
    "downsample_in_first_stage": (True, "only False"),
    "downsample_in_bottleneck": (True, "only False"),
    "auto_map": CODE,
}
VISION = {
    "hidden_size": (10**30, COUNT),
    "num_hidden_layers": (10**9, "an integer from 1 to 128"),
    "layer_norm_eps": (NAN, "a number that is finite"),
    "image_size": (2.0, COUNT),
    "num_channels": (1, "only 3"),
}
ACTS = "quick_gelu or gelu or gelu_pytorch_tanh"
TEXT = {
    "hidden_act": ("relu", ACTS),
    "vocab_size": (True, COUNT),
    "eos_token_id": ([2, 3], "an integer"),
}
CLIP = {"projection_dim": (-1, COUNT), "auto_map": CODE}
BERT = {
    "vocab_size": (None, COUNT),
    "hidden_size": ("24", COUNT),
    "num_attention_heads": (0, COUNT),
    "intermediate_size": (1.5, COUNT),
    "max_position_embeddings": (True, COUNT),
    "num_hidden_layers": (10**9, "an integer from 1 to 128"),
    "hidden_act": ("gelu_new", "only 'gelu'"),
}
NO_RESNET = "config.json describes no ResNet that is implemented"
NO_CLIP = "<here>/clip: config.json describes no CLIP that is implemented"

CONFIGS = {
    **rows(
        "<here>/target/config.json ",
        partial(target, "config.json"),
        {
            "does not exist; expected the config of a checkpoint; download": None,
            "can't be read as JSON ('utf-...); expected the config": b"\xff\xfe\xfa",
            "can't be read as JSON (brackets within brackets, too deep)": DEEP,
            "holds a JSON list, expected an object of settings; download": "[1]",
        },
    ),
    **rows(
        "<here>/target: config.json names the architecture ",
        lambda name: target_of(architecture=name),
        {
            "'vgg', which is not one of resnet, resnet18, ...; use ..., or wrap your own": "vgg",
            "['resnet50'], which is not one of": ["resnet50"],
        },
    ),
    **rows(
        "<here>/target: No ResNet has the sizes ... ",
        lambda sizes: target_of(**sizes),
        {
            "num_classes='32', ...; expected block": {"num_classes": "32"},
            "num_classes=0, ...; expected block": {"num_classes": 0},
            "cardinality=2, ...; expected ... in basic blocks": {"model_args": {"cardinality": 2}},
            "base_width=1, ...; expected ... in basic blocks": {
                "model_args": {"block": "bottleneck", "channels": [32] * 4, "base_width": 1}
            },
            "num_classes=1000000000000000000": {"num_classes": 10**18},
            "block='v2'": {"model_args": {"block": "v2"}},
            "layers=(1000000000, 1, 1, 1)": {"model_args": {"layers": [10**9, 1, 1, 1]}},
            "layers=(1, 1)": {"model_args": {"layers": [1, 1]}},
            "channels=64": {"model_args": {"channels": 64}},
        },
    ),
    f"<here>/target: {NO_RESNET}: model_args = 'x' (expected an object)": target_of(model_args="x"),
    f"<here>/target: {NO_RESNET}: global_pool = 'max' (expected only 'avg'), "
    "pretrained_cfg.global_pool = 'catavgmax' (expected only 'avg'), "
    f"{misfits(TIMM, 'model_args.')}; use a plain ResNet v1.5 checkpoint, or wrap": target_of(
        global_pool="max", pretrained_cfg__global_pool="catavgmax", model_args=values(TIMM)
    ),
    f"<here>/net: {NO_RESNET}: {misfits(RESNET)}; use": resnet(**values(RESNET)),
    "<here>/net: No ResNet has the sizes ... channels=(0, 0, 0, 0)": resnet(hidden_sizes=[2] * 4),
    "<here>/clip/config.json sets model_type 'align': expected one": clip_of(model_type="align"),
    "<here>/clip is a name encoder of the kind siglip: read it by load_namer": clip_of(
        model_type="siglip"
    ),
    "<here>/clip is a SigLIP 2 for images of any shape (NaFlex), which is not implemented: give": (
        clip_of(model_type="siglip2")
    ),
    f"{NO_CLIP}: {misfits(CLIP)}, {misfits(VISION, 'vision_config.')}, "
    f"{misfits(TEXT, 'text_config.')}; use a Hugging Face CLIP checkpoint": clip_of(
        **values(CLIP), vision_config=values(VISION), text_config=values(TEXT)
    ),
    f"{NO_CLIP}: vision_config = [1] (expected an object of settings)": clip_of(vision_config=[1]),
    f"{NO_CLIP}: vision_config.hidden_size = 128 (expected a multiple of num_attention_heads = 5), "
    "vision_config.patch_size = 49 (expected at most image_size = 48)": clip_of(
        vision_config__num_attention_heads=5, vision_config__patch_size=49
    ),
}

LABELS = rows(
    "label_names in <here>/target/config.json ",
    lambda labels: target_of(label_names=labels),
    {
        "names 10 classes, but the network has 32 logits: correct": ["cat"] * 10,
        "names n02123045 twice: correct it.": ["n02123045"] * 32,
        "has no label for class '1': expected": {"0": "cat", "2": "dog"},
        "hold '\\x1b[2J', which is not a name: correct it.": ["\x1b[2J"] * 32,
        "are [3, 3, 3, ...: expected strings, one per class": [3] * 32,
        "are {'0': 3}: expected strings": {"0": 3},
        "are cat: expected strings": "cat",
    },
) | {
    "label_descriptions in <here>/target/config.json is a list: expected an object": target_of(
        label_descriptions=["cat"]
    )
}

NO_PREPROCESSING = (
    "<here>/clip/preprocessor_config.json can't be read as a name encoder's preprocessing"
)
PREPROCESSING = {
    **rows(
        "<here>/target: ",
        lambda entries: target_of(pretrained_cfg=entries),
        {
            "pretrained_cfg = 'vgg' in its config.json: expected an object": "vgg",
            "The preprocessing's mean (127.0, ...) and std ... divide": {"mean": [127] * 3},
            "Preprocess(size=4097, ...) is not a preprocessing:": {"input_size": [3, 4097, 4097]},
            "A network's pretrained_cfg can't be read (crop_mode 'border' is not implemented): "
            "expected ...; correct its config.json.": {"crop_mode": "border"},
        },
    ),
    **rows(
        f"{NO_PREPROCESSING} ",
        lambda content: clip("preprocessor_config.json", content),
        {
            "(AttributeError...): expected size with shortest_edge, crop_size": "[]",
            "(JSONDecodeError": "{",
        },
    ),
    f"{NO_PREPROCESSING}: Preprocess(... mean=(nan, nan, nan), ...) is not a preprocessing:": (
        prepared({"image_mean": [NAN] * 3})
    ),
    **rows(
        f"{NO_PREPROCESSING} (",
        prepared,
        {
            'ValueError("crop_size 1000000 is not': {"crop_size": 10**6},
            'ValueError("crop_size 48.0 is not': {"crop_size": 48.0},
            "ZeroDivisionError": {"size": {"shortest_edge": 0}},
            "KeyError": {"resample": 1},
            "ValueError('a step is switched off": {"do_center_crop": False},
            "ValueError('rescale_factor is not 1/255": {"rescale_factor": 1},
        },
    ),
    **rows(
        "<here>/net/preprocessor_config.json can't be read as a target's preprocessing (",
        resnet_prepared,
        {
            "ValueError('images of 384 pixels are squashed": {"size": {"shortest_edge": 384}},
            "ValueError('a step is switched off": {"do_normalize": False},
            "KeyError('shortest_edge')): expected": {"size": {"longest_edge": 64}},
            "TypeError": {"image_mean": 3},
        },
    ),
}

TOKENIZERS = {
    "The CLIP folder '<here>/clip' has no tokenizer: expected": clip("tokenizer.json", None),
    "The tokenizer of the CLIP folder '<here>/clip' can't be read (RecursionError(...)): download "
    "tokenizer.json": clip("tokenizer.json", DEEP),
    "The tokenizer of the CLIP folder '<here>/clip' has 864 tokens, but its config.json sets "
    "vocab_size 863; use": clip("tokenizer_config.json", '{"eos_token": "<new>"}'),
}

SMALL = {
    "vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 3,
    "intermediate_size": 4, "max_position_embeddings": 8,
}  # fmt: skip
SENTENCES = {
    f"<here>/net: config.json sets {misfits(BERT)}; use": sentences({"config": values(BERT)}),
    **rows(
        "<here>/net",
        sentences,
        {
            "/config.json sets model_type 'roberta', but only bert and mpnet are": {
                "config": {"model_type": "roberta"}
            },
            ": config.json sets hidden_size = 4 (expected a multiple of num_attention_heads = 3)": {
                "config": SMALL
            },
            "/1_Pooling/config.json pools by ['cls_token'], but only the mean over tokens is": {
                "1_Pooling/config": {"pooling_mode_cls_token": True}
            },
            "/1_Pooling/config.json pools by 'lasttoken', but": {
                "1_Pooling/config": {"pooling_mode": "lasttoken"}
            },
            "/2_Dense is a module Dense of sentence-transformers, but only": {"2_Dense/config": {}},
            "/config_sentence_transformers.json sets default_prompt_name 'q', but": {
                "config_sentence_transformers": {"default_prompt_name": "q"}
            },
            "/modules.json lists the modules Transformer, Dense, but only ..., in this order": {
                "modules": [{"type": f"x.{kind}", "path": ""} for kind in ("Transformer", "Dense")]
            },
            "/modules.json can't be understood (LookupError('/etc lies outside')): expected": {
                "modules": [{"type": "x.Transformer", "path": "/etc"}]
            },
            "/modules.json can't be understood (KeyError('type')):": {"modules": [{"path": ""}]},
            "/modules.json can't be understood (TypeError": {"modules": 3},
        },
    ),
}

ROWS = FOUND | PACKAGED | CONFIGS | LABELS | PREPROCESSING | TOKENIZERS | SENTENCES
