"""Statistics of an experiment: how large an effect is, how sure, and whether the arms are fit to be
compared.

The unit is the user: whoever came on many days counts once, with the sums over these days, because
the days of a user are not independent. Everything takes Arrow tables (mtmh/experiment/units.py
makes them) and knows no folder.
"""

from mtmh.experiment.statistics.effects import Effect, effects, effects_by_day
from mtmh.experiment.statistics.moments import pre_period
from mtmh.experiment.statistics.power import Power, power
from mtmh.experiment.statistics.sample_ratio import (
    NeverServed,
    SampleRatio,
    never_served,
    sample_ratio,
)

__all__ = [
    "Effect",
    "NeverServed",
    "Power",
    "SampleRatio",
    "effects",
    "effects_by_day",
    "never_served",
    "power",
    "pre_period",
    "sample_ratio",
]
