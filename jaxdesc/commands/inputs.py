"""The run that the flags describe: config, networks, images and vocabulary, opened and checked."""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxdesc.commands import STARTED, cli, configs, flags, processes
from jaxdesc.config import Config, TargetConfig
from jaxdesc.errors import InputError
from jaxdesc.images.split import open_images
from jaxdesc.models.architectures import load_target
from jaxdesc.models.dictionary import LATENTS
from jaxdesc.models.dictionary_files import load_dictionary
from jaxdesc.models.encoder import Namer
from jaxdesc.models.namers import load_namer
from jaxdesc.models.sentence import load_sentence_encoder
from jaxdesc.models.target import Target
from jaxdesc.pipeline import Cell, Grid, sweep
from jaxdesc.report import files, tables
from jaxdesc.report.scalars import Scalars
from jaxdesc.runtime.progress import Bar, Display, Lines, State
from jaxdesc.stages.batches import fitting
from jaxdesc.stages.check import check, check_names
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.store import Place, Processes, Store
from jaxdesc.store.processes import ALONE
from jaxdesc.store.workdir import folder_of
from jaxdesc.vocabulary.vocabulary import Vocabulary, load_classes, load_vocabulary

CONFIG = flags.DEFINE_path(
    "config",
    None,
    "A config by its name, such as scenes or scenes:wide, or the path of a Python file.",
)
WORKDIR = flags.DEFINE_path(
    "workdir", None, "Where artifacts and results are, a folder or gs://BUCKET/PATH."
)
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Drop what a run with another config has found in --workdir."
)
LAYER = flags.DEFINE_string("layer", "", "The layer, if --workdir has several.")
QUIET = flags.DEFINE_bool("quiet", False, "No progress, neither bars nor lines.")
TENSORBOARD = flags.DEFINE_bool(
    "tensorboard", False, "Write the run's course as TensorBoard's scalars to WORKDIR/tensorboard."
)

# Flags of commands that open a run: RUN if a finished run has the config, FLAGS if --config does.
RUN = (WORKDIR, QUIET, TENSORBOARD, *processes.FLAGS)
FLAGS = (CONFIG, OVERWRITE, *RUN)


def read_config() -> Config:
    """Read the config that --config names."""
    if CONFIG.value is None:
        raise InputError(f"--config is missing: expected one of {configs.choices()}.")
    return Config.from_dict(configs.load(CONFIG.value, flags.overrides()).to_dict())


def results() -> Path:
    """The folder of a finished run's results: --workdir, or if it has several layers, --layer's."""
    workdir, layer = finished(), LAYER.value
    layers = files.layers_in(workdir)
    if layers and layer not in layers:
        raise InputError(
            f"{workdir} has the layers {', '.join(layers)}, and one is needed: choose it, such as "
            f"--layer={layers[0]}."
        )
    if layer and not layers:
        raise InputError(f"{workdir} has a single layer: leave --layer={layer} out.")
    return workdir / folder_of(layer) if layers else workdir


def finished() -> Path:
    """The working directory of a finished run, --workdir, which must not be a bucket."""
    if not WORKDIR.value:
        raise InputError("--workdir is missing: say where results are.")
    if "://" in WORKDIR.value:
        raise InputError(
            f"--workdir is {WORKDIR.value}, but this script reads and writes a local folder: copy "
            "the results, and give their folder."
        )
    return Path(WORKDIR.value)


def open_run(config: Config | None = None) -> tuple[Run, Place]:
    """Open everything that a config names, cheapest first, and make --workdir this config's.

    All of several processes (`commands.processes`) compute, but only the first prints and writes
    results. The config is that of --config if not given; results go to the folder of --layer.
    """
    config = config or read_config()
    if not WORKDIR.value:
        raise InputError("--workdir is missing: give the folder of artifacts and results.")
    if TENSORBOARD.value and "://" in WORKDIR.value:
        raise InputError(
            f"--tensorboard writes to this machine alone, but --workdir is {WORKDIR.value}: give a "
            "local path, or leave the flag out."
        )
    check_names(config)
    workdir, together = Place(WORKDIR.value), processes.joined()
    listener = None
    if TENSORBOARD.value and workdir.local and together.leads:
        listener = Scalars(workdir.local / "tensorboard")
    keep_programs(workdir, together)
    source = open_images(config.images)
    vocabulary = open_vocabulary(config, config.vocabulary.source)
    for other in config.ablation.vocabularies:
        open_vocabulary(config, other)
    target = open_target(config)
    clip = open_clip(config)
    inputs = Inputs(target, clip, source, vocabulary, scorer=clip)
    store = Store(workdir.at("artifacts"), together, cli.stop_if_asked)
    workdir = workdir.at(folder_of(LAYER.value)) if LAYER.value else workdir
    quiet = QUIET.value or not together.leads
    run = Run(config, inputs, store, quiet, _in_a_log(), listener, began=STARTED)
    check(run)
    run = replace(
        run, config=fitting(files.resumed(workdir, run.config), target, clip, len(source))
    )
    if run.names:
        run = replace(run, inputs=replace(inputs, **open_judges(config, clip)))
    run = replace(run, config=_pinned(run))
    if not together.leads:
        return run, Place("memory://results")  # these results are discarded
    for name in files.claim(workdir, run.config, OVERWRITE.value):
        print(f"dropped: {name}")
    return run, workdir


def open_target(config: Config, platform: str = "") -> Target:
    """Load the target, its classes named as the config says, or else its checkpoint."""
    options = config.target
    target = load_target(
        options.source,
        revision=options.revision,
        precision=config.precision,
        preprocess=options.preprocess,
        platform=platform,
    )
    if options.dictionary:
        target = _with_dictionary(target, options)
    classes = load_classes(options.classes)
    return replace(target, classes=classes, wnids=()) if classes else target


def _with_dictionary(target: Target, options: TargetConfig) -> Target:
    """Add the config's dictionary to the layer whose latents are described."""
    layers = {name.removesuffix(LATENTS) for name in options.described if name.endswith(LATENTS)}
    if len(layers) != 1:
        raise InputError(
            f"config.target.dictionary is {options.dictionary!r}, but config.target.layer is "
            f"{','.join(options.described)}: name the layer that it reads, with {LATENTS} behind, "
            "such as blocks.10/sae."
        )
    return target.with_dictionary(layers.pop(), load_dictionary(options.dictionary))


def open_clip(config: Config) -> Namer:
    """Load the CLIP that compares views with concepts."""
    return load_namer(
        config.clip.source,
        revision=config.clip.revision,
        precision=config.precision,
        preprocess=config.clip.preprocess,
    )


def displays() -> list[Callable[[State], Display]]:
    """Displays of progress: none if quiet, a bar on a terminal, lines elsewhere."""
    return [] if QUIET.value else [Lines if _in_a_log() else Bar]


def _in_a_log() -> bool:
    return not sys.stderr.isatty()


def keep_programs(workdir: Place, together: Processes = ALONE) -> None:
    """Keep compiled programs for later starts, in JAX_COMPILATION_CACHE_DIR or else in `workdir`.

    All are kept: a start needs dozens of small programs besides a few large ones. If `workdir` is a
    bucket, they stay on this machine. Several processes compile the same programs, and only the
    first writes them: JAX does not write a file atomically.
    """
    local = workdir.local or Path.home() / ".cache" / "jaxdesc"
    given = os.path.expanduser(os.environ.get("JAX_COMPILATION_CACHE_DIR", ""))
    folder = given or str(local / "compilation_cache")
    jax.config.update("jax_compilation_cache_dir", folder)
    shortest = 0.0 if together.leads else math.inf
    jax.config.update("jax_persistent_cache_min_compile_time_secs", shortest)


def _pinned(run: Run) -> Config:
    """The config with every Hugging Face id at the commit that was loaded."""
    config, inputs = run.config, run.inputs
    judged = run.names and config.evaluation.scorer  # otherwise it was not loaded
    scorer = inputs.scorer.name if judged else config.evaluation.scorer
    sentence = getattr(inputs.sentence, "name", config.evaluation.sentence)
    return replace(
        config,
        target=replace(config.target, source=inputs.target.name, revision=""),
        clip=replace(config.clip, source=inputs.clip.name, revision=""),
        evaluation=replace(config.evaluation, scorer=scorer, sentence=sentence),
    )


def open_vocabulary(config: Config, spec: str) -> Vocabulary:
    """The vocabulary that `spec` names, with or without duplicates as the config says."""
    return load_vocabulary(spec, config.vocabulary.compat)


def open_judges(config: Config, clip: Namer) -> dict[str, Any]:
    """Load the encoders of the metrics."""
    options = config.evaluation
    reuse = options.scorer in ("", clip.name) and config.precision == "float32"
    same = options.scorer in ("", clip.name, config.clip.source)
    stated = config.clip.preprocess if same else ""
    return {
        "scorer": clip if reuse else load_namer(options.scorer or clip.name, preprocess=stated),
        "sentence": load_sentence_encoder(options.sentence) if options.sentence else None,
    }


def measure(run: Run, workdir: Place) -> list[Cell]:
    """Measure every cell of the config's ablation; `ablation.csv` holds those that are done."""
    cells: list[Cell] = []
    if not (run.config.ablation.views and run.config.ablation.kappas):
        return cells
    opened = partial(open_vocabulary, run.config)
    for cell in sweep(run, Grid.of_ablation(run.config), open_vocabulary=opened):
        cells.append(cell)
        tables.write_ablation(workdir / "ablation.csv", cells)
        tables.write_neurons(workdir / "ablation_neurons.csv", cells)
    return cells


@contextmanager
def opened(*config: Config) -> Iterator[tuple[Run, Place]]:
    """Open a run as `open_run` does, hold its working directory, and print what took time.

    A request to stop ends the run after the shard in flight. `skipped.csv` is written even if too
    many images can't be used and the run fails.
    """
    began = time.perf_counter()
    run, workdir = open_run(*config)
    ready = time.perf_counter()
    with cli.stoppable(), run.store.held(), run.store.processes.watched():
        try:
            yield run, workdir
        finally:
            if run.listener:
                run.listener.close()
            files.write_skipped(workdir, run.skipped)
    if run.skipped:
        print(files.left_out(run.skipped))
    idle = {name: f" (device idle {share:.0%})" for name, share in run.idle.items()}
    times = ", ".join(
        f"{name} {seconds:.1f} s {run.memory[name] / 2**30:.2f} GiB{idle.get(name, '')}"
        for name, seconds in run.seconds.items()
    )
    first = f", first batch after {run.first_batch:.1f} s" if run.first_batch else ""
    stages = f"{time.perf_counter() - ready:.1f} s ({times or 'all done before'})"
    print(f"set-up {ready - began:.1f} s, stages {stages}{first}")
