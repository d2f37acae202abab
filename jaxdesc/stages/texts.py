"""Texts through a network, batch by batch, so that a run that is stopped keeps what is done."""

from collections.abc import Callable

from jaxdesc.models.texts import TextBatches
from jaxdesc.store import Draft


def compute_batches(
    draft: Draft, batches: dict[str, TextBatches], progress: Callable[[int], object]
) -> None:
    """Commit one shard for each batch of each network that this process has to compute."""
    numbered = _numbered(batches)
    missing = set(draft.missing(len(numbered)))
    for shard, (key, number) in enumerate(numbered):
        if shard in missing:
            draft.commit(shard, {_name(key, number): batches[key].compute(number)})
        progress(batches[key].size(number))


def write_features(draft: Draft, batches: dict[str, TextBatches]) -> None:
    """Put the batches together, an array for each network, and drop them."""
    for key, own in batches.items():
        found = (draft.read(_name(key, number)) for number in range(len(own)))
        draft.write(key, own.features(found))
    for key, number in _numbered(batches):
        draft.drop(_name(key, number))


def _numbered(batches: dict[str, TextBatches]) -> list[tuple[str, int]]:
    return [(key, number) for key, own in batches.items() for number in range(len(own))]


def _name(key: str, number: int) -> str:
    return f"{key} {number}"
