"""What every compiled program has to satisfy; each check raises AssertionError.

Arithmetic is compared with that of the traced program, without the taps on padding: a compiler may
leave out 2 %, and add 2 % (channels filled up). With
other versions of the compilers than the recorded ones, traffic may differ by 25 % instead of 5 %.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from jaxdesc.runtime.chips import Chip
from jaxdesc.runtime.compiled import Compiled
from jaxdesc.runtime.hlo import Operation
from jaxdesc.runtime.traced import counted
from jaxdesc.stages.programs import Program

# Each neuron's largest reach, over all devices: the only exchange.
REACH = {"score (full)", "score (screened)"}, "a block of concepts"
NETWORKS = "activate", "embed", "encode"
OTHER_TYPES = 0.01  # of the arithmetic: the classifier and projections, float32 by design
OTHER_ARITHMETIC = 0.02
ON_VECTOR_UNIT = 0.01
FLOPS, BYTES, OTHER_BYTES = 0.01, 0.05, 0.25
# Operations that pass an array on.
_PASSING = {"bitcast", "convert", "copy", "reshape", "transpose"}


def fits(program: Program, compiled: Compiled, chip: Chip) -> None:
    """Arguments, results, temporaries and code are within the memory of one chip."""
    assert 0 < compiled.memory <= chip.memory, f"{compiled.memory} bytes of {chip.memory}"


def exchanges_little(program: Program, compiled: Compiled, chip: Chip) -> None:
    """Scoring on several devices exchanges each neuron's reach; nothing else exchanges anything."""
    stages, name = REACH
    expected = {}
    if program.devices > 1 and program.stage in stages and program.name == name:
        expected = {"all-reduce": 1}
    assert compiled.collectives == expected, compiled.collectives
    for operation, *_ in compiled.executed():
        if operation.kind.startswith("all-reduce"):
            neurons = program.arguments[-2].shape[1]  # bounds: 1 × neurons × …
            shapes = {(each.type, each.shape) for each in operation.results}
            assert shapes == {("f32", (1, neurons))}, shapes


def multiplies_in_bfloat16(program: Program, compiled: Compiled, chip: Chip) -> None:
    """Products and convolutions of a bfloat16 network take bfloat16."""
    others = [each for each in compiled.products if set(each.types) != {"bf16"}]
    share = sum(each.flops * each.times for each in others) / compiled.flops
    largest = max(others, key=lambda each: each.flops * each.times, default=None)
    assert share < OTHER_TYPES, f"{share:.1%} of the arithmetic is not bfloat16: {largest}"


def holds_no_wide_types(program: Program, compiled: Compiled, chip: Chip) -> None:
    """No array is of 64 bits."""
    wide = compiled.types & {"f64", "s64", "u64", "c64", "c128"}
    assert not wide, wide


def leaves_the_host_alone(program: Program, compiled: Compiled, chip: Chip) -> None:
    """Nothing calls the host."""
    assert not compiled.host_calls, compiled.host_calls


def multiplies_on_the_matrix_unit(program: Program, compiled: Compiled, chip: Chip) -> None:
    """Every product of the traced program is one in the compiled, which makes no other by hand.

    Those with a vector may be either: they wait for memory.
    """
    traced = program.trace().jaxpr
    most = counted(traced, padding=False) / program.devices
    least = counted(traced, padding=False, vectors=False) / program.devices
    found = compiled.flops
    assert (1 - OTHER_ARITHMETIC) * least <= found, f"{found:.4g} of {least:.4g} operations"
    assert found <= (1 + OTHER_ARITHMETIC) * most, f"{found:.4g} instead of {most:.4g} operations"
    slow = {op.name: flops for op, flops in vector_products(compiled)}
    assert sum(slow.values()) <= ON_VECTOR_UNIT * compiled.flops, slow


def vector_products(compiled: Compiled) -> Iterator[tuple[Operation, float]]:
    """Yield sums over products of two spread-out arrays, and their arithmetic."""
    for operation, name, times in compiled.opened():
        if operation.kind != "reduce":
            continue
        among = compiled.computations[name]
        factors = _origin(operation.operands[0], among)
        if factors is None or factors.kind != "multiply":
            continue
        shape = factors.results[0].shape
        left, right = (_spread(_origin(each, among)) for each in factors.operands)
        if any(shape[axis] > 1 for axis in left - right) and any(
            shape[axis] > 1 for axis in right - left
        ):
            yield operation, 2.0 * math.prod(shape) * times


def _origin(name: str, among: Mapping[str, Operation]) -> Operation | None:
    """Return the operation that makes an array, before it is passed on."""
    operation = among.get(name)
    while operation is not None and operation.kind in _PASSING:
        operation = among.get(operation.operands[0])
    return operation


def _spread(operation: Operation | None) -> set[int]:
    """Return the axes along which a broadcast repeats an array; none if it repeats a number."""
    if operation is None or operation.kind != "broadcast":
        return set()
    found = re.search(r"dimensions={([\d,]*)}", operation.attributes)
    kept = {int(axis) for axis in found[1].split(",") if axis} if found else set()
    return set(range(len(operation.results[0].shape))) - kept if kept else set()


CHECKS = (
    *(fits, exchanges_little, holds_no_wide_types, leaves_the_host_alone),
    multiplies_on_the_matrix_unit,
)


def check(program: Program, compiled: Compiled, chip: Chip, bfloat16: bool) -> None:
    """Make every check of a single program."""
    for each in CHECKS:
        each(program, compiled, chip)
    if bfloat16 and program.stage in NETWORKS:
        multiplies_in_bfloat16(program, compiled, chip)


def are_different(programs: Sequence[Program]) -> None:
    """No two programs are the same, except that certainty has the cosines of scoring."""
    found: dict[str, tuple[str, str]] = {}
    for program in programs:
        title = program.stage, program.name
        text = re.sub(r"^module @\S+", "", program.lower().as_text())
        if text in found:
            both = found[text], title
            assert both == (("score (pairs)", "cosines"), ("certainty", "cosines")), both
        found[text] = title


def per_item(program: Program, compiled: Compiled) -> dict[str, float]:
    """Return a program's arithmetic and traffic per item of a call, on one of its devices."""
    items = program.items / program.devices
    return {"flops": compiled.flops / items, "bytes": compiled.bytes / items}


def is_as_recorded(
    found: Mapping[str, float], recorded: Mapping[str, float], same_versions: bool
) -> None:
    """Arithmetic and traffic per item are the recorded ones."""
    limits = {"flops": FLOPS, "bytes": BYTES if same_versions else OTHER_BYTES}
    for key, limit in limits.items():
        difference = abs(found[key] - recorded[key])
        assert difference <= limit * recorded[key], f"{key}: {found[key]}, not {recorded[key]}"
