"""The costs in docs/deploying.md follow from the one table of prices and from what is deployed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from benchmarks import month
from benchmarks.month import METRICS, PUBLISHING_METRICS, Nightly
from scripts.replay import estimate
from tests.stacks.conftest import ROOT

if TYPE_CHECKING:
    from tests.stacks.synthesized import Synthesized

PAGE = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (?P<what>[^|]+) \| (?P<dollars>[^|]*\$[^|]*) \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def nightly(prod: Synthesized) -> Nightly:
    return Nightly(alarms=len(prod.resources("AWS::CloudWatch::Alarm")))


def test_every_number_of_the_cost_table_follows_from_the_prices(nightly: Nightly) -> None:
    documented = [
        float(number) for row in ROW.finditer(PAGE) for number in re.findall(r"\$(\d+\.\d\d)", row["dollars"])
    ]

    assert documented == [
        round(value, 2)
        for value in (
            nightly.idle,
            nightly.workers,
            nightly.overhead,
            nightly.metrics,
            nightly.metrics_all_day,
            nightly.storage,
            nightly.storage_uncooled,
        )
    ]


def test_the_cost_table_names_what_is_deployed(nightly: Nightly, prod: Synthesized) -> None:
    rows = "\n".join(row["what"] for row in ROW.finditer(PAGE))

    assert f"{nightly.alarms} alarms" in rows
    assert f"{METRICS + PUBLISHING_METRICS} custom metrics" in rows
    assert len(prod.resources("AWS::KMS::Key")) == 1
    assert "the alerts' key" in rows


def test_an_estimate_of_a_replay_leaves_out_nothing_that_was_counted() -> None:
    stages = 3
    assert estimate.TRANSITIONS_OF_PIPELINE + stages * estimate.TRANSITIONS_OF_STAGE >= month.TRANSITIONS
    assert stages * estimate.PUTS_OF_STAGE >= month.S3_WRITES


def test_no_other_module_has_a_price_of_its_own() -> None:
    assert [
        file.relative_to(ROOT).as_posix()
        for folder in ("benchmarks", "scripts", "stacks", "lambdas")
        for file in (ROOT / folder).rglob("*.py")
        if re.search(r"/ 1e6|0\.0000\d|0\.000_0", file.read_text(encoding="utf-8"))
        and "price" in file.read_text(encoding="utf-8").lower()
    ] == ["scripts/deployed/prices.py"]
