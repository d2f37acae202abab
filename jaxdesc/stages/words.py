"""Words: the features of all that the metrics compare, and the metrics' ceilings."""

from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np

from jaxdesc.errors import InputError
from jaxdesc.evaluation import metrics
from jaxdesc.models.sentence import SentenceEncoder
from jaxdesc.stages.run import Run
from jaxdesc.store import Artifact, Draft


def score_words(run: Run) -> Artifact:
    """Encode what the metrics compare, each distinct text once, and find the ceilings.

    Arrays: one [W, d] an encoder, for `values["words"]`, and one ceiling [N] a metric.
    """
    sentence: Any = run.inputs.sentence
    encoders: dict[str, Any] = {"clip": run.inputs.scorer.encode_texts}
    if sentence is not None:
        encoders["sentence"] = sentence
    vocabulary = run.inputs.vocabulary.concepts
    words = metrics.distinct_words([vocabulary, *run.names])
    inputs = {
        "scorer": run.inputs.scorer.fingerprint,
        # What a nameless function computes is unknown, so its words are encoded anew.
        "sentence": sentence and getattr(sentence, "fingerprint", uuid4().hex),
        "vocabulary": vocabulary,
        "names": run.names,
    }

    def compute(draft: Draft) -> None:
        for key, encoder in encoders.items():
            with run.bar(len(words), f"words {key}", "text", delay=1) as bar:
                own = key == "clip" or isinstance(encoder, SentenceEncoder)
                shown = partial(encoder, progress=bar.update) if own else encoder
                draft.write(key, _word_features(key, shown, words))
        known = {key: metrics.known(words, draft.read(key)) for key in encoders}
        try:
            best = metrics.ceilings(vocabulary, run.names, known)
        except ValueError as error:  # features that are no unit vectors
            raise InputError(str(error)) from error
        for name, values in best.values.items():
            draft.write(f"ceiling_{name}", values)
        draft.values |= {"words": words, "encoders": list(encoders), "metrics": list(best.values)}

    return run.stage("words", inputs, compute)


def _word_features(key: str, encoder: metrics.Encoder, words: list[str]) -> np.ndarray:
    features = np.asarray(encoder(words), np.float32)
    if features.ndim != 2 or len(features) != len(words):
        raise InputError(
            f"The {key} encoder returned shape {features.shape} for {len(words)} texts: expected "
            "one row of features for each."
        )
    return features
