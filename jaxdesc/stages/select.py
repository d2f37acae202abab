"""Select: each neuron's exemplars."""

import numpy as np

from jaxdesc import exemplars
from jaxdesc.images.loader import padded
from jaxdesc.stages.run import Run
from jaxdesc.store import Artifact, Draft


def select(run: Run, activated: Artifact) -> Artifact:
    """Find each neuron's most activating views by a running top-n, skipped images left out.

    Arrays: images [N, n] (indices, best first), values [N, n], dead [N].
    """
    count, size = run.config.score.exemplars, run.config.images.batch

    def compute(draft: Draft) -> None:
        state, start = None, 0
        usable = ~activated.read("skipped")
        for rows in activated.rows("activations", size):
            state = state or exemplars.empty(rows.shape[1], count)
            images = np.arange(start, start + size, dtype=np.int32)
            valid = np.zeros(size, bool)
            valid[: len(rows)] = usable[start : start + size]
            state = exemplars.update(state, padded(rows, size), images, valid)
            start += len(rows)
        assert state is not None  # a source is never empty
        draft.write("images", np.asarray(state.images))
        draft.write("values", np.asarray(state.values))
        draft.write("dead", np.asarray(exemplars.dead(state)))

    return run.stage("select", {"activate": activated.name, "exemplars": count}, compute)
