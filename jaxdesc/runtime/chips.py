"""CHIPS: accelerators that programs are compiled for, whether or not there is one."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

import jax
from jax.experimental import topologies

from jaxdesc.errors import InputError, shown

GIB = 2**30

# XLA's description of a GPU that is not there (a `GpuTargetConfigProto`), with NVIDIA's figures.
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  device_memory_size: 84942979072 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  cuda_compute_capability { major: 9 minor: 0 }
  name: "NVIDIA H100 80GB HBM3"
  driver_version: "13.0.0" runtime_version: "12.8.0" compile_time_toolkit_version: "12.8.0"
  dnn_version: "9.10.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


# Environment of libtpu where there is no TPU: no metadata server to ask, and no device to lock.
_WITHOUT_DEVICE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

# Chips of a host that has not four of them: single ones, and the v5litepod-8 and v6e-8.
_HOSTS = {"1x1": [1, 1, 1], "1x1x1": [1, 1, 1], "2x4": [2, 4, 1]}


@dataclass(frozen=True)
class Chip:
    """One accelerator: its maker's figures, and how JAX describes it without having one.

    Attributes:
        title: for tables.
        kind: JAX's `device_kind` of such a device begins with it.
        platform: JAX's name of its platform.
        package: module of its compiler.
        memory: bytes of its memory.
        bandwidth: bytes/s of that memory.
        rates: FLOP/s of products, by their operands' type. A TPU makes a float32 product from six
            bfloat16 ones (`jax.lax.Precision.HIGHEST`).
        one: topology of a single chip.
        cores: virtual cores of a host per chip, as Google Cloud lends it.
        options: further arguments of `jax.experimental.topologies.get_topology_desc`.
        compiler: options of the compiler.
    """

    title: str
    kind: str
    platform: str
    package: str
    memory: int
    bandwidth: float
    rates: Mapping[str, float]
    one: str
    cores: int
    options: Mapping[str, Any] = field(default_factory=dict)
    compiler: Mapping[str, Any] = field(default_factory=dict)


def _tpu(
    title: str,
    kind: str,
    memory: int,
    bandwidth: float,
    rate: float,
    one: str,
    cores: int,
    **options: Any,
) -> Chip:
    rates = {"bf16": rate, "f32": rate / 6}
    return Chip(title, kind, "tpu", "libtpu", memory * GIB, bandwidth, rates, one, cores, options)


_H100_CHIP = Chip(
    title="NVIDIA H100 (SXM)",
    kind="NVIDIA H100",
    platform="gpu",
    package="jax_cuda12_plugin",
    memory=84942979072,
    bandwidth=3.35e12,
    rates={"bf16": 989e12, "f32": 67e12},
    one="1",
    cores=26,
    options={"target_config": _H100},
    # XLA times Triton's products on the device to choose among them; without one some shapes do not
    # compile, and cuBLAS's stand for all.
    compiler={"xla_gpu_enable_triton_gemm": False},
)

# Figures of Google's pages "TPU v4" to "TPU v6e", and of NVIDIA's datasheets "H100 Tensor Core GPU"
# and "H200 Tensor Core GPU" (SXM, without sparsity).
CHIPS: dict[str, Chip] = {
    "v4": _tpu("TPU v4", "TPU v4", 32, 1.228e12, 275e12, "1x1x1", 60, chip_config_name="megacore"),
    "v5e": _tpu("TPU v5e", "TPU v5 lite", 16, 0.819e12, 197e12, "1x1", 28),
    "v5p": _tpu("TPU v5p", "TPU v5", 95, 2.765e12, 459e12, "1x1x1", 52),
    "v6e": _tpu("TPU v6e", "TPU v6 lite", 32, 1.64e12, 918e12, "1x1", 45),
    "h100": _H100_CHIP,
    # The same processor with more and faster memory.
    "h200": replace(
        _H100_CHIP,
        title="NVIDIA H200 (SXM)",
        kind="NVIDIA H200",
        memory=139 * GIB,
        bandwidth=4.8e12,
    ),
}


def described(spec: str) -> tuple[Chip, Sequence[jax.Device]]:
    """Return a chip and devices that programs can be compiled for, not run on.

    `spec` is an entry of `CHIPS`, for a single chip, or that and a topology: v5e:2x4, v4:2x2x2,
    h100:8. `InputError` for an unknown one, or a compiler that is not installed.
    """
    name, _, shape = spec.partition(":")
    if name not in CHIPS:
        raise InputError(
            f"Unknown device {shown(spec)}: expected cpu or one of {', '.join(CHIPS)}, with or "
            "without a topology, such as v5e:2x4 or h100:8."
        )
    chip = CHIPS[name]
    if find_spec(chip.package) is None:
        raise InputError(
            f"The compiler for {chip.title} is not installed: run pip install 'jaxdesc[aot]', best "
            "in an environment of its own, since JAX looks for its devices at every start."
        )
    for variable, value in _WITHOUT_DEVICE.items():
        os.environ.setdefault(variable, value)
    shape = shape or chip.one
    if chip.platform == "tpu":
        named: dict[str, Any] = {"platform": "tpu", "topology_name": f"{name}:{shape}"}
        if shape in _HOSTS:
            named["chips_per_host_bounds"] = _HOSTS[shape]
    else:  # hosts and devices of each
        named = {"platform": "cuda", "topology_name": name, "topology": f"1x1x{shape}"}
    try:
        return chip, topologies.get_topology_desc(**named, **chip.options).devices
    except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{shown(spec)} is not a {chip.title} that its compiler knows ({reason}): give a "
            "topology such as v5e:2x4, v4:2x2x2 or h100:8."
        ) from error


def host_of(spec: str) -> tuple[Sequence[jax.Device], int]:
    """Return the devices of one host, which a process compiles for, and the number of hosts."""
    _, devices = described(spec)
    hosts = len({device.process_index for device in devices})
    if hosts == 1:
        return devices, 1
    name, _, shape = spec.partition(":")  # TPU hosts of a pod have 2 × 2 chips
    return described(f"{name}:{'2x2x1' if shape.count('x') == 2 else '2x2'}")[1], hosts
