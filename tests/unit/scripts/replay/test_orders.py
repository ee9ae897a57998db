"""What is replayed and what is not, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from scripts.replay.orders import Candidate, Division, divide, first, replay_id
from scripts.replay.rules import EntryFacts, Rules, refusal
from winnow.proof.lineage import Place
from winnow.register.entry import Status
from winnow.register.item import Summary

NOW = "2026-08-18T12:00:00.000Z"
LATER = "2026-08-18T18:00:00.000Z"
BEFORE = "2026-08-18T11:00:00.000Z"


def summary(record_id: str = "a", **changes: Any) -> Summary:
    fields: dict[str, Any] = {
        "pipeline": "catalogue",
        "stage": "transform",
        "record_id": record_id,
        "status": Status.OPEN,
        "kind": "permanent",
        "error_type": "PermanentError",
        "message": "no title",
        "fingerprint": "f1",
        "first_seen": BEFORE,
        "last_seen": BEFORE,
        "occurrences": 1,
        "run_id": "R1",
        "ordinal": 0,
        "code_version": "v1",
        "tries": 1,
        "replay_id": "",
        "held_until": "",
    }
    return Summary(**(fields | changes))


def held(record_id: str, by: str, until: str = LATER) -> Summary:
    return summary(record_id, status=Status.REPLAYING, replay_id=by, held_until=until)


V1 = {"adapt": "v1", "transform": "v1"}
V2 = {"adapt": "v2", "transform": "v2"}
HERE = {"first_stage": "adapt", "start_at": "transform"}
ABOVE = {"first_stage": "adapt", "start_at": "adapt"}
FIRST = {"first_stage": "transform", "start_at": "transform"}


@pytest.mark.parametrize(
    ("entry", "facts", "rules", "reason"),
    [
        ({"kind": "transient"}, {}, HERE | {"code_versions": V1}, ""),
        ({"kind": "crashed"}, {}, HERE | {"code_versions": V1}, ""),
        ({"kind": "missing"}, {}, HERE | {"code_versions": V1}, ""),
        ({}, {}, HERE | {"code_versions": V1}, "permanent under the code that is deployed (v1)"),
        ({}, {}, HERE | {"code_versions": V2}, ""),
        ({}, {}, HERE | {"code_versions": {}}, ""),
        ({}, {}, HERE | {"code_versions": V1, "force": True}, ""),
        ({}, {}, ABOVE | {"code_versions": V1}, ""),
        ({}, {"source_changed": True}, FIRST | {"code_versions": V1}, ""),
        ({}, {"source_changed": False}, FIRST | {"code_versions": V1}, "permanent under the code"),
        ({}, {"source_changed": None}, FIRST | {"code_versions": V1}, "permanent under the code"),
        ({}, {"source_changed": True}, HERE | {"code_versions": V1}, "permanent under the code"),
        ({"status": Status.RESOLVED}, {}, HERE | {"code_versions": V2}, "already resolved"),
        ({"status": Status.WAIVED}, {}, HERE | {"code_versions": V2}, "waived; "),
        ({"status": Status.WAIVED}, {}, HERE | {"code_versions": V2, "waived": True}, ""),
        ({}, {"lineage_problem": "its lineage ends"}, ABOVE | {"code_versions": V2}, "its lineage ends"),
        ({}, {"rejected": True}, HERE | {"code_versions": V2, "force": True}, "no record that could be"),
        (
            {"kind": "transient"},
            {"source_changed": True, "newer_run": "R2"},
            HERE | {"code_versions": V2, "force": True},
            "superseded: the source object changed since, and run R2 has it",
        ),
        (
            {"kind": "transient"},
            {"source_changed": True, "newer_run": "R2"},
            ABOVE | {"code_versions": V2},
            "",
        ),
        ({"kind": "transient"}, {"source_changed": True}, HERE | {"code_versions": V2}, ""),
    ],
)
def test_refuses_with_a_reason(
    entry: dict[str, Any], facts: dict[str, Any], rules: dict[str, Any], reason: str
) -> None:
    said = refusal(summary(**entry), EntryFacts(**facts), Rules(**rules))
    assert said.startswith(reason)
    assert bool(said) == bool(reason)


def candidates(*entries: Summary) -> list[Candidate]:
    return [Candidate(entry=entry, places=(Place(entry.run_id, entry.stage, 0),)) for entry in entries]


def divided(
    entries: Sequence[Summary], statuses: dict[str, str] | None = None, limit: int | None = None
) -> Division:
    return divide(
        "catalogue",
        "transform",
        candidates(*entries),
        now=NOW,
        status=(statuses or {}).get,
        cut=first(limit),
    )


def id_of(*record_ids: str, generation: int = 0) -> str:
    return replay_id("catalogue", "transform", candidates(*map(summary, record_ids)), generation)


def ordered(division: Division) -> dict[str, list[str]]:
    return {order.replay_id: [each.entry.record_id for each in order.candidates] for order in division.orders}


class TestReplayId:
    def test_is_the_same_for_the_same_selection_in_any_order(self) -> None:
        assert id_of("a", "b") == id_of("b", "a")
        assert id_of("a", "b").startswith("replay-")
        assert len(id_of("a", "b")) == len("replay-") + 16

    def test_differs_for_any_other(self) -> None:
        one = candidates(summary("a"))
        again = candidates(summary("a", run_id="R2"))
        names = {
            replay_id("catalogue", "transform", one),
            replay_id("catalogue", "transform", one, 1),
            replay_id("catalogue", "adapt", one),
            replay_id("other", "transform", one),
            replay_id("catalogue", "transform", again),
            replay_id("catalogue", "transform", candidates(summary("a", stage="mint"))),
            id_of("a", "b"),
        }
        assert len(names) == 7


class TestDivide:
    def test_what_is_free_is_ordered(self) -> None:
        assert ordered(divided([summary("a"), summary("b")])) == {id_of("a", "b"): ["a", "b"]}

    def test_the_limit_counts_what_is_free(self) -> None:
        entries = [held("a", "replay-x"), summary("b"), summary("c")]
        division = divided(entries, {"replay-x": "RUNNING"}, limit=1)
        assert ordered(division) == {id_of("b"): ["b"]}
        assert division.beyond_limit == 1

    def test_what_another_replay_holds_is_named_with_the_replay(self) -> None:
        division = divided([held("a", "replay-x"), summary("b")], {"replay-x": "RUNNING"})
        assert ordered(division) == {id_of("b"): ["b"]}
        assert division.held == {f"held by replay replay-x (RUNNING) until {LATER}": ("a",)}
        assert not division.started

    def test_a_replay_that_is_about_to_start_is_left_in_peace(self) -> None:
        division = divided([held("a", "replay-x")])
        assert not division.orders
        assert "about to start" in next(iter(division.held))

    def test_a_lease_that_is_over_holds_nothing(self) -> None:
        assert ordered(divided([held("a", "replay-x", BEFORE)])) == {id_of("a"): ["a"]}

    def test_pressed_twice_it_is_started_already(self) -> None:
        mine = id_of("a", "b")
        division = divided([held("a", mine), held("b", mine)], {mine: "RUNNING"})
        assert not division.orders
        assert division.started == {mine: "RUNNING"}

    def test_pressed_while_the_first_takes_hold_it_is_started_already(self) -> None:
        """`b` was read before it was held, `a` after."""
        mine = id_of("a", "b")
        division = divided([held("a", mine), summary("b")], {mine: "RUNNING"})
        assert not division.orders
        assert division.started == {mine: "RUNNING"}
        assert not division.held
        assert division.beyond_limit == 0

    def test_what_a_replay_that_ended_has_let_go_of_is_free(self) -> None:
        mine = id_of("a", "b")
        division = divided([held("a", mine), summary("b")], {mine: "ABORTED"})
        assert ordered(division) == {id_of("b"): ["b"]}
        assert list(division.held.values()) == [("a",)]

    @pytest.mark.parametrize("holds", [("a", "b"), ("a",)])
    def test_a_replay_that_died_while_taking_hold_is_taken_up_again(self, holds: tuple[str, ...]) -> None:
        mine = id_of("a", "b")
        entries = [held(i, mine) if i in holds else summary(i) for i in ("a", "b")]
        division = divided(entries)
        assert ordered(division) == {mine: ["a", "b"]}
        assert division.orders[0].is_resumed

    def test_what_came_up_since_is_a_replay_of_its_own(self) -> None:
        mine = id_of("a")
        division = divided([held("a", mine), summary("b")])
        assert ordered(division) == {mine: ["a"], id_of("b"): ["b"]}

    @pytest.mark.parametrize("ended", ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"])
    def test_after_a_replay_that_settled_nothing_comes_another(self, ended: str) -> None:
        assert ordered(divided([summary("a")], {id_of("a"): ended})) == {id_of("a", generation=1): ["a"]}

    def test_two_at_the_same_moment_order_the_same(self) -> None:
        running = {id_of("a"): "RUNNING"}
        assert ordered(divided([summary("a")], running)) == {id_of("a"): ["a"]}
