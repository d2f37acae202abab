import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdesc.models.resnet import ResNet, fold_batch_norm
from jaxdesc.models.resnet_config import TIMM_SIZES
from jaxdesc.runtime.traced import counted, operations


def test_operations_of_products_and_convolutions():
    assert operations(jnp.matmul, np.ones((3, 5)), np.ones((5, 7))) == 2 * 3 * 5 * 7
    batched = lambda a, b: jnp.einsum("bij,bkj->bik", a, b)  # noqa: E731
    assert operations(batched, np.ones((2, 3, 5)), np.ones((2, 7, 5))) == 2 * 2 * 3 * 5 * 7
    looped = lambda a: jax.lax.map(lambda r: r @ jnp.ones((5, 7)), a)  # noqa: E731
    assert operations(looped, np.ones((2, 3, 5))) == 2 * 2 * 3 * 5 * 7
    convolve = lambda x, w: jax.lax.conv_general_dilated(  # noqa: E731
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    image, kernel = np.ones((2, 8, 8, 3)), np.ones((5, 5, 3, 4))
    assert operations(convolve, image, kernel) == 2 * (2 * 8 * 8 * 4) * (5 * 5 * 3)
    # Of 8 × 5 taps per axis, 2 + 1 fall on padding at either end.
    inside = counted(jax.make_jaxpr(convolve)(image, kernel), padding=False)
    assert inside == 2 * 2 * 4 * 3 * (8 * 5 - 6) ** 2


def test_a_resnet_50_does_what_its_authors_say():
    """3.8 billion multiply-adds with the stride in the first 1 × 1; 4.1 with it in the 3 × 3."""
    shapes = nnx.eval_shape(lambda: ResNet(TIMM_SIZES["resnet50"], rngs=nnx.Rngs(0)))
    graph, state = nnx.split(fold_batch_norm(shapes))
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)
    run = lambda pixels: nnx.merge(graph, state)(pixels)  # noqa: E731
    assert 8.1e9 < operations(run, np.zeros((1, 224, 224, 3), np.float32)) < 8.3e9


def test_operations_of_branches_and_devices():
    def branching(a, b):
        return jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: a @ b @ b)

    assert operations(branching, np.ones((3, 5)), np.ones((5, 5))) == 2 * 2 * 3 * 5 * 5
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("x")
    each = jax.shard_map(lambda a: a @ a.T, mesh=mesh, in_specs=spec, out_specs=spec)
    assert operations(each, np.ones((3, 5))) == 2 * 3 * 3 * 5


def test_operations_without_those_of_vectors():
    def both(a, b, c):
        return jnp.einsum("nij,nj->ni", a, b) @ c

    sizes = np.ones((2, 3, 5)), np.ones((2, 5)), np.ones((3, 7))
    assert operations(both, *sizes) == 2 * (2 * 3 * 5 + 2 * 3 * 7)
    assert counted(jax.make_jaxpr(both)(*sizes), vectors=False) == 2 * 2 * 3 * 7
