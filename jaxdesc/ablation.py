"""Many runs beside each other: every vocabulary, probe set, view and κ that a table asks for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

from jaxdesc.evaluation.metrics import Metrics
from jaxdesc.images.example import Source
from jaxdesc.pipeline import measure
from jaxdesc.stages.run import Run
from jaxdesc.vocabulary.vocabulary import Vocabulary


@dataclass(frozen=True)
class Cell:
    """One cell of an ablation: its vocabulary, probe set, view and κ, and what they reached."""

    vocabulary: str
    probe: str
    view: str
    kappa: float
    metrics: Metrics
    ceilings: Metrics


def ablate(
    run: Run,
    open_probe: Callable[[str], Source],
    open_vocabulary: Callable[[str], Vocabulary],
) -> Iterator[Cell]:
    """Measure the same neurons for everything that `config.ablation` lists.

    Args:
        run: whose config, inputs and store are used; its times are added up in `run.seconds`, and
            the images that can't be used in `run.skipped`.
        open_probe: opens an image source.
        open_vocabulary: opens a vocabulary.

    Yields:
        A cell for each vocabulary, probe set, view and κ, as soon as it is measured; none where the
        config asks for none.

    Raises:
        InputError: neurons without names, which no metric can judge; or as `describe`.
    """
    options = run.config.ablation
    if not (options.views and options.kappas):
        return
    own = run.config.images.source, run.config.vocabulary.source
    for images in options.probes or own[:1]:
        source = run.inputs.source if images == own[0] else open_probe(images)
        for words in options.vocabularies or own[1:]:
            known = run.inputs.vocabulary if words == own[1] else open_vocabulary(words)
            inputs = replace(run.inputs, source=source, vocabulary=known)
            for view, kappa in product(options.views, options.kappas):
                config = replace(
                    run.config,
                    images=replace(run.config.images, source=images),
                    vocabulary=replace(run.config.vocabulary, source=words),
                    crop=replace(run.config.crop, view=view),
                    score=replace(run.config.score, kappa=kappa),
                )
                metrics, ceilings = measure(replace(run, config=config, inputs=inputs))
                yield Cell(words, images, view, kappa, metrics, ceilings)
