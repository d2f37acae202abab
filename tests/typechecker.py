"""The type checker that turns the package's annotations into assertions in tests."""

from beartype import BeartypeConf, beartype

# As for mypy, an int is good where a float is wanted.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
