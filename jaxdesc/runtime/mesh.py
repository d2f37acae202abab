"""Work shared out among all devices of a process, each with some of the rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

AXIS = "device"


def local_mesh() -> Mesh | None:
    """Return a mesh of all devices of this process; None for a single device."""
    return mesh_of(jax.local_devices())


def mesh_of(devices: Sequence[jax.Device]) -> Mesh | None:
    """Return a mesh of some devices; None for a single one."""
    return Mesh(np.array(devices), (AXIS,)) if len(devices) > 1 else None


@dataclass(frozen=True)
class Shapes:
    """Shapes of arrays on some devices, which need not be there: arguments to lower programs with.

    They are laid out as the pipeline lays out its arrays.
    """

    devices: Sequence[jax.Device]

    @property
    def mesh(self) -> Mesh | None:
        """Mesh of the devices; None for a single one."""
        return mesh_of(self.devices)

    def on_each(self, values: Any) -> Any:
        """All of a pytree on each device."""
        sharding = self._sharding()
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), values
        )

    def array(
        self, *shape: int, dtype: Any = jnp.float32, axis: int | None = None
    ) -> jax.ShapeDtypeStruct:
        """An array that is split along an axis, or on each device if that is None."""
        return jax.ShapeDtypeStruct(shape, dtype, sharding=self._sharding(axis))

    def _sharding(self, axis: int | None = None) -> Sharding:
        mesh = self.mesh
        if mesh is None:
            return SingleDeviceSharding(self.devices[0])
        spec = () if axis is None else (*(None,) * axis, mesh.axis_names)
        return NamedSharding(mesh, PartitionSpec(*spec))


def given(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """Shape of an array of the host, as a call gets it."""
    return jax.ShapeDtypeStruct(shape, dtype)


def device_count(mesh: Mesh | None) -> int:
    """Return how many devices a mesh has."""
    return 1 if mesh is None else mesh.size


def on_each(values: Any, mesh: Mesh) -> Any:
    """Put all of a pytree on each device."""
    return jax.device_put(values, NamedSharding(mesh, PartitionSpec()))


def shared_out(
    function: Callable[[Any, Any], Any], mesh: Mesh | None, params: Any, rows: Any
) -> Any:
    """Return `function(params, rows)`, each device computing some of the rows.

    For use within a compiled function. A device has as many rows as a single device would have
    alone, so that its results do not depend on the number of devices except for rounding. `rows` is
    a pytree of arrays of independent rows, as many as a multiple of the number of devices; each
    device has all of `params`. Without a mesh, the default device computes.
    """
    if mesh is None:
        return function(params, rows)
    split = PartitionSpec(mesh.axis_names)
    # Devices exchange nothing, so JAX has nothing to check across them.
    return jax.shard_map(
        function, mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=split, check_vma=False
    )(params, rows)
