"""The home of two users, one of whom is to be erased."""

import pytest

from tests.support.known_users import Home


@pytest.fixture
def home(tmp_path, redis_factory, unique):
    return Home(tmp_path, redis_factory(), unique)
