"""A report of results that are at hand."""

import json
import re

import jaxdesc as jd
from tests.plain_target import plain_target
from tests.report.made_up import Colours, layer


def data_of(path):
    return json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', path.read_text())[1])


def test_a_result_becomes_a_page(tmp_path):
    found, other = layer(4, 9, 3), layer(4, 9, 2, seed=1)
    path = jd.write_report(
        found, tmp_path / "a", images=Colours(9), target=plain_target(), beside={"WWW": other}
    )
    assert path == tmp_path / "a" / "index.html"
    data = data_of(path)
    assert [method["name"] for method in data["methods"]] == ["this result", "WWW"]
    assert any(data["images"]["heats"])
    data = data_of(jd.write_report(found, str(tmp_path / "b"), images=Colours(9), title="<i>"))
    assert len(data["methods"]) == 1
    assert not any(data["images"]["heats"])
    assert "<title>&lt;i&gt;</title>" in (tmp_path / "b" / "index.html").read_text()
