import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdesc.errors import InputError, Stopped
from jaxdesc.runtime import fingerprint
from jaxdesc.store import Draft, Shards, Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run" / "artifacts")


def one(store, name, inputs, compute):
    """A stage of a single artifact."""
    return store.stages(name, {"": inputs}, lambda drafts: compute(drafts[""]))[""]


def entries(store):
    """Everything in the store, hidden or not."""
    return sorted(path.name for path in store.root.local.iterdir() if path.name != "lock")


ARRAYS = {
    "activations": np.array([[0.0, -0.0, np.inf], [np.nan, 1e-40, -1.5]], np.float32),
    "centres": np.linspace(0, 1, 7)[:, None] ** np.arange(2),
    "images": np.array([[2**31 - 1, -(2**31)]], np.int32),
    "counts": np.arange(5),
    "fallback": np.array([True, False, True]),
    "pixels": np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3),
    "bfloat16": np.asarray(jnp.linspace(0, 1, 5, dtype=jnp.bfloat16)),
    "no rows": np.zeros((0, 4), np.float32),
    "no columns": np.zeros((4, 0), np.float32),
    "nothing": np.zeros(0, np.int32),
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
}


@pytest.mark.parametrize("values", ARRAYS.values(), ids=ARRAYS)
def test_an_array_comes_back_bit_for_bit(store, values):
    for artifact in (
        one(store, "stage", {}, lambda draft: draft.write("array", values)),
        one(Store(store.root), "stage", {}, pytest.fail),
    ):
        found = artifact.read("array")
        assert found.dtype == values.dtype
        assert found.shape == values.shape
        assert found.tobytes() == values.tobytes()
        pieces = list(artifact.rows("array", 2))
        assert [len(piece) for piece in pieces[:-1]] == [2] * (len(pieces) - 1)
        assert b"".join(piece.tobytes() for piece in pieces) == values.tobytes()


@pytest.mark.parametrize("each", [1, 3, 4, 11, 20])
def test_rows_committed_in_shards(store, rng, each):
    """In any order; the last shard is a short one."""
    values, shards = rng.normal(size=(11, 3)).astype(np.float32), Shards(11, each)

    def compute(drafts):
        for shard in reversed(drafts[""].missing(len(shards))):
            rows = shards.rows(shard)
            own = {"rows": values[rows.start : rows.stop], "fallback": np.zeros(len(rows), bool)}
            drafts[""].commit(shard, own, shards, {"first": rows.start})

    def finish(draft):
        draft.values["firsts"] = [own["first"] for own in draft.shard_values()]

    artifact = store.stages("stage", {"": {}}, compute, finish)[""]
    assert artifact.values["firsts"] == list(range(0, 11, each))
    np.testing.assert_array_equal(artifact.read("rows"), values)
    assert not artifact.read("fallback").any()
    for batch in (1, 4, 11, 100):
        np.testing.assert_array_equal(np.concatenate([*artifact.rows("rows", batch)]), values)
    assert not (artifact.place.local / "shards").exists()


def test_a_draft_reads_what_it_wrote(store):
    found = []

    def compute(draft):
        draft.write("array", np.arange(3))
        found.append(draft.read("array"))

    one(store, "stage", {}, compute)
    np.testing.assert_array_equal(found[0], np.arange(3))


def test_a_finished_stage_is_not_computed_again(store):
    calls = []

    def compute(draft):
        calls.append(1)
        draft.write("array", np.arange(3))
        draft.values["words"] = ["café", 1.5, None]

    first = one(store, "stage", {"kappa": 16.0, "layer": "fc"}, compute)
    again = one(Store(store.root), "stage", {"layer": "fc", "kappa": 16.0}, compute)
    assert calls == [1]
    assert (first.computed, again.computed) == (True, False)
    assert again.values == first.values == {"words": ["café", 1.5, None]}
    assert again.name == first.name
    assert again.stage == "stage"
    manifest = json.loads((first.place.local / "manifest.json").read_text())
    assert manifest["inputs"] == {"kappa": 16.0, "layer": "fc"}


def test_several_artifacts_are_computed_together(store):
    """Those that are missing, in one call; each is what a stage of its own would be."""
    calls = []

    def compute(drafts):
        calls.append(sorted(drafts))
        for key, draft in drafts.items():
            draft.write("array", np.full(3, int(key)))
            draft.values["key"] = key

    single = one(store, "stage", {"n": 2}, lambda draft: draft.values.update(key="by itself"))
    found = store.stages("stage", {key: {"n": int(key)} for key in "123"}, compute)
    assert calls == [["1", "3"]]
    assert {key: a.computed for key, a in found.items()} == {"1": True, "2": False, "3": True}
    assert [found[key].values["key"] for key in "123"] == ["1", "by itself", "3"]
    assert found["2"].name == single.name
    np.testing.assert_array_equal(found["3"].read("array"), np.full(3, 3))
    again = store.stages("stage", {key: {"n": int(key)} for key in "321"}, pytest.fail)
    assert {key: a.name for key, a in again.items()} == {k: a.name for k, a in found.items()}
    assert not any(artifact.computed for artifact in again.values())
    assert one(store, "stage", {"n": 1}, pytest.fail).values == {"key": "1"}
    assert store.stages("stage", {}, pytest.fail) == {}


@pytest.mark.parametrize("error", [InputError("broken image"), KeyboardInterrupt()])
def test_of_several_artifacts_that_fail_nothing_is_left(store, error):
    def fail(drafts):
        drafts["1"].write("array", np.zeros(3))
        raise error

    with pytest.raises(type(error)) as caught:
        store.stages("stage", {key: {"n": key} for key in "12"}, fail)
    assert caught.value is error
    assert entries(store) == []


@pytest.mark.parametrize("change", [{"kappa": 4.0}, {"layer": "fc "}, {"more": None}])
def test_a_changed_input_is_computed(store, change):
    inputs = {"kappa": 16.0, "layer": "fc"}
    first = one(store, "stage", inputs, lambda draft: draft.values.update(n=1))
    other = one(store, "stage", inputs | change, lambda draft: draft.values.update(n=2))
    assert other.computed
    assert other.name != first.name
    assert (first.values, other.values) == ({"n": 1}, {"n": 2})
    assert one(store, "stage", inputs, pytest.fail).values == {"n": 1}


def test_another_stage_or_code_is_computed(store, monkeypatch):
    one(store, "stage", {}, lambda draft: None)
    assert one(store, "stage-two", {}, lambda draft: None).stage == "stage-two"
    monkeypatch.setattr(fingerprint, "_code", lambda: ["other code"])
    assert one(store, "stage", {}, lambda draft: None).computed


@pytest.mark.parametrize("error", [InputError("broken image"), KeyboardInterrupt()])
def test_a_stage_that_fails_before_its_first_shard_leaves_nothing(store, error):
    def fail(draft):
        draft.write("rows", np.zeros((2, 3)))
        raise error

    with pytest.raises(type(error)) as caught:
        one(store, "stage", {}, fail)
    assert caught.value is error
    assert entries(store) == []

    artifact = one(store, "stage", {}, lambda draft: draft.write("rows", np.ones((10, 3))))
    assert artifact.computed
    np.testing.assert_array_equal(artifact.read("rows"), np.ones((10, 3)))
    assert entries(store) == [artifact.name]


def in_shards(store, shards, values, seen, error=None):
    """Commit a row a shard, and raise after the second of those that are missing."""

    def compute(drafts):
        for count, shard in enumerate(drafts[""].missing(len(shards))):
            if error and count == 2:
                raise error
            seen.append(shard)
            drafts[""].commit(shard, {"rows": values[[shard]]}, shards, {"own": shard})

    def finish(draft):
        draft.write("sum", draft.read("rows").sum(axis=0))

    return store.stages("stage", {"": {}}, compute, finish)[""]


@pytest.mark.parametrize("error", [InputError("broken image"), KeyboardInterrupt(), Stopped()])
def test_what_was_committed_is_not_computed_again(store, error):
    values, shards, seen = np.arange(10.0).reshape(5, 2), Shards(5, 1), []
    with pytest.raises(type(error)):
        in_shards(store, shards, values, seen, error)
    with pytest.raises(type(error)):
        in_shards(Store(store.root), shards, values, seen, error)
    artifact = in_shards(Store(store.root), shards, values, seen)
    assert seen == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(artifact.read("rows"), values)
    np.testing.assert_array_equal(artifact.read("sum"), [20, 25])
    assert not in_shards(store, shards, values, seen).computed


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize("harm", [flip, cut_short, lambda path: path.unlink()])
@pytest.mark.parametrize(
    ("file", "again"),
    [
        ("rows/c/3/0", [3]),
        ("rows/zarr.json", [0, 1, 2, 3, 4]),
        ("sum/c/0", []),
        ("manifest.json", [0, 1, 2, 3, 4]),
    ],
)
def test_what_is_damaged_is_computed_again_and_nothing_else(store, caplog, harm, file, again):
    values, shards, seen = np.arange(10.0).reshape(5, 2), Shards(5, 1), []
    folder = in_shards(store, shards, values, []).place.local
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    harm(folder / file)
    artifact = in_shards(Store(store.root), shards, values, seen)
    assert artifact.computed
    assert seen == again
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    told = [] if (file, harm) == ("manifest.json", None) else caplog.messages
    if told:  # a manifest that is gone is no damage that can be seen
        assert told == [
            f"{folder}: {file} is not as it was written; what is damaged is computed again."
        ]
    assert in_shards(Store(store.root), shards, values, seen).computed is False


def test_a_record_that_is_damaged_is_no_record(store):
    values, shards, seen = np.arange(10.0).reshape(5, 2), Shards(5, 1), []
    with pytest.raises(KeyboardInterrupt):
        in_shards(store, shards, values, seen, KeyboardInterrupt())
    (record,) = store.root.local.rglob("shards/1.json")
    flip(record)
    in_shards(store, shards, values, seen)
    assert seen == [0, 1, 1, 2, 3, 4]


def test_parts_that_are_put_together_are_computed_again_with_the_whole(store):
    seen = []

    def compute(drafts):
        for shard in drafts[""].missing(3):
            seen.append(shard)
            drafts[""].commit(shard, {f"part {shard}": np.full(2, shard)})

    def finish(draft):
        draft.write("whole", np.stack([draft.read(f"part {shard}") for shard in range(3)]))
        for shard in range(3):
            draft.drop(f"part {shard}")

    artifact = store.stages("stage", {"": {}}, compute, finish)[""]
    assert sorted(path.name for path in artifact.place.local.iterdir()) == [
        "manifest.json",
        "whole",
    ]
    flip(artifact.place.local / "whole" / "c" / "0" / "0")
    again = store.stages("stage", {"": {}}, compute, finish)[""]
    np.testing.assert_array_equal(again.read("whole"), [[0, 0], [1, 1], [2, 2]])
    assert seen == [0, 1, 2] * 2


def test_reading_what_is_finished_changes_nothing(store):
    one(store, "stage", {}, lambda draft: draft.write("array", np.zeros(3)))
    files = {path: path.stat().st_mtime_ns for path in store.root.local.rglob("*")}
    one(Store(store.root), "stage", {}, pytest.fail).read("array")
    assert {path: path.stat().st_mtime_ns for path in store.root.local.rglob("*")} == files


def test_an_artifact_without_its_manifest_is_computed_again(store):
    artifact = one(store, "stage", {}, lambda draft: draft.write("array", np.zeros(3)))
    (artifact.place.local / "manifest.json").unlink()
    again = one(store, "stage", {}, lambda draft: draft.write("array", np.ones(3)))
    assert again.computed
    np.testing.assert_array_equal(again.read("array"), np.ones(3))
    assert entries(store) == [again.name]


def test_a_second_run_is_refused_while_the_first_computes(store):
    def compute(draft):
        with pytest.raises(
            InputError, match=r"^Another run is at work in .*/artifacts \(process \d"
        ):
            one(Store(store.root), "stage", {"other": 1}, pytest.fail)

    with store.held():
        one(store, "stage", {}, compute)
        # What is finished may be read; and what was locked stays so between two stages.
        assert not one(Store(store.root), "stage", {}, pytest.fail).computed
        with pytest.raises(InputError, match=r"^Another run is at work"):
            one(Store(store.root), "stage", {"other": 1}, pytest.fail)
    assert one(Store(store.root), "stage", {"other": 1}, lambda draft: None).computed


def test_a_working_directory_that_can_t_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "artifacts", tmp_path / "file"):
        with pytest.raises(InputError, match=r"^The folder .*/file(/artifacts)? can't be made"):
            one(Store(place), "stage", {}, pytest.fail)


def test_an_artifact_that_lacks_a_shard_is_not_finished(store):
    """As where another process writes to another disk."""

    def compute(drafts):
        shards = Shards(5, 1)
        assert drafts[""].missing(5) == [0, 1, 2, 3, 4]
        for shard in (0, 2, 4):
            drafts[""].commit(shard, {"rows": np.zeros((1, 2))}, shards)

    with pytest.raises(InputError) as error:
        store.stages("stage", {"": {}}, compute, lambda draft: None)
    assert re.fullmatch(
        r"/.*/stage-\w+ lacks 2 of 5 shards, the first of them number 1: see to it that all "
        r"processes of the run write there, and start again\.",
        str(error.value),
    )


def test_every_shard_is_some_process_s(store):
    """Whatever is there already, and however many processes were at it before."""
    for processes in (1, 2, 3, 5):
        drafts = [Draft(store.root.at("a"), index, processes) for index in range(processes)]
        shards = [shard for draft in drafts for shard in draft.missing(7)]
        assert sorted(shards) == list(range(7))
