"""The small population, made once."""

import pytest
from helpers.small_platform import WORLD

from simulation.behaviour import DEFAULT
from simulation.population import Population, populate


@pytest.fixture(scope="session")
def people() -> Population:
    return populate(WORLD, seed=1, users=300, days=3, behaviour=DEFAULT)
