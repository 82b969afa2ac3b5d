import pytest
from tests.component.control.support import Authority


@pytest.fixture
def authority():
    return Authority()


@pytest.fixture
def files(authority, tmp_path):
    return authority.write(tmp_path / "tls")
