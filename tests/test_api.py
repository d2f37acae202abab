import tempfile
from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
from scipy import sparse

import jaxdesc as jd
from jaxdesc.config import ClipConfig, Config, CropConfig, ImagesConfig, VocabularyConfig
from jaxdesc.errors import UnusableImage
from jaxdesc.result import CERTAINTY, Exemplar
from jaxdesc.scenes.world import CLASSES
from jaxdesc.store import Artifact, Place
from tests import plain_target
from tests.album import Album
from tests.reference import metrics as reference

CONCEPTS = ["star", "cat, kitten", 'a "white" cat', "Zürich", "goldfish on water", "crown", "none"]
SMALL_BATCHES = Config(images=ImagesConfig(batch=7), clip=ClipConfig(batch=20))
SIX = tuple(CLASSES.values())[:6]


@pytest.fixture(scope="module")
def album():
    return Album(20)


@pytest.fixture(scope="module")
def ask(clip, album):
    """jd.describe on the album with a small network of the user's own."""

    def ask(target=None, images=album, concepts=CONCEPTS, **more):
        options = {"exemplars": 4, "alpha": 0.5, "quiet": True, "config": SMALL_BATCHES} | more
        return jd.describe(
            target or plain_target.plain_target(classes=SIX), clip, images=images,
            concepts=concepts, **options,
        )  # fmt: skip

    return ask


@pytest.fixture(scope="module")
def usual(ask, tmp_path_factory):
    """A working directory, and the result that it holds."""
    folder = tmp_path_factory.mktemp("usual")
    return folder, ask(workdir=folder)


def test_public_names():
    for name in jd.__all__:
        assert getattr(jd, name) is not None
    np.testing.assert_allclose(jd.similarity.t_vmf(0.5, 16.0), 1.5 / 9 - 1)
    pixels = np.zeros((2, 32, 32, 3), np.float32)
    assert jd.attention.attention_maps(plain_target.plain_target(), pixels)[0].shape == (2, 4, 4)


def test_a_network_of_ones_own(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = ask()
    assert len(found) == 6
    assert [neuron.unit for neuron in found] == list(range(6))
    assert {neuron.layer for neuron in found} == {"fc"}
    assert [neuron.names for neuron in found] == list(SIX)
    assert {len(neuron.exemplars) for neuron in found} == {4}
    assert {text for neuron in found for text, _ in neuron.concepts} <= set(CONCEPTS)
    assert set(found.metrics.values) == {"hit", "f1", "clip_cos"}
    assert set(found.seconds) == set(found.fingerprints)
    assert not list(tmp_path.iterdir())  # the temporary working directory is gone


def test_a_layer_has_no_names_and_no_metrics(ask):
    found = ask(layer="patches", view="centre")
    assert len(found) == 10
    assert found.metrics is None
    assert found.ceilings is None
    assert found.metrics_dict() == {}
    assert {(neuron.layer, neuron.names) for neuron in found} == {("patches", ())}


def test_a_working_directory_answers(ask, usual):
    folder, first = usual
    second = ask(workdir=str(folder))
    assert second.seconds == {}
    assert second.neurons == first.neurons
    assert second.metrics_dict() == first.metrics_dict()
    assert set(ask(workdir=folder, kappa=2.0).seconds) == {"score", "certainty", "evaluate"}
    artifacts = {path.name for path in (folder / "artifacts").iterdir()}
    assert artifacts > set(first.fingerprints.values())


def test_the_map_of_attention_is_a_choice(ask, usual):
    folder, _ = usual
    assert "activate" in ask(cam="layer_cam", workdir=folder).seconds
    config = replace(SMALL_BATCHES, crop=CropConfig(cam="layer_cam"))
    assert ask(config=config, workdir=folder).seconds == {}
    assert ask(cam="grad_cam", workdir=folder).seconds == {}
    with pytest.raises(jd.InputError, match=r"^config\.crop\.cam is 'gradcam': expected one of \("):
        ask(cam="gradcam")


def test_other_choices_come_from_the_config(ask):
    config = replace(
        SMALL_BATCHES,
        crop=CropConfig(view="box", field=0.5),
        vocabulary=VocabularyConfig(compat="www"),
    )
    found = ask(config=config, view="centre", concepts=[*CONCEPTS, "Star"], alpha=0.05)
    for neuron in found:
        for exemplar in neuron.exemplars:
            (left, _, right, _), image = exemplar.box, Album(20)[exemplar.index].image
            assert right - left == pytest.approx(0.5 * min(image.size), rel=0.02)
            assert (left + right) / 2 == pytest.approx(image.width / 2, abs=1.5)
        texts = {text for text, _ in neuron.concepts}
        assert ("star" in texts) == ("Star" in texts)  # both spellings are kept, and they tie
    assert any("Star" in dict(neuron.concepts) for neuron in found)


def sentences(words):
    """Unit rows that depend on the words alone."""
    rows = np.array([np.random.default_rng(list(word.encode())).normal(size=5) for word in words])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_sentence_encoder(ask, usual):
    asked = []

    def encoder(words):
        asked.append(list(words))
        return sentences(words)

    folder, _ = usual
    found = ask(sentence_encoder=encoder, workdir=folder)
    wanted = [
        reference.mean_cosine(
            sentences([text.lower() for text, _ in neuron.concepts] or ["none"]),
            sentences(neuron.names),
            cap=False,
        )
        for neuron in found
    ]
    np.testing.assert_allclose(found.metrics.values["sentence_cos"], wanted, atol=1e-6)
    assert set(found.metrics_dict()) == {"hit", "f1", "clip_cos", "sentence_cos"}
    assert len(asked) == 1
    assert asked[0] == list(dict.fromkeys(word.lower() for word in asked[0]))
    # What a function computes can't be known from outside, so it is asked again.
    again = ask(sentence_encoder=encoder, workdir=folder)
    assert set(again.seconds) == {"words", "evaluate"}
    assert again.neurons == found.neurons


def test_scorer_is_another_clip(ask, clip, usual):
    texts = []

    class Listening(type(clip)):
        def text_batches(self, given):
            texts.append(list(given))
            return super().text_batches(given)

    given = {name: getattr(clip, name) for name in clip.__dataclass_fields__}
    scorer = Listening(**given)
    found = ask(scorer=scorer)
    assert len(texts) == 1
    assert set(texts[0]) == {text.lower() for text in [*CONCEPTS, *np.ravel(SIX)]}
    np.testing.assert_array_equal(*(each.metrics.values["clip_cos"] for each in (found, usual[1])))


# Bare arrays.


def test_activations_of_ones_own_equal_the_pipeline(ask, clip, album, tmp_path):
    params = plain_target.parameters()
    params["weight"][:, 3] = 0
    target = plain_target.plain_target(params)
    found = ask(target, view="centre", workdir=tmp_path)
    stored = Artifact(Place(tmp_path / "artifacts" / found.fingerprints["activate"]), {})
    views = np.stack([clip.preprocess.cut(album[i].image, (0.5, 0.5), 0.875)[0] for i in range(20)])
    bare = jd.describe_activations(
        stored.read("activations"),
        np.asarray(clip.encode_views(views)),
        clip.encode_texts([f"A photo of a {concept}" for concept in CONCEPTS]),
        clip.encode_texts(["A photo of a"])[0],
        CONCEPTS,
        alpha=0.5,
        exemplars=4,
        images=[album.identify(i) for i in range(20)],
        layer="fc",
    )
    for ours, theirs in zip(bare, found, strict=True):
        assert [text for text, _ in ours.concepts] == [text for text, _ in theirs.concepts]
        scores = ([score for _, score in neuron.concepts] for neuron in (ours, theirs))
        np.testing.assert_allclose(*scores, atol=1e-6)
        assert (ours.layer, ours.unit, ours.flags) == (theirs.layer, theirs.unit, theirs.flags)
        for name in ("maximum", "threshold", *CERTAINTY):
            # A random set may be the exemplars themselves, whose z ties but for rounding.
            tolerance = {"q": 0.1, "maximum": 1e-6, "threshold": 1e-6}.get(name, 1e-4)
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=tolerance)
        seen = [(e.image, e.activation, ()) for e in theirs.exemplars]
        assert [(e.image, e.activation, e.box) for e in ours.exemplars] == seen
    assert bare[3].flags == ("dead", "no concept")
    assert bare[3].concepts == bare[3].exemplars == ()


def test_features_are_the_pipelines(ask, clip, tmp_path, caplog):
    """Three lines to `describe_activations`, and the bits of a run whose CLIP sees whole images."""
    broken = (3, 11)

    class Damaged(Album):
        def __getitem__(self, index):
            if index in broken:
                raise UnusableImage(self.identify(index), "is damaged")
            return super().__getitem__(index)

    source = Damaged(20)
    images, batch = replace(SMALL_BATCHES.images, max_skipped=0.5), SMALL_BATCHES.clip.batch
    config = replace(SMALL_BATCHES, images=images, clip=ClipConfig(batch=batch, input="image"))
    # All images are exemplars, so that both encode the same batches.
    found = ask(images=source, config=config, workdir=tmp_path, exemplars=20 - len(broken))
    names, features = jd.image_features(clip, source, batch=batch, quiet=True)
    texts, concepts, base = jd.concept_features(clip, (text for text in CONCEPTS))
    assert names == [source.identify(i) for i in range(20) if i not in broken]
    assert texts == CONCEPTS
    told = [record.getMessage() for record in caplog.records if "can't be used" in record.msg]
    assert len(told) == 1
    assert "2 of the 20" in told[0]
    assert "picture 3 (is damaged), picture 11 (is damaged)." in told[0]
    stored = {
        stage: Artifact(Place(tmp_path / "artifacts" / found.fingerprints[stage]), {})
        for stage in ("activate", "embed", "encode")
    }
    np.testing.assert_array_equal(features, stored["embed"].read("features"))
    np.testing.assert_array_equal(concepts, stored["encode"].read("features"))
    np.testing.assert_array_equal(base, stored["encode"].read("base"))
    activations = np.delete(stored["activate"].read("activations"), broken, axis=0)
    bare = jd.describe_activations(
        activations, features, concepts, base, texts, images=names, exemplars=len(names), alpha=0.5
    )
    assert [neuron.concepts for neuron in bare] == [neuron.concepts for neuron in found]


def test_units_are_searched_by_a_text_of_no_vocabulary(ask, clip, album):
    config = replace(SMALL_BATCHES, clip=ClipConfig(batch=20, input="image"))
    found = ask(config=config)
    names, features = jd.image_features(clip, album, batch=20, quiet=True)
    text, base = clip.encode_texts(["A photo of a purple bat", "A photo of a"])
    for neuron, score in found.search("purple bat"):
        mean = features[[names.index(each.image) for each in neuron.exemplars]].mean(axis=0)
        expected = mean @ (text - base) / np.linalg.norm(mean)
        assert score == pytest.approx(expected, abs=1e-5)
    scores = [score for _, score in found.search("purple bat", count=3)]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 3


def test_features_of_nothing_are_refused(clip):
    class Lost(Album):
        def __getitem__(self, index):
            raise UnusableImage(self.identify(index), "is damaged")

    message = r"^No image of album of 4, 0 can be used \(picture 0 \(is damaged\), .*: repair them"
    with pytest.raises(jd.InputError, match=message):
        jd.image_features(clip, Lost(4), quiet=True)
    with pytest.raises(jd.InputError, match="template is 'photo': expected words"):
        jd.concept_features(clip, ["star"], template="photo")


def arrays():
    """Arguments of describe_activations: neuron 0 likes image 0, which is concept 0, and so on."""
    axes = np.eye(4, dtype=np.float32)
    return {
        "activations": axes[:3, :3],
        "image_features": axes[:3],
        "concept_features": axes[:3],
        "base_feature": axes[3],
        "concepts": ["a", "b", "c"],
        "exemplars": 1,
    }


def test_activations_by_hand():
    found = jd.describe_activations(**arrays(), kappa=0.0)
    assert [neuron.concepts for neuron in found] == [(("a", 1.0),), (("b", 1.0),), (("c", 1.0),)]
    assert [neuron.exemplars for neuron in found] == [
        (Exemplar(image, 1.0),) for image in ("0", "1", "2")
    ]
    assert {(n.layer, n.maximum, n.threshold, n.flags) for n in found} == {
        ("neurons", 1.0, 0.95, ("few exemplars",))
    }
    assert {n.flags for n in jd.describe_activations(**arrays(), kappa=0.0, fewest=1)} == {()}
    assert found.metrics is None


def codes():
    """Activations of 60 images: sparse codes, of which some are dead, tied, or on every image."""
    rng = np.random.default_rng(0)
    shares = np.concatenate([[0, 0, 1, 1], rng.random(26)])
    matrix = np.where(rng.random((60, 30)) < shares, rng.random((60, 30)), 0).astype(np.float32)
    matrix[:, 5:9] = matrix[:, 5:9] > 0.2
    return matrix


def test_sparse_activations_and_batches_give_what_dense_ones_do():
    rng, matrix = np.random.default_rng(1), codes()
    features = rng.normal(size=(60 + 50 + 1, 16)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    rest = {"image_features": features[:60], "concept_features": features[60:110]}
    rest |= {"base_feature": features[110], "concepts": [f"concept {i}" for i in range(50)]}
    rest |= {"images": [f"photo {i}.jpg" for i in range(60)], "exemplars": 8}
    expected = jd.describe_activations(matrix, **rest)
    flags = {flag for neuron in expected for flag in neuron.flags}
    assert {"dead", "tied", "few exemplars"} <= flags
    parts = np.split(matrix, [7, 8, 31])
    for given in (
        sparse.csr_matrix(matrix),
        sparse.coo_array(matrix.astype(np.float64)),
        iter(parts),
        map(sparse.csr_array, parts),
        (part if len(part) > 10 else sparse.csc_array(part) for part in parts),
    ):
        assert jd.describe_activations(given, **rest).neurons == expected.neurons
    signed = np.where(matrix > 0.5, -matrix, matrix)
    expected = jd.describe_activations(signed, **rest)
    assert jd.describe_activations(sparse.csr_array(signed), **rest).neurons == expected.neurons


def test_spaces_in_concepts_are_one_and_equal_activations_are_dead():
    found = jd.describe_activations(**arrays() | {"concepts": ["red  car", "b", "c"]}, kappa=0.0)
    assert found[0].concepts == (("red car", 1.0),)
    for dead in (np.zeros((3, 2)), np.ones((3, 2))):
        found = jd.describe_activations(**arrays() | {"activations": dead})
        assert [(n.flags, n.exemplars) for n in found] == [(("dead", "no concept"), ())] * 2


# Further bad arguments are in tests/faults/calls.py.
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"concept_features": np.ones((3, 0))}, r"^concept_features has shape \(3, 0\): expected"),
        ({"similarity": "cos"}, r"^config.score.similarity is 'cos': expected one of \('t_vmf', "),
        ({"concepts": ["red  car", "red car", "c"]},
         "^rows 0 and 1 of concepts are both 'red car': give each once"),
        ({"concepts": ["x", "a\nb", "c"]}, r"^row 1 of concepts is 'a.nb': expected one name"),
        ({"concepts": ["x", " ", "c"]}, "^row 1 of concepts is ' ': expected one name"),
    ],
)  # fmt: skip
def test_errors_of_bare_arrays(change, message, monkeypatch):
    # As a user runs the library: no annotation is an assertion.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(jd.InputError, match=message):
        jd.describe_activations(**(arrays() | change))


def test_a_sentence_encoders_features_have_unit_length(ask):
    message = "^The sentence encoder returned a feature of length 2 for 'star': expected unit"
    with pytest.raises(jd.InputError, match=message):
        ask(sentence_encoder=lambda words: np.ones((len(words), 4)))
