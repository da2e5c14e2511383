"""Numbers of items that would spoil a model are bounded; the others stay as they are, to the
bit.
"""

import numpy as np
import pyarrow as pa
import pytest
import torch

from mtmh.data.prepare import bounded_features
from mtmh.model.catalog import moments

ROWS = 200


def bounded(values: np.ndarray) -> np.ndarray:
    items = pa.table(
        {
            "item_id": [f"i{row}" for row in range(len(values))],
            "price": pa.array(values, pa.float64()),
        }
    )
    return bounded_features(items, ["price"])["price"].to_numpy()


def standardized(values: np.ndarray) -> np.ndarray:
    """As the model reads them: float32, less the mean, by the deviation."""
    floats = torch.from_numpy(values.astype(np.float32).reshape(-1, 1))
    mean, deviation = moments(floats)
    return ((floats - torch.tensor(mean)) / torch.tensor(deviation)).numpy()


@pytest.mark.parametrize("law", ["normal", "lognormal", "standard_cauchy"])
def test_real_features_stay_as_they_are(law: str) -> None:
    values = getattr(np.random.default_rng(0), law)(size=ROWS) * 1000
    assert np.array_equal(bounded(values), values)


@pytest.mark.parametrize("spoiled", [3e38, -3e38, 1e300, 1e20])
def test_a_value_out_of_all_proportion_is_bounded_and_said(
    spoiled: float, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.random.default_rng(0).normal(size=ROWS)
    values[7] = spoiled
    result = bounded(values)
    assert np.array_equal(np.delete(result, 7), np.delete(values, 7))
    assert abs(result[7]) < 1e8
    printed = capsys.readouterr().out
    assert "1 values of price bounded to" in printed
    assert f"item 'i7' has {spoiled:.6g}" in printed


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e-40, 1e15, 1e38, 1e300])
def test_columns_of_any_scale_give_finite_inputs(scale: float) -> None:
    values = np.random.default_rng(0).normal(size=ROWS) * scale
    assert np.isfinite(standardized(bounded(values))).all()


@pytest.mark.parametrize("constant", [0.1, 1e15, -7.0, 3e38])
def test_a_constant_column_has_deviation_1(constant: float) -> None:
    floats = torch.full((ROWS, 1), constant)
    mean, deviation = moments(floats)
    assert deviation == [1.0]
    assert mean == pytest.approx([constant])


def test_moments_past_float32_are_finite() -> None:
    floats = torch.tensor([[3e38], [-3e38], [3e38]])
    assert all(np.isfinite(moment).all() for moment in moments(floats))
