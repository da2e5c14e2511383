"""The registered version as an MLflow model "from code": MLflow keeps this file and loads by it.

It lies beside the version's own files (`components.tracking.write_model`), so that
`mlflow.pyfunc.load_model("models:/NAME@champion").predict(triggers)` needs no pickle.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from mtmh.config import RetrievalSettings
from mtmh.errors import UserError


class TwoHeadRetriever(PythonModel):
    """Triggers to candidates, as `mtmh.retrieval.query.recommend` answers, many queries at once."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the version that this file lies in. Raises UserError on a wrong checksum."""
        # Not at the top: the step register runs this file too, and torch takes a second to import.
        from mtmh.retrieval.retriever import Retriever

        self.retriever = Retriever.load(Path(__file__).parent)
        self.settings = RetrievalSettings.model_validate(context.model_config)
        self.item_ids = pd.Index(self.retriever.items["item_id"].to_pylist())

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """The `k` best candidates of every query, best first.

        `model_input`: column `triggers`, a list of item ids a query: a user's last items, newest
        first, or a single item. `params`: `alpha`, the quota of the engagement head in percent, and
        `k`; the signature has their defaults. Returns `query` (row of the input, from 0), `rank`
        (from 1), `item_id`, `score` (p(candidate | triggers)), `head` and `trigger_id`. Raises
        UserError for an alpha or k out of range, a query without triggers, and an item that the
        version does not have.
        """
        from mtmh.ragged import Ragged
        from mtmh.retrieval.retriever import Request

        assert params is not None  # MLflow fills in what is left out, from the signature
        alpha, k = params["alpha"], params["k"]
        if not 0 <= alpha <= 100 or k < 1:
            raise UserError(f"alpha {alpha:g}, k {k}: give alpha from 0 to 100 and k from 1.")
        # A trigger is not shown again.
        rows = [self._rows(query, ids) for query, ids in enumerate(model_input["triggers"])]
        triggers = Ragged.of(rows)
        request = Request.of(triggers, triggers.sorted(), self.settings)
        best = self.retriever.recommend(replace(request, size=max(self.settings.pool, k)), alpha)
        # One row a candidate; lists that end early have -1 in what is left.
        query, rank = np.nonzero(best.item[:, :k] >= 0)
        return pd.DataFrame(
            {
                "query": query,
                "rank": rank + 1,
                "item_id": self.item_ids[best.item[query, rank]],
                "score": best.score[query, rank].astype(np.float64),
                "head": np.array(self.retriever.names)[best.channel[query, rank]],
                "trigger_id": self.item_ids[best.trigger[query, rank]],
            }
        )

    def _rows(self, query: int, item_ids: Sequence[str]) -> np.ndarray:
        """Rows of the item table, int32 [len(item_ids)]."""
        if not len(item_ids):
            raise UserError(f"query {query} has no triggers: give it the id of an item or more.")
        rows = self.item_ids.get_indexer(item_ids)
        if (rows < 0).any():
            unknown = str(item_ids[int(np.argmin(rows))])
            some = ", ".join(self.item_ids[:3])
            message = f"item {unknown!r} is not in this version. It has, say, {some}."
            raise UserError(f"query {query}: {message}")
        return rows.astype(np.int32)


set_model(TwoHeadRetriever())
