"""Work in threads, against work in turn."""

from collections.abc import Iterator

import pytest
import torch

from mtmh.kernels.threads import n_workers, one_thread_per_op, parallel_map, split_range


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_within_an_operation_has_one_thread(two_threads: None) -> None:
    with one_thread_per_op():
        assert n_workers() == 2
        assert torch.get_num_threads() == 1
        assert parallel_map(lambda _: torch.get_num_threads(), range(4)) == [1] * 4
    assert n_workers() == 1
    assert torch.get_num_threads() == 2


def test_results_keep_the_order_and_errors_are_raised(two_threads: None) -> None:
    assert parallel_map(lambda x: x * x, range(9)) == [x * x for x in range(9)]
    with one_thread_per_op():
        assert parallel_map(lambda x: x * x, range(9)) == [x * x for x in range(9)]
        with pytest.raises(ZeroDivisionError):
            parallel_map(lambda x: 1 // x, [1, 0])


@pytest.mark.parametrize(("size", "count"), [(10, 3), (2, 4), (0, 2), (7, 1)])
def test_a_range_is_split_in_nearly_equal_parts(size: int, count: int) -> None:
    parts = [list(range(size))[part] for part in split_range(size, count)]
    assert [number for part in parts for number in part] == list(range(size))
    assert all(parts)
    assert len(parts) <= count
    assert max(map(len, parts), default=0) - min(map(len, parts), default=0) <= 1
