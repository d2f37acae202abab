"""Embed: CLIP's features of the exemplars, and of all images where methods are compared."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from jaxtyping import Int32

from jaxdesc.images.example import Example
from jaxdesc.images.views import cut_view
from jaxdesc.stages.features import encoded, whole_image
from jaxdesc.stages.run import Run
from jaxdesc.stages.select import chosen
from jaxdesc.store import Artifact, Draft, Shards


def embed(run: Run, activated: Artifact, selected: Artifact) -> Artifact:
    """Encode the distinct exemplar views with CLIP, each once.

    Arrays: images [U] (indices, ascending), features [U, d]; `values["names"]` are the images'.
    """
    images, _ = chosen(selected).slots.distinct()

    def finish(draft: Draft) -> None:
        draft.write("images", images)
        # Kept, since a TFDS set has to read a record to name its image.
        draft.values["names"] = [run.inputs.source.identify(i) for i in images.tolist()]

    return _embed(run, activated, images, {"select": selected.name}, finish)


def embed_all(run: Run, activated: Artifact) -> Artifact:
    """Encode the views of all images that can be used. Arrays: those of `embed`."""
    images = np.flatnonzero(~activated.read("skipped")).astype(np.int32)

    def finish(draft: Draft) -> None:
        draft.write("images", images)

    return _embed(run, activated, images, {"activate": activated.name}, finish)


def _embed(
    run: Run,
    activated: Artifact,
    images: Int32[np.ndarray, "image"],
    known_by: Mapping[str, str],
    finish: Callable[[Draft], None],
) -> Artifact:
    clip, config = run.inputs.clip, run.config
    # WWW, whose views are the centre ones, shows CLIP whole images.
    by_method = config.clip.input == "method" and config.crop.view == "centre"
    sees_image = config.clip.input == "image" or by_method
    shards = Shards(len(images), config.clip.batch)
    inputs = {
        **known_by,
        "clip": clip.fingerprint,
        "input": "image" if sees_image else "view",
        "batch": shards.each,
    }

    def compute(drafts: Mapping[str, Draft]) -> None:
        draft = drafts["embed"]
        missing = draft.missing(len(shards))
        wanted = [int(images[row]) for shard in missing for row in shards.rows(shard)]
        if not wanted:
            return
        centres = activated.read("centres")

        def cut(index: int, example: Example) -> np.ndarray:
            y, x = centres[index]
            return cut_view(clip.preprocess, config.crop, example.image, (y, x))[0]

        prepare = partial(whole_image, clip) if sees_image else cut
        each = iter(missing)
        with run.bar(len(wanted), "embed") as bar:
            for features in encoded(clip, run.inputs.source, wanted, prepare, shards.each):
                for start in range(0, len(features), shards.each):
                    part = features[start : start + shards.each]
                    draft.commit(next(each), {"features": part}, shards)
                    bar.update(len(part))

    return run.stages("embed", {"embed": inputs}, compute, finish)["embed"]
