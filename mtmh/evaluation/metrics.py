"""Metrics of ranked lists over test users (paper section 6), each over all users at once."""

import numpy as np

RECALL_AT = (5, 20, 100, 500)  # the gate goes by the last
_LOOKUPS_AT_ONCE = 4_000_000  # words of topics held in memory together, three times: 96 MB


def recall_at(
    item: np.ndarray,
    target_indptr: np.ndarray,
    targets: np.ndarray,
    cutoffs: tuple[int, ...],
) -> np.ndarray:
    """Share of each user's targets among the first K of the list, float64 [U, len(cutoffs)].

    Arguments: `item` int32 [U, pool], best first, -1 where a list ends; `target_indptr` int64 [U +
    1] and `targets` int32, each user's distinct targets, at least one.
    """
    # A user and an item as one number: membership is then one search for all users.
    users = len(item)
    stride = int(max(item.max(initial=0), targets.max(initial=0))) + 1
    wanted = np.repeat(np.arange(users), np.diff(target_indptr)) * stride + targets
    wanted.sort()
    offered = np.where(item >= 0, np.arange(users)[:, None] * stride + item, -1)
    hit = wanted[np.minimum(np.searchsorted(wanted, offered), len(wanted) - 1)] == offered
    hits = np.stack([hit[:, :cutoff].sum(axis=1) for cutoff in cutoffs], axis=1)
    return np.asarray(hits / np.diff(target_indptr)[:, None])


def topic_matches(item: np.ndarray, trigger: np.ndarray, topic_bits: np.ndarray) -> np.ndarray:
    """Candidates of each user's list that share a topic with the trigger that
    retrieved them, int32 [U].

    Arguments: `item` and `trigger` int32 [U, pool], -1 where a list ends; `topic_bits` uint64
    [items, words]. Divide by the number of candidates to get the semantic relevance; an item
    without topics matches nothing.
    """
    # In blocks of users: the topics of all lists at once would not fit in memory.
    matches = np.empty(len(item), dtype=np.int32)
    block = max(1, _LOOKUPS_AT_ONCE // (item.shape[1] * topic_bits.shape[1]))
    for start in range(0, len(item), block):
        users = slice(start, start + block)
        # A row of -1 is the last item's here, and is left out after the comparison.
        shared = (topic_bits[item[users]] & topic_bits[trigger[users]]).any(axis=2)
        matches[users] = (shared & (item[users] >= 0)).sum(axis=1)
    return matches


def coverage(item: np.ndarray, n_items: int) -> float:
    """Share of the catalog that at least one user's list holds."""
    return len(np.unique(item[item >= 0])) / n_items


def intra_list_diversity(item: np.ndarray, content: np.ndarray) -> float | None:
    """Mean over users of the mean cosine distance between two content vectors of the list.

    `content` float32 [items, d], unit rows; items without content (zero rows) are left out, lists
    with fewer than two others too; None when no list is left. For unit vectors the sum over pairs
    is (|sum|^2 - n) / 2: no pair is formed.
    """
    import torch

    has_content = np.linalg.norm(content, axis=1) > 0
    present = (item >= 0) & has_content[item]
    # Row 0 of the padded table stands for "no item", so one bagged lookup sums every list.
    table = torch.from_numpy(np.vstack([np.zeros_like(content[:1]), content]))
    bags = torch.from_numpy(np.where(present, item + 1, 0))
    total = torch.nn.functional.embedding_bag(bags, table, mode="sum").numpy().astype(np.float64)
    # A list of fewer than two items has no pair.
    n = present.sum(axis=1)
    enough = n >= 2
    if not enough.any():
        return None
    squared = (total[enough] ** 2).sum(axis=1)
    return float((1 - (squared - n[enough]) / (n[enough] * (n[enough] - 1))).mean())


def topic_entropy(item: np.ndarray, topic_bits: np.ndarray) -> float | None:
    """Mean over users of the entropy, in nats, of the topics of the list; 0 where all are one.

    `item` int32 [U, pool], -1 where a list ends; `topic_bits` uint64 [items, words]. An item counts
    once for each of its topics; lists without any topic are left out; None when no list is left.
    """
    bits = np.unpackbits(topic_bits.view(np.uint8), axis=1, bitorder="little")
    bits = bits[:, bits.any(axis=0)].astype(np.float32)
    entropies = []
    # A user at a time: the topics of all lists at once would not fit in memory.
    for candidates in item:
        counts = bits[candidates[candidates >= 0]].sum(axis=0, dtype=np.float64)
        if counts.any():
            p = counts[counts > 0] / counts.sum()
            entropies.append(float(-(p * np.log(p)).sum()))
    return float(np.mean(entropies)) if entropies else None


def share_of(item: np.ndarray, chosen: np.ndarray) -> float:
    """Share of all candidates that are among the `chosen` items, bool [items]."""
    present = item >= 0
    return float(chosen[item[present]].mean()) if present.any() else 0.0


def recall_of(
    item: np.ndarray,
    target_indptr: np.ndarray,
    targets: np.ndarray,
    chosen: np.ndarray,
    cutoff: int,
) -> np.ndarray:
    """Recall of those targets alone that are among the `chosen` items, float64
    [U]; NaN for a user who has none.

    Arguments: `chosen` bool [items]; the others as in `recall_at`.
    """
    is_chosen = chosen[targets]
    count = np.add.reduceat(is_chosen, target_indptr[:-1], dtype=np.int64)
    recall = np.full(len(count), np.nan)
    # Recall among the users that have such a target, of these targets.
    users = np.flatnonzero(count)
    if len(users):
        indptr = np.concatenate([[0], np.cumsum(count[users])])
        recall[users] = recall_at(item[users], indptr, targets[is_chosen], (cutoff,))[:, 0]
    return recall
