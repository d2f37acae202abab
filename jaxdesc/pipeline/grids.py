"""Grids: the same neurons described for every combination of choices."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import get_type_hints

from jaxdesc.config import AblationConfig, Config, ScoreConfig, converted
from jaxdesc.errors import InputError
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.images.example import Source
from jaxdesc.images.sources import open_source
from jaxdesc.images.split import side_of
from jaxdesc.pipeline.order import run_networks
from jaxdesc.stages.check import check, check_names, check_single
from jaxdesc.stages.evaluate import ceilings
from jaxdesc.stages.evaluate import sweep as sweep_settings
from jaxdesc.stages.run import Run
from jaxdesc.stages.score import Setting
from jaxdesc.vocabulary.vocabulary import Vocabulary, load_vocabulary


@dataclass(frozen=True)
class Grid:
    """Choices to measure, in every combination; a repeated value counts once.

    Each may be any iterable of numbers or texts, such as an array of NumPy. Exemplars are per
    neuron, and fewer are the best of more. `views` are values of `config.crop.view`, and `probes`
    and `vocabularies` of `config.images.source` and `config.vocabulary.source`: the run's if empty.
    """

    kappas: tuple[float, ...]
    alphas: tuple[float, ...]
    exemplars: tuple[int, ...]
    views: tuple[str, ...]
    probes: tuple[str, ...] = ()
    vocabularies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Grid).items():
            values = converted(kind, getattr(self, name), f"The sweep's {name}")
            object.__setattr__(self, name, tuple(dict.fromkeys(values)))
            if not values and name not in ("probes", "vocabularies"):
                raise InputError(f"The sweep's {name} is an empty list: give at least one value.")
        check_names(Config(ablation=AblationConfig(views=self.views)))
        for setting in product(self.kappas, self.alphas, self.exemplars):
            ScoreConfig(**Setting(*setting)._asdict())

    @classmethod
    def of_ablation(cls, config: Config) -> "Grid":
        """The grid that `config.ablation` lists, with the config's α and number of exemplars."""
        asked, options = config.ablation, config.score
        score = asked.kappas, (options.alpha,), (options.exemplars,)
        return cls(*score, asked.views, asked.probes, asked.vocabularies)


@dataclass(frozen=True)
class Cell:
    """Metrics of one combination of a grid, and their ceilings."""

    vocabulary: str
    probe: str
    view: str
    kappa: float
    alpha: float
    exemplars: int
    metrics: Metrics
    ceilings: Metrics


def sweep(
    run: Run,
    grid: Grid,
    open_probe: Callable[[str], Source] = open_source,
    open_vocabulary: Callable[[str], Vocabulary] = load_vocabulary,
) -> Iterator[Cell]:
    """Describe the same neurons for a whole grid; each network runs once per image and text.

    The run's config, inputs and store are used, but for the grid's choices: `open_probe` and
    `open_vocabulary` open image sources and vocabularies other than the run's. All are checked
    before the first network runs. Times are added up in `run.seconds`, and images that can't be
    used are added to `run.skipped`.

    Yields a cell for each probe set, vocabulary, view, κ, α and number of exemplars, in this order.
    """
    config = run.config
    check_single(config, "A sweep compares")
    if not run.names:
        raise InputError(
            f"A sweep compares metrics, but the neurons of layer {config.target.layer!r} have no "
            "known names: use layer 'fc' of a target with label_names."
        )
    main, words = config.images.source, config.vocabulary.source
    probes, vocabularies = grid.probes or (main,), grid.vocabularies or (words,)
    images = config.images
    sources = {name: side_of(open_probe(name), images) for name in probes if name != main}
    known = {name: open_vocabulary(name) for name in vocabularies if name != words}
    score = replace(config.score, exemplars=max(grid.exemplars))
    # One pass over the images cuts the grid's views, and no others.
    views = AblationConfig(views=grid.views, kappas=grid.kappas)
    config = replace(config, score=score, ablation=views)
    runs = []
    for probe, vocabulary, view in product(probes, vocabularies, grid.views):
        changed = replace(
            config,
            images=replace(config.images, source=probe),
            vocabulary=replace(config.vocabulary, source=vocabulary),
            crop=replace(config.crop, view=view),
        )
        source = sources.get(probe, run.inputs.source)
        concepts = known.get(vocabulary, run.inputs.vocabulary)
        inputs = replace(run.inputs, source=source, vocabulary=concepts)
        runs.append(replace(run, config=changed, inputs=inputs))
        check(runs[-1])
    scores = grid.kappas, grid.alphas, grid.exemplars
    ordered = sorted(grid.kappas), sorted(grid.alphas), sorted(grid.exemplars)
    settings = [Setting(*setting) for setting in product(*ordered)]
    for part in runs:
        _, selected, embedded, encoded, judged, _ = run_networks(part)
        assert judged is not None
        swept = sweep_settings(part, settings, selected, embedded, encoded, judged)
        best = ceilings(judged)
        values = {kind: swept.read(kind) for kind in judged.values["metrics"]}
        where = part.config.vocabulary.source, part.config.images.source, part.config.crop.view
        for setting in product(*scores):
            row = settings.index(Setting(*setting))
            metrics = Metrics({kind: rows[row] for kind, rows in values.items()})
            yield Cell(*where, *setting, metrics=metrics, ceilings=best)
