"""Hosts of the devices that programs are compiled for."""

import pytest

from jaxdesc.runtime.chips import host_of


@pytest.mark.parametrize(
    ("spec", "chips", "hosts"),
    [
        ("v5e", 1, 1), ("v5e:2x4", 8, 1), ("v5e:4x4", 4, 4), ("v6e:2x4", 8, 1),
        ("v4", 1, 1), ("v4:2x2x2", 4, 2), ("v5p", 1, 1), ("h100:8", 8, 1),
        ("h200", 1, 1),
    ],
)  # fmt: skip
def test_chips_of_a_host_and_hosts(spec, chips, hosts):
    devices, count = host_of(spec)
    assert (len(devices), count) == (chips, hosts)
