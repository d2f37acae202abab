"""Words: the features of all that the metrics compare, and the metrics' ceilings."""

from collections.abc import Mapping
from functools import cache
from typing import Any
from uuid import uuid4

import numpy as np

from jaxdesc.errors import InputError
from jaxdesc.evaluation import metrics
from jaxdesc.models.sentence import SentenceEncoder
from jaxdesc.models.texts import TextBatches
from jaxdesc.stages.run import Run
from jaxdesc.stages.texts import compute_batches, write_features
from jaxdesc.store import Artifact, Draft


def score_words(run: Run) -> Artifact:
    """Encode what the metrics compare, each distinct text once, and find the ceilings.

    Arrays: one [W, d] an encoder, for `values["words"]`, and one ceiling [N] a metric.
    """
    sentence: Any = run.inputs.sentence
    networks: dict[str, Any] = {"clip": run.inputs.scorer}
    functions: dict[str, metrics.Encoder] = {}
    if isinstance(sentence, SentenceEncoder):
        networks["sentence"] = sentence
    elif sentence is not None:
        functions["sentence"] = sentence
    vocabulary = run.inputs.vocabulary.concepts
    words = metrics.distinct_words([vocabulary, *run.names])
    inputs = {
        "scorer": run.inputs.scorer.fingerprint,
        # What a nameless function computes is unknown, so its words are encoded anew.
        "sentence": sentence and getattr(sentence, "fingerprint", uuid4().hex),
        "vocabulary": vocabulary,
        "names": run.names,
    }

    @cache
    def batches() -> dict[str, TextBatches]:
        return {key: network.text_batches(words) for key, network in networks.items()}

    def compute(drafts: Mapping[str, Draft]) -> None:
        with run.bar(len(words) * len(networks), "words", "text", delay=1) as bar:
            compute_batches(drafts["words"], batches(), bar.update)

    def finish(draft: Draft) -> None:
        write_features(draft, batches())
        for key, function in functions.items():
            draft.write(key, _word_features(key, function, words))
        encoders = [*networks, *functions]
        known = {key: metrics.known(words, draft.read(key)) for key in encoders}
        try:
            best = metrics.ceilings(vocabulary, run.names, known)
        except ValueError as error:  # features that are no unit vectors
            raise InputError(str(error)) from error
        for name, values in best.values.items():
            draft.write(f"ceiling_{name}", values)
        draft.values |= {"words": words, "encoders": encoders, "metrics": list(best.values)}

    return run.stages("words", {"words": inputs}, compute, finish)["words"]


def _word_features(key: str, encoder: metrics.Encoder, words: list[str]) -> np.ndarray:
    features = np.asarray(encoder(words), np.float32)
    if features.ndim != 2 or len(features) != len(words):
        raise InputError(
            f"The {key} encoder returned shape {features.shape} for {len(words)} texts: expected "
            "one row of features for each."
        )
    return features
