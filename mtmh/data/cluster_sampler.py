"""Batches of one cluster each: every negative is of the positive's own cluster (Divide and Conquer,
paper.md section 8).
"""

from collections.abc import Iterator

import numpy as np

from mtmh.data.clusters import Clusters
from mtmh.data.pair_source import Pairs
from mtmh.data.sampler import Batch, PairSampler
from mtmh.ragged import Ragged


class ClusterSampler:
    """Draws batches whose positives, and therefore all in-batch and uniform negatives, lie in one
    cluster: a retrieval task a batch, the tasks in shuffled order.

    Masks of accidental hits, logQ, weights and id dropout are `PairSampler`'s, one of which draws
    for each cluster: its Q is the cluster's own mixture. Triggers may lie anywhere. Arguments:
    `pairs`, all in memory; `history`, a row of int32 items a user; `clusters` of the catalog; the
    rest as in `PairSampler`. A cluster that is the candidate of no pair has no batch. Order and
    draws of an epoch depend on `seed` and its number alone.
    """

    def __init__(
        self,
        pairs: Pairs,
        history: Ragged,
        clusters: Clusters,
        batch_size: int,
        uniform_negatives: int,
        seed: int,
        id_dropout: float = 0.0,
    ) -> None:
        self.batch_size, self.seed = batch_size, seed
        n_items = len(clusters.of_item)
        of_pair = clusters.of_item[pairs.candidate]
        self.tasks: list[PairSampler] = []  # of the clusters that have pairs, ascending
        for cluster in np.unique(of_pair):
            task = PairSampler(
                pairs.take(np.flatnonzero(of_pair == cluster)),
                history,
                n_items,
                batch_size,
                uniform_negatives,
                # Another seed a cluster, or all would make the same draws.
                seed=int(np.random.default_rng((seed, int(cluster))).integers(1 << 62)),
                id_dropout=id_dropout,
                uniform_among=clusters.items(int(cluster)),
            )
            # One scratch array for all: it has the size of the catalog, and a draw leaves it clean.
            task.position = self.tasks[0].position if self.tasks else task.position
            self.tasks.append(task)

    def steps_per_epoch(self) -> int:
        """Batches an epoch; the last one of each cluster may be smaller."""
        return sum(task.steps_per_epoch() for task in self.tasks)

    def epoch(self, number: int, first_step: int = 0) -> Iterator[Batch]:
        """Batches of epoch `number` (from 0), starting at `first_step`."""
        steps = [task.steps_per_epoch() for task in self.tasks]
        order = np.repeat(np.arange(len(self.tasks)), steps)
        np.random.default_rng((self.seed, number)).shuffle(order)
        # What a resumed run has done already is passed over in every cluster.
        done = np.bincount(order[:first_step], minlength=len(self.tasks))
        batches = [
            task.epoch(number, int(passed)) for task, passed in zip(self.tasks, done, strict=True)
        ]
        for task_number in order[first_step:]:
            yield next(batches[task_number])
