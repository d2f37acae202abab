import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdesc.benchmark.networks import Repeated, operations
from jaxdesc.models.resnet import ResNet, fold_batch_norm
from jaxdesc.models.resnet_config import TIMM_SIZES
from jaxdesc.scenes.source import Scenes


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


def test_a_resnet_50_does_what_its_authors_say():
    """3.8 billion multiply-adds with the stride in the first 1 × 1; 4.1 with it in the 3 × 3."""
    shapes = nnx.eval_shape(lambda: ResNet(TIMM_SIZES["resnet50"], rngs=nnx.Rngs(0)))
    graph, state = nnx.split(fold_batch_norm(shapes))
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)
    run = lambda pixels: nnx.merge(graph, state)(pixels)  # noqa: E731
    assert 8.1e9 < operations(run, np.zeros((1, 224, 224, 3), np.float32)) < 8.3e9


def test_a_source_repeated_until_there_are_enough():
    source = Scenes("count=3")
    more = Repeated(source, 7)
    assert len(more) == 7
    assert more.fingerprint() != source.fingerprint() != Repeated(source, 8).fingerprint()
    for index in range(7):
        assert more.identify(index) == source.identify(index % 3)
        assert more[index].image.tobytes() == source[index % 3].image.tobytes()
    assert (more.has_boxes, more.has_labels) == (source.has_boxes, source.has_labels)
