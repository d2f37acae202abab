"""The stages in order, and what is measured with them: grids, methods, judges."""

from jaxdesc.pipeline.comparison import Comparison as Comparison
from jaxdesc.pipeline.comparison import compare as compare
from jaxdesc.pipeline.comparison import probe_pass as probe_pass
from jaxdesc.pipeline.grids import Cell as Cell
from jaxdesc.pipeline.grids import Grid as Grid
from jaxdesc.pipeline.grids import sweep as sweep
from jaxdesc.pipeline.judging import Judging as Judging
from jaxdesc.pipeline.judging import judge as judge
from jaxdesc.pipeline.order import Seen as Seen
from jaxdesc.pipeline.order import describe as describe
from jaxdesc.pipeline.order import describe_each as describe_each
from jaxdesc.pipeline.order import run_networks as run_networks

__all__ = [
    "Cell",
    "Comparison",
    "Grid",
    "Judging",
    "Seen",
    "compare",
    "describe",
    "describe_each",
    "judge",
    "probe_pass",
    "run_networks",
    "sweep",
]
