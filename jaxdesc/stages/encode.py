"""Encode: CLIP's features of the concepts."""

from collections.abc import Mapping
from functools import cache

from jaxdesc.models.texts import TextBatches
from jaxdesc.stages.run import Run
from jaxdesc.stages.texts import compute_batches, write_features
from jaxdesc.store import Artifact, Draft
from jaxdesc.vocabulary.vocabulary import base_template, prompts


def encode(run: Run) -> Artifact:
    """Encode the concepts' prompts and the base template. Arrays: features [T, d], base [d]."""
    clip = run.inputs.clip
    texts = prompts(run.inputs.vocabulary, run.config.vocabulary.template)
    base = base_template(run.config.vocabulary.template)
    inputs = {"clip": clip.fingerprint, "texts": texts, "base": base}

    @cache
    def batches() -> dict[str, TextBatches]:
        return {"features": clip.text_batches(texts)}

    def compute(drafts: Mapping[str, Draft]) -> None:
        with run.bar(len(texts), "encode", "text", delay=1) as bar:
            compute_batches(drafts["encode"], batches(), bar.update)

    def finish(draft: Draft) -> None:
        write_features(draft, batches())
        draft.write("base", clip.encode_texts([base])[0])

    return run.stages("encode", {"encode": inputs}, compute, finish)["encode"]
