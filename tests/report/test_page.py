"""The page without a browser: its files, its data, and that nothing from outside becomes markup."""

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

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.raw, self.text, self._inside = [], [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = tag
        if tag in ("script", "style"):
            self.raw.append([tag, dict(attributes), ""])

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside in ("script", "style"):
            self.raw[-1][2] += data
        else:
            self.text += data


@pytest.fixture(scope="module")
def pictures():
    return look(Colours(IMAGES), range(IMAGES), plain_target())


def made(methods, pictures, title="title"):
    return dict(page.files(title, methods, pictures))


def data_of(html):
    (data,) = [
        text
        for tag, attributes, text in Parsed(html).raw
        if attributes.get("type") == "application/json"
    ]
    return json.loads(data)


def test_the_data_is_the_result(pictures):
    result = layer(23, IMAGES, exemplars=5)
    summary = {"f1": {"mean": 0.5, "standard_error": 0.1, "neurons": 23, "ceiling": 0.75}}
    files = made([Method("a", result, summary)], pictures)
    data = data_of(files["index.html"].decode())
    assert data["units"] == list(range(23))
    assert data["labels"] == [list(neuron.names) for neuron in result]
    (method,) = data["methods"]
    for neuron, entry in zip(result, method["neurons"], strict=True):
        assert [text for text, _ in entry["concepts"]] == [text for text, _ in neuron.concepts]
        scores = [score for _, score in neuron.concepts]
        np.testing.assert_allclose([score for _, score in entry["concepts"]], scores, rtol=1e-3)
        np.testing.assert_allclose(entry["threshold"], neuron.threshold, rtol=1e-3)
        np.testing.assert_allclose(entry["maximum"], neuron.maximum, rtol=1e-3)
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
    f1 = [metrics.f1([text for text, _ in entry.concepts], entry.names) for entry in result]
    np.testing.assert_allclose(method["measures"]["F1"], f1, atol=1e-4)


def test_flags_are_the_results_and_what_label_and_stability_say(pictures):
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


def test_every_flag_has_a_meaning_and_exemplars_are_counted(pictures, tmp_path):
    flags = {"dead", "tied", "few exemplars", "weak", "no concept", UNSURE, "disagree", "unstable"}
    result = layer(3, IMAGES, exemplars=3)
    few = replace(result[1], exemplars=result[1].exemplars[:1])
    uneven = Result((result[0], few))
    data = page.content([Method("a", uneven)], pictures, {})
    assert set(data["meanings"]) == flags
    assert data["methods"][0]["asked"] == 3
    run_files.write(Place(tmp_path), Config(), uneven)
    method = Method.of(run_files.read(tmp_path))
    data = page.content([method], pictures, {})
    assert data["methods"][0]["asked"] == Config().score.exemplars
    assert method.name == "attention view, t-vMF κ=16"
    assert method.facts["score.kappa"] == "16.0"
    assert "target.classes" not in method.facts  # empty
    assert method.facts["version.jax"]


def test_what_is_absent_is_not_in_the_data(pictures):
    result = layer(10, IMAGES, exemplars=3, names=False)
    (method,) = page.content([Method("a", result)], pictures, {})["methods"]
    assert method["measures"] == {}
    assert method["stability"] == []
    assert not {"disagree", "unstable"} & {flag for flags in method["flags"] for flag in flags}
    html = made([Method("a", replace(result, skipped=()))], pictures)["index.html"].decode()
    assert "<table" not in html
    assert "<details" not in html


def test_neurons_of_the_same_exemplars_share_a_sheet(pictures):
    neurons = layer(4, IMAGES, exemplars=3).neurons
    same = replace(neurons[1], exemplars=neurons[0].exemplars)
    nothing = replace(neurons[2], exemplars=())
    files = made([Method("a", Result((neurons[0], same, nothing, neurons[3])))], pictures)
    assert list(files) == ["sheets/0.webp", "sheets/1.webp", "index.html"]
    found = data_of(files["index.html"].decode())["methods"][0]["neurons"]
    assert [neuron["sheet"] for neuron in found] == [0, 0, None, 1]


def hostile_methods(result):
    """A name in every place that comes from outside."""
    first = replace(
        result.neurons[0],
        layer=HOSTILE,
        concepts=((HOSTILE, 0.5),),
        names=(HOSTILE,),
        exemplars=(replace(result[0].exemplars[0], image=HOSTILE, index=IMAGES),),
        flags=(HOSTILE,),
    )
    rest = tuple(replace(neuron, layer=HOSTILE) for neuron in result.neurons[1:])
    facts = {HOSTILE: HOSTILE, "b": "c"}
    return [Method(HOSTILE, replace(result, neurons=(first, *rest), notes=(HOSTILE,)), {}, facts)]


def test_text_from_outside_stays_text(pictures):
    noted = replace(layer(5, IMAGES, 3), notes=("a",))
    plain = made([Method("a", noted, {}, {"a": "b", "b": "c"})], pictures)
    hostile = hostile_methods(layer(5, IMAGES, 3))
    html = made(hostile, pictures | {IMAGES: pictures[0]}, HOSTILE)["index.html"].decode()
    parsed, usual = Parsed(html), Parsed(plain["index.html"].decode())
    names = [(tag, sorted(attributes)) for tag, attributes in parsed.elements]
    assert names == [(tag, sorted(attributes)) for tag, attributes in usual.elements]
    # Title and heading, layer, note, why there are no metrics, fact and its name, reason.
    assert parsed.text.count(HOSTILE) == 8
    data = data_of(html)
    assert data["layer"] == HOSTILE
    assert data["labels"][0] == [HOSTILE]
    assert HOSTILE in data["images"]["names"]
    assert data["methods"][0]["neurons"][0]["concepts"][0][0] == HOSTILE
    assert HOSTILE not in html
    (raw,) = [text for _, attrs, text in parsed.raw if attrs.get("type") == "application/json"]
    assert not set("<>&\u2028\u2029") & set(raw)


def test_the_policy_knows_only_the_pages_own_script_and_style(pictures):
    html = made([Method("a", layer(3, IMAGES, 2))], pictures)["index.html"].decode()
    parsed = Parsed(html)
    (policy,) = [
        attributes["content"] for tag, attributes in parsed.elements if "http-equiv" in attributes
    ]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "'self' file:"
    for kind in ("script", "style"):
        (text,) = [raw for tag, attributes, raw in parsed.raw if tag == kind and not attributes]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"https?://|@import|innerHTML|insertAdjacent|\beval\b", html)
    names = {name for _, attributes in parsed.elements for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in ("style", "src")]


def test_numbers_in_the_head_are_the_summarys(pictures):
    summary = {"f1": {"mean": 0.512, "standard_error": 0.034, "neurons": 9, "ceiling": 0.756}}
    html = made([Method("one", layer(3, IMAGES, 2), summary)], pictures)["index.html"].decode()
    assert re.search(r"51\.2</span>\s*<span class=\"muted\">± 3\.4<", html)
    assert "ceiling 75.6" in html
    assert 'class="fill" width="51.2"' in html


def test_the_head_says_what_a_reader_has_to_know_first(pictures):
    result = replace(
        layer(3, IMAGES, 2), top1=Top1(3, 12, 5, "centre"), notes=("a <b> was assumed",)
    )
    text = Parsed(made([Method("a", result)], pictures)["index.html"].decode()).text
    assert "The target: top-1 25.0% on 12 labelled images, centre views; chance is 20.0%." in text
    assert "A <b> was assumed." in text
    assert ("There are no metrics: " in text) == (result.metrics is None)
    other = replace(result, top1=Top1(6, 12, 5, "attention"))
    html = made([Method("a", result), Method("b", other)], pictures)["index.html"].decode()
    text = Parsed(html).text
    assert "a: The target: top-1 25.0%" in text
    assert "b: The target: top-1 50.0%" in text
    assert text.count("was assumed") == 1


def test_methods_next_to_each_other(pictures):
    ours, theirs = layer(6, IMAGES, 3), layer(6, IMAGES, 2, seed=1)
    facts = {"view": "attention", "n": "30"}, {"view": "centre", "n": "30", "more": "x"}
    methods = [Method("ours", ours, {}, facts[0]), Method("WWW", theirs, {}, facts[1])]
    html = made(methods, pictures)["index.html"].decode()
    data = data_of(html)
    assert [method["name"] for method in data["methods"]] == ["ours", "WWW"]
    assert len(data["methods"][1]["neurons"][0]["exemplars"]) == 2
    text = Parsed(html).text
    assert text.count("30") == 1  # one value if both methods have it
    assert re.search(r"more\s+–\s+x", text)


def test_methods_of_other_neurons_are_refused(pictures):
    ours = layer(6, IMAGES, 3)
    others = Result(tuple(replace(neuron, layer="layer4") for neuron in ours))
    for other in (others, Result(ours.neurons[:5])):
        with pytest.raises(InputError, match="'b' describes other neurons than 'a': expected the"):
            made([Method("a", ours), Method("b", other)], pictures)


def test_numbers_that_json_has_not_are_no_page(pictures):
    broken = Neuron("fc", 0, (("x", float("nan")),), 0.5, 0.4, ())
    with pytest.raises(ValueError, match="not JSON compliant"):
        made([Method("a", Result((broken,)))], pictures)


def test_writing_replaces_an_earlier_report_alone(tmp_path, pictures):
    (tmp_path / "notes.txt").write_text("mine")
    first = made([Method("a", layer(5, IMAGES, 3))], pictures)
    assert page.write(tmp_path, first.items()) == sum(map(len, first.values()))
    second = made([Method("a", layer(2, IMAGES, 3, seed=3))], pictures)
    page.write(tmp_path, second.items())
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"notes.txt", *second}
    assert (tmp_path / "index.html").read_bytes() == second["index.html"]
