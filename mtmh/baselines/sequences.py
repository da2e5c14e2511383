"""SASRec and HSTU* item to item (paper.md section 9): a sequential model of whole histories, whose
item table answers.

Both are trained by the loop and the loss of the sequential Divide and Conquer, with one cluster and
without prompts: L_e over in-batch and uniform negatives after each item of a history, unit vectors.
"""

from dataclasses import fields
from typing import Any

import numpy as np

from mtmh.baselines.contract import TrainData, VectorSearch
from mtmh.baselines.neural import weights_of
from mtmh.config import TrainSettings
from mtmh.data.whole_sequences import WholeSequences
from mtmh.training.prompted_sequence import (
    SequenceSettings,
    candidate_vectors,
    train_sequence,
    user_vectors,
)

SASREC = SequenceSettings(batch_size=256, epochs=5, tau=0.1, logq=False)
HSTU = SequenceSettings(batch_size=256, epochs=5, tau=0.05, logq=False, transducer=True)


def sequence_items(
    data: TrainData,
    train: TrainSettings,
    seed: int,
    settings: SequenceSettings,
    query: str,
    **changes: Any,
) -> VectorSearch:
    """SASRec, or HSTU* by the transducer's blocks; what T1 does not know has no vector.

    A trigger's vector is its row of the `query`: "table", the items' own, or "alone", what the
    model expects after a history of the trigger alone. Uniform negatives and sizes that `train`
    has are its; `changes` are of `settings`.
    """
    # As every baseline: as many negatives and as wide a table as the two heads have.
    shared = {"negatives": train.uniform_negatives, "dim": train.embedding_dim}
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    settings = SequenceSettings(**{**values, **shared, **changes})
    sampler = WholeSequences(
        data.history,
        data.n_items,
        settings.batch_size,
        settings.negatives,
        settings.length,
        seed,
    )
    model = train_sequence(sampler, settings, seed, prompted=False)
    table = candidate_vectors(model)
    queries = table
    if query == "alone":
        past = np.full((data.n_items, settings.length), -1, np.int64)
        past[:, -1] = np.arange(data.n_items)
        queries = user_vectors(model, past, 0)
    return VectorSearch(queries, table, data.warm_items, weights_of(model))
