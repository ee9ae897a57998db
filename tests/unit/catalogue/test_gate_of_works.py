"""The example's gate: the works of the samples pass it, and the defects that it is there for trip it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stacks.catalogue_stack import RULES
from tests.unit.catalogue.test_samples import Run
from tests.unit.winnow.candidates import examine, facts, write_parts
from winnow.quality.result import GateOutcome

if TYPE_CHECKING:
    from pathlib import Path

    from winnow.quality.result import RuleResult

pytestmark = pytest.mark.usefixtures("dynamodb")
Works = list[dict[str, Any]]


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch, samples: dict[str, bytes]) -> Works:
    """Rows as they are published."""
    outputs = Run(monkeypatch, samples, samples).mint.outputs
    return [{"id": identifier, **data} for identifier, data in sorted(outputs.items())]


def judged(folder: Path, works: Works, **known: Any) -> dict[str, RuleResult]:
    """Results by rule, beside a last version of as many works."""
    source = write_parts(folder, "ndjson", [works[:10], works[10:]])
    results, _ = examine(RULES, source, facts(len(works), **{"base_rows": len(works), **known}))
    return {result.rule.name: result for result in results}


def not_passed(results: dict[str, RuleResult]) -> dict[str, str]:
    return {
        name: result.outcome for name, result in results.items() if result.outcome is not GateOutcome.PASSED
    }


def test_passes_the_works_of_the_samples(tmp_path: Path, works: Works) -> None:
    assert len(works) > 10
    assert not_passed(judged(tmp_path, works)) == {}


def test_stops_a_manuscript_that_became_two_works(tmp_path: Path, works: Works) -> None:
    works[1]["sourceIdentifier"] = works[0]["sourceIdentifier"]
    results = judged(tmp_path, works)

    assert not_passed(results) == {"unique sourceIdentifier": "blocked"}
    assert results["unique sourceIdentifier"].first_ids == (works[0]["id"], works[1]["id"])


def test_stops_an_id_that_makes_no_address(tmp_path: Path, works: Works) -> None:
    works[3]["canonicalId"] = "A0000000"
    results = judged(tmp_path, works)

    assert not_passed(results) == {"pattern canonicalId": "blocked"}
    assert results["pattern canonicalId"].first_ids == (works[3]["id"],)


def test_warns_of_a_blank_title(tmp_path: Path, works: Works) -> None:
    works[3]["title"] = "\n "

    assert not_passed(judged(tmp_path, works)) == {"pattern title": "warned"}


def test_stops_a_catalogue_that_shrank_at_once(tmp_path: Path, works: Works) -> None:
    results = judged(tmp_path, works, base_rows=2 * len(works), removed=len(works))

    assert not_passed(results) == {"row count": "blocked", "delete budget": "blocked"}
