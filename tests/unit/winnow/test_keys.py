from __future__ import annotations

import pytest

from winnow.core.keys import StageKeys


@pytest.mark.parametrize("number", [0, 7, 999, 1_000, 12_345])
def test_tells_which_attempt_a_key_belongs_to(number: int) -> None:
    keys = StageKeys("attempts", "attempts")
    attempt = keys.attempt(number)
    for key in (attempt.settlement, attempt.segment("attempts", 3), attempt.outputs("i", 0, "parquet")):
        assert keys.attempt_of(key) == number
