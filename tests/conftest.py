"""Strict settings for every test: shapes checked, dtypes never promoted in silence."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from jaxtyping import install_import_hook

# Every jaxtyping annotation of the package becomes an assertion while the tests run.
# An int is a float there, as it is for mypy (PEP 484's numeric tower).
install_import_hook(
    "jaxdesc", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def rng():
    """A seeded NumPy generator, fresh for each test."""
    import numpy as np

    return np.random.default_rng(0)
