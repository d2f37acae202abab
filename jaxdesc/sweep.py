"""One layer for every κ, α and number of exemplars, on every probe set and view: what each does."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, get_type_hints

from jaxdesc.config import KAPPAS, LARGEST_KAPPA, AblationConfig, converted
from jaxdesc.errors import InputError
from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.images.example import Source
from jaxdesc.images.windows import VIEWS
from jaxdesc.pipeline import sweep
from jaxdesc.stages.check import check
from jaxdesc.stages.run import Run


@dataclass(frozen=True)
class Grid:
    """What is swept; a cell for each combination.

    Each may be given as any iterable of numbers or texts, such as an array of NumPy.

    Attributes:
        kappas: concentrations κ ≥ 0.
        alphas: concept sensitivities α in (0, 1].
        exemplars: exemplars a neuron.
        views: values of `config.crop.view`.

    Raises:
        InputError: nothing to sweep over, a value out of its range, or one that is given twice.
    """

    kappas: tuple[float, ...]
    alphas: tuple[float, ...]
    exemplars: tuple[int, ...]
    views: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Grid).items():
            values = converted(kind, getattr(self, name), f"The sweep's {name}")
            object.__setattr__(self, name, values)
        _check_values("kappa", self.kappas, lambda kappa: 0 <= kappa <= LARGEST_KAPPA, KAPPAS)
        _check_values("alpha", self.alphas, lambda alpha: 0 < alpha <= 1, "a share in (0, 1]")
        _check_values("exemplars", self.exemplars, lambda count: count >= 1, "at least 1")
        _check_values("view", self.views, lambda view: view in VIEWS, f"one of {VIEWS}")


@dataclass(frozen=True)
class Cell:
    """One cell of a sweep: where it was measured, with what, and what was reached."""

    probe: str
    view: str
    kappa: float
    alpha: float
    exemplars: int
    metrics: Metrics
    ceilings: Metrics


def sweep_probes(run: Run, grid: Grid, open_probe: Callable[[str], Source]) -> Iterator[Cell]:
    """Describe the same neurons for the whole grid, on each probe set of `config.ablation`.

    Args:
        run: whose config, inputs and store are used; its κ, α and number of exemplars give way to
            the grid's. Its times are added up in `run.seconds`, and the images that can't be used
            in `run.skipped`.
        grid: what is swept.
        open_probe: opens an image source.

    Yields:
        A cell for each probe set, view, κ, α and number of exemplars, in ascending order of these
        three.

    Raises:
        InputError: neurons without names, which no metric can judge; more exemplars than images; or
            as `describe`. Of all probe sets, before the first is looked at.
    """
    if not run.names:
        raise InputError(
            f"A sweep compares metrics, but the neurons of layer {run.config.target.layer!r} have "
            "no known names: use layer 'fc' of a target with label_names."
        )
    runs = {images: _of_probe(run, grid, images, open_probe) for images in _probes(run)}
    for own in runs.values():
        _check_count(grid, own.inputs.source)
        check(own)
    for (images, own), view in product(runs.items(), grid.views):
        own = replace(own, config=replace(own.config, crop=replace(own.config.crop, view=view)))
        measured, best = sweep(own, grid.kappas, grid.alphas, grid.exemplars)
        for setting, metrics in measured.items():
            yield Cell(images, view, *setting, metrics=metrics, ceilings=best)


def _probes(run: Run) -> tuple[str, ...]:
    return run.config.ablation.probes or (run.config.images.source,)


def _of_probe(run: Run, grid: Grid, images: str, open_probe: Callable[[str], Source]) -> Run:
    """The run on one probe set; its pass over the images cuts the grid's views, and no others."""
    same = images == run.config.images.source
    config = replace(
        run.config,
        images=replace(run.config.images, source=images),
        crop=replace(run.config.crop, view=grid.views[0]),
        score=replace(run.config.score, exemplars=max(grid.exemplars)),
        ablation=AblationConfig(views=grid.views, kappas=grid.kappas),
    )
    source = run.inputs.source if same else open_probe(images)
    return replace(run, config=config, inputs=replace(run.inputs, source=source))


def _check_values(
    name: str, values: Sequence[Any], holds: Callable[[Any], bool], expected: str
) -> None:
    if not values:
        raise InputError(f"The sweep's {name} is an empty list: give at least one value.")
    for value, times in Counter(values).items():
        if not holds(value):
            raise InputError(f"The sweep's {name} holds {value!r}: expected {expected}.")
        if times > 1:
            raise InputError(f"The sweep's {name} holds {value!r} {times} times: give it once.")


def _check_count(grid: Grid, source: Source) -> None:
    most = max(grid.exemplars)
    if most > len(source):
        raise InputError(
            f"The sweep's exemplars go up to {most}, but {source.spec} holds only {len(source)} "
            "images: ask for at most as many."
        )
