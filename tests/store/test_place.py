"""Folders on a disk, and in a bucket, for which a small server on localhost stands in."""

import csv
import time
from pathlib import Path

import numpy as np
import pytest

from jaxdesc.errors import InputError
from jaxdesc.store import Artifact, Place, Store, lock, read_file, write_file, write_rows
from jaxdesc.store import place as place_module
from tests.store.bucket import Bucket


@pytest.fixture(params=["disk", "bucket"])
def place(request, tmp_path):
    if request.param == "disk":
        return Place(tmp_path / "new" / "run")
    request.getfixturevalue("server")
    Bucket.objects.clear()
    return Place("gs://bucket/some/run")


def test_files_come_back(place):
    assert place.read("a.json") is None
    assert place.files() == []
    for name, content in (("a.json", b"{}"), ("b/c.bin", bytes(range(256))), ("b/d/e", b"")):
        place.write(name, content)
        assert place.read(name) == read_file(place / name) == content
    write_file(place / "b/f", b"f")
    assert place.files() == ["a.json", "b/c.bin", "b/d/e", "b/f"]
    assert place.files("b/") == ["b/c.bin", "b/d/e", "b/f"]
    assert place.at("b").files() == ["c.bin", "d/e", "f"]
    assert place.at("b").name == "b"
    for _ in range(2):
        place.delete("b/f")
        place.at("b").delete_all()
    assert place.files() == ["a.json"]


def test_a_name_that_replaces_nothing_else(place):
    for content, name in ((b"1", "x"), (b"2", "x-2"), (b"3", "x-3"), (b"2", "x-2"), (b"1", "x")):
        assert place.unused("x", ".csv", content.__eq__) == name
        place.write(f"{name}.csv", content)
    assert place.unused("x", ".csv") == "x-4"
    assert place.unused("x", ".json") == "x"


def test_a_home_directory_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_file("~/run/a", b"a")
    assert read_file(tmp_path / "run" / "a") == Place(Path("~")).read("run/a") == b"a"
    assert Place("~/run").local == tmp_path / "run"
    with pytest.raises(InputError, match=r"^'~nobody-here/out' is in the home "):
        Place("~nobody-here/out")


def test_arrays_and_their_checksums(place, rng):
    values = rng.normal(size=(7, 3)).astype(np.float32)
    place.put(place.create("x", values.dtype, values.shape, (4, 3)), 0, values[:4])
    place.put(place.create("x", values.dtype, values.shape, (4, 3)), 4, values[4:])
    np.testing.assert_array_equal(place.get(place.open("x")), values)
    checksums = place.checksums(["x/c/0/0", "x/c/1/0", "x/c/2/0", "x/zarr.json"])
    assert [bool(checksum) for checksum in checksums.values()] == [True, True, False, True]
    assert len(set(checksums.values())) == 4


def test_a_write_depends_on_the_content_or_the_version(place):
    missing = place.generation("a")
    first = place.write_if("a", b"1", missing)
    assert first
    assert not place.write_if("a", b"2", missing)
    assert place.read("a") == b"1"
    place.write("a", b"1")
    assert place.generation("a") == first
    place.write("a", b"2")
    assert not place.write_if("a", None, first)
    assert place.write_if("a", None, place.generation("a"))
    assert place.read("a") is None


def test_a_store_anywhere(place):
    def compute(drafts):
        drafts["a"].write("array", np.arange(3))

    for steps in (compute, pytest.fail):
        artifact = Store(place).stages("stage", {"a": {}}, steps)["a"]
        np.testing.assert_array_equal(artifact.read("array"), np.arange(3))


def test_faults_of_a_folder_are_sentences(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"/file can't be written \(Not a directory\): give a fo"):
        Place(tmp_path / "file").write("a", b"a")
    with pytest.raises(InputError, match=r"^'what://ever' is .* \(unsupported URL scheme"):
        Place("what://ever")
    place = Place(tmp_path)
    place.put(place.create("x", np.float32, (3,), (3,)), 0, np.arange(3, dtype=np.float32))
    path = tmp_path / "x" / "c" / "0"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=rf"^{tmp_path} can't be read \(.*igest"):
        Artifact(place, {}).read("x")


FORBIDDEN = b'{"error": {"code": 403, "message": "you may not"}}'


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda self: time.sleep(1), "no answer within 0.2 s"),
        (lambda self: self.answer(403, FORBIDDEN), "you may not"),
    ],
    ids=["silent", "forbidden"],
)
@pytest.mark.usefixtures("server")
def test_a_bucket_that_can_t_be_reached_is_a_sentence(answer, reason, monkeypatch):
    monkeypatch.setattr(place_module, "_PATIENCE", 0.2)
    monkeypatch.setattr(place_module, "_RETRIES", 0)
    monkeypatch.setattr(place_module, "_reached", set())
    get = Bucket.do_GET
    monkeypatch.setattr(Bucket, "do_GET", answer)
    with pytest.raises(InputError, match=rf"^gs://bucket/some/run can't be reached \({reason}"):
        Place("gs://bucket/some/run")
    # Once a bucket has been reached, a request may take as long as it needs.
    monkeypatch.setattr(Bucket, "do_GET", get)
    bucket = Place("gs://bucket/some/run")
    monkeypatch.setattr(Bucket, "do_GET", lambda self: [time.sleep(0.3), get(self)])
    assert bucket.at("more").read("a") is None


def test_a_text_is_not_a_formula_of_a_spreadsheet(tmp_path):
    write_rows(tmp_path / "a.csv", ["text", "number"], [("=1+1", -0.5), ("2+2", None)], ".3g")
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["text", "number"], ["'=1+1", "-0.5"], ["2+2", ""]]


def test_a_folder_is_held_by_one_run(place, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.1)
    monkeypatch.setattr(lock, "DEAD", 0.5)
    taken = r"^Another run is at work in .* \(process \d+ on \S+, [-\d]+ [:\d]+ UTC\): wait until"
    with lock.locked(place), pytest.raises(InputError, match=taken), lock.locked(place):
        pass
    with lock.locked(place):
        pass


def test_a_lease_is_taken_over_from_the_dead(server, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.1)
    monkeypatch.setattr(lock, "DEAD", 0.5)
    place = Place("gs://bucket/some/run")
    place.write("lock", b"killed")
    with lock.locked(place):
        owners = {place.read("lock") for _ in range(2) if not time.sleep(0.15)}
        assert not owners & {b"killed", None}
    assert place.read("lock") is None
