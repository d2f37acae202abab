import json

import numpy as np
import pytest

from jaxdesc.errors import InputError
from jaxdesc.models import texts
from jaxdesc.vocabulary.vocabulary import load_vocabulary
from tests.random_networks import CLIP_TOKENIZER
from tests.reference import tokens as reference

LONGEST, PADDING = 77, 9
MADE_UP = [
    *(f"{a} {b}{c}" for a in ("big", "O'Hara's", "B-52", "1,000 km") for b in "xyz" for c in "éß1"),
    "'s Gravenhage",
    "café au lait",
    "CAFÉ  au\tlait",
    "hors d'oeuvre",
    "\N{KELVIN SIGN}elvin",
    "\u4e16\u754c",
    "3.14 + #5!",
]


@pytest.fixture(scope="module")
def concepts():
    """WordNet's; where it is not at hand, made-up ones alone."""
    try:
        return [*load_vocabulary("wordnet").concepts, *MADE_UP]
    except InputError:
        return MADE_UP


@pytest.fixture(scope="module")
def tokenizer():
    """CLIP's own, where it lies beside the repository; else the embedded world's."""
    from transformers import CLIPTokenizer

    from jaxdesc.scenes.clip import build_tokenizer

    own = CLIP_TOKENIZER.is_dir()
    return CLIPTokenizer.from_pretrained(CLIP_TOKENIZER) if own else build_tokenizer()


class Network:
    """Features of a row's own tokens, and a note of every batch."""

    def __init__(self):
        self.shapes = []

    def __call__(self, ids, lengths):
        self.shapes.append(ids.shape)
        own = np.arange(ids.shape[1]) < lengths[:, None]
        assert own[:, 0].all()
        assert (ids[~own] == PADDING).all()
        weights = np.sin(np.arange(1, ids.shape[1] + 1))
        rows = (np.sin(ids[..., None] * [1.0, 2.0, 3.0]) * weights[:, None] * own[..., None]).sum(1)
        # Different in each row and batch, by less than a distance between texts.
        return (rows + 1e-9 * len(self.shapes)).astype(np.float32)

    @property
    def cells(self):
        return sum(rows * width for rows, width in self.shapes)


def random_tokens(rng, count, mean=8.5, fewest=3, most=LONGEST):
    lengths = np.clip(rng.poisson(mean, count), fewest, most)
    return [tuple(rng.integers(10, 40000, length).tolist()) for length in lengths]


def alone(tokens):
    return np.concatenate([Network()(np.array([own]), np.array([len(own)])) for own in tokens])


def encode(tokens, network, **options):
    return texts.TextBatches(tokens, network, longest=LONGEST, padding=PADDING).encode(**options)


def test_features_stand_in_their_texts_order(rng):
    tokens = random_tokens(rng, 3000, 20)
    tokens = [tokens[i] for i in rng.integers(len(tokens), size=4000)]
    np.testing.assert_allclose(encode(tokens, Network()), alone(tokens), atol=1e-5)


def test_equal_tokens_are_encoded_once_and_have_equal_bits(rng):
    distinct = random_tokens(rng, 700)
    tokens = [distinct[i] for i in rng.integers(len(distinct), size=5000)]
    network, once = Network(), Network()
    found = encode(tokens, network)
    encode(sorted(set(tokens), key=tokens.index), once)
    assert network.shapes == once.shapes
    rows = {}
    for own, row in zip(tokens, found, strict=True):
        assert rows.setdefault(own, row.tobytes()) == row.tobytes()
    assert len(set(rows.values())) == len(rows)


def test_batches_in_any_order(rng):
    tokens = random_tokens(rng, 2000)
    tokens += tokens[:100]
    batches = texts.TextBatches(tokens, Network(), longest=LONGEST, padding=PADDING)
    found = {number: batches.compute(number) for number in reversed(range(len(batches)))}
    assert len(batches) > 3
    together = batches.features(found[number] for number in range(len(batches)))
    np.testing.assert_allclose(together, encode(tokens, Network()), atol=1e-6)


def test_few_shapes_and_little_padding(rng):
    """Lengths as WordNet's prompts have them, and one text that is much longer."""
    tokens = [*random_tokens(rng, 30_000, 1.5, most=12), *random_tokens(rng, 1, 60, fewest=60)]
    tokens = [(1, 2, 3, 4, 5, 6, *own) for own in tokens]
    network = Network()
    encode(tokens, network)
    assert network.cells < 1.15 * sum(map(len, set(tokens)))
    assert len(set(network.shapes)) <= 9
    # The same programs serve a vocabulary of the same kind, but for the last batch.
    other = Network()
    encode([own[1:] + own[:1] for own in tokens[3000:]], other)
    assert len(set(other.shapes) - set(network.shapes)) <= 1


@pytest.mark.parametrize(("count", "rows"), [(1, 8), (3, 8), (9, 32), (100, 128), (129, 512)])
def test_a_few_texts_cost_a_small_batch(rng, count, rows):
    network = Network()
    encode(random_tokens(rng, count, fewest=7, most=8), network)
    assert network.shapes == [(rows, 8)]


def test_the_last_batch_is_never_padding_alone(rng):
    for length in (3, 7, 8, 40, LONGEST):
        full = texts.TOKENS_AT_ONCE // texts._shape(10**6, length, LONGEST)[1]
        tokens = [tuple(rng.integers(10, 40000, length).tolist()) for _ in range(2 * full)]
        network = Network()
        encode(tokens, network)
        assert [rows for rows, _ in network.shapes] == [full, full]


def test_progress_counts_every_text(rng):
    tokens = random_tokens(rng, 900)
    seen = []
    encode(tokens * 2, Network(), progress=seen.append)
    assert sum(seen) == 1800
    assert len(seen) > 2


def test_what_is_no_list_of_texts_is_an_error(tokenizer):
    for wrong, message in (
        ([], r"^There is no text to encode: give at least one\.$"),
        ("a cat", r"^The texts to encode are 'a cat': give a list of strings\.$"),
        (["a", "", "b", " \t"], r"^2 of 4 texts to encode are blank \(the first is number 2\): re"),
    ):
        with pytest.raises(InputError, match=message):
            texts.tokenize(tokenizer, wrong)


def test_tokens_equal_hugging_face_s(concepts, tokenizer):
    """On all of WordNet: padded to the longest, ours are what it returns."""
    prompts = [f"A photo of a {concept}" for concept in concepts]
    wanted = tokenizer(
        prompts, padding="max_length", max_length=LONGEST, return_attention_mask=False
    )["input_ids"]
    for own, theirs in zip(texts.tokenize(tokenizer, prompts), wanted, strict=True):
        assert [*own, *[tokenizer.eos_token_id] * (LONGEST - len(own))] == theirs


def test_tokens_equal_openai_s(concepts, tokenizer):
    """On a sample: byte-pair encoding as OpenAI's own tokenizer defines it."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    ranks = {tuple(pair): place for place, pair in enumerate(model["merges"])}
    ids = reference.vocabulary(ranks) if CLIP_TOKENIZER.is_dir() else tokenizer.get_vocab()
    assert ids == tokenizer.get_vocab()
    sample = [f"A photo of a {concept}" for concept in concepts[::20] + MADE_UP]
    for text, own in zip(sample, texts.tokenize(tokenizer, sample), strict=True):
        assert list(own) == reference.tokenize(text, ranks, ids), text
