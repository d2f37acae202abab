"""A small run in its own process, which can be killed at any moment of its life.

It is forked from a server that has imported everything, so that a life takes a second.
"""

import locale
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import grain  # noqa: F401 - each life needs it
import jax
import tqdm  # noqa: F401
from transformers import CLIPTokenizer  # noqa: F401 - transformers alone imports none

import jaxdesc.commands.describe
import jaxdesc.scenes  # noqa: F401 - registers the embedded world
from jaxdesc.commands import cli
from jaxdesc.config import Config
from jaxdesc.errors import InputError
from jaxdesc.images.sources import open_source
from jaxdesc.models.namers import load_clip
from jaxdesc.pipeline import describe
from jaxdesc.report import files
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.store import Draft, Place, Store, lock, rendezvous
from jaxdesc.vocabulary.vocabulary import load_vocabulary
from tests.plain_target import plain_target

IMAGES = 20
CONCEPTS = ["star", "heart", "red", "a red star", "a heart on grass", "cat", "moon", "none"]
CONFIG = Config.from_dict(
    {
        "images": {"batch": 3, "source": f"scenes:split=probe,count={IMAGES}"},
        "clip": {"batch": 4},
        "score": {"exemplars": 5, "alpha": 0.5, "block": 16},
    }
)
STAGES = (
    *("encode", "words", "activate", "select", "embed"),
    *("score", "certainty", "properties", "evaluate"),
)


class Life(NamedTuple):
    """One life and its end: by itself, or killed before or after its nth write, or after a time.

    Writes count in every stage, or in the named one. `largest` is the limit of a file's bytes,
    `environment` holds variables for this life.
    """

    folder: Path
    clip: Path
    kill_at: int = 0
    stage: str = ""
    seconds: float = 0.0
    largest: int = 0
    environment: tuple[tuple[str, str], ...] = ()


def live(life):
    """Run all stages; `log` gets each shard's beginning and end, and how the life ended."""
    os.environ.update(life.environment)
    locale.setlocale(locale.LC_ALL, "")
    time.tzset()
    jax.config.update("jax_compilation_cache_dir", str(life.folder.parent / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    note = _noting(life.folder)
    _count_writes(life, note)
    _note_shards(note)
    place, clip = Place(life.folder / "run"), load_clip(str(life.clip))
    names = tuple((name,) for name in CONCEPTS[:6])
    inputs = Inputs(
        plain_target(classes=names),
        clip,
        open_source(CONFIG.images.source),
        load_vocabulary(CONCEPTS),
        clip,
    )
    run = Run(CONFIG, inputs, Store(place.at("artifacts")), quiet=True)
    if life.largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (life.largest, resource.RLIM_INFINITY))
    try:
        with run.store.held():
            files.claim(place, CONFIG)
            files.write(place, CONFIG, describe(run))
    except InputError as error:
        note(f"error {error}")
        sys.exit(2)
    note("computed " + (" ".join(sorted(run.seconds)) or "nothing"))


def _noting(folder):
    """A function that appends a line to the log in one write, so that no kill undoes it."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    return lambda line: os.write(log, f"{line}\n".encode())


def _count_writes(life, note):
    """Before and after each write that changes the working directory, a life may end."""
    moments = iter(range(1, sys.maxsize))

    def is_last(place):
        return life.stage in place.url and next(moments) == life.kill_at

    def mortal(method):
        def called(self, *arguments, **options):
            if is_last(self):
                _die(note, f"before {method.__name__}", self, arguments)
            result = method(self, *arguments, **options)
            if is_last(self):
                _die(note, f"after {method.__name__}", self, arguments)
            return result

        return called

    for name in ("write", "put", "create", "delete", "delete_all"):
        setattr(Place, name, mortal(getattr(Place, name)))


def _die(note, when, place, arguments):
    what = arguments[0] if arguments and isinstance(arguments[0], str) else ""
    note(f"killed {when} {place.name} {what}")
    os.kill(os.getpid(), signal.SIGKILL)


def _note_shards(note):
    commit, finish = Draft.commit, Draft.finish

    def noted_commit(self, shard, *arguments, **options):
        note(f"begin {self.place.name} {shard}")
        commit(self, shard, *arguments, **options)
        note(f"end {self.place.name} {shard}")

    def noted_finish(self, inputs):
        note(f"begin {self.place.name} whole")
        finish(self, inputs)
        note(f"end {self.place.name} whole")

    Draft.commit, Draft.finish = noted_commit, noted_finish


def launch(arguments, output, dead=None, environment=()):
    """Do as `python -m launch.describe`, printing to a file; `dead`: `rendezvous.DEAD`."""
    os.environ.update(environment)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT), stream.fileno())
    if dead:
        for module in (rendezvous, lock):
            module.BEAT, module.DEAD = dead / 10, dead
    cli.main(["describe", *arguments])


def launch_and_stop(arguments, output, environment=()):
    """Do as `launch`, and get a SIGTERM while the second shard of activations is committed."""
    commit = Draft.commit

    def stopping(self, shard, *given, **options):
        if self.place.name.startswith("activate-") and shard == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        commit(self, shard, *given, **options)

    Draft.commit = stopping
    launch(arguments, output, None, environment)


def begin(function, *arguments):
    """Start a function in a new process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.survival.victim"])
    process = context.Process(target=function, args=arguments)
    process.start()
    return process


def spend(life):
    """Let a process live, or kill it after `seconds` if given; returns its exit code."""
    process = begin(live, life)
    process.join(life.seconds or 600)
    if process.is_alive():
        assert life.seconds, "a life hangs"
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    return process.exitcode


def die_often(folder, clip, kills, seed=0, by_clock=False):
    """Kill and start again until so many kills are done, then let one life end by itself.

    A kill comes at a random write, or after a random time. Once a run is finished, a new one is
    begun in the folder; returns the folders of all of them.
    """
    rng, folders, done = random.Random(seed), [], 0
    moments = cycle([*STAGES, ""])  # each in turn, and anywhere
    while done < kills:
        run = folder / str(len(folders))
        run.mkdir()
        folders.append(run)
        while True:
            moment = (
                {"seconds": rng.uniform(0.3, 3)}
                if by_clock
                else {"stage": next(moments), "kill_at": rng.randint(1, 10)}
            )
            code = spend(Life(run, clip, **(moment if done < kills else {})))
            if code == 0:
                break
            assert code == -signal.SIGKILL, (run / "log").read_text()
            done += 1
    return folders


def account(folder):
    """Counts of a finished run: how often each shard was begun and ended, and kills by stage."""
    begun, ended, kills = Counter(), Counter(), Counter()
    for line in (folder / "log").read_text().splitlines():
        word, _, what = line.partition(" ")
        begun[what] += word == "begin"
        ended[what] += word == "end"
        if word == "killed":
            kills[next((stage for stage in STAGES if f" {stage}-" in line), "between")] += 1
    return +begun, +ended, kills


def results(folder):
    """Contents of all files of a run, except the lock's."""
    run = folder / "run"
    every = [path for path in sorted(run.rglob("*")) if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(run)): path.read_bytes() for path in every}
