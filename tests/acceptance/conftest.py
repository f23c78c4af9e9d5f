"""What the tests of HTTP share: each module has a fixture ``system`` of its own."""

import pytest

from tests.web import new_token, url_of


@pytest.fixture(scope="module")
def url(system):
    """Where it serves."""
    return url_of(system)


@pytest.fixture(scope="module")
def token(system):
    """A token that may do everything."""
    return new_token(system, "tests", "--all")
