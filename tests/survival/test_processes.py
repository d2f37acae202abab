"""Several processes on localhost do one run together: the same results, even if one dies."""

import json
import os
import signal
import socket
import time

import numpy as np
import pytest
from PIL import Image

from jaxdesc.store import Artifact, Place
from jaxdesc.store.processes import ABANDONED
from tests.stages.test_latents import dictionary
from tests.store.bucket import Bucket, served
from tests.survival.victim import begin, launch, launch_and_stop

COUNT = 10
pytestmark = pytest.mark.full
RESULTS = ("concepts.jsonl", "concepts.csv", "metrics.json", "skipped.csv", "exemplars.png")


@pytest.fixture(scope="module")
def flags(networks, tmp_path_factory):
    """Flags of a small run on made-up photos, one of them broken."""
    folder = tmp_path_factory.mktemp("processes")
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for index in range(COUNT):
        pixels = rng.integers(0, 256, (40 + index, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{index}.png")
    (folder / "photos" / "7.png").write_bytes(b"broken")
    (folder / "words.txt").write_text("star\nheart\nsky\ncat\na red star\n")
    return [
        "--config=configs/photos.py",
        "--quiet",
        f"--config.target.source={networks.target}",
        f"--config.clip.source={networks.clip}",
        f"--config.images.source=folder:{folder / 'photos'}",
        "--config.images.max_skipped=0.2",
        "--config.images.batch=2",
        "--config.clip.batch=2",
        f"--config.vocabulary.source=file:{folder / 'words.txt'}",
        "--config.score.exemplars=3",
        "--config.score.alpha=0.5",
    ]


UNITS = ["--config.target.layer=layer4", "--config.crop.of=unit", "--config.ablation.views=()"]
LATENTS = ["--config.target.layer=layer4/sae", "--config.ablation.views=()"]
LOGITS = ["--config.crop.of=unit", "--config.crop.cam=grad_cam_pp", "--config.ablation.views=()"]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Environment in which all processes share compiled programs."""
    return (("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("programs"))),)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Together:
    """Processes of one run, and their output."""

    def __init__(self, flags, folder, workdir, count, programs, dead=None, extra=()):
        """Start them; the last one also gets the flags `extra`."""
        shared = [*flags, f"--workdir={workdir}", f"--coordinator=127.0.0.1:{free_port()}"]
        self.outputs = [folder / f"{index}-of-{count}" for index in range(count)]
        self.processes = []
        for index, output in enumerate(self.outputs):
            arguments = [*shared, f"--processes={count}", f"--process={index}"]
            arguments += extra if index == count - 1 else ()
            self.processes.append(begin(launch, arguments, output, dead, programs))

    def codes(self, seconds=600):
        end = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0, end - time.monotonic()))
        return [process.exitcode for process in self.processes]

    def told(self):
        return "\n".join(f"{path.name}: {path.read_text()}" for path in self.outputs)


def by_one(flags, programs, folder):
    """The working directory of one process."""
    process = begin(
        launch, [*flags, f"--workdir={folder / 'run'}"], folder / "output", None, programs
    )
    process.join(600)
    assert process.exitcode == 0, (folder / "output").read_text()
    return folder / "run"


@pytest.fixture(scope="module")
def alone(flags, programs, tmp_path_factory):
    return by_one(flags, programs, tmp_path_factory.mktemp("alone"))


def found(workdir):
    return {name: (workdir / name).read_bytes() for name in RESULTS}


def test_eight_devices_compute_what_one_does(flags, programs, alone, tmp_path):
    """Exemplars and concepts are equal; activations, features and scores up to rounding."""
    eight, output = tmp_path / "run", tmp_path / "output"
    devices = ("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    process = begin(launch, [*flags, f"--workdir={eight}"], output, None, (*programs, devices))
    process.join(600)
    assert process.exitcode == 0, output.read_text()
    for stage, arrays in (("activate", ("activations", "boxes")), ("embed", ("features",))):
        folders = [next((run / "artifacts").glob(f"{stage}-*")) for run in (alone, eight)]
        assert folders[0].name == folders[1].name
        for array in arrays:
            first, second = (Artifact(Place(folder), {}).read(array) for folder in folders)
            np.testing.assert_allclose(first, second, atol=1e-6)
    lines = (map(json.loads, (run / "concepts.jsonl").open()) for run in (alone, eight))
    for first, second in zip(*lines, strict=True):
        for key, names in (("concepts", ["text"]), ("exemplars", ["image", "box"])):
            for a, b in zip(first[key], second[key], strict=True):
                assert [a[name] for name in names] == [b[name] for name in names]
        scores = ([concept["score"] for concept in line["concepts"]] for line in (first, second))
        np.testing.assert_allclose(*scores, atol=1e-6)


@pytest.mark.parametrize("count", [2, 4])
def test_several_find_what_one_finds(count, flags, programs, alone, tmp_path):
    together = Together(flags, tmp_path, tmp_path / "run", count, programs)
    assert together.codes() == [0] * count, together.told()
    assert found(tmp_path / "run") == found(alone)
    shards = [*(tmp_path / "run" / "artifacts").glob("activate-*/activations/c/*/0")]
    assert len(shards) == COUNT // 2
    # Only the first one prints the results.
    assert "results in " in together.outputs[0].read_text()
    assert "results in " not in "".join(path.read_text() for path in together.outputs[1:])


@pytest.mark.parametrize("kind", [UNITS, LOGITS, LATENTS], ids=["channels", "logits", "latents"])
def test_windows_of_units_are_those_of_one(kind, flags, programs, tmp_path):
    """Compare two processes with one, and eight devices up to rounding."""
    flags = [*flags, *kind]
    if kind is LATENTS:
        dictionary(128).save(tmp_path / "sae.safetensors")
        flags.append(f"--config.target.dictionary={tmp_path / 'sae.safetensors'}")
    alone = by_one(flags, programs, tmp_path)
    together = Together(flags, tmp_path, tmp_path / "two", 2, programs)
    assert together.codes() == [0, 0], together.told()
    names = [name for name in RESULTS if (alone / name).exists()]
    assert {"concepts.jsonl", "exemplars.png"} <= set(names)
    for name in names:
        assert (tmp_path / "two" / name).read_bytes() == (alone / name).read_bytes(), name
    eight, output = tmp_path / "eight", tmp_path / "eight-output"
    devices = ("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    process = begin(launch, [*flags, f"--workdir={eight}"], output, None, (*programs, devices))
    process.join(600)
    assert process.exitcode == 0, output.read_text()
    lines = (map(json.loads, (run / "concepts.jsonl").open()) for run in (alone, eight))
    for first, second in zip(*lines, strict=True):
        for key in ("image", "box"):
            shown = ([exemplar[key] for exemplar in line["exemplars"]] for line in (first, second))
            assert next(shown) == next(shown)
        activations = ([e["activation"] for e in line["exemplars"]] for line in (first, second))
        np.testing.assert_allclose(*activations, rtol=1e-4, atol=1e-6)


def test_in_a_bucket_as_on_a_disk(flags, programs, alone, tmp_path):
    """Killed there and started again, by two processes that take the dead one's lease over."""
    with served() as environment:
        workdir, more = "gs://bucket/some/run", (*programs, *environment.items())
        first = begin(launch, [*flags, f"--workdir={workdir}"], tmp_path / "first", 2, more)
        while not any("/shards/" in name and "activate" in name for name in list(Bucket.objects)):
            assert first.is_alive(), (tmp_path / "first").read_text()
            time.sleep(0.01)
        os.kill(first.pid, signal.SIGKILL)
        first.join()
        together = Together(flags, tmp_path, workdir, 2, more, dead=2)
        assert together.codes() == [0, 0], together.told()
        results = {name: Bucket.objects[f"some/run/{name}"][1] for name in RESULTS}
    assert results == found(alone)


def test_a_request_to_stop(flags, programs, alone, tmp_path):
    """SIGTERM: the shard in flight is finished, and the same command goes on from there."""
    arguments, output = [*flags, f"--workdir={tmp_path / 'run'}"], tmp_path / "output"
    stopped = begin(launch_and_stop, arguments, output, programs)
    stopped.join(300)
    assert stopped.exitcode == 128 + signal.SIGTERM
    assert output.read_text().splitlines()[-2:] == [
        "stopping after the shard in flight",
        "stopped: what was finished is kept, and the same command goes on from there.",
    ]
    assert len([*tmp_path.rglob("activate-*/shards/*.json")]) == 2
    chunks = [*tmp_path.rglob("activate-*/activations/c/*/0")]
    before = {path: path.stat().st_mtime_ns for path in chunks}
    assert len(chunks) == 2
    again = begin(launch, arguments, output, None, programs)
    again.join(300)
    assert again.exitcode == 0, output.read_text()
    assert {path: path.stat().st_mtime_ns for path in chunks} == before
    assert found(tmp_path / "run") == found(alone)


@pytest.mark.parametrize(
    ("how", "victim"),
    [
        (signal.SIGKILL, 0),
        (signal.SIGKILL, 1),
        (signal.SIGSTOP, 0),
        (signal.SIGSTOP, 1),
    ],
)
def test_one_dies_and_another_number_goes_on(how, victim, flags, programs, alone, tmp_path):
    """Killed, or silent as a host that is cut off; the other says so and ends within a minute."""
    workdir = tmp_path / "run"
    together = Together(flags, tmp_path, workdir, 2, programs, dead=5)
    end = time.monotonic() + 300
    while not [*workdir.glob("artifacts/activate-*/shards/*.json")]:
        assert time.monotonic() < end, together.told()
        time.sleep(0.01)
    os.kill(together.processes[victim].pid, how)
    other = together.processes[1 - victim]
    other.join(300)
    if how == signal.SIGSTOP:
        os.kill(together.processes[victim].pid, signal.SIGKILL)
    together.processes[victim].join()
    told = together.outputs[1 - victim].read_text()
    assert other.exitcode == ABANDONED, told
    assert told.startswith(f"error: Process {victim} of this run has died or was stopped, so this ")
    assert told.count("\n") == 1
    if how == signal.SIGKILL:
        three = Together(flags, tmp_path, workdir, 3, programs)
        assert three.codes() == [0] * 3, three.told()
        assert found(workdir) == found(alone)


def test_processes_that_disagree(flags, programs, tmp_path):
    extra = ["--config.crop.view=centre"]
    together = Together(flags, tmp_path, tmp_path / "run", 2, programs, extra=extra)
    assert together.codes() == [2, 2], together.told()
    for output in together.outputs:
        assert "error: The processes of this run disagree at activate-" in output.read_text()
