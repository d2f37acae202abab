"""Labels of a real network's units, judged on real photos by what their labels say.

EfficientNet-Lite0's logits and channels get labels by every method, in the space of Lite2's classes
(`real_names`). A photo shows a concept if that is a name of its class, or of one of its WordNet
hypernyms. With a photo per class a name can only be judged by hypernyms on photos that were kept
aside; on the photos that chose the labels, which favours them, also by the class itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from jaxdesc.config import Config
from jaxdesc.evaluation.judging.judgement import Judgement
from jaxdesc.evaluation.judging.presence import LABELS
from jaxdesc.evaluation.judging.scores import BEST
from jaxdesc.evaluation.methods import METHODS
from jaxdesc.evidence.real_names import BATCH, FIELD, Classifier, kinds, namer
from jaxdesc.evidence.table import Cell, Table
from jaxdesc.images.example import Source
from jaxdesc.images.split import side_of
from jaxdesc.models.target import LOGITS
from jaxdesc.pipeline.judging import RUN, Judging, judge
from jaxdesc.stages.run import Inputs, Run
from jaxdesc.store import Store

ASIDE, SAME = "kept aside", "the same"
SPLIT = 0.5
MEASURES = ("correlation", "cosine", "auprc@0.05", "f1@0.05", "iou@0.05")
ABLATED, EACH = 100, 8  # channels that are zeroed, and photos with and without a concept of each
EXEMPLARS = 4


def tables(
    store: Store,
    source: Source,
    classifiers: Mapping[str, Classifier],
    methods: Sequence[str] = tuple(METHODS),
) -> tuple[Table]:
    """Return "photo judges": each source's means by layer and judging photos, with intervals.

    "Right" is the share of logits whose label is a name of the class or of a hypernym.
    """
    (name, classifier), (_, other) = classifiers.items()
    encoder, vocabulary = namer(other)
    target = classifier.target
    rows: list[tuple[Cell, ...]] = []
    for title, layer in (("logits", LOGITS), ("channels", classifier.layer)):
        for where in (ASIDE, SAME):
            config = Config()
            config = replace(
                config,
                target=replace(config.target, source=target.name, layer=layer),
                images=replace(
                    config.images,
                    source=source.spec,
                    batch=BATCH,
                    split=SPLIT * (where == ASIDE),
                ),
                clip=replace(config.clip, source=encoder.name, batch=BATCH),
                crop=replace(config.crop, field=FIELD),
                score=replace(config.score, exemplars=EXEMPLARS, fewest=1),
            )
            images = side_of(source, config.images)
            inputs = Inputs(target, encoder, images, vocabulary, encoder)
            wanted = tuple(m for m in methods if METHODS[m].fewest <= len(images))
            options = Judging(
                same=where == SAME,
                presence=LABELS,
                methods=wanted,
                ablate=ABLATED * (layer != LOGITS),
                each=EACH,
            )
            with store.held():
                found = judge(Run(config, inputs, store, quiet=True), {}, options)
            right = kinds(target) if layer == LOGITS else None
            rows += [(name, title, where, *row) for row in _rows(found, right)]
    columns = ("network", "layer", "photos", "labels", "labelled", "judged", "right", *MEASURES)
    return (Table("photo judges", (*columns, "ablation_gap"), tuple(rows)),)


def _rows(found: Judgement, right: Sequence[Mapping[str, None]] | None) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for source in found.sources:
        if source == RUN:  # that of t-vMF
            continue
        labels = found.labels.get(source, {})
        share: float | None = None
        if right is not None and labels:
            share = float(np.mean([each.concepts[0] in right[k] for k, each in labels.items()]))
        units = int(np.isfinite(found.values(source, MEASURES[0])).sum())
        means = [
            found.mean(source, name) if name in found.measures else None
            for name in (*MEASURES, "ablation_gap")
        ]
        labelled = len(labels) if source != BEST else units
        rows.append((source, labelled, units, share, *means))
    return rows
