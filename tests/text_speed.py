"""Speed of encoding texts, against padding all to the longest: python -m tests.text_speed

A CLIP ViT-B/32 text tower of random weights reads "A photo of a {noun}" for a random sample of
WordNet's nouns in the library's batches, and the first of them padded to 77 tokens, where each text
costs the same: texts per second, the median ratio of alternating runs and how far the features
differ.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

import jaxdesc as jd
from jaxdesc.models import texts
from jaxdesc.vocabulary.vocabulary import load_vocabulary, prompts
from tests.random_networks import write_clip


def padded(clip, sample):
    """Features of texts that are all padded to the most tokens, in full batches."""
    ids = clip.tokenizer(sample, padding="max_length", max_length=clip.length)["input_ids"]
    ids, rows = np.array(ids, np.int32), texts.TOKENS_AT_ONCE // clip.length
    parts = [ids[start : start + rows] for start in range(0, len(ids), rows)]
    return np.concatenate([clip.reading(part, part[:, 0]) for part in parts])


def speed(function, sample):
    """Texts per second of one call."""
    began = time.perf_counter()
    function(sample)
    return len(sample) / (time.perf_counter() - began)


def main():
    """Print the ratio and the difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--padded-batches", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_clip(Path(folder))
        clip = jd.load_clip(folder)
    every = prompts(load_vocabulary("wordnet"))
    chosen = np.random.default_rng(0).choice(len(every), arguments.texts, replace=False)
    sample = [every[i] for i in chosen]
    few = sample[: arguments.padded_batches * (texts.TOKENS_AT_ONCE // clip.length)]
    print(f"{speed(clip.encode_texts, sample):.1f} texts/s with compiling")
    difference = np.abs(clip.encode_texts(few) - padded(clip, few)).max()
    print(f"largest difference of a component, of {len(few)}: {difference:.1e}")
    speeds = [
        (speed(clip.encode_texts, sample), speed(partial(padded, clip), few))
        for _ in range(arguments.repeats)
    ]
    ours, theirs = (median(each) for each in zip(*speeds, strict=True))
    ratio = median(fast / slow for fast, slow in speeds)
    print(f"{ours:.1f} texts/s, {theirs:.1f} padded to {clip.length}: {ratio:.2f} times")


if __name__ == "__main__":
    main()
