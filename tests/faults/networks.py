"""Networks that are not there, and files of theirs that describe none."""

import json

import huggingface_hub
from huggingface_hub import constants

import jaxdesc as jd
from jaxdesc.models.source import locate
from tests.faults.place import Rows

case = Rows()

# How several messages end.
PREPROCESSING = (
    ": expected size with shortest_edge, crop_size, resample 2 or 3, image_mean and "
    "image_std, every step on; download the checkpoint again."
)
NO_CLIP = "; use a Hugging Face CLIP checkpoint with a ViT image tower, or correct these entries."
SIZES_OF_RESNETS = (
    "; expected block basic or bottleneck, four positive integers in layers (at most "
    "128) and in channels, and positive stem_width and num_classes; correct them in "
    "config.json."
)
RANGES = (
    " is not a preprocessing: expected a size in [1, 4096], a field in (0, 1], and three "
    "finite numbers for mean and for std, those of std positive."
)
CONFIG = (
    "; expected the config of a checkpoint; download the checkpoint again, or correct its path."
)
OR_AN_ID = (
    ", or a Hugging Face id such as owner/name, or scenes:NAME with NAME one of attributes, clip, "
    "target."
)
TOKENIZER = ": download tokenizer.json, or vocab.json and merges.txt, again."


# Where networks lie.


def hub(error):
    """What a download raises."""

    def run(place):
        def download(*arguments, **options):
            raise error

        place.patch.setattr(huggingface_hub, "snapshot_download", download)
        locate("owner/name", "target")

    return run


def unreachable(kind):
    """A hub that refuses every connection: no port of this machine answers."""

    def run(place):
        place.patch.setattr(constants, "HF_HUB_CACHE", str(place.folder))
        place.patch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        place.patch.setattr(constants, "HF_HUB_OFFLINE", False)
        locate("owner/name", kind)

    return run


def offline(place):
    place.patch.setattr(constants, "HF_HUB_CACHE", str(place.folder))
    place.patch.setattr(constants, "HF_HUB_OFFLINE", True)
    locate("owner/name@v1.0", "clip")


GATED = "403 Forbidden.\n\nAccess to model owner/name is restricted; log in."

case(
    "hub: unreachable, target",
    unreachable("target"),
    "The target 'owner/name' is not a local folder and can't be fetched from Hugging Face at "
    "revision 'main' (LocalEntryNotFoundError: <said>): correct the id, or go online, or "
    "give a local folder with config.json and model.safetensors.",
)
case(
    "hub: unreachable, CLIP",
    unreachable("clip"),
    "The clip 'owner/name' is not a local folder and can't be fetched from Hugging Face at "
    "revision 'main' (LocalEntryNotFoundError: <said>): correct the id, or go online, or "
    "give a local folder with config.json, model.safetensors, tokenizer.json and "
    "preprocessor_config.json.",
)
case(
    "hub: unreachable, sentence encoder",
    unreachable("sentence encoder"),
    "The sentence encoder 'owner/name' is not a local folder and can't be fetched from Hugging "
    "Face at revision 'main' (LocalEntryNotFoundError: <said>): correct the id, or go "
    "online, or give a local folder with config.json, model.safetensors and "
    "tokenizer.json.",
)
case(
    "hub: offline",
    offline,
    "The clip 'owner/name' is not a local folder and can't be fetched from Hugging Face at "
    "revision 'v1.0' (LocalEntryNotFoundError: <said>): correct the id, or go online, or "
    "give a local folder with config.json, model.safetensors, tokenizer.json and "
    "preprocessor_config.json.",
)
case(
    "hub: gated",
    hub(PermissionError(GATED)),
    "The target 'owner/name' is not a local folder and can't be fetched from Hugging Face at "
    "revision 'main' (PermissionError: 403 Forbidden. Access to model owner/name is "
    "restricted; log in.): correct the id, or go online, or give a local folder with "
    "config.json and model.safetensors.",
)
case(
    "hub: disk full",
    hub(OSError(28, "No space left on device")),
    "The target 'owner/name' is not a local folder and can't be fetched from Hugging Face at "
    "revision 'main' (OSError: [Errno 28] No space left on device): correct the id, or "
    "go online, or give a local folder with config.json and model.safetensors.",
)
case(
    "network: no source",
    lambda p: jd.load_target(""),
    (
        "The target folder '' does not exist: give a local folder with config.json and "
        "model.safetensors"
    )
    + OR_AN_ID,
)
case(
    "network: missing",
    lambda p: jd.load_clip("/none"),
    (
        "The clip folder '/none' does not exist: give a local folder with config.json, "
        "model.safetensors, tokenizer.json and preprocessor_config.json"
    )
    + OR_AN_ID,
)
case(
    "network: name too long",
    lambda p: jd.load_target("x" * 5000),
    (
        "The target folder '<x>… does not exist: give a local folder with config.json and "
        "model.safetensors"
    )
    + OR_AN_ID,
)
case(
    "network: outside the hub",
    lambda p: jd.load_target("../name@main"),
    (
        "The target folder '../name@main' does not exist: give a local folder with "
        "config.json and model.safetensors"
    )
    + OR_AN_ID,
)
case(
    "network: bad revision",
    lambda p: jd.load_target("owner/name@../../x"),
    "The revision '../../x' of 'owner/name@../../x' can't be one: give a branch, a tag "
    "or a commit.",
)
case(
    "network: two revisions",
    lambda p: jd.load_target("owner/name@a", revision="b"),
    "'owner/name@a' names another revision than 'b': give one of them.",
)
case(
    "network: revision of a folder",
    lambda p: jd.load_clip("scenes", revision="main"),
    "The clip 'scenes' is a local path, which has no revision 'main': leave the revision "
    "out, or give a Hugging Face id.",
)
case(
    "network: unknown precision",
    lambda p: jd.load_clip("scenes", precision="int8"),
    "Unknown precision 'int8': expected one of float32, bfloat16.",
)


# What a network's files hold.


def target(name, content):
    return lambda place: jd.load_target(place.network("target", name, content))


def clip(name, content):
    return lambda place: jd.load_clip(place.network("clip", name, content))


def target_of(**changes):
    return lambda place: jd.load_target(place.described("target", **changes))


def clip_of(section=None, **changes):
    return lambda place: jd.load_clip(place.described("clip", section=section, **changes))


def prepared(**changes):
    return lambda place: jd.load_clip(
        place.described("clip", file="preprocessor_config.json", **changes)
    )


WEIGHTS = "model.safetensors"

case(
    "config.json: missing",
    target("config.json", None),
    "<here>/target/config.json does not exist" + CONFIG,
)
case(
    "config.json: empty",
    target("config.json", ""),
    "<here>/target/config.json can't be read as JSON (<said>)" + CONFIG,
)
case(
    "config.json: no JSON",
    target("config.json", "architecture: resnet50"),
    "<here>/target/config.json can't be read as JSON (<said>)" + CONFIG,
)
case(
    "config.json: no text",
    target("config.json", b"\xff\xfe\xfa"),
    "<here>/target/config.json can't be read as JSON (<said>)" + CONFIG,
)
case(
    "config.json: a list",
    target("config.json", "[1]"),
    "<here>/target/config.json holds a JSON list, expected an object of settings; "
    "download the checkpoint again.",
)
case(
    "config.json: brackets without end",
    target("config.json", "[" * 100_000),
    "<here>/target/config.json can't be read as JSON (brackets within brackets, too deep)" + CONFIG,
)
case(
    "config.json: number of 5,000 digits",
    target("config.json", "9" * 5000),
    "<here>/target/config.json can't be read as JSON (<said>)" + CONFIG,
)
case(
    "target: unknown architecture",
    target_of(architecture="vit_base_patch16_224"),
    "<here>/target: config.json names the architecture 'vit_base_patch16_224', which is "
    "not one of resnet, resnet18, resnet34, resnet50, resnet101, resnet152; use a checkpoint of "
    "one of these, or wrap your own network in a Target.",
)
case(
    "target: class count is text",
    target_of(num_classes="32"),
    (
        "<here>/target: No ResNet has the sizes block='basic', layers=(1, 1, 1, 1), "
        "channels=(16, 32, 64, 128), stem_width=16, num_classes='32'"
    )
    + SIZES_OF_RESNETS,
)
case(
    "target: classes beyond counting",
    target_of(num_classes=10**18),
    (
        "<here>/target: No ResNet has the sizes block='basic', layers=(1, 1, 1, 1), "
        "channels=(16, 32, 64, 128), stem_width=16, num_classes=1000000000000000000"
    )
    + SIZES_OF_RESNETS,
)
case(
    "target: a billion layers",
    target_of(model_args={"layers": [10**9, 1, 1, 1]}),
    (
        "<here>/target: No ResNet has the sizes block='basic', layers=(1000000000, 1, 1, 1), "
        "channels=(64, 128, 256, 512), stem_width=64, num_classes=32"
    )
    + SIZES_OF_RESNETS,
)
case(
    "target: other sizes than its tensors",
    target_of(num_classes=33),
    "<here>/target/model.safetensors does not fit the ResNet that its config.json "
    "describes: misshapen tensors: fc.bias (has [32], expected [33]), fc.weight (has "
    "[32, 128], expected [33, 128]); use the config.json and the weights of one "
    "checkpoint.",
)
case(
    "target: preprocessing is text",
    target_of(pretrained_cfg="imagenet"),
    "<here>/target: pretrained_cfg = 'imagenet' in its config.json: expected an object of "
    "settings; correct it.",
)
case(
    "target: std of pixels in [0, 255]",
    target_of(pretrained_cfg={"mean": [127, 127, 127], "std": [128, 128, 128]}),
    "<here>/target: The preprocessing's mean (127.0, 127.0, 127.0) and std (128.0, 128.0, 128.0) "
    "are not of pixels in [0, 1], where neither exceeds 1: divide those of pixels in [0, 255] by "
    "255.",
)
case(
    "target: input of a terabyte",
    target_of(pretrained_cfg={"input_size": [3, 10**6, 10**6]}),
    (
        "<here>/target: Preprocess(size=1000000, field=0.8750001093750137, "
        "interpolation='bilinear', mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))"
    )
    + RANGES,
)
case(
    "target: std of zero",
    target_of(pretrained_cfg={"std": [0, 1, 1]}),
    (
        "<here>/target: Preprocess(size=224, field=0.875, interpolation='bilinear', "
        "mean=(0.485, 0.456, 0.406), std=(0.0, 1.0, 1.0))"
    )
    + RANGES,
)
case(
    "target: crop of another kind",
    target_of(pretrained_cfg={"crop_mode": "border"}),
    "<here>/target: A network's pretrained_cfg can't be read (crop_mode 'border' is not "
    "implemented): expected input_size [3, side, side], crop_pct in (0, 1], and mean and "
    "std of three numbers; correct its config.json.",
)
case(
    "target: dilated, in timm's arguments",
    target_of(model_args={"num_classes": 32, "output_stride": 8, "squeeze": True}),
    "<here>/target: config.json describes no ResNet that is implemented: model_args.output_stride "
    "= 8 (expected only 32), model_args.squeeze = True (expected no such entry); use a plain "
    "ResNet v1.5 checkpoint, or wrap your own network in a Target.",
)
case(
    "target: two counts of classes",
    target_of(model_args={"num_classes": 1000}),
    "<here>/target: config.json describes no ResNet that is implemented: model_args.num_classes = "
    "1000 (expected only 32); use a plain ResNet v1.5 checkpoint, or wrap your own network in a "
    "Target.",
)
case(
    "target: fewer labels than logits",
    target_of(label_names=["cat"] * 10),
    "label_names in <here>/target/config.json names 10 classes, but the network has 32 logits: "
    "correct it, or remove it.",
)
case(
    "target: a wnid twice",
    target_of(label_names=["n02123045"] * 32),
    "label_names in <here>/target/config.json names n02123045 twice: correct it.",
)
case(
    "target: unknown preprocessing",
    lambda p: jd.load_target("scenes", preprocess="imgnet"),
    "Unknown preprocessing 'imgnet': expected one of imagenet, imagenet_v2, imagenet_bicubic, "
    "inception, openai.",
)
case(
    "target: label is a number",
    target_of(label_names=[3] * 32),
    "label_names in <here>/target/config.json are [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, "
    "3, 3, 3, 3, 3, 3, 3, 3,: expected strings, one a class, several names of a class "
    "separated by a comma and a space.",
)
case(
    "target: label that steers a terminal",
    target_of(label_names=["\x1b[2J"] * 32),
    "label_names in <here>/target/config.json hold '\\x1b[2J', which is not a name: correct it.",
)
case(
    "CLIP: another model",
    clip_of(model_type="siglip"),
    "<here>/clip/config.json sets model_type 'siglip': expected one of clip; give a checkpoint of "
    "one of these.",
)
case(
    "CLIP: tower is a list",
    clip_of(vision_config=[1]),
    (
        "<here>/clip: config.json describes no CLIP that is implemented: vision_config = [1] "
        "(expected an object of settings)"
    )
    + NO_CLIP,
)
case(
    "CLIP: width beyond counting",
    clip_of("text_config", hidden_size=10**30),
    (
        "<here>/clip: config.json describes no CLIP that is implemented: "
        "text_config.hidden_size = 1000000000000000000000000000000 (expected a positive "
        "integer)"
    )
    + NO_CLIP,
)
case(
    "CLIP: a billion layers",
    clip_of("text_config", num_hidden_layers=10**9),
    (
        "<here>/clip: config.json describes no CLIP that is implemented: "
        "text_config.num_hidden_layers = 1000000000 (expected an integer from 1 to 128)"
    )
    + NO_CLIP,
)
case(
    "CLIP: epsilon is NaN",
    clip_of("vision_config", layer_norm_eps=float("nan")),
    (
        "<here>/clip: config.json describes no CLIP that is implemented: "
        "vision_config.layer_norm_eps = nan (expected a number that is finite)"
    )
    + NO_CLIP,
)
case(
    "CLIP: end token beyond counting",
    clip_of("text_config", eos_token_id=10**30),
    (
        "<here>/clip: config.json describes no CLIP that is implemented: "
        "text_config.eos_token_id = 1000000000000000000000000000000 (expected an integer)"
    )
    + NO_CLIP,
)
case(
    "CLIP: another width than its tensors",
    clip_of(projection_dim=64),
    "<here>/clip/model.safetensors does not fit the CLIP that its config.json describes: "
    "misshapen tensors: text_projection.weight (has [128, 128], expected [64, 128]), "
    "visual_projection.weight (has [128, 128], expected [64, 128]); use the config.json "
    "and the weights of one checkpoint.",
)
case(
    "preprocessing: no JSON",
    clip("preprocessor_config.json", "{"),
    (
        "<here>/clip/preprocessor_config.json can't be read as CLIP's preprocessing "
        "(JSONDecodeError(<said>))"
    )
    + PREPROCESSING,
)
case(
    "preprocessing: a list",
    clip("preprocessor_config.json", "[]"),
    (
        "<here>/clip/preprocessor_config.json can't be read as CLIP's preprocessing "
        "(AttributeError(<said>))"
    )
    + PREPROCESSING,
)
case(
    "preprocessing: brackets without end",
    clip("preprocessor_config.json", "[" * 100_000),
    (
        "<here>/clip/preprocessor_config.json can't be read as CLIP's preprocessing "
        "(ValueError('brackets within brackets, too deep'))"
    )
    + PREPROCESSING,
)
case(
    "preprocessing: another size than the network's",
    prepared(crop_size=10**6),
    (
        "<here>/clip/preprocessor_config.json can't be read as CLIP's preprocessing "
        '(ValueError("crop_size 1000000 is not config.json\'s image_size 48"))'
    )
    + PREPROCESSING,
)
case(
    "preprocessing: size is a fraction",
    prepared(crop_size=48.0),
    (
        "<here>/clip/preprocessor_config.json can't be read as CLIP's preprocessing "
        '(ValueError("crop_size 48.0 is not config.json\'s image_size 48"))'
    )
    + PREPROCESSING,
)
case(
    "preprocessing: no size",
    prepared(size={"shortest_edge": 0}),
    (
        "<here>/clip/preprocessor_config.json can't be read as CLIP's preprocessing "
        "(ZeroDivisionError(<said>))"
    )
    + PREPROCESSING,
)
case(
    "preprocessing: unknown resampling",
    prepared(resample=1),
    (
        "<here>/clip/preprocessor_config.json can't be read as CLIP's preprocessing "
        "(KeyError(<said>))"
    )
    + PREPROCESSING,
)
case(
    "preprocessing: mean is NaN",
    prepared(image_mean=[float("nan")] * 3),
    (
        "<here>/clip/preprocessor_config.json can't be read as CLIP's preprocessing: "
        "Preprocess(size=48, field=1.0, "
        "interpolation='bicubic', mean=(nan, nan, nan), std=(0.26862954, 0.26130258, "
        "0.27577711))"
    )
    + RANGES,
)
case(
    "tokenizer: missing",
    clip("tokenizer.json", None),
    "The CLIP folder '<here>/clip' has no tokenizer: expected tokenizer.json, or "
    "vocab.json and merges.txt, as Hugging Face ships them.",
)
case(
    "tokenizer: no JSON",
    clip("tokenizer.json", "{"),
    ("The tokenizer of the CLIP folder '<here>/clip' can't be read (JSONDecodeError(<said>))")
    + TOKENIZER,
)
case(
    "tokenizer: brackets without end",
    clip("tokenizer.json", "[" * 100_000),
    ("The tokenizer of the CLIP folder '<here>/clip' can't be read (RecursionError(<said>))")
    + TOKENIZER,
)
case(
    "tokenizer: more tokens than the network",
    clip("tokenizer_config.json", '{"eos_token": "<new>"}'),
    "The tokenizer of the CLIP folder '<here>/clip' has 864 tokens, but its config.json "
    "sets vocab_size 863; use the files of one checkpoint.",
)
case(
    "tokenizer: text too long",
    lambda p: jd.load_clip("scenes").encode_texts(["sky", "cat " * 40]),
    "scenes reads at most 24 tokens, but 1 of 2 texts have more: '<cat>' with 42; "
    "shorten or remove them.",
)
case(
    "tokenizer: blank text",
    lambda p: jd.load_clip("scenes").encode_texts(["sky", " "]),
    "1 of 2 texts to encode are blank (the first is number 2): remove them.",
)


# Of another kind, or in the form of another tool.


def packaged(load, *files):
    """A folder that holds nothing but these files, each empty, handed to a loader."""

    def run(place):
        for name in files:
            place.file(f"own/{name}", "{}")
        load(place.folder / "own")

    return run


ANOTHER_FORM = "<here>/own holds a network in the form of {} ({}), which is not read: {}."
CLIPS = (
    "give the same CLIP as transformers' CLIPModel, such as laion/CLIP-ViT-B-32-laion2B-s34B-b79K "
    "or openai/clip-vit-base-patch32"
)
SAVED = "give the checkpoint that it was made from, or save it with transformers' save_pretrained"
A_TARGET = "a local folder with config.json and model.safetensors"
A_CLIP = "a local folder with config.json, model.safetensors, tokenizer.json and "
A_CLIP += "preprocessor_config.json"

for tool, file, remedy in (
    ("open_clip", "open_clip_config.json", CLIPS),
    ("open_clip", "open_clip_pytorch_model.bin", CLIPS),
    ("diffusers", "model_index.json", "give the folder of a CLIP or a ResNet"),
    ("TensorFlow (SavedModel)", "saved_model.pb", SAVED),
    ("Keras or TensorFlow (HDF5)", "tf_model.h5", SAVED),
    ("ONNX", "model.onnx", SAVED),
    ("llama.cpp (GGUF)", "model-q4.gguf", SAVED),
):
    case(
        f"packaging: {file}",
        packaged(jd.load_clip, "tokenizer.json", file),
        ANOTHER_FORM.format(tool, file, remedy),
    )
for load in (jd.load_target, jd.load_clip, jd.load_sentence_encoder):
    case(
        f"packaging: an adapter, {load.__name__}",
        packaged(load, "config.json", "model.safetensors", "adapter_config.json"),
        "<here>/own holds an adapter of PEFT (adapter_config.json), which changes a network that "
        "it does not hold: merge both, model.merge_and_unload().save_pretrained(FOLDER), and give "
        "that folder.",
    )
case(
    "packaging: a CLIP as a target",
    lambda p: jd.load_target(p.network("clip")),
    "<here>/clip is a CLIP and not a target network: read it by load_clip or "
    f"--config.clip.source, and give {A_TARGET} instead.",
)
case(
    "packaging: a target as a CLIP",
    lambda p: jd.load_clip(p.network("target")),
    "<here>/target is a target network and not a CLIP: read it by load_target or "
    f"--config.target.source, and give {A_CLIP} instead.",
)
case(
    "packaging: a CLIP as a sentence encoder",
    lambda p: jd.load_sentence_encoder(p.network("clip")),
    "<here>/clip is a CLIP and not a sentence encoder: read it by load_clip or "
    "--config.clip.source, and give a local folder with config.json, model.safetensors and "
    "tokenizer.json instead.",
)
case(
    "packaging: a file as a CLIP",
    lambda p: jd.load_clip(p.file("ViT-B-32.pt", b"PK")),
    f"<here>/ViT-B-32.pt is a file, but a CLIP is {A_CLIP}: give that.",
)
case(
    "packaging: no path",
    lambda p: jd.load_clip(5),
    f"The clip is 5: give {A_CLIP}" + OR_AN_ID,
)


# Sentence encoders.


def sentences(**files):
    def run(place):
        for name, content in files.items():
            place.file(f"encoder/{name}.json", json.dumps(content))
        jd.load_sentence_encoder(str(place.folder / "encoder"))

    return run


SIZES = {
    "vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 4, "max_position_embeddings": 8,
}  # fmt: skip
OUTSIDE = [{"type": "Transformer", "path": "/etc"}, {"type": "Pooling", "path": "1_Pooling"}]

case(
    "sentences: another model",
    sentences(config={"model_type": "roberta"}),
    "<here>/encoder/config.json sets model_type 'roberta', but only bert and mpnet are "
    "implemented; use an encoder built on one of these, such as all-mpnet-base-v2 or "
    "all-MiniLM-L6-v2.",
)
case(
    "sentences: pooling without modules",
    sentences(
        **{"config": {"model_type": "bert"}, "1_Pooling/config": {"pooling_mode_cls_token": True}}
    ),
    "<here>/encoder/1_Pooling/config.json pools by ['cls_token'], but only the mean over tokens is "
    "implemented; use an encoder that averages its tokens.",
)
case(
    "sentences: a dense module without modules",
    sentences(**{"config": {"model_type": "bert"}, "2_Dense/config": {}}),
    "<here>/encoder/2_Dense is a module Dense of sentence-transformers, but only Transformer, "
    "Pooling, Normalize are implemented; use an encoder made of these.",
)
case(
    "sentences: no sizes",
    sentences(config={"model_type": "bert"}),
    "<here>/encoder: config.json sets vocab_size = None (expected a positive integer), "
    "hidden_size = None (expected a positive integer), num_attention_heads = None (expected a "
    "positive integer), intermediate_size = None (expected a positive integer), "
    "max_position_embeddings = None (expected a positive integer), num_hidden_layers = None "
    "(expected an integer from 1 to 128); use a checkpoint without these, or correct the file.",
)
case(
    "sentences: a billion layers",
    sentences(config=SIZES | {"model_type": "bert", "num_hidden_layers": 10**9}),
    "<here>/encoder: config.json sets num_hidden_layers = 1000000000 (expected an integer from 1 "
    "to 128); use a checkpoint without these, or correct the file.",
)
case(
    "sentences: modules elsewhere",
    sentences(modules=OUTSIDE),
    "<here>/encoder/modules.json can't be understood (LookupError('/etc lies outside')): "
    "expected a list of modules, each with its type and path; download the checkpoint "
    "again.",
)
case(
    "sentences: modules are a number",
    sentences(modules=3),
    "<here>/encoder/modules.json can't be understood (TypeError(<said>)): expected a "
    "list of modules, each with its type and path; download the checkpoint again.",
)
case(
    "sentences: prompt",
    sentences(config_sentence_transformers={"default_prompt_name": "q"}),
    "<here>/encoder/config_sentence_transformers.json sets default_prompt_name 'q', but "
    "prompts are not implemented; use an encoder without one.",
)
