"""While tests run, annotations of shapes are assertions."""

import jax.numpy as jnp
import jaxtyping
import pytest

from jaxdesc.models.vit import interpolated


def test_a_wrong_shape_is_an_error():
    with pytest.raises(jaxtyping.TypeCheckError, match="learned"):
        interpolated(jnp.zeros((1, 5, 4)), 1, 2, 2, False)
