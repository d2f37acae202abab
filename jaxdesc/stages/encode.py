"""Encode: CLIP's features of the concepts."""

from jaxdesc.stages.run import Run
from jaxdesc.store import Artifact, Draft
from jaxdesc.vocabulary import base_template, prompts


def encode(run: Run) -> Artifact:
    """Encode the concepts' prompts and the base template. Arrays: features [T, d], base [d]."""
    clip = run.inputs.clip
    texts = prompts(run.inputs.vocabulary, run.config.vocabulary.template)
    base = base_template(run.config.vocabulary.template)
    inputs = {"clip": clip.fingerprint, "texts": texts, "base": base}

    def compute(draft: Draft) -> None:
        with run.bar(len(texts), "encode", "text", delay=1) as bar:
            draft.write("features", clip.encode_texts(texts, bar.update))
        draft.write("base", clip.encode_texts([base])[0])

    return run.stage("encode", inputs, compute)
