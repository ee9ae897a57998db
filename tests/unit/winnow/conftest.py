"""What several files of tests are about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from moto import mock_aws

from tests.unit.winnow.arrivals import Arrivals, state_table

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["memory", "dynamodb"])
def arrivals(request: pytest.FixtureRequest) -> Iterator[Arrivals]:
    """A source in which objects arrive, once with its state in memory and once in DynamoDB."""
    if request.param == "memory":
        yield Arrivals()
        return
    with mock_aws():
        yield Arrivals(dynamodb=state_table())
