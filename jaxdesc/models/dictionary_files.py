"""Files of dictionaries, as saev, SAELens, Prisma, dictionary_learning and Overcomplete write them.

What a file says is read from it: saev's from its header, others' from the `cfg.json` or
`config.json` next to them. What it does not say has to be stated.
"""

import io
import json
import re
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from jaxdesc.errors import InputError, shown
from jaxdesc.models.dictionary import (
    ACTIVATIONS,
    JUMP_RELU,
    LAYER_NORM,
    NORMALISATIONS,
    RELU,
    SIGNED_TOP_K,
    TOP_K,
    Coding,
    Dictionary,
)
from jaxdesc.models.settings import LARGEST_JSON, read_object
from jaxdesc.models.tensors import CodeNeeded, read_pytorch, read_tensors

FILES = (
    *("dictionary.safetensors", "sae_weights.safetensors", "sae.safetensors", "sae.pt", "ae.pt"),
    *("weights.pt", "model.safetensors"),
)
CONFIGS = ("cfg.json", "config.json")

# Our names of tensors, by patterns of whole names in files; and those whose axes are PyTorch's.
NAMES = {
    r"W_enc|encoder\.weight|encoder\.final_block\.0\.weight": "W_enc",
    r"b_enc|encoder\.bias|latent_bias|encoder\.final_block\.0\.bias": "b_enc",
    r"W_dec|decoder\.weight|dictionary\._weights": "W_dec",
    r"b_dec|decoder\.bias|bias|decoder_bias|pre_bias": "b_dec",
    "b_pre": "b_pre",
    r"(activation(_fn)?\.)?threshold": "threshold",
    "log_threshold": "log_threshold",
    "k": "k",
    r"encoder\.final_block\.1\.(weight|bias|running_mean|running_var)": r"norm.\1",
    r"dictionary\.multiplier": "multiplier",
    r"group_sizes|encoder\.final_block\.1\.num_batches_tracked": "",  # not needed
}
TRANSPOSED = r"(en|de)coder(\.final_block\.0)?\.weight"
GATED = r"r_mag|b_gate|b_mag|gate_bias|mag_bias"
BATCH_NORM = 1e-5  # epsilon of PyTorch's BatchNorm


class Said(NamedTuple):
    """Statements of a file about its latents; None for what it does not say."""

    activation: str | None = None
    k: int | None = None
    normalise: str | None = None
    subtract_b_dec: bool | None = None


def load_dictionary(
    path: str | PathLike[str],
    *,
    activation: str | None = None,
    k: int | None = None,
    threshold: float | None = None,
    normalise: str | None = None,
    subtract_b_dec: bool | None = None,
) -> Dictionary:
    """Read a sparse autoencoder or a transcoder.

    The options state what a file does not say; some files say it all, and a file of saev's all
    but whether b_dec is subtracted.

    Args:
        path: file, or folder with one of `FILES`:
            saev's, a line of JSON and a state dict;
            a state dict of PyTorch's with usual names, such as W_enc or encoder.weight, alone or
            with the `cfg.json` of SAELens or the `config.json` of Prisma or dictionary_learning;
            safetensors with W_enc [d, m], b_enc [m], W_dec [m, d] and b_dec [d], without which
            latents can't be decoded, and optionally b_pre [d], threshold [m] or [], and k [], with
            `activation` and `normalise` as metadata, as `Dictionary.save` writes it. There b_dec is
            never subtracted, but b_pre is.
        activation: one of `dictionary.ACTIVATIONS`: "relu", "top_k", "signed_top_k" or "jump_relu";
            of a dictionary trained with batch-top-k "jump_relu", with its threshold.
        k: latents per position, of the first two kinds of top-k.
        threshold: of every latent, for "jump_relu".
        normalise: "layer_norm" if positions are normalised first; "" if not, which is assumed where
            no config is next to the file.
        subtract_b_dec: whether b_dec is subtracted before W_enc. It is by dictionary_learning's
            classes (but AutoEncoderNew and JumpReluAutoEncoder), Prisma's and saev's Matryoshka
            class, and is not by saev's current one and Overcomplete's.

    Raises:
        InputError: no such file, a pickled module, another architecture, tensors that do not fit,
            something that the file does not say, or an option that contradicts it.
    """
    file, notes = _file(Path(path)), list[str]()
    tensors, said = _read(file, notes)
    stated = Said(activation, k, normalise, subtract_b_dec)
    if "k" in tensors:
        said = said._replace(k=int(tensors.pop("k")))
    said = _agreed(file, said, stated)
    if threshold is not None:
        tensors["threshold"] = np.asarray(threshold, np.float32)
    _check_said(file, said, tensors)
    wanted = ["W_enc", "b_enc", "b_pre", "W_dec", "b_dec"]
    params = {name: tensors[name] for name in wanted if name in tensors}
    if said.subtract_b_dec and "b_dec" in tensors:
        params["b_pre"] = tensors["b_dec"]
    if said.activation == JUMP_RELU:
        params["threshold"] = tensors["threshold"]
    _check_shapes(file, params)
    of_top_k = said.activation in (TOP_K, SIGNED_TOP_K)
    coding = Coding(said.activation or "", (said.k or 0) if of_top_k else 0, said.normalise or "")
    return Dictionary(coding, params, str(path), tuple(notes))


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in FILES:
        if (path / name).is_file():
            return path / name
    raise InputError(
        f"{path} holds no dictionary: expected one of {', '.join(FILES)}; give the file itself."
    )


def _read(file: Path, notes: list[str]) -> tuple[dict[str, np.ndarray], Said]:
    """Read a file's tensors by our names, in float32, and what it says."""
    try:
        with file.open("rb") as opened:
            of_saev = opened.read(1) == b"{"
    except OSError as error:
        raise InputError(f"{file} can't be read ({error.strerror}): correct its path.") from error
    try:
        if of_saev:
            read, said = _read_saev(file, notes)
        else:
            read, said = dict(read_tensors(file, notes)), _next_to(file, notes)
    except CodeNeeded as error:
        raise InputError(
            f"{file} holds a pickled module, which would run its code. Save its tensors, where "
            "you trust it, and give the new file: "
            f"saved = torch.load({str(file)!r}, weights_only=False); "
            "torch.save(saved.state_dict() if hasattr(saved, 'state_dict') else "
            "saved['state_dict'], 'NEW.pt')."
        ) from error
    return _named(file, read), said


def _read_saev(file: Path, notes: list[str]) -> tuple[dict[str, np.ndarray], Said]:
    """Read saev's header and state dict (`saev.nn.modeling.dump`)."""
    with file.open("rb") as opened:
        line, rest = opened.readline(LARGEST_JSON), io.BytesIO(opened.read())
    try:
        header = json.loads(line)
        config = header.get("cfg", header)
        activation = config.get("activation") or {}
        kind, params = activation.get("cls", header.get("cls")), activation.get("params", config)
        count = params.get("top_k") if kind == "TopK" else None
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{file} starts with '{{' but not with saev's header, a line of JSON ({error}): give "
            "a file that saev's dump wrote, or a state dict."
        ) from error
    kinds = {"Relu": RELU, "TopK": SIGNED_TOP_K, "BatchTopK": JUMP_RELU, None: RELU}
    if kind not in (*kinds, "SparseAutoencoderConfig"):
        raise InputError(
            f"{file} has saev's activation {shown(kind)}: expected Relu, TopK or BatchTopK."
        )
    read = {name: tensor() for name, tensor in read_pytorch(file, rest, notes).items()}
    return read, Said(kinds.get(kind, RELU), count, "")


def _next_to(file: Path, notes: list[str]) -> Said:
    """Read what the metadata of a file, or the config next to it, says."""
    metadata = _metadata(file)
    if "activation" in metadata:
        return Said(metadata["activation"], None, metadata.get("normalise", ""), False)
    for name in CONFIGS:
        if (file.parent / name).is_file():
            entries = read_object(file.parent / name, "the config of a dictionary")
            if entries.get("cls_token_only"):
                notes.append(
                    f"{file} was trained on class tokens alone (cls_token_only): its latents mean "
                    "little at patches; read them there, with the pooling 'class'"
                )
            for fits, read in READERS:
                if fits(entries):
                    try:
                        return read(entries)
                    except InputError as error:
                        raise InputError(f"{file.parent / name}: {error}") from error
                    except (AttributeError, LookupError, TypeError, ValueError) as error:
                        raise InputError(
                            f"{file.parent / name} can't be understood ({error!r}): give the file "
                            "in a folder of its own, and state what this config says."
                        ) from error
    return Said()


def _metadata(file: Path) -> Mapping[str, str]:
    try:
        with safe_open(file, framework="numpy") as opened:
            return opened.metadata() or {}
    except (SafetensorError, OSError):
        return {}  # another format


_OF_NAMES = {
    "relu": RELU,
    "standard": RELU,
    "topk": TOP_K,
    "batchtopk": JUMP_RELU,
    "jumprelu": JUMP_RELU,
}


def _known(name: Any) -> str:
    found = _OF_NAMES.get(str(name).replace("_", "").replace("-", "").lower())
    if found is None:
        raise InputError(f"the activation or architecture {shown(name)} is not implemented.")
    return found


def _normalised(name: Any) -> str:
    if name in (None, "none", False):
        return ""
    if name != LAYER_NORM:
        raise InputError(f"normalize_activations = {shown(name)} is not implemented.")
    return LAYER_NORM


def _sae_lens(entries: Mapping[str, Any]) -> Said:
    """SAELens's cfg.json."""
    kind = entries.get("architecture", "standard")
    by_function = entries.get("activation_fn", entries.get("activation_fn_str", "relu"))
    kind = by_function if kind == "standard" else kind
    count = entries.get("k", (entries.get("activation_fn_kwargs") or {}).get("k"))
    if entries.get("finetuning_scaling_factor"):
        raise InputError("finetuning_scaling_factor is not implemented.")
    normalise = _normalised(entries.get("normalize_activations"))
    return Said(_known(kind), count, normalise, bool(entries["apply_b_dec_to_input"]))


def _prisma(entries: Mapping[str, Any]) -> Said:
    """Prisma's config.json; its class always subtracts b_dec."""
    kind = entries.get("architecture", "standard")
    kind = entries["activation_fn_str"] if kind == "standard" else kind
    count = (entries.get("activation_fn_kwargs") or {}).get("k")
    return Said(_known(kind), count, _normalised(entries.get("normalize_activations")), True)


# Classes of dictionary_learning: activation, and whether b_dec is subtracted.
_CLASSES = {
    "AutoEncoder": (RELU, True),
    "AutoEncoderNew": (RELU, False),
    "AutoEncoderTopK": (TOP_K, True),
    "BatchTopKSAE": (JUMP_RELU, True),
    "MatryoshkaBatchTopKSAE": (JUMP_RELU, True),
    "JumpReluAutoEncoder": (JUMP_RELU, False),
}


def _dictionary_learning(entries: Mapping[str, Any]) -> Said:
    """The config.json that dictionary_learning's trainers write."""
    trainer = entries["trainer"]
    kind = trainer["dict_class"]
    if kind not in _CLASSES:
        raise InputError(f"the class {shown(kind)} is not one of {', '.join(_CLASSES)}.")
    activation, subtract = _CLASSES[kind]
    return Said(activation, trainer.get("k") if activation == TOP_K else None, "", subtract)


# How a config is known, and read.
READERS: tuple[tuple[Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Any]], Said]], ...]
READERS = (
    (lambda entries: "apply_b_dec_to_input" in entries, _sae_lens),
    (lambda entries: "hook_point_layer" in entries and "activation_fn_str" in entries, _prisma),
    (
        lambda entries: (
            isinstance(entries.get("trainer"), dict) and "dict_class" in entries["trainer"]
        ),
        _dictionary_learning,
    ),
)


def _named(file: Path, read: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return tensors by our names and axes, their norm and scale folded."""
    tensors: dict[str, np.ndarray] = {}
    for name, tensor in read.items():
        if re.fullmatch(GATED, name):
            raise InputError(f"{file} is a gated autoencoder ({name}), which is not implemented.")
        found = [re.fullmatch(pattern, name) for pattern in NAMES]
        match = next((each for each in found if each), None)
        if match is None:
            raise InputError(
                f"{file} holds the tensor {shown(name)}, which is not one of a dictionary with one "
                f"linear encoder ({', '.join(NAMES)}): give the state dict of such a one."
            )
        ours = match.expand(NAMES[match.re.pattern])
        if ours in tensors:
            raise InputError(f"{file} holds two tensors that could be {ours}, one of them {name}.")
        if ours:
            axes = tensor.T if re.fullmatch(TRANSPOSED, name) else tensor
            tensors[ours] = np.asarray(axes, np.float32)
    if "norm.weight" in tensors and "norm.running_mean" not in tensors:
        raise InputError(
            f"{file} has a LayerNorm behind its encoder, which is not implemented: expected "
            "one linear encoder, with BatchNorm at most."
        )
    if "norm.running_mean" in tensors:
        scale = tensors.pop("norm.weight") / np.sqrt(tensors.pop("norm.running_var") + BATCH_NORM)
        tensors["W_enc"] = tensors["W_enc"] * scale
        shift = tensors.get("b_enc", np.float32(0)) - tensors.pop("norm.running_mean")
        tensors["b_enc"] = shift * scale + tensors.pop("norm.bias")
    if "multiplier" in tensors:
        tensors["W_dec"] = tensors["W_dec"] * np.exp(tensors.pop("multiplier"))
    if "log_threshold" in tensors:
        tensors["threshold"] = np.exp(tensors.pop("log_threshold"))
    return tensors


def _agreed(file: Path, said: Said, stated: Said) -> Said:
    """Return what is said or stated, which must not contradict each other."""
    for name, of_file, given in zip(Said._fields, said, stated, strict=True):
        if None not in (of_file, given) and of_file != given:
            raise InputError(
                f"{name} is {shown(given)}, but {file} says {shown(of_file)}: leave it out."
            )
    return said._replace(**{name: v for name, v in stated._asdict().items() if v is not None})


def _check_said(file: Path, said: Said, tensors: Mapping[str, np.ndarray]) -> None:
    """Refuse what can't be right, and say what has to be stated."""
    lacking = {"W_enc", "b_enc"} - set(tensors)
    if lacking:
        raise InputError(
            f"{file} has no {' and no '.join(sorted(lacking))}: expected a dictionary with one "
            "linear encoder."
        )
    if said.activation is None:
        raise InputError(
            f"{file} does not say which activation its latents have: pass activation=, one of "
            f"{', '.join(map(repr, ACTIVATIONS))}."
        )
    choices: dict[str, tuple[str, tuple[str, ...]]] = {
        "activation": (str(said.activation), tuple(ACTIVATIONS)),
        "normalise": (said.normalise or "", NORMALISATIONS),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise InputError(f"{name} is {shown(value)}, but expected one of {known} ({file}).")
    latents = tensors["W_enc"].shape[-1]
    fits = isinstance(said.k, int) and 1 <= said.k <= latents
    if said.activation in (TOP_K, SIGNED_TOP_K) and not fits:
        raise InputError(
            f"{file} says {shown(said.k)} for the number of latents kept per position: pass k=, a "
            f"number from 1 to its {latents} latents."
        )
    if said.activation == JUMP_RELU and "threshold" not in tensors:
        raise InputError(f"{file} has no threshold for its latents: pass threshold=.")
    if said.subtract_b_dec is None and tensors.get("b_dec", np.zeros(1)).any():
        raise InputError(
            f"{file} does not say whether its b_dec, which is not 0, is subtracted before the "
            "encoder: pass subtract_b_dec=True (as dictionary_learning, Prisma and saev's "
            "Matryoshka class do) or False (as saev's current class does)."
        )


def _check_shapes(file: Path, params: Mapping[str, np.ndarray]) -> None:
    encoder = params["W_enc"]
    width, latents = encoder.shape if encoder.ndim == 2 else (0, 0)
    outputs = params["W_dec"].shape[-1] if "W_dec" in params and params["W_dec"].ndim else 0
    expected: dict[str, set[tuple[int, ...]]] = {
        "W_enc": {(width, latents)},
        "b_enc": {(latents,)},
        "b_pre": {(width,)},
        "threshold": {(), (latents,)},
        "W_dec": {(latents, outputs)},
        "b_dec": {(outputs,)},
    }
    for name, tensor in params.items():
        if tensor.shape not in expected[name] or 0 in tensor.shape:
            raise InputError(
                f"{file} has {name} of shape {tensor.shape}, but W_enc of shape {encoder.shape}, "
                "(channels, latents): expected the tensors of one dictionary."
            )
        if not np.isfinite(tensor).all():
            raise InputError(f"{file} has NaN or infinity in {name}: download it again.")
