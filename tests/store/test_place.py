"""Folders on a disk, and in a bucket that a small server on localhost plays."""

import re
import time
from pathlib import Path

import numpy as np
import pytest

from jaxdesc.errors import InputError
from jaxdesc.store import Artifact, Place, Store, lock, read_file, write_file
from jaxdesc.store import place as place_module
from tests.store.bucket import Bucket, served


@pytest.fixture(scope="module")
def server():
    """TensorStore reads the environment when it first needs it."""
    with served() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(params=["disk", "bucket"])
def place(request, tmp_path):
    if request.param == "bucket":
        request.getfixturevalue("server")
        Bucket.objects.clear()
        return Place("gs://bucket/some/run")
    return Place(
        tmp_path / "new" / "run" if request.param == "disk" else f"memory://{tmp_path.name}"
    )


def test_files_come_back(place):
    assert place.read("a.json") is None
    assert place.files() == []
    for name, content in (("a.json", b"{}"), ("b/c.bin", bytes(range(256))), ("b/d/e", b"")):
        place.write(name, content)
        assert place.read(name) == content
        assert read_file(place / name) == content
    write_file(place / "b/f", b"f")
    assert place.files() == ["a.json", "b/c.bin", "b/d/e", "b/f"]
    assert place.files("b/") == ["b/c.bin", "b/d/e", "b/f"]
    assert place.at("b").files() == ["c.bin", "d/e", "f"]
    assert place.at("b").name == "b"
    place.delete("b/f")
    place.delete("b/f")
    place.at("b").delete_all()
    assert place.files() == ["a.json"]
    place.at("nowhere").delete_all()


def test_a_name_that_replaces_nothing_else(place):
    for content, name in ((b"1", "x"), (b"2", "x-2"), (b"3", "x-3"), (b"2", "x-2"), (b"1", "x")):
        assert place.unused("x", ".csv", content.__eq__) == name
        place.write(f"{name}.csv", content)
    assert place.unused("x", ".csv") == "x-4"
    assert place.unused("x", ".json") == "x"


def test_a_home_directory_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Place("~/run").write("a", b"a")
    write_file("~/run/b", b"b")
    assert (read_file("~/run/a"), read_file(tmp_path / "run" / "b")) == (b"a", b"b")
    assert Place("~/run").local == tmp_path / "run"


def test_arrays_and_their_checksums(place, rng):
    values = rng.normal(size=(7, 3)).astype(np.float32)
    array = place.create("x", values.dtype, values.shape, (4, 3))
    place.put(array, 0, values[:4])
    place.put(place.create("x", values.dtype, values.shape, (4, 3)), 4, values[4:])
    np.testing.assert_array_equal(place.open("x").read().result(), values)
    found = place.checksums(["x/c/0/0", "x/c/1/0", "x/c/2/0", "x/zarr.json"])
    assert [bool(checksum) for checksum in found.values()] == [True, True, False, True]
    assert len(set(found.values())) == 4


def test_a_file_that_holds_the_same_is_left_alone(place):
    place.write("a", b"same")
    before = place.generation("a")
    place.write("a", b"same")
    assert place.generation("a") == before
    place.write("a", b"other")
    assert place.generation("a") != before


def test_a_conditional_write(place):
    missing = place.generation("lease")
    first = place.write_if("lease", b"1", missing)
    assert first
    assert not place.write_if("lease", b"2", missing)
    assert place.read("lease") == b"1"
    second = place.write_if("lease", b"2", first)
    assert second
    assert not place.write_if("lease", None, first)
    assert place.write_if("lease", None, second)
    assert place.read("lease") is None


def test_a_store_anywhere(place):
    """The same artifact; in a bucket as on a disk."""
    calls = []

    def compute(draft):
        calls.append(1)
        draft.write("array", np.arange(3))

    for _ in range(2):
        store = Store(place)
        found = store.stages("stage", {"": {}}, lambda drafts: compute(drafts[""]))[""]
        np.testing.assert_array_equal(found.read("array"), np.arange(3))
    assert calls == [1]


def test_what_can_t_be_written_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as error:
        Place(tmp_path / "file").write("a", b"a")
    assert str(error.value) == (
        f"{tmp_path}/file can't be written (Not a directory): give a folder that can be, or see to "
        "this one and start again; what was finished is kept."
    )
    with pytest.raises(InputError) as error:
        Place("what://ever")
    assert str(error.value) == (
        "'what://ever' is not the address of a folder (unsupported URL scheme \"what\" in "
        '"what://ever/"): give a local path, or gs://BUCKET/PATH.'
    )
    with pytest.raises(InputError, match=r'^\'gs://x/y\' is .* \(Invalid GCS bucket name: "x"\): '):
        Place("gs://x/y")


FORBIDDEN = b'{"error": {"code": 403, "message": "you may not"}}'


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda self: time.sleep(1), "no answer within 0.2 s"),
        (lambda self: self.answer(403, FORBIDDEN), "you may not"),
        (lambda self: self.answer(503), "All 0 retry attempts failed: "),
    ],
    ids=["silent", "forbidden", "down"],
)
@pytest.mark.usefixtures("server")
def test_a_bucket_that_can_t_be_reached_is_a_sentence(answer, reason, monkeypatch):
    monkeypatch.setattr(place_module, "_PATIENCE", 0.2)
    monkeypatch.setattr(place_module, "_RETRIES", 0)
    monkeypatch.setattr(place_module, "_reached", set())
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "do_GET", answer)
        with pytest.raises(InputError) as error:
            Place("gs://bucket/some/run")
    assert re.fullmatch(
        rf"gs://bucket/some/run can't be reached \({reason}.*\): see to the network, to the name "
        r"of the bucket and to credentials that may read and write it, or give a local folder\.",
        str(error.value),
    )
    assert Place("gs://bucket/some/run").read("a") is None


def test_a_long_answer_is_waited_for(server, monkeypatch):
    """Once a bucket has been reached, a request may take as long as it takes."""
    bucket, get = Place("gs://bucket/some/run"), Bucket.do_GET
    monkeypatch.setattr(place_module, "_PATIENCE", 0.1)
    monkeypatch.setattr(Bucket, "do_GET", lambda self: [time.sleep(0.3), get(self)])
    bucket.at("more").write("a", b"a")
    assert bucket.read("more/a") == b"a"


def test_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_file("~/out/a", b"a")
    assert (tmp_path / "out" / "a").read_bytes() == b"a"
    assert Place("~/out").local == tmp_path / "out"
    assert Place(Path("~")).read("out/a") == read_file("~/out/a") == b"a"
    with pytest.raises(InputError, match=r"^'~nobody-here/out' is in the home "):
        Place("~nobody-here/out")


def test_an_array_that_is_damaged_is_a_sentence(tmp_path):
    place = Place(tmp_path)
    place.put(place.create("x", np.float32, (3,), (3,)), 0, np.arange(3, dtype=np.float32))
    path = tmp_path / "x" / "c" / "0"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=rf"^{tmp_path} can't be read \(.*igest"):
        Artifact(place, {}).read("x")


def test_a_lease_is_taken_over_from_the_dead_alone(place, monkeypatch):
    if place.local:
        return  # there the system's own lock ends with the process
    monkeypatch.setattr(lock, "BEAT", 0.1)
    monkeypatch.setattr(lock, "DEAD", 0.5)
    first, second = lock.Lock(place), lock.Lock(place)
    first.acquire()
    with pytest.raises(InputError, match=r"^Another run is at work in .* \(process \d+ on "):
        second.acquire()
    first._held._over.set()  # killed: no sign of life any more, and its object stays
    second.acquire()
    with pytest.raises(InputError, match=r"^Another run is at work in "):
        lock.Lock(place).acquire()
    second.release()
    assert place.read("lock") is None
    lock.Lock(place).acquire()


def test_a_disk_s_lock_ends_with_its_release(tmp_path):
    first, second = lock.Lock(Place(tmp_path)), lock.Lock(Place(tmp_path))
    first.acquire()
    first.acquire()
    with pytest.raises(InputError) as error:
        second.acquire()
    assert re.fullmatch(
        rf"Another run is at work in {tmp_path} \(process \d+ on \S+, [-\d]+ [:\d]+ UTC\): wait "
        r"until it has ended, or give another working directory\.",
        str(error.value),
    )
    first.release()
    second.acquire()
    second.release()
    second.release()
