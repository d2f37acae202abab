"""Label files as others publish them, and those that are refused."""

import pytest

from jaxdesc.errors import InputError
from jaxdesc.evaluation.judging.labels import Label, labels_of, read_labels
from jaxdesc.result import COLUMNS
from jaxdesc.store import write_rows

# The first lines of published files, with their quotes and heads.
CLIP_DISSECT = "layer,unit,description,similarity\nconv1,0,red,0.25616455\nlayer4,2,zebra,0.3\n"
MILAN = 'layer,unit,description\nlayer4,0,"Purple, red and blue objects"\nfc,0,Living things\n'
COSY = "neuron,concept,concept_id,metric\n1,lhasa,n02098413,0.9336\n2,bookshop,n02871525,0.9787\n"
LINEAR = (
    "layer,unit,val correlation,weight0,concept0,weight1,concept1,weight2,concept2,bias,sim\n"
    "layer4,1,0.27,0.59346217,toiletry,0.80614144,bottle,0,0,0.536616147,0.17\n"
)


def read(tmp_path, text, layer="layer4", units=3):
    file = tmp_path / "labels.csv"
    file.write_text(text, encoding="utf-8")
    return read_labels(file, layer, units)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CLIP_DISSECT, {2: Label(("zebra",))}),
        (MILAN, {0: Label(("Purple, red and blue objects",))}),
        (COSY, {1: Label(("lhasa",)), 2: Label(("bookshop",))}),
        (LINEAR, {1: Label(("bottle", "toiletry"), (0.80614144, 0.59346217), 0.536616147)}),
        ("\ufeffunit,description\r\n0,dog\r\n\r\n1,\r\n", {0: Label(("dog",))}),
        ("unit,concept,rank\n0,cat,2\n0,dog,1\n0,cow,3\n", {0: Label(("dog",))}),
        ("unit,concept\n0,dog\n0,dog\n", {0: Label(("dog",))}),
    ],
)
def test_published_tables_are_read_as_they_are(tmp_path, text, expected):
    assert read(tmp_path, text) == expected


def test_the_table_of_a_run_is_read(tmp_path):
    rows = [("layer4", 0, 1, "=1+1", *[None] * (len(COLUMNS) - 4))]
    write_rows(tmp_path / "concepts.csv", COLUMNS, rows)
    for path in (tmp_path / "concepts.csv", tmp_path):
        assert read_labels(path, "layer4", 1) == {0: Label(("=1+1",))}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "labels '.*' are not a table"),
        # NetDissect counts units from 1, and its labels are not concepts of images.
        ("unit,category,label\n1,part,body\n", "have the columns unit, category, label: expected"),
        ("unit,description\n3,dog\n", "row 1 of labels .* has the unit '3': 'layer4' has units fr"),
        ("unit,description\nx,dog\n", "row 1 of labels .* has the unit 'x'"),
        ("layer,unit,description\nfc,0,dog\n", "have labels of layers fc, and none of 'layer4'"),
        ("unit,description\n", "have no label"),
        ("unit,description\n1,a\n1,b\n", "row 2 of labels .* has a second label of unit 1: keep"),
        (LINEAR.replace("0.80614144", "nan"), "row 1 of labels .* has the weight1 'nan': expected"),
    ],
)
def test_what_is_no_table_of_labels_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


def test_labels_from_python(tmp_path):
    assert labels_of({1: " dog "}, "mine", "fc", 2) == {1: Label(("dog",))}
    for wrong, message in (
        ({2: "dog"}, "the source 'mine' has the unit '2': 'fc' has units from 0 to 1"),
        ({0: ""}, "labels 'mine' have {0: ''}: expected a text for each unit"),
        ({"0": "dog"}, "expected a text for each unit"),
        (["dog"], "expected a CSV file, or a text for each unit"),
    ):
        with pytest.raises(InputError, match=message):
            labels_of(wrong, "mine", "fc", 2)
    with pytest.raises(InputError, match="can't be read"):
        labels_of(tmp_path / "missing.csv", "mine", "fc", 2)


def test_a_sum_is_shown_as_one():
    assert str(Label(("dog", "cat"), (1.25, -0.5), 3.0)) == "1.2 dog + -0.5 cat"
    assert str(Label(("dog",))) == "dog"
