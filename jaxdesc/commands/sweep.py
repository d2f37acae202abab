r"""Measure a layer for every κ, α and number of exemplars.

    jaxdesc sweep --config=scenes --workdir=out/sweep \
        --kappa=0,1,4,16,64 --alpha=0.9,0.95 --exemplars=4,8,16

No network runs twice. A flag that isn't given has the config's value; the probe sets are those of
`config.ablation`. The working directory belongs to the config: started again with other κ or α,
only scores and metrics are computed; with another largest number of exemplars, their features too.
The first sweep's results are kept: those of the next are sweep-2.csv and so on.
"""

from collections.abc import Callable
from typing import Any

from jaxdesc.commands import flags, inputs
from jaxdesc.commands.flags import Flag
from jaxdesc.errors import InputError
from jaxdesc.pipeline import Grid, sweep
from jaxdesc.report import sweeps

_KAPPA = flags.DEFINE_list("kappa", None, "Concentrations κ.")
_ALPHA = flags.DEFINE_list("alpha", None, "Concept sensitivities α.")
_EXEMPLARS = flags.DEFINE_list("exemplars", None, "Numbers of exemplars per neuron.")
_VIEWS = flags.DEFINE_list("views", None, "Views, as config.crop.view.")
FLAGS = (*inputs.FLAGS, _KAPPA, _ALPHA, _EXEMPLARS, _VIEWS)


def main() -> None:
    """Measure every cell, then write, draw and print them."""
    grid = _grid()
    with inputs.opened() as (run, workdir):
        cells = list(sweep(run, grid))
    files = sweeps.write(workdir, cells)
    print(f"\n{sweeps.table(cells)}\n")
    print(f"{len(cells)} cells in {workdir}: {', '.join(files)}")


def _grid() -> Grid:
    config = inputs.read_config()
    return Grid(
        kappas=_values(_KAPPA, float, config.score.kappa),
        alphas=_values(_ALPHA, float, config.score.alpha),
        exemplars=_values(_EXEMPLARS, int, config.score.exemplars),
        views=_values(_VIEWS, str, config.crop.view),
        probes=config.ablation.probes,
    )


def _values(flag: Flag, kind: Callable[[str], Any], default: Any) -> tuple[Any, ...]:
    if flag.value is None:
        return (default,)
    try:
        values = [kind(text) for text in flag.value]
    except ValueError as error:
        wanted = "whole numbers" if kind is int else "numbers"
        raise InputError(
            f"--{flag.name}={','.join(flag.value)} can't be read: expected {wanted} between commas."
        ) from error
    return tuple(values if kind is str else sorted(values))
