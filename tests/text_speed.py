"""How much faster texts are encoded than padded to the longest: python -m tests.text_speed

A CLIP ViT-B/32 text tower of random weights reads "A photo of a {noun}" for a random sample of
WordNet's nouns in the library's batches, and the first of them padded to 77 tokens, where each text
costs the same: texts a second, the median ratio of alternating runs, how far the features differ,
and how much of the work is padding on all of the nouns.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

import jaxdesc as jd
from jaxdesc.models import encoder, texts
from jaxdesc.vocabulary.vocabulary import load_vocabulary, prompts
from tests.random_networks import write_clip


def padded(clip, sample):
    """Features of texts that are all padded to the most tokens, in full batches."""
    ids = clip.tokenizer(sample, padding="max_length", max_length=clip.length)["input_ids"]
    ids, rows = np.array(ids, np.int32), texts.TOKENS_AT_ONCE // clip.length
    return np.concatenate(
        [
            np.asarray(encoder._texts(clip.texts, clip.params, ids[start : start + rows]))
            for start in range(0, len(ids), rows)
        ]
    )


def seconds(function, *arguments):
    """How long a call takes."""
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def work(clip, every):
    """Shapes that all the nouns are encoded in, and padded tokens for each real one."""
    tokens, shapes = texts.tokenize(clip.tokenizer, every), []

    def compute(ids, lengths):
        shapes.append(ids.shape)
        return np.zeros((len(ids), 1), np.float32)

    texts.TextBatches(tokens, compute, longest=clip.length, padding=0).encode()
    cells = sum(rows * width for rows, width in shapes)
    return sorted(set(shapes)), cells / sum(map(len, tokens))


def main():
    """Print the ratio, the difference and the shapes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--padded-batches", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_clip(Path(folder))
        clip = jd.load_clip(folder)
    every = prompts(load_vocabulary("wordnet"))
    shapes, padding = work(clip, every)
    print(f"{len(every)} prompts: {len(shapes)} shapes {shapes}, {padding:.3f} tokens for each own")
    chosen = np.random.default_rng(0).choice(len(every), arguments.texts, replace=False)
    sample = [every[i] for i in chosen]
    few = sample[: arguments.padded_batches * (texts.TOKENS_AT_ONCE // clip.length)]
    print(f"{len(sample)} prompts in {seconds(clip.encode_texts, sample):.1f} s with compiling")
    difference = np.abs(clip.encode_texts(few) - padded(clip, few)).max()
    print(f"largest difference of a component, of {len(few)}: {difference:.1e}")
    speeds = [
        (
            len(sample) / seconds(clip.encode_texts, sample),
            len(few) / seconds(padded, clip, few),
        )
        for _ in range(arguments.repeats)
    ]
    ours, theirs = (median(each) for each in zip(*speeds, strict=True))
    ratio = median(fast / slow for fast, slow in speeds)
    print(f"{ours:.1f} texts a second, {theirs:.1f} padded to {clip.length}: {ratio:.2f} times")


if __name__ == "__main__":
    main()
