"""Artifacts come back bit for bit, and no committed shard is computed twice."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdesc.errors import InputError, Stopped
from jaxdesc.runtime import fingerprint
from jaxdesc.store import Draft, Shards, Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run" / "artifacts")


def stage(store, name, inputs, compute):
    """A stage with a single artifact."""
    return store.stages(name, {"": inputs}, lambda drafts: compute(drafts[""]))[""]


def entries(store):
    """Everything in the store, hidden or not."""
    return sorted(path.name for path in store.root.local.iterdir() if path.name != "lock")


ARRAYS = {
    "floats": np.array([[0.0, -0.0, np.inf], [np.nan, 1e-40, -1.5]], np.float32),
    "doubles": np.linspace(0, 1, 7)[:, None] ** np.arange(2),
    "integers": np.array([[2**31 - 1, -(2**31)]], np.int32),
    "booleans": np.array([True, False, True]),
    "pixels": np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3),
    "bfloat16": np.asarray(jnp.linspace(0, 1, 5, dtype=jnp.bfloat16)),
    "no rows": np.zeros((0, 4), np.float32),
    "no columns": np.zeros((4, 0), np.float32),
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
}


def test_arrays_come_back_bit_for_bit(store):
    def compute(draft):
        for name, values in ARRAYS.items():
            draft.write(name, values)
            assert draft.read(name).tobytes() == values.tobytes()

    for steps in (compute, pytest.fail):
        artifact = stage(Store(store.root), "stage", {}, steps)
        for name, values in ARRAYS.items():
            read = artifact.read(name)
            assert (read.dtype, read.shape) == (values.dtype, values.shape)
            assert read.tobytes() == values.tobytes()
            pieces = list(artifact.rows(name, 2))
            assert [len(piece) for piece in pieces[:-1]] == [2] * (len(pieces) - 1)
            assert b"".join(piece.tobytes() for piece in pieces) == values.tobytes()


@pytest.mark.parametrize("each", [1, 4, 20])
def test_rows_committed_in_shards(store, rng, each):
    """In any order; the last shard is a short one."""
    values, shards = rng.normal(size=(11, 3)).astype(np.float32), Shards(11, each)

    def compute(drafts):
        for shard in reversed(drafts[""].missing(len(shards))):
            rows = shards.rows(shard)
            arrays = {"rows": values[rows.start : rows.stop], "zeros": np.zeros(len(rows), bool)}
            drafts[""].commit(shard, arrays, shards, {"first": rows.start})

    def finish(draft):
        draft.values["firsts"] = [values["first"] for values in draft.shard_values()]

    artifact = store.stages("stage", {"": {}}, compute, finish)[""]
    assert artifact.values["firsts"] == list(range(0, 11, each))
    np.testing.assert_array_equal(artifact.read("rows"), values)
    assert not artifact.read("zeros").any()
    assert not (artifact.place.local / "shards").exists()


def test_a_finished_stage_is_not_computed_again(store):
    values = {"words": ["café", 1.5, None]}
    inputs = {"kappa": 16.0, "layer": "fc"}
    first = stage(store, "stage", inputs, lambda draft: draft.values.update(values))
    files = {path: path.stat().st_mtime_ns for path in store.root.local.rglob("*")}
    again = stage(Store(store.root), "stage", {"layer": "fc", "kappa": 16.0}, pytest.fail)
    assert {path: path.stat().st_mtime_ns for path in store.root.local.rglob("*")} == files
    assert (first.computed, again.computed) == (True, False)
    assert again.values == first.values == values
    assert (again.name, again.stage) == (first.name, "stage")
    manifest = json.loads((first.place.local / "manifest.json").read_text())
    assert manifest["inputs"] == inputs


def test_several_artifacts_are_computed_together(store):
    """Only missing ones, in one call; each is what a stage with this artifact alone would be."""
    calls = []

    def compute(drafts):
        calls.append(sorted(drafts))
        for key, draft in drafts.items():
            draft.write("array", np.full(3, int(key)))
            draft.values["key"] = key

    single = stage(store, "stage", {"n": 2}, lambda draft: draft.values.update(key="alone"))
    inputs = {key: {"n": int(key)} for key in "123"}
    found = store.stages("stage", inputs, compute)
    assert calls == [["1", "3"]]
    assert [artifact.computed for artifact in found.values()] == [True, False, True]
    assert [found[key].values["key"] for key in "123"] == ["1", "alone", "3"]
    assert found["2"].name == single.name
    np.testing.assert_array_equal(found["3"].read("array"), np.full(3, 3))
    assert store.stages("stage", {}, pytest.fail) == {}


@pytest.mark.parametrize("error", [InputError("broken image"), KeyboardInterrupt()])
def test_a_stage_that_fails_before_its_first_shard_leaves_nothing(store, error):
    def fail(drafts):
        drafts["1"].write("array", np.zeros(3))
        raise error

    with pytest.raises(type(error)) as caught:
        store.stages("stage", {key: {"n": key} for key in "12"}, fail)
    assert caught.value is error
    assert entries(store) == []
    artifact = stage(store, "stage", {"n": "1"}, lambda d: d.write("array", np.ones((10, 3))))
    np.testing.assert_array_equal(artifact.read("array"), np.ones((10, 3)))


def test_a_changed_input_stage_or_code_is_computed(store, monkeypatch):
    names = set()
    for name, inputs in (("stage", {"n": 1.0}), ("stage", {"n": 2.0}), ("stage-two", {"n": 1.0})):
        artifact = stage(store, name, inputs, lambda draft: None)
        assert artifact.computed
        names.add(artifact.name)
    monkeypatch.setattr(fingerprint, "_code", lambda: ["other code"])
    names.add(stage(store, "stage", {"n": 1.0}, lambda draft: None).name)
    assert len(names) == 4


VALUES, SHARDS = np.arange(10.0).reshape(5, 2), Shards(5, 1)


def in_shards(store, seen, error=None):
    """Commit one row per shard, and raise after the second of those that are missing."""

    def compute(drafts):
        for count, shard in enumerate(drafts[""].missing(len(SHARDS))):
            if error and count == 2:
                raise error
            seen.append(shard)
            drafts[""].commit(shard, {"rows": VALUES[[shard]]}, SHARDS, {"number": shard})

    def finish(draft):
        draft.write("sum", draft.read("rows").sum(axis=0))

    return store.stages("stage", {"": {}}, compute, finish)[""]


@pytest.mark.parametrize("error", [InputError("broken image"), KeyboardInterrupt(), Stopped()])
def test_what_was_committed_is_not_computed_again(store, error):
    seen = []
    for _ in range(2):
        with pytest.raises(type(error)):
            in_shards(Store(store.root), seen, error)
    artifact = in_shards(Store(store.root), seen)
    assert seen == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(artifact.read("rows"), VALUES)
    np.testing.assert_array_equal(artifact.read("sum"), [20, 25])
    assert not in_shards(store, seen).computed


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize(
    ("file", "again", "harm"),
    [
        ("rows/c/3/0", [3], flip),
        ("rows/c/3/0", [3], cut_short),
        ("rows/zarr.json", [0, 1, 2, 3, 4], flip),
        ("sum/c/0", [], Path.unlink),
        ("manifest.json", [0, 1, 2, 3, 4], cut_short),
        ("manifest.json", [0, 1, 2, 3, 4], Path.unlink),
    ],
)
def test_only_what_is_damaged_is_computed_again(store, caplog, file, again, harm):
    seen = []
    folder = in_shards(store, []).place.local
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    harm(folder / file)
    manifest_is_gone = not (folder / "manifest.json").exists()
    assert in_shards(Store(store.root), seen).computed
    assert seen == again
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert manifest_is_gone or f"{folder}: {file} is not as it was written" in caplog.text
    assert not in_shards(Store(store.root), seen).computed


def test_a_damaged_record_does_not_count(store):
    seen = []
    with pytest.raises(KeyboardInterrupt):
        in_shards(store, seen, KeyboardInterrupt())
    (record,) = store.root.local.rglob("shards/1.json")
    flip(record)
    in_shards(store, seen)
    assert seen == [0, 1, 1, 2, 3, 4]


def test_parts_are_computed_again_with_their_whole(store):
    seen = []

    def compute(drafts):
        for shard in drafts[""].missing(3):
            seen.append(shard)
            drafts[""].commit(shard, {f"part {shard}": np.full(2, shard)})

    def finish(draft):
        draft.write("whole", np.stack([draft.read(f"part {shard}") for shard in range(3)]))
        for shard in range(3):
            draft.drop(f"part {shard}")

    folder = store.stages("stage", {"": {}}, compute, finish)[""].place.local
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "whole"]
    flip(folder / "whole" / "c" / "0" / "0")
    again = store.stages("stage", {"": {}}, compute, finish)[""]
    np.testing.assert_array_equal(again.read("whole"), [[0, 0], [1, 1], [2, 2]])
    assert seen == [0, 1, 2] * 2


def test_a_second_run_is_refused_while_the_first_computes(store):
    def compute(draft):
        with pytest.raises(InputError, match=r"^Another run is at work in .*/artifacts \(process"):
            stage(Store(store.root), "stage", {"other": 1}, pytest.fail)

    with store.held():
        stage(store, "stage", {}, compute)
        # Finished artifacts may be read, and the lock is kept between two stages.
        assert not stage(Store(store.root), "stage", {}, pytest.fail).computed
        with pytest.raises(InputError, match=r"^Another run is at work"):
            stage(Store(store.root), "stage", {"other": 1}, pytest.fail)
    assert stage(Store(store.root), "stage", {"other": 1}, lambda draft: None).computed


def test_an_artifact_that_lacks_a_shard_is_not_finished(store):
    """Another process writes to another disk."""

    def compute(drafts):
        for shard in set(drafts[""].missing(5)) - {1, 3}:
            drafts[""].commit(shard, {"rows": np.zeros((1, 2))}, SHARDS)

    with pytest.raises(InputError, match=r"lacks 2 of 5 shards, the first of them number 1: "):
        store.stages("stage", {"": {}}, compute, lambda draft: None)


def test_every_shard_belongs_to_one_process(store):
    for processes in (1, 2, 5):
        drafts = [Draft(store.root.at("a"), index, processes) for index in range(processes)]
        shards = [shard for draft in drafts for shard in draft.missing(7)]
        assert sorted(shards) == list(range(7))
