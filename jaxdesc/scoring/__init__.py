"""The concept score of every neuron for every concept, and the concepts it selects.

`score` is the definition (paper, eq. 3) for one neuron and one concept, `scores` the same for all
pairs, and `discover` finds the concepts that are selected without ever holding all scores:

1. An engine looks at every concept once and leaves the few candidates that rounding, or its own
   bounds, can't exclude. `full` scores every distinct exemplar image against every concept;
   `screening` needs one product a neuron instead of one an image, where that excludes enough.
2. `exact` scores the candidates, always by the same program, so that the selection is the same bit
   for bit whichever engine, block or bound has found them.
3. `selection` keeps those above α times the neuron's largest score.

`sweep` does so for several κ, α and numbers of exemplars, sharing what they share.

Candidates are dropped as soon as they are known to lie too low. Dropping early is exact: the
largest score so far never exceeds the final one, so the threshold only rises.
"""

from jaxdesc.scoring.definition import score as score
from jaxdesc.scoring.definition import scores as scores
from jaxdesc.scoring.discovery import discover as discover
from jaxdesc.scoring.discovery import sweep as sweep
from jaxdesc.scoring.selection import Selection as Selection
from jaxdesc.scoring.selection import nothing as nothing

__all__ = ["Selection", "discover", "nothing", "score", "scores", "sweep"]
