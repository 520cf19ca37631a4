"""Severity and trust are scales: never compared by the alphabet."""

from itertools import combinations

import pytest

from maint.model import Severity, Trust


@pytest.mark.parametrize("scale", [Severity, Trust])
def test_order_is_that_of_definition(scale: type[Severity] | type[Trust]) -> None:
    for low, high in combinations(scale, 2):
        assert low < high
        assert high > low
        assert low <= high
        assert high >= low
        assert not any((low >= high, low > high, high < low, high <= low))
    assert max(scale) is list(scale)[-1]
    assert sorted(scale, reverse=True)[0] is list(scale)[-1]
