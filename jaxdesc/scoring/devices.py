"""Where scores are computed: on one device, or on all of a mesh."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Shaped


@dataclass(frozen=True)
class Devices:
    """Concepts are shared out among a mesh's devices; what they are compared with is on each.

    Attributes:
        mesh: the devices; JAX's default one where None.
    """

    mesh: Mesh | None = None

    @property
    def count(self) -> int:
        """How many there are."""
        return 1 if self.mesh is None else self.mesh.size

    def whole(self, values: Any) -> Shaped[Array, "..."]:
        """Put all of an array on each device."""
        if self.mesh is None:
            return jnp.asarray(values)
        return jax.device_put(values, NamedSharding(self.mesh, PartitionSpec()))

    def split(self, values: Any, axis: int = 0) -> Shaped[Array, "..."]:
        """Share out an array along an axis, whose length is a multiple of `count`."""
        if self.mesh is None:
            return jnp.asarray(values)
        spec = PartitionSpec(*(None,) * axis, self.mesh.axis_names)
        return jax.device_put(values, NamedSharding(self.mesh, spec))


ONE = Devices()
