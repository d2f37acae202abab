"""Several processes on localhost do one run together: the same results, whoever dies meanwhile."""

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
from tests.store.bucket import Bucket, served
from tests.survival.victim import begin, launch

COUNT = 10
RESULTS = ("concepts.jsonl", "concepts.csv", "metrics.json", "skipped.csv", "exemplars.png")


@pytest.fixture(scope="module")
def flags(networks, tmp_path_factory):
    """Flags of a small run on made-up photos, one of which can't be used."""
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


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """All processes find what one of them has compiled."""
    return (("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("programs"))),)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Together:
    """Processes of one run, and what they print."""

    def __init__(self, flags, folder, workdir, count, programs, dead=None, each=None):
        own = [*flags, f"--workdir={workdir}", f"--coordinator=127.0.0.1:{free_port()}"]
        self.outputs = [folder / f"{index}-of-{count}" for index in range(count)]
        self.processes = [
            begin(
                launch,
                [*own, f"--processes={count}", f"--process={index}", *(each or {index: []})[index]],
                output,
                dead,
                programs,
            )
            for index, output in enumerate(self.outputs)
        ]

    def codes(self, seconds=90):
        end = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0, end - time.monotonic()))
        return [process.exitcode for process in self.processes]

    def told(self):
        return "\n".join(
            f"[process {index}] {line}"
            for index, output in enumerate(self.outputs)
            for line in output.read_text().splitlines()
        )


@pytest.fixture(scope="module")
def alone_at(flags, programs, tmp_path_factory):
    """The working directory of one process."""
    folder = tmp_path_factory.mktemp("alone")
    own = [*flags, f"--workdir={folder / 'run'}"]
    process = begin(launch, own, folder / "output", None, programs)
    process.join(90)
    assert process.exitcode == 0, (folder / "output").read_text()
    return folder / "run"


@pytest.fixture(scope="module")
def alone(alone_at):
    """What one process finds."""
    return found(alone_at)


def found(workdir):
    return {name: (workdir / name).read_bytes() for name in RESULTS}


EIGHT = ("XLA_FLAGS", "--xla_force_host_platform_device_count=8")


def test_eight_devices_compute_what_one_does(flags, programs, alone_at, tmp_path):
    """The same exemplars and concepts; activations, features and scores up to rounding."""
    own, output = [*flags, f"--workdir={tmp_path / 'run'}"], tmp_path / "output"
    process = begin(launch, own, output, None, (*programs, EIGHT))
    process.join(90)
    assert process.exitcode == 0, output.read_text()
    runs = (alone_at, tmp_path / "run")
    for stage, arrays in (("activate", ("activations", "boxes")), ("embed", ("features",))):
        one, eight = (
            Artifact(Place(next((run / "artifacts").glob(f"{stage}-*"))), {}) for run in runs
        )
        assert one.name == eight.name
        for array in arrays:
            np.testing.assert_allclose(one.read(array), eight.read(array), atol=1e-6)
    one, eight = ([json.loads(line) for line in (run / "concepts.jsonl").open()] for run in runs)
    for own, other in zip(one, eight, strict=True):
        texts, scores = zip(*[(c["text"], c["score"]) for c in own["concepts"]], strict=True)
        assert [concept["text"] for concept in other["concepts"]] == list(texts)
        found = [concept["score"] for concept in other["concepts"]]
        np.testing.assert_allclose(found, scores, atol=1e-6)
        for exemplar, same in zip(own["exemplars"], other["exemplars"], strict=True):
            assert exemplar["image"] == same["image"]
            assert exemplar["box"] == same["box"]


@pytest.mark.parametrize("count", [2, 4])
def test_several_find_what_one_finds(count, flags, programs, alone, tmp_path, capsys):
    together = Together(flags, tmp_path, tmp_path / "run", count, programs)
    assert together.codes() == [0] * count, together.told()
    assert found(tmp_path / "run") == alone
    shards = [*(tmp_path / "run" / "artifacts").glob("activate-*/activations/c/*/0")]
    assert len(shards) == COUNT // 2
    # The first alone tells what they found.
    assert "results in " in together.outputs[0].read_text()
    assert "results in " not in "".join(path.read_text() for path in together.outputs[1:])
    with capsys.disabled():
        print(f"\n{count} processes, equal to one:\n{together.told()}")


def wait_for(pattern, workdir, together):
    end = time.monotonic() + 60
    while not [*workdir.glob(pattern)]:
        assert time.monotonic() < end, together.told()
        time.sleep(0.01)


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
    assert results == alone


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_one_dies_and_another_number_goes_on(how, victim, flags, programs, alone, tmp_path, capsys):
    """Killed, or silent as a host that is cut off; the other says so and ends within a minute."""
    workdir = tmp_path / "run"
    together = Together(flags, tmp_path, workdir, 2, programs, dead=5)
    wait_for("artifacts/activate-*/shards/*.json", workdir, together)
    os.kill(together.processes[victim].pid, how)
    began, other = time.monotonic(), 1 - victim
    together.processes[other].join(60)
    code, told = together.processes[other].exitcode, together.outputs[other].read_text()
    if how == signal.SIGSTOP:
        os.kill(together.processes[victim].pid, signal.SIGKILL)
    together.processes[victim].join()
    assert code == ABANDONED, told
    assert told == (
        f"error: Process {victim} of this run has died or was stopped, so this one stops too: what "
        "was finished is kept; start all processes again with the same command, also in another "
        "number.\n"
    )
    with capsys.disabled():
        seconds = time.monotonic() - began
        print(f"\n{how.name} to process {victim}, the other ended after {seconds:.0f} s:\n{told}")

    if how == signal.SIGSTOP:
        return  # what is left then is the same
    three = Together(flags, tmp_path, workdir, 3, programs)
    assert three.codes() == [0] * 3, three.told()
    assert found(workdir) == alone


def test_processes_that_disagree(flags, programs, tmp_path):
    together = Together(
        flags, tmp_path, tmp_path / "run", 2, programs, each=[[], ["--config.crop.view=centre"]]
    )
    assert together.codes() == [2, 2], together.told()
    for output in together.outputs:
        assert "error: The processes of this run disagree at activate-" in output.read_text()


def test_a_process_that_never_starts(flags, tmp_path):
    for index in (0, 1):
        output, port = tmp_path / f"{index}", free_port()
        own = [f"--coordinator=localhost:{port}", "--processes=2", f"--process={index}"]
        own += [f"--workdir={tmp_path / 'run'}", "--join_timeout=1"]
        process = begin(launch, [*flags, *own], output)
        process.join(60)
        why = " (Connection refused)" if index else ""
        assert output.read_text() == (
            f"error: Process {1 - index} of 2 did not join at localhost:{port} within 1 s{why}: "
            "start every process, each with the same --coordinator and --processes, and give them "
            "more time with --join_timeout if they need it.\n"
        )
        assert process.exitcode == 2
