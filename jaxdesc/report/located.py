"""A result's exemplars found in a source of images, by their names.

A result of bare activations knows the rows of a matrix, and a folder may have changed since it was
described: only a name says which picture belongs to a neuron.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from jaxdesc.errors import InputError, shown
from jaxdesc.images.example import Source
from jaxdesc.result import Exemplar, Neuron, Result

NAMED = 3  # missing images in an error


def located(result: Result, source: Source) -> Result:
    """Give each exemplar the index that its image has in a source.

    An image is found by its name in the source, such as its path in a folder. Otherwise the end of
    one's path may be the other's name, if only one image of the source fits.

    Raises:
        InputError: exemplars that aren't in the source.
    """
    asked = {(e.image, e.index) for neuron in result for e in neuron.exemplars}
    moved = {
        (name, index)
        for name, index in asked
        if index >= len(source) or source.identify(index) != name
    }
    if not moved:
        return result
    names = {name for name, _ in moved}
    found = _found(names, [source.identify(index) for index in range(len(source))])
    taken = Counter({index: 1 for _, index in asked - moved} | Counter(found.values()))
    missing = sorted(name for name in names if taken[found.get(name, -1)] != 1)
    if missing:
        _refuse(missing, moved, len({name for name, _ in asked}), source)

    def there(exemplar: Exemplar) -> Exemplar:
        return replace(exemplar, index=found.get(exemplar.image, exemplar.index))

    def seen(neuron: Neuron) -> Neuron:
        return replace(neuron, exemplars=tuple(map(there, neuron.exemplars)))

    return replace(result, neurons=tuple(map(seen, result)))


def _found(names: Iterable[str], sources: list[str]) -> dict[str, int]:
    """The only image that each name can mean."""
    whole, ends = defaultdict(set), defaultdict(set)
    for index, name in enumerate(sources):
        whole[name].add(index)
        for end in _ends(name):
            ends[end].add(index)
    found = {}
    for name in names:
        same = whole.get(name) or ends.get(name, set()).union(
            *(whole.get(end, ()) for end in _ends(name))
        )
        if len(same) == 1:
            (found[name],) = same
    return found


def _ends(path: str) -> list[str]:
    """List what is left of a path without its first folders."""
    parts = path.split("/")
    return ["/".join(parts[place:]) for place in range(1, len(parts))]


def _refuse(missing: list[str], moved: set[tuple[str, int]], count: int, source: Source) -> None:
    if all(name == str(index) for name, index in moved):
        raise InputError(
            f"The exemplars have the numbers of rows for names, such as {missing[0]!r}, which says "
            f"nothing about {source.spec}: give describe_activations the names of its rows as "
            "images=, such as those of image_features."
        )
    told = ", ".join(map(shown, missing[:NAMED]))
    more = ", …" if len(missing) > NAMED else ""
    raise InputError(
        f"{len(missing)} of the exemplars' {count} images can't be found in {source.spec}, or not "
        f"one alone ({told}{more}): give the images that were described, whose paths are also the "
        "names that describe_activations takes as images=."
    )
