import json
import time

import pytest

from jaxdesc.benchmark.timing import Job, timed, where, write


def test_jobs_take_turns_and_the_first_turn_does_not_count():
    done = []
    jobs = [Job(name, lambda name=name: done.append(name)) for name in "ab"]
    table = timed("", {}, jobs, 2)
    assert done == list("ababab")
    assert [len(table.seconds[name]) for name in "ab"] == [2, 2]


def test_what_a_table_tells():
    pauses = iter([0, 0, 0.02, 0.02, 0.02, 0.02])
    jobs = [
        Job("all", lambda: time.sleep(next(pauses)), items=10, operations=4e6),
        Job("a part", lambda: time.sleep(next(pauses)), scale=100, traffic=2e6),
    ]
    table = timed("Title", {"size": 3}, jobs, 2, "all")
    table.rates = (1e9, 1e8)
    table.facts["share"] = 0.12345
    assert 0.02 <= table.median("all") < 2 <= table.median("a part") < 200
    assert [table.floor(job) for job in jobs] == pytest.approx([0.004, 0.02])
    text = table.markdown()
    head = [cell.strip() for cell in text.splitlines()[2].strip("|").split("|")]
    assert head == ["", "seconds", "per second", "floor", "of floor", "of all"]
    row = [cell.strip() for cell in text.splitlines()[5].strip("|").split("|")]
    assert row[:4] == ["a part", f"{table.median('a part'):.3g}", "", "0.02"]
    assert float(row[4]) == pytest.approx(table.median("a part") / 0.02, rel=0.01)
    assert float(row[5]) == pytest.approx(table.median("a part") / table.median("all"), rel=0.01)
    assert text.startswith("**Title** (size 3)\n")
    assert text.endswith("- share: 0.123\n")


def test_files(tmp_path):
    table = timed("Title", {"size": 3}, [Job("job", lambda: None)], 1)
    write(tmp_path / "made" / "b.json", where() | {"jax": "1.2"}, [table])
    written = json.loads((tmp_path / "made" / "b.json").read_text())
    assert written["jax"] == "1.2"
    assert {"device", "jaxdesc", "numpy"} <= written.keys()
    assert written["tables"][0]["medians"]["job"] == table.median("job")
    assert "**Title**" in (tmp_path / "made" / "b.md").read_text()
