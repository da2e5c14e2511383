"""More from two heads: whose pairs count for how much, and a third epoch, on the validation tail of
T1.

The paper's merge gains 5 % of recall over its engagement head, ours less than one. Users with long
histories give most of the pairs, and old pairs count as new ones do: weights say otherwise, and may
do more for the merge than for a head. Judged as the parts of the training data
(`mtmh bench ablation`); read each head's gain beside the merge's, as a gain of both is none of two
heads.
"""

from benchmarks.studies.ablation import judge
from benchmarks.studies.grids import DATA, SEEDS, WEIGHTS
from benchmarks.studies.study import Data, Seeds, Settings, run


def main(data: Data = DATA, seeds: Seeds = SEEDS, settings: Settings = None) -> None:
    """Pairs weighted by user and by age, and a third epoch, each with and without."""
    run("weights", lambda trials: judge(trials, WEIGHTS), data, seeds, settings)
