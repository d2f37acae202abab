"""Work shared out among all devices of a process, each with some of the rows."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "device"


def local_mesh() -> Mesh | None:
    """Return a mesh of all devices of this process; None for a single device."""
    devices = jax.local_devices()
    return Mesh(np.array(devices), (AXIS,)) if len(devices) > 1 else None


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
