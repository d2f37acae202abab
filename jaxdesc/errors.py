"""The one exception that bad input raises."""


class InputError(ValueError):
    """Something that the user handed over can't be used.

    The message is one sentence: what was found, where, what was expected and the remedy. A launch
    script prints it alone and exits with code 2; a notebook sees it as a `ValueError`.
    """
