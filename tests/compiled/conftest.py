import pytest

from tests.compiled.cases import missing


@pytest.fixture(autouse=True, scope="session")
def compilers():
    """Without the compilers these tests fail: nothing else compiles for a TPU or a GPU."""
    if missing():
        pytest.fail(missing(), pytrace=False)
