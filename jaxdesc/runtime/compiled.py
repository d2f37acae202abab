"""Analysis of a compiled program: memory, arithmetic, traffic, and what it must not hold.

Everything is read from the text of the optimised HLO, since XLA's own cost analysis is empty on
some platforms, and on others leaves out loops, cuDNN's convolutions and cuBLAS's products.

Rules. Arithmetic is 2 per multiplication and addition of products and convolutions; nothing else
counts, and padding does not. Traffic is that of a device's main memory: each operation outside a
fusion reads its operands and writes its results once, at their padded size; buffers in a TPU's
on-chip memory are free, so a copy into it counts once. A gather or slice reads what it takes, in a
fusion too; an update in place writes what it changes, and a scatter reads that first. What is
started counts where it starts, not where it is done. A loop counts as often as it runs, or once if
its condition holds no number; of a conditional every branch counts. Scratch space that a library's
call asks for is taken to be unused.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax

from jaxdesc.errors import InputError, shown
from jaxdesc.runtime.hlo import Buffer, Operation, parsed
from jaxdesc.runtime.traced import taps_on_rows

# Operations that move nothing by themselves.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"),
    *("partition-id", "replica-id", "opt-barrier", "add-dependency", "async-update"),
}
# Calls of a TPU's compiler that only name memory.
_NAMING = re.compile(r'custom_call_target="(AllocateBuffer|ConcatBitcast)"')
_SLICES = {"gather", "dynamic-slice", "slice"}
_UPDATES = {"dynamic-update-slice": 1, "scatter": 2}  # by the operand that holds what is written
COLLECTIVES = (
    *("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute"),
    *("collective-broadcast", "ragged-all-to-all"),
)
_HOST = ("infeed", "outfeed", "send", "recv")

_CALLED = re.compile(r"(?:calls|to_apply|body|called_computations)=\{?%?([\w.\-$]+)")
_TRIPS = re.compile(r'known_trip_count"?[:=]\{"?n"?[:=]"?(\d+)')


class Product(NamedTuple):
    """A product or convolution, as often as it runs.

    `types` are the operands' element types; `times` counts its runs, `flops` those of one run.
    """

    types: tuple[str, ...]
    flops: float
    times: int
    name: str


@dataclass(frozen=True)
class Compiled:
    """A compiled program of one device: its optimised HLO, and the memory that it needs."""

    text: str
    memory: int  # bytes of arguments, results, temporaries and code
    arguments: int = 0  # of these the arguments

    @classmethod
    def of(
        cls, lowered: jax.stages.Lowered, options: Mapping[str, Any] | None = None
    ) -> "Compiled":
        """Compile a program, with options of the compiler (`runtime.chips.Chip.compiler`).

        `InputError` if the compiler is too new for JAX to read its programs.
        """
        compiled = lowered.compile(compiler_options=dict(options or {}))
        stats: Any = compiled.memory_analysis()
        parts = ("argument", "output", "temp", "generated_code")
        memory = sum(getattr(stats, f"{part}_size_in_bytes") for part in parts)
        try:
            text = compiled.as_text() or ""
        except jax.errors.JaxRuntimeError as error:
            raise InputError(
                f"JAX {jax.__version__} can't read what the device's compiler made "
                f"({shown(error)}): install the compiler of this release, with pip install "
                "'jax[tpu]' for a TPU."
            ) from error
        arguments = stats.argument_size_in_bytes
        return cls(text, memory - stats.alias_size_in_bytes, arguments)

    @cached_property
    def computations(self) -> dict[str, dict[str, Operation]]:
        """Operations of each computation, by name; the entry is under the empty name."""
        return parsed(self.text)

    def executed(self, computation: str = "", times: int = 1) -> Iterator[tuple[Any, str, int]]:
        """Yield each operation outside of fusions, its computation, and how often it runs."""
        for operation in self.computations[computation].values():
            kind, attributes = operation.kind, operation.attributes
            if kind in ("while", "call", "async-start"):
                count = times * (self._trips(attributes) if kind == "while" else 1)
                for inner in _CALLED.findall(attributes):
                    yield from self.executed(inner, count)
            elif kind == "conditional":
                for inner in re.findall(r"%([\w.\-$]+)", attributes):
                    if inner in self.computations:
                        yield from self.executed(inner, times)
            else:
                yield operation, computation, times

    def _trips(self, attributes: str) -> int:
        """How often a loop runs, if need be by the number that its counter is compared with."""
        if known := _TRIPS.search(attributes):
            return int(known[1])
        condition = re.search(r"condition=%?([\w.\-$]+)", attributes)
        assert condition, attributes
        operations = self.computations[condition[1]].values()
        inside = [each for op in operations if op.kind == "fusion" for _, each in self._fused(op)]
        numbers = [
            int(op.operands[0])
            for op in (*operations, *inside)
            if op.kind == "constant" and op.results[0].type == "s32"
        ]
        return max(numbers, default=1)

    def opened(self) -> Iterator[tuple[Operation, str, int]]:
        """Yield what `executed` does, with the operations of a fusion instead of the fusion."""
        for operation, computation, times in self.executed():
            if operation.kind == "fusion":
                for name, each in self._fused(operation):
                    yield each, name, times
            else:
                yield operation, computation, times

    @cached_property
    def products(self) -> list[Product]:
        """Every product and convolution, those inside fusions included."""
        found = []
        for operation, computation, times in self.opened():
            flops, types = self._arithmetic(operation, self.computations[computation])
            if flops:
                found.append(Product(types, flops, times, operation.name))
        return found

    @property
    def flops(self) -> float:
        """Arithmetic of all products and convolutions."""
        return sum(product.flops * product.times for product in self.products)

    @cached_property
    def bytes(self) -> float:
        """Bytes read from and written to the device's main memory."""
        return sum(times * self._traffic(op, name) for op, name, times in self.executed())

    def traffic(self) -> list[tuple[float, Operation]]:
        """Bytes that each operation moves, the largest first."""
        moved = [(times * self._traffic(op, name), op) for op, name, times in self.executed()]
        return sorted(moved, key=lambda each: -each[0])

    @property
    def types(self) -> set[str]:
        """Element types of all arrays."""
        return {
            buffer.type
            for operations in self.computations.values()
            for operation in operations.values()
            for buffer in operation.results
        }

    @property
    def collectives(self) -> dict[str, int]:
        """How often each kind of exchange between devices runs."""
        found: dict[str, int] = {}
        for operation, _, times in self.executed():
            kind = operation.kind.removesuffix("-start")
            if kind in COLLECTIVES:
                found[kind] = found.get(kind, 0) + times
        return found

    @property
    def host_calls(self) -> list[str]:
        """Names of all operations that need the host while the program runs."""
        every = [op for operations in self.computations.values() for op in operations.values()]
        return [
            op.name
            for op in every
            if op.kind in _HOST or (op.kind == "custom-call" and "callback" in op.attributes)
        ]

    def _fused(self, fusion: Operation) -> Iterator[tuple[str, Operation]]:
        """Yield all operations of a fusion and of the fusions in it."""
        (name, *_) = _CALLED.findall(fusion.attributes)
        for operation in self.computations[name].values():
            yield name, operation
            if operation.kind in ("fusion", "call"):
                yield from self._fused(operation)

    def _arithmetic(
        self, operation: Operation, among: dict[str, Operation]
    ) -> tuple[float, tuple[str, ...]]:
        """Arithmetic of a product or a convolution, and its operands' types; 0 for others."""
        kind, attributes = operation.kind, operation.attributes
        is_call = kind == "custom-call"
        convolves = kind == "convolution" or (is_call and "__cudnn$conv" in attributes)
        multiplies = kind == "dot" or (
            is_call and re.search(r"__cublas[\w$]*(gemm|matmul)", attributes)
        )
        if not (convolves or multiplies):
            return 0.0, ()
        left, right = (among[name].results[0] for name in operation.operands[:2])
        result = operation.results[0]
        types = left.type, right.type
        if convolves:
            return _convolved(left.shape, right.shape, result.shape, attributes), types
        axes = re.search(r'lhs_contracting_dim\w*"?[:=][\[{]([\d",]*)', attributes)
        assert axes, operation
        inner = math.prod(left.shape[int(axis)] for axis in re.findall(r"\d+", axes[1]))
        return 2.0 * math.prod(result.shape) * inner, types

    def _traffic(self, operation: Operation, computation: str) -> float:
        """Bytes that an operation outside of fusions moves."""
        kind = operation.kind
        if kind in _FREE or kind.endswith("-done") or _NAMING.search(operation.attributes):
            return 0.0
        among, kind = self.computations[computation], kind.removesuffix("-start")
        results = _results(operation)
        if kind == "fusion" and _asks_for_scratch(self._root(operation)):
            results = results[:1]
        written = _moved(results)
        given = [among[name].results for name in operation.operands]
        if kind == "fusion":
            return self._traffic_of_fusion(operation, given, written)
        read = [_moved(buffers) for buffers in given]
        if kind in _SLICES:
            read[0] = min(read[0], _size(results))
        if kind in _UPDATES and written:
            written = _size(given[_UPDATES[kind]])
            read[0] = written if kind == "scatter" else 0.0
        return written + sum(read)

    def _root(self, fusion: Operation) -> Operation:
        """Return the operation that makes a fusion's results."""
        inside = self.computations[_CALLED.findall(fusion.attributes)[0]]
        return next(each for each in inside.values() if each.is_root)

    def _traffic_of_fusion(
        self, fusion: Operation, given: list[tuple[Buffer, ...]], written: float
    ) -> float:
        """Bytes that a fusion moves: of an operand that it only slices or updates, the parts."""
        total = 0.0
        for place, buffers in enumerate(given):
            whole = _moved(buffers)
            readers = list(self._readers(fusion, place)) if whole else []
            touched, changed = 0.0, 0.0
            for operation, first, inside in readers:
                kind = operation.kind
                if first and kind in _SLICES:
                    touched += _size(operation.results)
                elif first and kind in _UPDATES and written >= whole:
                    part = _size(inside[operation.operands[_UPDATES[kind]]].results)
                    changed += part
                    touched += part if kind == "scatter" else 0.0
                else:
                    touched, changed = whole, 0.0
                    break
            if changed:  # in place: the result is the operand with a part replaced
                written += changed - whole
            total += min(whole, touched)
        return total + written

    def _readers(
        self, fusion: Operation, place: int
    ) -> Iterator[tuple[Operation, bool, dict[str, Operation]]]:
        """Yield what reads a fusion's operand, whether as its first, and the operations around."""
        inside = self.computations[_CALLED.findall(fusion.attributes)[0]]
        names = [
            op.name
            for op in inside.values()
            if op.kind == "parameter" and op.operands[0] == str(place)
        ]
        for name in names:
            for operation in inside.values():
                if name not in operation.operands:
                    continue
                if operation.kind in ("bitcast", "copy") and not operation.is_root:
                    names.append(operation.name)
                elif operation.kind == "fusion":
                    yield from self._readers(operation, operation.operands.index(name))
                else:
                    yield operation, operation.operands.index(name) == 0, inside


def _convolved(
    image: tuple[int, ...], kernel: tuple[int, ...], result: tuple[int, ...], attributes: str
) -> float:
    """Arithmetic of a convolution, without what falls on padding or between dilated rows.

    A TPU's compiler writes a batch of products as a convolution over a dilated axis.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", attributes)
    assert labels, attributes
    found = re.search(r"window={([^}]*)}", attributes)
    window = dict(re.findall(r"(\w+)=([\dx_\-]+)", found[1])) if found else {}
    pairs = 1.0
    for axis in filter(str.isdigit, labels[1]):
        rows, taps, outputs = (
            shape[label.index(axis)]
            for shape, label in zip((image, kernel, result), labels.groups(), strict=True)
        )

        def at(key: str, default: str, axis: int = int(axis)) -> str:
            return window[key].split("x")[axis] if key in window else default

        step, spread = int(at("stride", "1")), int(at("rhs_dilate", "1"))
        apart, before = int(at("lhs_dilate", "1")), int(at("pad", "0_0").split("_")[0])
        pairs *= taps_on_rows(rows, taps, outputs, step, spread, apart, before)
    groups = re.search(r"batch_group_count=(\d+)", attributes)
    sides = image[labels[1].index("b")] * kernel[labels[2].index("i")]
    return 2.0 * pairs * sides * result[labels[3].index("f")] / (int(groups[1]) if groups else 1)


def _results(operation: Operation) -> tuple[Buffer, ...]:
    """Buffers that an operation writes; the results of a start name its operands too."""
    kind, results, count = operation.kind, operation.results, len(operation.operands)
    if kind == "copy-start":  # a copy, the operand, and a context
        return results[:1]
    if kind.endswith("-start") and kind != "all-reduce-start":  # operands, results, contexts
        return results[count : 2 * count]
    return results[:1] if _asks_for_scratch(operation) else results


def _asks_for_scratch(operation: Operation) -> bool:
    """Say whether it is a call of cuBLAS or cuDNN, whose first result precedes scratch space."""
    is_call = operation.kind == "custom-call"
    return is_call and 'custom_call_target="__cu' in operation.attributes


def _size(buffers: tuple[Buffer, ...]) -> float:
    return sum(buffer.bytes for buffer in buffers)


def _moved(buffers: tuple[Buffer, ...]) -> float:
    return sum(buffer.bytes for buffer in buffers if not buffer.on_chip)
