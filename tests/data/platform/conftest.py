"""The small population, made once."""

import pytest
from small_platform import WORLD

from mtmh.data.platform.behaviour import DEFAULT
from mtmh.data.platform.population import Population, populate


@pytest.fixture(scope="session")
def people() -> Population:
    return populate(WORLD, seed=1, users=300, days=3, behaviour=DEFAULT)
