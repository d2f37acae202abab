import pytest

from tests.scenes.quick import quick_networks


@pytest.fixture(scope="session")
def quick(tmp_path_factory):
    """Folder of a quick training of the embedded world's networks."""
    return quick_networks(tmp_path_factory.getbasetemp())
