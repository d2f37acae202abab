"""The target's top-1 accuracy on labelled images: the plainest test of how it was read."""

from typing import NamedTuple

# A top-1 below this share, or below this many times that of guessing, is near chance.
LEAST_SHARE, LEAST_TIMES_CHANCE = 0.05, 5


class Top1(NamedTuple):
    """Images whose class has the largest logit, of all images with a known class.

    `classes` is how many there are to choose from, `view` the part of each image the target saw.
    """

    right: int
    images: int
    classes: int
    view: str

    @property
    def share(self) -> float:
        """Share of the images that are right."""
        return self.right / self.images

    @property
    def near_chance(self) -> bool:
        """True if it is so low that the preprocessing, class order or labels may be wrong.

        The limit is the larger of 5 % and five times chance, but at most halfway from chance to 1.
        """
        chance = 1 / self.classes
        return self.share < min(max(LEAST_SHARE, LEAST_TIMES_CHANCE * chance), (1 + chance) / 2)

    def __str__(self) -> str:
        return (
            f"top-1 {self.share:.1%} on {self.images:,} labelled image{'s' * (self.images != 1)}, "
            f"{self.view} views; chance is {1 / self.classes:.1%}"
        )
