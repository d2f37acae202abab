"""Random input: a result or one sentence, soon, and within bounded memory."""

import json
import sys
import tracemalloc
from contextlib import contextmanager
from io import BytesIO

import jaxtyping
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

import jaxdesc as jd
from jaxdesc.commands import cli, inputs
from jaxdesc.config import Config
from jaxdesc.images.example import MOST_PIXELS, decode
from jaxdesc.images.sources import open_source
from jaxdesc.models.tensors import read_tensors
from jaxdesc.vocabulary.names import LONGEST
from jaxdesc.vocabulary.vocabulary import load_classes, load_vocabulary
from tests.faults.place import PHOTOS, png

# The same examples each time. A test's own folder and patches serve all of its examples.
FUZZ = settings(
    derandomize=True,
    deadline=60_000,  # ms: against what never ends, not a measure of speed
    database=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def _as_a_user_runs_it(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def check_sentence(message):
    assert 0 < len(message) < 2000
    assert message.isprintable(), ascii(message)
    assert message.rstrip().endswith((".", "?", ")"))


@contextmanager
def right_or_one_sentence():
    """Let the code inside end well, or be refused by one sentence."""
    try:
        yield
    except jd.InputError as error:
        check_sentence(str(error))


# Config.

DEFAULTS = Config().to_dict()
KEYS = [(s, k) for s, group in DEFAULTS.items() if isinstance(group, dict) for k in group]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([31, 63, 2000, 20_000]).map(lambda bits: -(2**bits))
    | st.floats()
    | st.text()
    | st.sampled_from(["centre", "www", "a {concept}", "\ud800", "x" * 5000, "\x1b[2J"])
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.text(max_size=5)
GROUPS = st.dictionaries(
    st.sampled_from([*DEFAULTS, "scores", "\x1b"]) | NAMES,
    VALUES | st.dictionaries(st.sampled_from([k for _, k in KEYS]) | NAMES | st.integers(), VALUES),
    max_size=3,
)
SETTINGS = st.builds(lambda key, value: {key[0]: {key[1]: value}}, st.sampled_from(KEYS), VALUES)


@FUZZ
@example({"\n": None})
@example({"score": {"kappa": 10**400}})
@given(VALUES | GROUPS | SETTINGS)
def test_any_config(values):
    with right_or_one_sentence():
        config = Config.from_dict(values)
        text = json.dumps(config.to_dict(), allow_nan=False)
        assert Config.from_dict(json.loads(text)) == config


FLAGS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8)


@FUZZ
@given(
    st.sampled_from([f".{s}.{k}" for s, k in KEYS] + [".score", ".scores.kappa", ""]) | FLAGS,
    FLAGS | st.sampled_from(["-1", "nan", "1e400", "(1,", "('a',)", "[[", "__import__('os')"]),
)
def test_any_override(monkeypatch, capsys, key, value):
    """Given as a flag: read, or exit code 2 and one line."""
    read = []
    monkeypatch.setattr(inputs, "open_run", lambda: read.append(inputs.read_config()) or sys.exit())
    with pytest.raises(SystemExit) as ended:
        cli.main(["describe", PHOTOS, f"--config{key}={value}"])
    printed = capsys.readouterr()
    if read:
        assert not ended.value.code
    else:
        assert (ended.value.code, printed.out, printed.err.count("\n")) == (2, "", 1), printed
        check_sentence(printed.err.removesuffix("\n"))


# Vocabularies.

LINES = st.lists(
    st.binary(max_size=20)
    | st.text(max_size=10).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.sampled_from([b"", b"number,name,", b'1,"a', b"a-s", b"x" * 2000, b"\xef\xbb\xbf", b"\r"]),
    max_size=6,
).map(b"\n".join)


@FUZZ
@given(LINES, st.sampled_from(["file", "broden"]), st.sampled_from([None, "www"]))
def test_any_vocabulary(tmp_path, content, form, compat):
    file = tmp_path / "words.txt"
    file.write_bytes(content)
    with right_or_one_sentence():
        concepts = load_vocabulary(f"{form}:{file}", compat).concepts
        assert concepts
        for concept in concepts:
            assert concept == concept.strip() != ""
            assert len(concept) <= LONGEST
            assert "\x1b" not in concept.encode().decode()
        assert compat or len({c.lower() for c in concepts}) == len(concepts)
    with right_or_one_sentence():
        load_classes(f"file:{file}")


@FUZZ
@given(st.text(max_size=30) | st.builds("{}:{}".format, st.sampled_from(
    ["file", "broden", "folder", "scenes", "tfds", "hf"]), st.text(max_size=20)))  # fmt: skip
def test_any_source_or_vocabulary_by_name(monkeypatch, tmp_path, spec):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    for load in (load_vocabulary, load_classes, open_source):
        with right_or_one_sentence():
            load(spec)
    assert not list(tmp_path.iterdir())


# Images.

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


DEEP = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
# One small picture in each format and mode that photos come in.
WHOLE = {}
for kind, modes in {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("P",),
    "BMP": ("RGB",),
}.items():
    for mode in modes:
        (DEEP if mode == "I;16" else PICTURE.convert(mode)).save(file := BytesIO(), kind)
        WHOLE[f"{kind} {mode}"] = file.getvalue()
CHANGES = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=6)


@FUZZ
@given(
    st.sampled_from(sorted(WHOLE)),
    CHANGES,
    st.floats(0, 2) | st.just(0),
    st.binary(max_size=100),
    st.sampled_from(["photo.jpg", "photo.png", "photo.webp"]),
)
def test_any_image(tmp_path, kind, changes, share, tail, name):
    """Damaged anywhere, cut to nothing or padded: a picture or the reason why there is none."""
    content = bytearray(WHOLE[kind])
    for place, byte in changes:
        content[place % len(content)] = byte
    (tmp_path / name).write_bytes(bytes(content[: int(share * len(content))]) + tail)
    with right_or_one_sentence():
        image = open_source(f"folder:{tmp_path}")[0].image
        assert image.mode == "RGB"
        assert image.width * image.height <= MOST_PIXELS
    (tmp_path / name).unlink()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@FUZZ
@example(13_000, 13_000, 8, 2, b"")  # below the limit
@given(
    st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.sampled_from([1, 8, 16]),
    st.sampled_from([0, 2, 3, 4, 6]), st.binary(max_size=50),
)  # fmt: skip
def test_any_declared_size_is_paid_for_only_below_the_limit(width, height, bits, colour, rows):
    """A few bytes can claim exabytes: what is too large is refused before it is made room for.

    Pillow's own memory is not traced; nothing of Python's next to it grows.
    """
    tracemalloc.start()
    try:
        with right_or_one_sentence():
            decode(BytesIO(png(width, height, rows, bits=bits, colour=colour)), "'x'")
            assert width * height <= MOST_PIXELS
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_pictures_of_every_mode_are_right():
    """Undamaged, all show the same picture, but for what a mode cannot hold."""
    for kind, content in WHOLE.items():
        form, mode = kind.split()
        found = np.asarray(decode(BytesIO(content), kind), int)
        if mode == "I;16":
            wanted = np.repeat(PIXELS[..., :1], 3, axis=2)
        else:
            plain = PICTURE.convert("L" if mode == "LA" else mode)
            wanted = np.asarray(plain.convert("RGB"), int)
        tolerance = 0 if form in ("PNG", "GIF", "BMP") else 60
        assert np.abs(found - wanted).mean() <= tolerance, kind
        assert found.shape == (9, 12, 3)


# Weights.

TENSORS = st.dictionaries(
    st.text(max_size=4),
    st.fixed_dictionaries({
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "F8_E5M2", "C64", "X"]),
        "shape": st.lists(st.integers(-1, 2**62), max_size=3),
        "data_offsets": st.lists(st.integers(0, 2**62), min_size=2, max_size=2),
    }),
    max_size=3,
)  # fmt: skip


@FUZZ
@given(
    st.binary(max_size=60)
    | st.builds(
        lambda header, body: len(header).to_bytes(8, "little") + header + body,
        TENSORS.map(lambda tensors: json.dumps(tensors).encode()) | st.binary(max_size=40),
        st.binary(max_size=40),
    ),
    st.sampled_from(["model.safetensors", "flax_model.msgpack", "model.safetensors.index.json"]),
)
def test_any_weights(tmp_path, content, name):
    file = tmp_path / name
    file.write_bytes(content)
    with right_or_one_sentence():
        read_tensors(tmp_path)
    file.unlink()
