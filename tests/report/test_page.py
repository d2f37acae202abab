"""The page without a browser: what its data and head hold, its policy, and what it replaces."""

import base64
import hashlib
import re
from dataclasses import replace

import pytest

from jaxdesc.config import Config
from jaxdesc.errors import InputError
from jaxdesc.evaluation.top1 import Top1
from jaxdesc.report import files as run_files
from jaxdesc.report import page
from jaxdesc.report.data import Method, index_of
from jaxdesc.report.pictures import look
from jaxdesc.result import UNSURE, Neuron, Result
from jaxdesc.store import Place
from tests.report.made_up import Colours, data_of, layer, piece_of

IMAGES = 12


@pytest.fixture(scope="module")
def pictures():
    return look(Colours(IMAGES), range(IMAGES))


def made(methods, pictures):
    files = dict(page.files("title", methods, pictures))
    return files, files["index.html"].decode()


def test_a_run_is_a_method(pictures, tmp_path):
    result = layer(2, IMAGES, exemplars=3)
    few = Result((result[0], replace(result[1], exemplars=result[1].exemplars[:1])))
    data = index_of([Method("a", few)], pictures)
    assert data["methods"][0]["asked"] == 3
    flags = {"dead", "tied", "few exemplars", "weak", "no concept", UNSURE, "disagree", "unstable"}
    assert set(data["meanings"]) == flags
    run_files.write(Place(tmp_path), Config(), few)
    method = Method.of(run_files.read(tmp_path))
    data = index_of([method], pictures)
    assert data["methods"][0]["asked"] == Config().score.exemplars
    assert method.name == "attention view, t-vMF κ=16"
    assert method.facts["score.kappa"] == "16.0"
    assert "target.classes" not in method.facts  # empty
    assert method.facts["version.jax"]


def test_what_is_absent_is_not_on_the_page(pictures):
    result = layer(10, IMAGES, exemplars=3, names=False)
    _, html = made([Method("a", replace(result, skipped=()))], pictures)
    (method,) = data_of(html)["methods"]
    assert (method["measures"], list(method["columns"])) == ({}, ["exemplars"])
    assert not {"disagree", "unstable"} & {flag for flags in method["flags"] for flag in flags}
    assert not re.search("<table|<details>", html)


def test_neurons_with_the_same_exemplars_share_a_sheet(pictures):
    first, second, third, fourth = layer(4, IMAGES, exemplars=3)
    same, nothing = replace(second, exemplars=first.exemplars), replace(third, exemplars=())
    files, _ = made([Method("a", Result((first, same, nothing, fourth)))], pictures)
    (neurons,) = piece_of(files)["methods"]
    names = [neuron["sheet"] for neuron in neurons]
    assert names == [names[0], names[0], None, names[3]]
    assert list(files) == [
        *("units/0.js", f"sheets/{names[0]}.webp", f"sheets/{names[3]}.webp", "index.html")
    ]


def test_the_policy_allows_only_the_pages_own_script_and_style(pictures):
    _, html = made([Method("a", layer(3, IMAGES, 2))], pictures)
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', html)[1].replace("&#39;", "'")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "'self' file:")
    for kind in ("script", "style"):
        (text,) = re.findall(f"<{kind}>(.*?)</{kind}>", html, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        beside = " 'self' file:" if kind == "script" else ""  # the pieces
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'{beside}"
    assert not re.search(r"https?://|@import|innerHTML|insertAdjacent|\beval\b", html)
    body = html.partition("<body>")[2].partition("<script")[0]
    assert not re.search(r"<[^>]* (on\w+|style|src)=", body)


def test_the_head_says_what_a_reader_has_to_know_first(pictures):
    summary = {"f1": {"mean": 0.512, "standard_error": 0.034, "neurons": 9, "ceiling": 0.756}}
    first = layer(6, IMAGES, 3)
    first = replace(first, top1=Top1(3, 12, 5, "centre"), notes=("a <b> was assumed",))
    second = replace(layer(6, IMAGES, 2, seed=1), top1=Top1(6, 12, 5, "attention"))
    facts = {"view": "attention", "n": "30"}, {"view": "centre", "n": "30", "more": "x"}
    methods = [Method("a", first, summary, facts[0]), Method("b", second, {}, facts[1])]
    _, html = made(methods, pictures)
    for text in (
        "a: The target: top-1 25.0% on 12 labelled images, centre views; chance is 20.0%.",
        "b: The target: top-1 50.0%",
        "A &lt;b&gt; was assumed.",
        "There are no metrics: ",
        "ceiling 75.6",
        'class="fill" width="51.2"',
        '<th scope="row">n</th><td colspan="2">30</td>',  # both methods have this value
        '<th scope="row">more</th><td>–</td><td>x</td>',
    ):
        assert text in html
    assert re.search(r"51\.2</span>\s*<span class=\"muted\">± 3\.4<", html)
    assert [method["name"] for method in data_of(html)["methods"]] == ["a", "b"]


def test_a_name_never_ends_the_data(pictures):
    (first, *others), name = layer(2, IMAGES, 3).neurons, "</script><!--<b>"
    exemplars = (replace(first.exemplars[0], image=name), *first.exemplars[1:])
    hostile = replace(first, names=(name,), exemplars=exemplars)
    files, html = made([Method("a", Result((hostile, *others)))], pictures)
    assert name not in html + files["units/0.js"].decode()
    assert name in str(data_of(html))
    assert name in piece_of(files)["images"]["names"]


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
    first, _ = made([Method("a", layer(5, IMAGES, 3))], pictures)
    assert page.write(tmp_path, first.items()) == sum(map(len, first.values()))
    second, html = made([Method("a", layer(2, IMAGES, 3, seed=3))], pictures)
    page.write(tmp_path, second.items())
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"notes.txt", *second}
    assert (tmp_path / "index.html").read_text("utf-8") == html
