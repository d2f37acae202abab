"""Concept scores of all neurons, the concepts they select, and how sure these are.

The score is S[i, j] = mean_o { φ(v_o · t_j) − φ(v_o · b) } over the exemplars v_o of neuron i
(paper, eq. 3). All of S is never held:

1. An engine looks at every concept once and leaves the few candidates that rounding, or its bounds,
   can't exclude. `block` scores every distinct exemplar image against every concept; `screening`
   needs one product per neuron instead of one per image, if that excludes enough.
2. `pairs` scores the candidates, always by the same program, so that the selection is the same bit
   for bit whichever engine, block or bound left them.
3. `selection` keeps those above α times the neuron's largest score.

`discovery` puts these together, `sweep` for several κ, α and numbers of exemplars. `certainty` runs
the same two programs again: `null` with random image sets as units, `stability` with resamples.
"""

from jaxdesc.scoring.discovery import discover as discover
from jaxdesc.scoring.discovery import sweep as sweep
from jaxdesc.scoring.selection import Selection as Selection
from jaxdesc.scoring.selection import nothing as nothing

__all__ = ["Selection", "discover", "nothing", "sweep"]
