import numpy as np
import pytest

from jaxdesc.errors import InputError
from jaxdesc.models import texts
from jaxdesc.vocabulary.vocabulary import load_vocabulary
from tests.random_networks import CLIP_TOKENIZER

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
    """Made-up names, and every twentieth of WordNet's nouns if they are available."""
    try:
        return [*load_vocabulary("wordnet").concepts[::20], *MADE_UP]
    except InputError:
        return MADE_UP


@pytest.fixture(scope="module")
def tokenizer():
    """CLIP's, if it is next to the repository; else the embedded world's."""
    from transformers import CLIPTokenizer

    from jaxdesc.scenes.clip import build_tokenizer

    published = CLIP_TOKENIZER.is_dir()
    return CLIPTokenizer.from_pretrained(CLIP_TOKENIZER) if published else build_tokenizer()


class Network:
    """Features of a row's tokens, and the shape of every batch."""

    def __init__(self):
        self.shapes = []

    def __call__(self, ids, lengths):
        self.shapes.append(ids.shape)
        real = np.arange(ids.shape[1]) < lengths[:, None]
        assert real[:, 0].all()
        assert (ids[~real] == PADDING).all()
        weights = np.sin(np.arange(1, ids.shape[1] + 1))
        waves = np.sin(ids[..., None] * [1.0, 2.0, 3.0])
        rows = (waves * weights[:, None] * real[..., None]).sum(1)
        # Different in each row and batch, by less than a distance between texts.
        return (rows + 1e-9 * len(self.shapes)).astype(np.float32)

    @property
    def cells(self):
        return sum(rows * width for rows, width in self.shapes)


def random_tokens(rng, count, mean=8.5, fewest=3, most=LONGEST):
    lengths = np.clip(rng.poisson(mean, count), fewest, most)
    return [tuple(rng.integers(10, 40000, length).tolist()) for length in lengths]


def encode(tokens, network, **options):
    return texts.TextBatches(tokens, network, longest=LONGEST, padding=PADDING).encode(**options)


def test_features_are_in_the_order_of_their_texts(rng):
    distinct = random_tokens(rng, 1000, 20)
    tokens = [distinct[i] for i in rng.integers(len(distinct), size=2000)]
    rows = [Network()(np.array([ids]), np.array([len(ids)])) for ids in tokens]
    network, seen = Network(), []
    features = encode(tokens, network, progress=seen.append)
    assert (sum(seen), len(seen) > 2) == (2000, True)
    np.testing.assert_allclose(features, np.concatenate(rows), atol=1e-5)
    # Equal tokens are encoded once and have equal bits.
    once = Network()
    encode(list(dict.fromkeys(tokens)), once)
    assert network.shapes == once.shapes
    assert len({row.tobytes() for row in features}) == len(set(tokens))


def test_batches_in_any_order(rng):
    tokens = random_tokens(rng, 2000)
    tokens += tokens[:100]
    batches = texts.TextBatches(tokens, Network(), longest=LONGEST, padding=PADDING)
    features = {number: batches.compute(number) for number in reversed(range(len(batches)))}
    assert len(batches) > 3
    together = batches.features(features[number] for number in range(len(batches)))
    np.testing.assert_allclose(together, encode(tokens, Network()), atol=1e-6)


def test_few_shapes_and_little_padding(rng):
    """Lengths as WordNet's prompts have them, and one text that is much longer."""
    tokens = [*random_tokens(rng, 8000, 1.5, most=12), *random_tokens(rng, 1, 60, fewest=60)]
    tokens = [(1, 2, 3, 4, 5, 6, *ids) for ids in tokens]
    network = Network()
    encode(tokens, network)
    assert network.cells < 1.25 * sum(map(len, set(tokens)))
    assert len(set(network.shapes)) <= 9
    # A similar vocabulary needs the same programs, except for the last batch.
    other = Network()
    encode([ids[1:] + ids[:1] for ids in tokens[1000:]], other)
    assert len(set(other.shapes) - set(network.shapes)) <= 1


@pytest.mark.parametrize(("count", "rows"), [(1, 8), (9, 32), (129, 512)])
def test_a_few_texts_cost_a_small_batch(rng, count, rows):
    network = Network()
    encode(random_tokens(rng, count, fewest=7, most=8), network)
    assert network.shapes == [(rows, 8)]


def test_what_is_no_list_of_texts_is_an_error(tokenizer):
    for wrong, message in (
        ([], r"^There is no text to encode: give at least one\.$"),
        ("a cat", r"^The texts to encode are 'a cat': give a list of strings\.$"),
        (["a", "", "b", " \t"], r"^2 of 4 texts to encode are blank \(the first is number 2\): re"),
    ):
        with pytest.raises(InputError, match=message):
            texts.tokenize(tokenizer, wrong)


def test_tokens_equal_hugging_face_s(concepts, tokenizer):
    """Padded to the longest as in Hugging Face."""
    prompts = [f"A photo of a {concept}" for concept in concepts]
    padded = tokenizer(prompts, padding="max_length", max_length=LONGEST)["input_ids"]
    for ids, theirs in zip(texts.tokenize(tokenizer, prompts), padded, strict=True):
        assert [*ids, *[tokenizer.eos_token_id] * (LONGEST - len(ids))] == theirs
