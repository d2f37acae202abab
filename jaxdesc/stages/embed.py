"""Embed: CLIP's features of the exemplars."""

import numpy as np

from jaxdesc.config import Config
from jaxdesc.images.example import Example
from jaxdesc.images.loader import batches, padded
from jaxdesc.stages.run import Run
from jaxdesc.store import Artifact, Draft
from jaxdesc.views import cut_view


def embed(run: Run, activated: Artifact, selected: Artifact) -> Artifact:
    """Encode the distinct exemplar views with CLIP, each once.

    Arrays: images [U] (indices, ascending), features [U, d]; `values["names"]` are the images'.
    """
    clip, config = run.inputs.clip, run.config
    whole_image = _sees_image(config)
    inputs = {
        "select": selected.name,
        "clip": clip.fingerprint,
        "input": "image" if whole_image else "view",
    }

    def compute(draft: Draft) -> None:
        images = np.unique(selected.read("images"))
        centres = activated.read("centres")
        draft.write("images", images)
        # Kept, since a TFDS set has to read a record to tell its image's name.
        draft.values["names"] = [run.inputs.source.identify(i) for i in images.tolist()]

        def prepare(index: int, example: Example) -> np.ndarray:
            if whole_image:
                return clip.preprocess.cut(example.image, (0.5, 0.5))[0]
            y, x = centres[index]
            return cut_view(clip.preprocess, config.crop, example.image, (y, x))[0]

        views = batches(run.inputs.source, images.tolist(), prepare, config.clip.batch)
        with run.bar(len(images), "embed") as bar:
            start = 0
            for chunk in views:
                pixels = padded(np.stack(chunk), config.clip.batch)
                features = np.asarray(clip.encode_views(pixels))[: len(chunk)]
                draft.write_rows("features", start, features, len(images))
                start += len(chunk)
                bar.update(len(chunk))

    return run.stage("embed", inputs, compute)


def _sees_image(config: Config) -> bool:
    """Whether CLIP sees exemplars as whole images: WWW's way, whose views are the centre ones."""
    by_method = config.clip.input == "method" and config.crop.view == "centre"
    return config.clip.input == "image" or by_method
