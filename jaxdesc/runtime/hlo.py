"""The text of a compiled program (optimised HLO), parsed into operations."""

import math
import re
from typing import NamedTuple

# Bits of the types that programs hold; those of 8 bits and less have many names.
_BITS = {"pred": 8, "token": 0, "opaque": 0}

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-$]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-$]+) = (.*)$")
_BUFFER = re.compile(r"(\w+)\[([\d,<= ]*)\](?:\{([^}]*)\})?")


class Buffer(NamedTuple):
    """An array of a program: its element type, shape, padded bytes, and whether it is on chip."""

    type: str
    shape: tuple[int, ...]
    bytes: float
    on_chip: bool


class Operation(NamedTuple):
    """One operation of a program: kind, results, names of its operands, attributes as text."""

    name: str
    kind: str
    results: tuple[Buffer, ...]
    operands: tuple[str, ...]
    attributes: str
    is_root: bool


def parsed(text: str) -> dict[str, dict[str, Operation]]:
    """Parse the operations of each computation, by name; the entry is under the empty name."""
    found: dict[str, dict[str, Operation]] = {}
    current: dict[str, Operation] = {}
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = found.setdefault("" if header[1] else header[2], {})
        elif instruction := _INSTRUCTION.match(line):
            operation = _operation(instruction)
            current[operation.name] = operation
    return found


def _operation(instruction: re.Match[str]) -> Operation:
    """Parse one line."""
    is_root, name, rest = instruction.groups()
    results, rest = _split(rest) if rest.startswith("(") else _first(rest)
    kind, _, rest = rest.strip().partition("(")
    operands, attributes = _split("(" + rest)
    names = re.findall(r"%([\w.\-$]+)", operands) or re.findall(r"[\w.\-$]+", operands)
    buffers = tuple(map(_buffer, _BUFFER.finditer(results)))
    return Operation(name, kind, buffers, tuple(names), attributes, bool(is_root))


def _first(text: str) -> tuple[str, str]:
    """Split off a type, which may be without a layout."""
    match = re.match(r"\w+\[[^\]]*\](?:\{[^}]*\})?", text)
    end = match.end() if match else text.index(" ")
    return text[:end], text[end:]


def _split(text: str) -> tuple[str, str]:
    """Split off what is in the first parentheses."""
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[1:index], text[index + 1 :]
    return text[1:], ""


def _buffer(found: re.Match[str]) -> Buffer:
    kind, sizes, layout = found[1], found[2], found[3] or ""
    shape = tuple(int(re.sub(r"\D", "", size)) for size in sizes.split(",") if size.strip())
    padded = list(shape)
    order, _, tiling = layout.partition(":")
    minor = [int(axis) for axis in order.split(",") if axis]
    if tile := re.match(r"T\(([\d,]+)\)", tiling):
        sides = [int(side) for side in tile[1].split(",")]
        for axis, side in zip(minor, reversed(sides), strict=False):
            padded[axis] = -(-padded[axis] // side) * side
    number = re.search(r"\d+", kind)
    bits = _BITS.get(kind, int(number[0]) if number else 0)
    return Buffer(kind, shape, math.prod(padded) * bits / 8, bool(re.search(r"S\([1-9]", tiling)))
