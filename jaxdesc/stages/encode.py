"""Encode: CLIP's features of the concepts."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxdesc.config import TEMPLATE, VocabularyConfig
from jaxdesc.errors import check_type
from jaxdesc.models.encoder import Namer
from jaxdesc.models.texts import TextBatches
from jaxdesc.stages.run import Run
from jaxdesc.store import Artifact, Draft
from jaxdesc.vocabulary.vocabulary import base_template, load_vocabulary, prompts


def encode(run: Run) -> Artifact:
    """Encode the concepts' prompts and the base template. Arrays: features [T, d], base [d]."""
    clip = run.inputs.clip
    texts = prompts(run.inputs.vocabulary, run.config.vocabulary.template)
    base = base_template(run.config.vocabulary.template)
    inputs = {"clip": clip.fingerprint, "texts": texts, "base": base}

    def finish(draft: Draft) -> None:
        draft.write("base", clip.encode_texts([base])[0])

    return encode_texts(run, "encode", inputs, texts, {"features": clip}, finish)


def encode_texts(
    run: Run,
    stage: str,
    inputs: Mapping[str, Any],
    texts: Sequence[str],
    networks: Mapping[str, Any],
    finish: Callable[[Draft], None],
) -> Artifact:
    """Encode texts batch by batch, a shard per batch, so that an interrupted run keeps them.

    `networks` are encoders with `text_batches`, by the name of their array of features; `finish`
    adds the rest of the artifact.
    """

    @cache
    def batches() -> dict[str, TextBatches]:
        return {key: network.text_batches(texts) for key, network in networks.items()}

    def shards() -> list[tuple[str, int]]:
        return [(key, number) for key, each in batches().items() for number in range(len(each))]

    def compute(drafts: Mapping[str, Draft]) -> None:
        draft = drafts[stage]
        missing = set(draft.missing(len(shards())))
        with run.bar(len(texts) * len(networks), stage, "text", delay=1) as bar:
            for shard, (key, number) in enumerate(shards()):
                if shard in missing:
                    draft.commit(shard, {f"{key} {number}": batches()[key].compute(number)})
                bar.update(batches()[key].size(number))

    def join(draft: Draft) -> None:
        for key, each in batches().items():
            draft.write(key, each.features(draft.read(f"{key} {n}") for n in range(len(each))))
        for key, number in shards():
            draft.drop(f"{key} {number}")
        finish(draft)

    return run.stages(stage, {stage: inputs}, compute, join)[stage]


def concept_features(
    clip: Namer,
    concepts: str | os.PathLike[str] | Iterable[str],
    *,
    template: str = TEMPLATE,
) -> tuple[list[str], Float32[np.ndarray, "concept width"], Float32[np.ndarray, " width"]]:
    """Encode the prompts of concepts and the base template, for `describe_activations`.

    Args:
        clip: encodes them.
        concepts: any iterable of strings, or `KIND` or `KIND:PATH` with a kind of
            `vocabulary.vocabulary.VOCABULARIES`.
        template: prompt around a concept.

    Returns:
        The concepts, each once; unit features of their prompts; the unit feature of the base
        template, the prompt without a concept.

    Raises:
        InputError: concepts or a template that can't be used.
    """
    check_type(clip, Namer, "clip", "load_namer")
    vocabulary, template = load_vocabulary(concepts), VocabularyConfig(template=template).template
    features = clip.encode_texts(prompts(vocabulary, template))
    (base,) = clip.encode_texts([base_template(template)])
    return list(vocabulary.concepts), features, base
