from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jaxdesc.benchmark import plan
from jaxdesc.errors import InputError
from jaxdesc.runtime.chips import CHIPS, Chip
from jaxdesc.runtime.compiled import Compiled, Product
from jaxdesc.stages.programs import Program, largest

CHIP = Chip("made up", "", "tpu", "", 1000, 10.0, {"bf16": 100.0, "f32": 20.0}, "", 4)


def row(stage, calls, flops, moved, memory=100, kind="bf16", chip=CHIP, items=8):
    """A program on two chips, of which 40 bytes are weights and 8 of a batch of 16."""
    compiled = Compiled("", memory, 48)
    products = [Product((kind, kind), flops / 2, 2, "")]
    vars(compiled).update(products=products, bytes=moved)
    batch = jax.ShapeDtypeStruct((16,), jnp.uint8)
    program = Program(stage, "it", partial(len), (batch,), calls, 2 * items, 2)
    return plan.Row(program, compiled, chip)


def test_the_larger_of_arithmetic_and_traffic_counts():
    assert row("embed", 3, 200, 10).seconds == 3 * 2
    assert row("embed", 3, 200, 50).seconds == 3 * 5
    assert row("embed", 3, 200, 10, kind="f32").seconds == 3 * 10


def test_hosts_share_some_stages():
    for stage, seconds in (("embed", 2 * 2), ("certainty", 3 * 2)):
        one = row(stage, 3, 200, 10)
        assert plan.Row(one.program, one.compiled, CHIP, 2).seconds == seconds


def test_memory_beside_the_weights_grows_with_the_batch():
    # 60 of 100 bytes are of 8 images; 900 may be filled.
    one = row("embed", 1, 1, 1)
    assert largest(one.program, one.compiled, 1000) == int((900 - 40) / (60 / 8))


@pytest.mark.parametrize(
    ("cores", "hosts", "workers", "photos"),
    [(4, 1, 0, 536), (26, 1, 0, 900), (26, 1, 2, 1800), (26, 1, 8, 3000), (112, 4, 8, 12000)],
)
def test_photos_are_limited_by_cores_or_by_processes(cores, hosts, workers, photos):
    assert plan.Host.of(cores, hosts, workers).photos == photos


@pytest.mark.parametrize(("platform", "seconds"), [("tpu", 7 + 4 + 2), ("cpu", 9 + 6 + 2)])
def test_the_host_works_beside_the_devices(platform, seconds):
    chip = Chip("", "", platform, "", 1000, 10.0, CHIP.rates, "", 4)
    rows = [
        row("activate", 1, 200, 10, chip=chip),
        row("embed", 2, 200, 10, chip=chip),
        row("score (full)", 1, 200, 10, chip=chip),
        row("score (screened)", 1, 100, 10, chip=chip),
    ]
    found = plan.Plan("x", chip, 2, plan.Host(4, 10.0), {"activate": 70, "embed": 20}, rows)
    assert found.seconds == seconds
    assert [limit for *_, limit in found.stages()] == ["host", *["arithmetic"] * 2, "memory"]
    text = found.markdown()
    assert "images.batch 114, clip.batch 114" in text
    assert "4 cores" in text


def test_a_page_keeps_what_is_around_its_place(tmp_path):
    page = tmp_path / "scale.md"
    page.write_text("a\n<!-- plan float32 -->\nold\n<!-- end -->\nb\n<!-- plan bfloat16 -->\nc\n")
    plan.Page(page, "float32").write("new")
    again = page.read_text()
    assert again.startswith("a\n<!-- plan float32 -->\n\nnew\n\n<!-- end -->\nb\n")
    with pytest.raises(InputError, match="no place for the plan"):
        plan.Page(page, "bfloat16")
    with pytest.raises(InputError, match="can't be read"):
        plan.Page(tmp_path / "none.md", "float32")


def test_the_commonest_length_stands_for_all():
    reading, other = partial(len), partial(len)
    shapes = [(8, 4, 1), (4, 10, 3), (2, 20, 1)]
    texts = [
        Program("encode", f"{length}", reading, (jnp.zeros((rows, length)),), calls, rows)
        for rows, length, calls in shapes
    ]
    alone = Program("embed", "tower", other, (jnp.zeros(3),), 7, 8)
    first, second = plan.usual_lengths([alone, *texts])
    assert first is alone
    assert (second.name, second.calls) == ("10 (for all)", -(-(32 + 120 + 40) // 40))


def test_a_program_is_compiled_once(monkeypatch):
    lowered = []

    def of(program, options):
        lowered.append(program)
        return Compiled("", 0)

    monkeypatch.setattr(Compiled, "of", of)
    functions = partial(len), partial(len, "weights")
    every = [Program("", "", f, (n,), 1, 1) for f in functions for n in (1, 1, 2)]
    monkeypatch.setattr(Program, "lower", lambda self: (self.function.args, self.arguments))
    assert len(list(plan.planned(every, CHIPS["v5e"]))) == 6
    assert lowered == [((), (1,)), ((), (2,)), (("weights",), (1,)), (("weights",), (2,))]
