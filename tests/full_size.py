"""A whole run at full size, in which everything is real except the weights.

    python -m tests.full_size --photos=PHOTOS --workdir=out/full_size [--broden=label.csv]

Writes ResNet-50, CLIP ViT-B/32 and ViT-B/16 with random weights in their published formats (with
CLIP's own tokenizer where it lies beside the repository), and then, with WordNet's vocabulary:

- `fc`: the paper's tables, its 1,000 class neurons by both methods on every vocabulary;
- `layer4`: its 2,048 neurons;
- `own`: the neurons of a Flax network of one's own, through `jd.Target`;
- `bare`: the columns of a matrix, through `jd.describe_activations`.

Each leaves its `concepts.csv`, the first its metrics and tables too. What is printed of the
concepts means nothing; times and memory do.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from PIL import Image

import jaxdesc as jd
from jaxdesc.config import VocabularyConfig
from jaxdesc.images.preprocess import PRESETS
from jaxdesc.runtime import memory
from jaxdesc.vocabulary.vocabulary import base_template, load_vocabulary, prompts
from tests.random_networks import write_all

ROOT = Path(__file__).parents[1]


class Own(nnx.Module):
    """A network that is not a ResNet: two convolutions and a linear layer."""

    def __init__(self, rngs):
        self.first = nnx.Conv(3, 32, (7, 7), strides=(4, 4), rngs=rngs)
        self.second = nnx.Conv(32, 64, (5, 5), strides=(4, 4), rngs=rngs)
        self.classify = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, pixels, tap):
        maps = tap("second", jax.nn.relu(self.second(jax.nn.relu(self.first(pixels)))))
        return self.classify(maps.mean(axis=(1, 2)))


def own_target():
    graph, params = nnx.split(Own(nnx.Rngs(0)))
    return jd.Target(
        params=params,
        apply=lambda params, pixels, tap: nnx.merge(graph, params)(pixels, tap),
        preprocess=PRESETS["inception"],
        name="own",
    )


def paper_tables(workdir, photos, networks, vocabularies, sentence):
    """The launch scripts, as a user types them."""
    flags = {
        "config": "configs/paper.py",
        "config.images.source": f"folder:{photos}",
        "config.target.source": networks / "resnet50",
        "config.clip.source": networks / "clip-vit-b32",
        "config.evaluation.scorer": networks / "clip-vit-b16",
        "config.evaluation.sentence": sentence,
        "config.ablation.vocabularies": vocabularies,
    }
    given = [f"--{key}={value}" for key, value in flags.items()]
    for command in (["launch.describe", *given], ["launch.tables"]):
        command += [f"--workdir={workdir / 'fc'}"]
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True)


def bare_activations(clip, photos):
    """Neurons that are no network's: mean colours of the photos."""
    images = [Image.open(path).convert("RGB") for path in sorted(photos.rglob("*.JPEG"))]
    views = np.stack([clip.preprocess.cut(image, (0.5, 0.5))[0] for image in images])
    parts = [clip.encode_views(views[start : start + 20]) for start in range(0, len(views), 20)]
    concepts = load_vocabulary("imagenet")
    return jd.describe_activations(
        views.mean(axis=(1, 2)),
        np.concatenate(parts),
        clip.encode_texts(prompts(concepts)),
        clip.encode_texts([base_template()])[0],
        concepts.concepts,
    )


def timed(folder, describe):
    """Describe, write the result into a folder and print what it took."""
    began = time.perf_counter()
    result = describe()
    result.to_csv(folder / "concepts.csv")
    result.to_json(folder / "concepts.jsonl")
    stages = ", ".join(
        f"{stage} {seconds:.1f} s {result.memory[stage] / 2**30:.2f} GiB"
        for stage, seconds in result.seconds.items()
    )
    named = sum(bool(neuron.concepts) for neuron in result)
    took = f"{time.perf_counter() - began:.1f} s ({stages})"
    print(f"{len(result)} neurons, {named} with concepts; {took}, in {folder}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--broden", help="Broden's label.csv, or a text file of its labels")
    parser.add_argument(
        "--sentence", default="", help="a sentence encoder, such as MiniLM's folder"
    )
    given = parser.parse_args()
    photos, workdir = given.photos.resolve(), given.workdir.resolve()
    networks = workdir / "networks"
    if not (networks / "clip-vit-b16").exists():
        write_all(networks)
    broden = [f"broden:{Path(given.broden).resolve()}"] if given.broden else []
    paper_tables(workdir, photos, networks, ("imagenet", *broden, "wordnet"), given.sentence)

    clip = jd.load_clip(str(networks / "clip-vit-b32"))
    options = {
        "images": f"folder:{photos}",
        "concepts": "wordnet",
        "workdir": workdir / "fc",
        "config": jd.Config(vocabulary=VocabularyConfig(compat="www")),
    }
    resnet, small = jd.load_target(str(networks / "resnet50")), own_target()
    timed(workdir / "layer4", lambda: jd.describe(resnet, clip, layer="layer4", **options))
    timed(workdir / "own", lambda: jd.describe(small, clip, layer="second", **options))
    timed(workdir / "bare", lambda: bare_activations(clip, photos))
    print(f"most memory of this process: {memory.peak() / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
