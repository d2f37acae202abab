"""Depthwise convolutions by shifts, against their definition in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxdesc.models.depthwise import conv_general_dilated
from jaxdesc.runtime.compiler import lowered_for

LAYOUTS = {"NHWC": ("NHWC", "HWIO", "NHWC"), "NCHW": ("NCHW", "OIHW", "NCHW")}


def slowly(images, weights, stride, pads, apart):
    """Images [B, H, W, C] and weights [h, w, C], a place at a time in float64."""
    (top, bottom), (left, right) = pads
    padded = np.pad(np.float64(images), ((0, 0), (top, bottom), (left, right), (0, 0)))
    reach = [(size - 1) * step + 1 for size, step in zip(weights.shape, apart, strict=False)]
    rows, columns = (
        (side - size) // step + 1
        for side, size, step in zip(padded.shape[1:3], reach, stride, strict=True)
    )
    found = np.zeros((len(images), rows, columns, images.shape[3]))
    for row, column in np.ndindex(rows, columns):
        y, x = row * stride[0], column * stride[1]
        window = padded[:, y : y + reach[0] : apart[0], x : x + reach[1] : apart[1]]
        found[:, row, column] = (window * weights).sum(axis=(1, 2))
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "apart"),
    [
        ((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
        ((5, 3), (2, 2), ((2, 1), (0, 2)), (1, 1)),
        ((3, 3), (1, 2), ((2, 2), (2, 2)), (2, 2)),
        ((5, 5), (2, 2), "SAME", (1, 1)),
        ((3, 3), (2, 2), "VALID", (1, 1)),
    ],
)
def test_it_equals_the_definition(layout, kernel, stride, padding, apart):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 13, 10, 6)).astype(np.float32)
    weights = rng.normal(size=(*kernel, 6)).astype(np.float32)
    pads = padding
    if isinstance(padding, str):
        pads = lax.padtype_to_pads((13, 10), kernel, stride, padding)
    lhs, rhs = images, weights[:, :, None]
    if layout == "NCHW":
        lhs, rhs = np.moveaxis(lhs, 3, 1), np.transpose(rhs, (3, 2, 0, 1))
    options = {"rhs_dilation": apart, "dimension_numbers": LAYOUTS[layout]}
    options |= {"feature_group_count": 6}

    def ours(lhs, rhs):
        with lowered_for("cpu"):
            return conv_general_dilated(lhs, rhs, stride, padding, **options)

    def theirs(lhs, rhs):
        return lax.conv_general_dilated(lhs, rhs, stride, padding, **options)

    found = jax.jit(ours)(lhs, rhs)
    channels_last = np.moveaxis(found, 1, 3) if layout == "NCHW" else found
    wanted = slowly(images, weights, stride, pads, apart)
    np.testing.assert_allclose(channels_last, wanted, rtol=1e-5, atol=1e-5)
    for argument in (0, 1):
        ascent, descent = (
            jax.jit(jax.grad(lambda *a, of=of: jnp.sum(jnp.sin(of(*a))), argument))(lhs, rhs)
            for of in (ours, theirs)
        )
        np.testing.assert_allclose(ascent, descent, rtol=1e-4, atol=1e-4)
    assert "convolution" not in jax.jit(ours).lower(lhs, rhs).as_text()


def test_other_convolutions_are_as_they_were():
    images, weights = jnp.ones((1, 5, 5, 6)), jnp.ones((3, 3, 3, 4))
    options = {"dimension_numbers": LAYOUTS["NHWC"], "feature_group_count": 2}

    def ours(images, weights):
        return conv_general_dilated(images, weights, (1, 1), "SAME", **options)

    with lowered_for("cpu"):
        assert "feature_group_count = 2" in jax.jit(ours).lower(images, weights).as_text()
    with lowered_for("tpu"):
        lowered = jax.jit(ours).lower(images[..., :2], jnp.ones((3, 3, 1, 2)))
    assert "convolution" in lowered.as_text()


def test_bfloat16_is_added_up_in_float32():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(1, 9, 9, 4)), jnp.bfloat16)
    weights = jnp.asarray(rng.normal(size=(7, 7, 1, 4)), jnp.bfloat16)
    options = {"dimension_numbers": LAYOUTS["NHWC"], "feature_group_count": 4}
    with lowered_for("cpu"):
        found = conv_general_dilated(images, weights, (1, 1), "VALID", **options)
    wanted = slowly(images, np.float64(weights[:, :, 0]), (1, 1), ((0, 0), (0, 0)), (1, 1))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, jnp.asarray(wanted, jnp.bfloat16))
