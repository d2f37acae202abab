"""The exceptions that bad input raises."""


class InputError(ValueError):
    """Something that the user handed over can't be used.

    The message is one sentence: what was found, where, what was expected and the remedy. A launch
    script prints it alone and exits with code 2; a notebook sees it as a `ValueError`.
    """


class UnusableImage(InputError):
    """A probe image that can't be decoded or resized: a run leaves it out, counts and lists it.

    Args:
        image: which one, for the sentence.
        reason: what is wrong with it, for `skipped.csv`.
    """

    def __init__(self, image: str, reason: str):
        super().__init__(f"The image {image} {reason}: repair or remove it.")
        self.reason = reason


class Stopped(Exception):
    """A run was asked to stop, and has finished the shard that it was at."""
