"""Select: the exemplars of each unit."""

from collections.abc import Iterator

import numpy as np

from jaxdesc import exemplars
from jaxdesc.config import Config
from jaxdesc.exemplars import Batch, Exemplars
from jaxdesc.stages.latents import are_packed, packed_blocks
from jaxdesc.stages.run import Run
from jaxdesc.store import Artifact, Draft


def select(run: Run, activated: Artifact) -> Artifact:
    """Find the exemplars of each unit, skipped images left out. Arrays: those of `Exemplars`.

    Units that are ranked again by their windows get candidates, more than there are exemplars.
    """
    count, usable = candidates(run.config, len(run.inputs.source)), ~activated.read("skipped")

    def batches() -> Iterator[Batch]:
        if are_packed(activated):
            for first, block in packed_blocks(activated):
                used = usable[first : first + block.shape[0]]
                yield block[used], first + np.flatnonzero(used).astype(np.int32)
            return
        start = 0
        for rows in activated.rows("activations", run.config.images.batch):
            used = usable[start : start + len(rows)]
            yield rows[used], start + np.flatnonzero(used).astype(np.int32)
            start += len(rows)

    def compute(draft: Draft) -> None:
        chosen = exemplars.find(batches(), count, run.inputs.source.identify)
        for name, values in chosen._asdict().items():
            draft.write(name, values)

    return run.stage("select", {"activate": activated.name, "exemplars": count}, compute)


def candidates(config: Config, images: int) -> int:
    """Return how many images each unit chooses."""
    ranked_again = config.crop.units and config.crop.rank == "window"
    count = config.score.exemplars * (config.crop.candidates if ranked_again else 1)
    return min(count, images)


def chosen(selected: Artifact) -> Exemplars:
    """Exemplars in the artifact of `select`."""
    return Exemplars(*(selected.read(name) for name in Exemplars._fields))
