"""The page without a browser: its files, its data, and that text from outside never is markup."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxdesc.config import Config
from jaxdesc.errors import InputError
from jaxdesc.evaluation import metrics
from jaxdesc.evaluation.top1 import Top1
from jaxdesc.report import files as run_files
from jaxdesc.report import page
from jaxdesc.report.page import Method
from jaxdesc.report.pictures import look
from jaxdesc.result import UNSURE, Neuron, Result
from jaxdesc.store import Place
from tests.plain_target import plain_target
from tests.report.made_up import HOSTILE, Colours, layer, sure

IMAGES = 12


class Parsed(HTMLParser):
    """The elements of a page, the text of each script and style, and all other text."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.raw, self.text, self._inside = [], [], "", ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag in ("script", "style"):
            self.raw.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside in ("script", "style"):
            self.raw[-1][2] += data
        else:
            self.text += data

    @property
    def data(self):
        """The text of the data's script."""
        (text,) = [text for _, attrs, text in self.raw if attrs.get("type") == "application/json"]
        return text


@pytest.fixture(scope="module")
def pictures():
    return look(Colours(IMAGES), range(IMAGES), plain_target())


def made(methods, pictures, title="title"):
    files = dict(page.files(title, methods, pictures))
    html = files["index.html"].decode()
    return files, html, Parsed(html)


def test_the_data_is_the_result(pictures):
    result = layer(23, IMAGES, exemplars=5)
    files, _, parsed = made([Method("a", result)], pictures)
    data = json.loads(parsed.data)
    assert data["units"] == list(range(23))
    assert data["labels"] == [list(neuron.names) for neuron in result]
    (method,) = data["methods"]
    for neuron, entry in zip(result, method["neurons"], strict=True):
        assert [text for text, _ in entry["concepts"]] == [text for text, _ in neuron.concepts]
        found = [*(score for _, score in entry["concepts"]), entry["threshold"], entry["maximum"]]
        scores = [score for _, score in neuron.concepts]
        np.testing.assert_allclose(found, [*scores, neuron.threshold, neuron.maximum], rtol=1e-3)
        for shown, exemplar in zip(entry["exemplars"], neuron.exemplars, strict=True):
            place, activation, *box = shown
            assert data["images"]["names"][place] == exemplar.image
            assert activation == pytest.approx(exemplar.activation, rel=1e-3)
            size = data["images"]["sizes"][place]
            wanted = [1000 * e / s for e, s in zip(exemplar.box, [*size, *size], strict=True)]
            np.testing.assert_allclose(box, wanted, atol=0.5)
            picture = pictures[exemplar.index]
            assert data["images"]["heats"][place] == picture.heat
            assert data["classes"][data["images"]["explained"][place]] == picture.explained
        assert f"sheets/{entry['sheet']}.webp" in files
    f1 = [metrics.f1([text for text, _ in neuron.concepts], neuron.names) for neuron in result]
    np.testing.assert_allclose(method["measures"]["F1"], f1, atol=1e-4)


def test_flags_are_the_results_and_those_of_label_and_stability(pictures):
    stability = np.linspace(0, 1, 20).tolist()
    result = sure(layer(20, IMAGES, exemplars=3), stability)
    (method,) = page.content([Method("a", result)], pictures, {})["methods"]
    expected = [None if unit % 10 == 9 else stability[unit] for unit in range(20)]
    assert method["stability"] == pytest.approx(expected, abs=1e-4)
    assert method["neurons"][4]["concepts"][1][2:] == pytest.approx(
        [stability[4] / 2, 0.5], abs=1e-4
    )
    for unit, flags in enumerate(method["flags"]):
        assert ("dead" in flags) == ("no concept" in flags) == (unit % 10 == 9)
        assert ("disagree" in flags) == (unit % 7 == 3)
        assert ("unstable" in flags) == (unit / 19 < 0.5 and unit % 10 != 9)
        assert (UNSURE in flags) == (unit == 4)


def test_a_run_is_a_method(pictures, tmp_path):
    result = layer(2, IMAGES, exemplars=3)
    few = Result((result[0], replace(result[1], exemplars=result[1].exemplars[:1])))
    data = page.content([Method("a", few)], pictures, {})
    assert data["methods"][0]["asked"] == 3
    flags = {"dead", "tied", "few exemplars", "weak", "no concept", UNSURE, "disagree", "unstable"}
    assert set(data["meanings"]) == flags
    run_files.write(Place(tmp_path), Config(), few)
    method = Method.of(run_files.read(tmp_path))
    data = page.content([method], pictures, {})
    assert data["methods"][0]["asked"] == Config().score.exemplars
    assert method.name == "attention view, t-vMF κ=16"
    assert method.facts["score.kappa"] == "16.0"
    assert "target.classes" not in method.facts  # empty
    assert method.facts["version.jax"]


def test_what_is_absent_is_not_in_the_data(pictures):
    result = layer(10, IMAGES, exemplars=3, names=False)
    _, html, parsed = made([Method("a", replace(result, skipped=()))], pictures)
    (method,) = json.loads(parsed.data)["methods"]
    assert method["measures"] == {}
    assert method["stability"] == []
    assert not {"disagree", "unstable"} & {flag for flags in method["flags"] for flag in flags}
    assert "<table" not in html
    assert "<details" not in html


def test_neurons_with_the_same_exemplars_share_a_sheet(pictures):
    first, second, third, fourth = layer(4, IMAGES, exemplars=3)
    same, nothing = replace(second, exemplars=first.exemplars), replace(third, exemplars=())
    files, _, parsed = made([Method("a", Result((first, same, nothing, fourth)))], pictures)
    assert list(files) == ["sheets/0.webp", "sheets/1.webp", "index.html"]
    neurons = json.loads(parsed.data)["methods"][0]["neurons"]
    assert [neuron["sheet"] for neuron in neurons] == [0, 0, None, 1]


def test_text_from_outside_stays_text(pictures):
    result = replace(layer(5, IMAGES, 3), notes=("a",))
    _, _, usual = made([Method("a", result, {}, {"a": "b", "b": "c"})], pictures)
    first = replace(
        result[0],
        concepts=((HOSTILE, 0.5),),
        names=(HOSTILE,),
        exemplars=(replace(result[0].exemplars[0], image=HOSTILE, index=IMAGES),),
        flags=(HOSTILE,),
    )
    neurons = [replace(neuron, layer=HOSTILE) for neuron in (first, *result.neurons[1:])]
    result = replace(result, neurons=tuple(neurons), notes=(HOSTILE,))
    methods = [Method(HOSTILE, result, {}, {HOSTILE: HOSTILE, "b": "c"})]
    _, html, parsed = made(methods, pictures | {IMAGES: pictures[0]}, HOSTILE)
    tags = [(tag, sorted(attrs)) for tag, attrs in parsed.elements]
    assert tags == [(tag, sorted(attrs)) for tag, attrs in usual.elements]
    # Title and heading, layer, note, reason for no metrics, fact and its name, reason of a skip.
    assert parsed.text.count(HOSTILE) == 8
    data = json.loads(parsed.data)
    assert data["layer"] == HOSTILE
    assert data["labels"][0] == [HOSTILE]
    assert HOSTILE in data["images"]["names"]
    assert data["methods"][0]["neurons"][0]["concepts"][0][0] == HOSTILE
    assert HOSTILE not in html
    assert not set("<>&\u2028\u2029") & set(parsed.data)


def test_the_policy_allows_only_the_pages_own_script_and_style(pictures):
    _, html, parsed = made([Method("a", layer(3, IMAGES, 2))], pictures)
    (policy,) = [attrs["content"] for _, attrs in parsed.elements if "http-equiv" in attrs]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "'self' file:"
    for kind in ("script", "style"):
        (text,) = [raw for tag, attrs, raw in parsed.raw if tag == kind and not attrs]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"https?://|@import|innerHTML|insertAdjacent|\beval\b", html)
    names = {name for _, attrs in parsed.elements for name in attrs}
    assert not [name for name in names if name.startswith("on") or name in ("style", "src")]


def test_the_head_says_what_a_reader_has_to_know_first(pictures):
    summary = {"f1": {"mean": 0.512, "standard_error": 0.034, "neurons": 9, "ceiling": 0.756}}
    first = layer(6, IMAGES, 3)
    first = replace(first, top1=Top1(3, 12, 5, "centre"), notes=("a <b> was assumed",))
    second = replace(layer(6, IMAGES, 2, seed=1), top1=Top1(6, 12, 5, "attention"))
    facts = {"view": "attention", "n": "30"}, {"view": "centre", "n": "30", "more": "x"}
    methods = [Method("a", first, summary, facts[0]), Method("b", second, {}, facts[1])]
    _, html, parsed = made(methods, pictures)
    assert "a: The target: top-1 25.0% on 12 labelled images, centre views; chance is 20.0%." in (
        parsed.text
    )
    assert "b: The target: top-1 50.0%" in parsed.text
    assert "A <b> was assumed." in parsed.text
    assert "There are no metrics: " in parsed.text
    assert re.search(r"51\.2</span>\s*<span class=\"muted\">± 3\.4<", html)
    assert "ceiling 75.6" in html
    assert 'class="fill" width="51.2"' in html
    assert "n30\n" in parsed.text  # one value if both methods have it
    assert "more–x\n" in parsed.text
    methods = json.loads(parsed.data)["methods"]
    assert [method["name"] for method in methods] == ["a", "b"]
    assert len(methods[1]["neurons"][0]["exemplars"]) == 2


def test_methods_for_other_neurons_and_numbers_that_json_lacks_are_refused(pictures):
    ours = layer(6, IMAGES, 3)
    others = Result(tuple(replace(neuron, layer="layer4") for neuron in ours))
    for other in (others, Result(ours.neurons[:5])):
        with pytest.raises(InputError, match="'b' describes other neurons than 'a': expected the"):
            made([Method("a", ours), Method("b", other)], pictures)
    broken = Neuron("fc", 0, (("x", float("nan")),), 0.5, 0.4, ())
    with pytest.raises(ValueError, match="not JSON compliant"):
        made([Method("a", Result((broken,)))], pictures)


def test_writing_replaces_only_an_earlier_report(tmp_path, pictures):
    (tmp_path / "notes.txt").write_text("mine")
    first, _, _ = made([Method("a", layer(5, IMAGES, 3))], pictures)
    assert page.write(tmp_path, first.items()) == sum(map(len, first.values()))
    second, _, _ = made([Method("a", layer(2, IMAGES, 3, seed=3))], pictures)
    page.write(tmp_path, second.items())
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"notes.txt", *second}
    assert (tmp_path / "index.html").read_bytes() == second["index.html"]
