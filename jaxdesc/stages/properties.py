"""Properties: what each unit's activations and exemplars say about it, without any concept."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from jaxdesc.evaluation.properties import properties as measure
from jaxdesc.exemplars import Exemplars, Slots
from jaxdesc.stages.run import Run
from jaxdesc.stages.select import chosen
from jaxdesc.store import Artifact, Draft

MEASURED = ("clarity", "redundancy", "polysemanticity")


def properties(run: Run, selected: Artifact, embedded: Artifact) -> Artifact:
    """Measure each unit's exemplars. Arrays: those of `evaluation.properties`."""
    fewest = run.config.score.fewest

    def compute(draft: Draft) -> None:
        rows = embedded.read("rows")
        slots = chosen(selected).among(rows)
        features = embedded.read("features") if rows.size else np.zeros((1, 1), np.float32)
        for name, values in measure(features, slots, fewest)._asdict().items():
            draft.write(name, values)

    return run.stage("properties", {"embed": embedded.name, "fewest": fewest}, compute)


def of_units(
    found: Exemplars, measured: Mapping[str, Float[np.ndarray, "unit"]]
) -> dict[str, np.ndarray]:
    """Every property of each unit, by its name in `result.PROPERTIES`."""
    activations = {"density": found.density, "mean": found.mean, "highest": found.highest}
    return activations | {name: measured[name] for name in MEASURED}


def of_arrays(
    features: Float[np.ndarray, "view feature"], slots: Slots, found: Exemplars, fewest: int
) -> dict[str, np.ndarray]:
    """Measure the exemplars of bare arrays, rows of `features`."""
    return of_units(found, measure(features, slots, fewest)._asdict())
