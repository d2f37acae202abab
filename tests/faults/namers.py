"""Name encoders other than Hugging Face's CLIP, by the message that each fault of theirs gives."""

import json

import jaxdesc as jd
from tests.faults.networks import ACTS, COUNT, folder, misfits, values
from tests.faults.place import rows
from tests.models.torch_namers import write_open_clip, write_siglip


def siglip(**towers):
    """A folder that holds nothing but a SigLIP's config."""
    return folder(jd.load_namer, {"config": {"model_type": "siglip"} | towers})


def open_clip(**model):
    """A folder that holds nothing but an open_clip config."""
    entries = {"embed_dim": 16, "vision_cfg": {}, "text_cfg": {}} | model
    return folder(jd.load_namer, {"open_clip_config": {"model_cfg": entries}})


def small(write, change=None, **options):
    """A small name encoder whose folder `change` has edited."""

    def run(place):
        write(place.folder / "net", **options)
        if change is not None:
            change(place.folder / "net")
        jd.load_namer(place.folder / "net")

    return run


def entries(file, **changes):
    """Set entries of a JSON file."""

    def change(folder):
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | changes))

    return change


NO_SIGLIP = "<here>/net: config.json describes no SigLIP that is implemented"
NO_OPEN_CLIP = "<here>/net: open_clip_config.json describes no CLIP that is implemented"
SIGLIP_VISION = {"hidden_act": ("relu", ACTS), "patch_size": ([16, 16], COUNT)}
SIGLIP_TEXT = {"vocab_size": (0, COUNT)}
OPEN_CLIP_VISION = {
    "layers": ([3, 4, 6, 3], "an integer from 1 to 128"),
    "no_ln_pre": (True, "only False"),
    "timm_model_name": ("vit_base_patch16_siglip_224", "only None"),
    "unheard_of": (1, "no such entry"),
}
OPEN_CLIP_TEXT = {"hf_model_name": ("xlm-roberta-base", "only None")}
TOKENIZER = "The tokenizer of the SigLIP folder '<here>/net' has no padding token, or puts no end"
ROWS = {
    f"{NO_SIGLIP}: {misfits(SIGLIP_VISION, 'vision_config.')}, "
    f"{misfits(SIGLIP_TEXT, 'text_config.')}; use a Hugging Face SigLIP": siglip(
        vision_config=values(SIGLIP_VISION), text_config=values(SIGLIP_TEXT)
    ),
    f"{NO_SIGLIP}: text_config.projection_size = 512 (expected vision_config.hidden_size = 768)": (
        siglip(text_config={"projection_size": 512})
    ),
    f"{NO_SIGLIP}: vision_config.vision_use_head = False (expected only True)": siglip(
        vision_config={"vision_use_head": False}
    ),
    f"{TOKENIZER}-of-text token behind a text": small(
        write_siglip, entries("tokenizer_config.json", pad_token=None)
    ),
    f"{TOKENIZER}...: download tokenizer.json": small(
        write_siglip, entries("tokenizer_config.json", eos_token="<unk>")
    ),
    "The SigLIP folder '<here>/net' has no tokenizer: expected tokenizer.json": small(
        write_siglip, lambda folder: (folder / "tokenizer.json").unlink()
    ),
    "<here>/net/preprocessor_config.json can't be read as ... (ValueError(\"size {'height': 32": (
        small(
            write_siglip,
            entries("preprocessor_config.json", size={"height": 32, "width": 32}),
        )
    ),
    f"{NO_OPEN_CLIP}: model_cfg.custom_text = True (expected only False), "
    f"{misfits(OPEN_CLIP_VISION, 'vision_cfg.')}, {misfits(OPEN_CLIP_TEXT, 'text_cfg.')}; use": (
        open_clip(
            custom_text=True,
            vision_cfg=values(OPEN_CLIP_VISION),
            text_cfg=values(OPEN_CLIP_TEXT),
        )
    ),
    f"{NO_OPEN_CLIP}: model_cfg = 3 (expected an object of settings)": folder(
        jd.load_namer, {"open_clip_config": {"model_cfg": 3}}
    ),
    "<here>/net holds no weights: expected open_clip_model.safetensors, ...; download": open_clip(),
    "The CLIP folder '<here>/net' has no tokenizer: expected tokenizer.json, or vocab.json": small(
        write_open_clip, tokenizer=False
    ),
    **rows(
        "<here>/net/open_clip_config.json: ",
        lambda preprocess: small(write_open_clip, **preprocess),
        {
            "preprocess_cfg.resize_mode = 'longest' (expected": {"resize_mode": "longest"},
            "Preprocess(size=24, ...) is not a preprocessing": {"mean": [0.1]},
        },
    ),
    "<here>/net is a name encoder and not a target network: read it by load_namer": folder(
        jd.load_target, {"open_clip_config": {}}
    ),
}
