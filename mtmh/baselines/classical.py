"""Classical item-to-item models: neighbours, random walk, closed form, factors; and what knows no
interactions at all.

X is the binary matrix of users and their distinct items of T1. Each function fits one model and
returns what answers by it. Their user's score is the sum over the triggers: pool with temperature
None where a score is no cosine (`mtmh.baselines.protocol`).
"""

import numpy as np
from scipy import linalg
from scipy.sparse import csr_matrix, diags
from threadpoolctl import threadpool_limits

from mtmh.baselines.contract import OneList, ScoreMatrix, TrainData, VectorSearch
from mtmh.errors import UserError

MOST_DENSE = 25_000  # items of a dense Gram matrix: 2.5 GB in float32, and once more its inverse


def popularity(data: TrainData) -> OneList:
    """The most engaged items of T1."""
    return recent_popularity(data, 1.0)


def recent_popularity(data: TrainData, share: float) -> OneList:
    """The most engaged items of the last `share` of T1's events, of equal ones the more popular."""
    last = data.events[len(data.events) - round(share * len(data.events)) :]
    counts = np.bincount(last, minlength=data.n_items)
    # All events of an item together are less than one recent event.
    ties = np.bincount(data.events, minlength=data.n_items) / (len(data.events) + 1)
    score = counts + ties
    return OneList((score / score.max()).astype(np.float32))


def content_alone(data: TrainData) -> VectorSearch:
    """The nearest items by the frozen content vectors. Raises UserError where there are none."""
    content = data.require_content("content")
    return VectorSearch(content, content, np.flatnonzero(content.any(axis=1)).astype(np.int32))


def item_knn(data: TrainData, weighting: str, shrinkage: float) -> ScoreMatrix:
    """ItemKNN: s_ij = <x_i, x_j> / (|x_i| |x_j| + shrinkage), x_i a column of the weighted X.

    `weighting` is none, tfidf or bm25, as `implicit` weighs: by how rare an engagement of its user
    is, and of BM25 also by how long the item's column is. Source: Ferrari Dacrema et al. (2019),
    appendix; with shrinkage 0 it is the cosine of `implicit`.
    """
    from implicit.nearest_neighbours import bm25_weight, tfidf_weight

    users = interaction_matrix(data)
    # As implicit has it: an item is the document, a user one of its words.
    if weighting == "tfidf":
        users = csr_matrix(tfidf_weight(users.T)).T
    elif weighting == "bm25":
        users = csr_matrix(bm25_weight(users.T, K1=1.2, B=0.75)).T
    gram = (users.T @ users).tocoo()
    length = np.sqrt(gram.diagonal())
    # An entry of a Gram matrix has no column of length 0: nothing is divided by it.
    scale = length[gram.row] * length[gram.col] + shrinkage
    matrix = csr_matrix((gram.data / scale, (gram.row, gram.col)), shape=gram.shape)
    return ScoreMatrix(matrix.astype(np.float32))


def rp3beta(data: TrainData, alpha: float, beta: float) -> ScoreMatrix:
    """RP3beta: s_ij = sum over users u of (p_iu p_uj)^alpha / n_j^beta.

    A walk from item to user to item, p_iu = x_ui / n_i and p_uj = x_ui / n_u, drawn away from
    popular items by beta. Source: Paudel et al. (2017), section 3.
    """
    users = interaction_matrix(data)
    n_item = np.maximum(np.asarray(users.sum(axis=0)).ravel(), 1)
    n_user = np.maximum(np.asarray(users.sum(axis=1)).ravel(), 1)
    # Entries are 1, so that a power of a row is the power of its scale.
    to_user = diags(n_item**-alpha) @ users.T
    to_item = diags(n_user**-alpha) @ users @ diags(n_item**-beta)
    return ScoreMatrix(csr_matrix(to_user @ to_item).astype(np.float32))


def ease(data: TrainData, regularization: float) -> ScoreMatrix:
    """EASE^R: B_ij = - P_ij / P_jj with P = (X^T X + lambda I)^-1, and 0 on the diagonal.

    Source: Steck (2019), equation 8. Raises UserError where the catalog is too large for a dense
    Gram matrix.
    """
    if data.n_items > MOST_DENSE:
        raise UserError(
            f"the baseline ease inverts a dense matrix of {data.n_items:,} x {data.n_items:,}, and"
            f" takes {MOST_DENSE:,} items at the most. Leave ease out with --models."
        )
    # In float32: lambda keeps the system well conditioned, and memory is what limits it.
    users = interaction_matrix(data).astype(np.float32)
    gram = (users.T @ users).toarray()
    gram[np.diag_indices_from(gram)] += np.float32(regularization)
    inverse = linalg.inv(gram, overwrite_a=True)
    matrix = inverse / -np.diag(inverse)
    np.fill_diagonal(matrix, 0)
    return ScoreMatrix(matrix)


def als(
    data: TrainData, seed: int, factors: int, regularization: float, alpha: float, votes: str
) -> VectorSearch:
    """Implicit ALS of `implicit`, item to item (Hu et al. 2008).

    `alpha` is what an engagement weighs where none weighs 1: 1 + their own alpha. At 1 it is no
    implicit ALS but a factorization without weights (Amazon Beauty, 64 factors: 16.1 of recall@500
    at 1, 19.7 at 10, 20.5 at 40). `votes` is cosine, or fold_in: y_i W y_j with W = (Y^T Y + lambda
    I)^-1, whose sum over a user's items is the user's own score where no item weighs more than
    another (their section 5, equation 7, with alpha left out of W).
    """
    from implicit.cpu.als import AlternatingLeastSquares

    # Threads of its own share the rows: BLAS in each of them has one, or they wait for each other.
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            factors=factors, regularization=regularization, alpha=alpha, random_state=seed
        )
        model.fit(interaction_matrix(data).astype(np.float32), show_progress=False)
    items = np.asarray(model.item_factors)
    parameters = items.size + np.asarray(model.user_factors).size
    if votes == "cosine":
        units = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-12)
        return VectorSearch(units, units, data.warm_items, parameters)
    # In double precision: a small system, once.
    precise = items.astype(np.float64)
    gram = precise.T @ precise + regularization * np.eye(items.shape[1])
    queries = np.linalg.solve(gram, precise.T).T.astype(np.float32)
    return VectorSearch(queries, items, data.warm_items, parameters)


def interaction_matrix(data: TrainData) -> csr_matrix:
    """X, float64 [users, items]: 1 where a user engaged with an item in T1."""
    indptr, items = data.history
    return csr_matrix((np.ones(len(items)), items, indptr), shape=(len(indptr) - 1, data.n_items))
