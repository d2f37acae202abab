"""Findings of judges: scores of each unit's label, by the label's source and the measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from jaxdesc.errors import printable
from jaxdesc.evaluation.judging.ablation import Effect
from jaxdesc.evaluation.judging.control import Control
from jaxdesc.evaluation.judging.labels import Labels
from jaxdesc.evaluation.judging.measures import ALPHAS, JUDGES, Sanity
from jaxdesc.evaluation.judging.scores import BEST, Scores
from jaxdesc.evaluation.statistics import Bounds, bootstraps

COSY, ABLATION = ("cosy_auc", "cosy_mad"), ("ablation", "ablation_gap")
TITLES = {
    "cosy_auc": "CoSy AUC",
    "cosy_mad": "CoSy MAD",
    "ablation": "ablation",
    "ablation_gap": "ablation − random unit",
}
BETWEEN = 0.01  # the α that a short table shows, or else the nearest


def title(measure: str) -> str:
    """A measure's heading, such as "IoU, α = 0.01"."""
    name, _, alpha = measure.partition("@")
    head = TITLES.get(name) or JUDGES[name].title
    return f"{head}, α = {alpha}" if alpha else head


class Line(NamedTuple):
    """Labels of one source by one measure.

    Attributes:
        mean: over the units whose label can be judged, with its interval; None without any.
        units: how many these are.
        against: mean difference from each other source over the units that both can be judged on,
            the same paired, with its interval.
    """

    mean: Bounds | None
    units: int
    against: Mapping[str, Bounds]


@dataclass(frozen=True, repr=False)
class Judgement:
    """Scores of labels on images.

    Attributes:
        layer: layer of the units.
        images: spec of the images that judge.
        count: how many there are.
        presence: how it is known what these show: "truth", "labels" or "scorer".
        held_out: False if these images, or some of them, chose labels of the run.
        labels: labels of each source by unit; `RANDOM` is the floor.
        scores: of each source by measure, one value per unit.
        ceilings: the best scores of the vocabulary's concepts; may be empty.
        controls: of CoSy with their intervals, by source and unit; empty if not asked for.
        sanity: how each measure takes faults of the run's labels on these images, if it can be
            tried.
        notes: what a reader has to know, in sentences.
    """

    layer: str
    images: str
    count: int
    presence: str
    held_out: bool
    labels: Mapping[str, Labels]
    scores: Mapping[str, Scores]
    ceilings: Scores = field(default_factory=dict)
    controls: Mapping[str, Mapping[int, Control]] = field(default_factory=dict)
    sanity: Mapping[str, Sanity] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def units(self) -> int:
        """Number of the layer's units."""
        return len(next(iter(next(iter(self.scores.values())).values())))

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of all measures, with α, those of CoSy and ablation if they were asked for."""
        return tuple(next(iter(self.scores.values())))

    @property
    def short(self) -> tuple[str, ...]:
        """The measures of a short table: of each one α."""
        alphas = [alpha for alpha in ALPHAS if f"iou@{alpha:g}" in self.measures]
        shown = min(alphas, key=lambda alpha: abs(alpha - BETWEEN), default=None)
        return tuple(
            name for name in self.measures if "@" not in name or name.endswith(f"@{shown:g}")
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of all sources, with the floor and, if it was found, the ceiling."""
        return (*self.scores, *([BEST] if self.ceilings else ()))

    def values(self, source: str, measure: str) -> Float64[np.ndarray, "unit"]:
        """Score of each unit's label; NaN if it can't be judged."""
        of_source = self.ceilings if source == BEST else self.scores[source]
        return of_source.get(measure, np.full(self.units, np.nan))

    def with_controls(self, controls: Mapping[str, Mapping[int, Control]]) -> "Judgement":
        """Add what CoSy found, by source and unit."""
        columns = {
            source: {unit: tuple(bounds.mean for bounds in each) for unit, each in found.items()}
            for source, found in controls.items()
        }
        return replace(self, scores=self._with(COSY, columns), controls=controls)

    def with_effects(self, effects: Mapping[str, Mapping[int, Effect]]) -> "Judgement":
        """Add what ablation found, by source and unit."""
        columns = {
            source: {unit: (each.unit, each.unit - each.random) for unit, each in found.items()}
            for source, found in effects.items()
        }
        return replace(self, scores=self._with(ABLATION, columns))

    def _with(
        self, names: Sequence[str], columns: Mapping[str, Mapping[int, tuple[float, ...]]]
    ) -> dict[str, Scores]:
        """Scores with further measures, of which some units of each source have values."""
        found: dict[str, Scores] = {}
        for source, scores in self.scores.items():
            added = np.full((len(names), self.units), np.nan)
            for unit, values in columns.get(source, {}).items():
                added[:, unit] = values
            found[source] = {**scores, **dict(zip(names, added, strict=True))}
        return found

    def __repr__(self) -> str:
        """Show each source's means by the measures of a short table."""
        where = "held out" if self.held_out else "not held out"
        lines = [
            f"labels of {self.units} units of {printable(self.layer)} on {self.count} images of "
            f"{printable(self.images)}, {where}; presence by {self.presence}"
        ]
        for source in self.sources:
            scores = {name: self.values(source, name) for name in self.short}
            known = {name: each[np.isfinite(each)] for name, each in scores.items()}
            means = [
                f"{title(name)}: {each.mean():.3f}" for name, each in known.items() if each.size
            ]
            units = max(each.size for each in known.values())
            lines.append(f"{printable(source)} ({units} units) {'; '.join(means) or 'unknown'}")
        return "\n  ".join((*lines, *(f"note: {printable(note)}" for note in self.notes)))

    def mean(self, source: str, measure: str) -> Bounds | None:
        """Mean of a source by a measure over the units that can be judged, with its interval."""
        (found,) = bootstraps(self.values(source, measure)[:, None])
        return found


def summary(judgement: Judgement) -> dict[str, dict[str, Line]]:
    """Every source's line by every measure, each paired with every other source."""
    sources, lines = judgement.sources, dict[str, dict[str, Line]]()
    for measure in judgement.measures:
        each = [judgement.values(source, measure) for source in sources]
        pairs = list(combinations(range(len(sources)), 2))
        gaps = [each[first] - each[second] for first, second in pairs]
        means = bootstraps(np.stack([*each, *gaps], axis=1))
        against: dict[int, dict[str, Bounds]] = {index: {} for index in range(len(sources))}
        for (first, second), gap in zip(pairs, means[len(sources) :], strict=True):
            if gap is not None:
                against[first][sources[second]] = gap
                against[second][sources[first]] = Bounds(-gap.mean, -gap.high, -gap.low)
        for index, source in enumerate(sources):
            known = int(np.isfinite(each[index]).sum())
            lines.setdefault(source, {})[measure] = Line(means[index], known, against[index])
    return lines
