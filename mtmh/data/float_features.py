"""Numbers that items carry as features: nulls filled, values far out of proportion bounded."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SPREADS = 1e6  # interquartile ranges from the median: no price, count or length of real items lies that far out
LARGEST = 1e15  # whatever the spread: its square still is a float32


def bounded_features(items: pa.Table, names: list[str]) -> pa.Table:
    """Fill null by the mean of the others (0 if there are none), bound what is out of all proportion, and say both.

    `items` has the float64 columns `names`. Values within `SPREADS` interquartile ranges stay as they are.
    """
    for name in names:
        values = _bounded(items, name)
        missing = values.null_count
        if missing:
            mean = pc.mean(values).as_py() or 0.0
            print(
                f"items: {missing:,} null values of {name} filled with the mean, {mean:.6g}",
                flush=True,
            )
            values = pc.fill_null(values, mean)
        items = items.set_column(items.column_names.index(name), name, values)
    return items


def _bounded(items: pa.Table, name: str) -> pa.ChunkedArray:
    values = items[name]
    known = values.drop_null().to_numpy()
    if not len(known):
        return values
    # Where most items have one and the same value, its size stands for the spread.
    low, median, high = np.clip(np.quantile(known, [0.25, 0.5, 0.75]), -LARGEST, LARGEST)
    reach = SPREADS * max(high - low, abs(median), 1.0)
    least, most = max(median - reach, -LARGEST), min(median + reach, LARGEST)
    outside = pc.or_(pc.less(values, least), pc.greater(values, most))
    rows = pc.sum(outside).as_py()
    if not rows:
        return values
    first = pc.index(outside, True).as_py()
    example = f"item {items['item_id'][first].as_py()!r} has {values[first].as_py():.6g}"
    print(
        f"items: {rows:,} values of {name} bounded to {least:.6g} .. {most:.6g}: {example}",
        flush=True,
    )
    return pc.if_else(
        pc.greater(values, most), most, pc.if_else(pc.less(values, least), least, values)
    )
