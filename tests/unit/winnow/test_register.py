"""The register's rules, as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from winnow.core.contract import Kind
from winnow.register.entry import (
    MAX_HISTORY,
    Entry,
    Hold,
    Noted,
    Refused,
    Reopening,
    Resolution,
    Status,
    Success,
    Waiver,
    hold,
    note_failure,
    note_success,
    release,
    reopen,
    waive,
)
from winnow.settlement.failure_records import FailureRecord

LATER = "2027-01-01T00:00:00.000Z"


def at(minute: int) -> str:
    return f"2026-11-20T12:{minute:02d}:00.000Z"


def failure(run_id: str = "R1", minute: int = 1, fingerprint: str = "f1", **more: Any) -> FailureRecord:
    fields: dict[str, Any] = {
        "ordinal": 7,
        "run_id": run_id,
        "pipeline": "catalogue",
        "stage": "adapt",
        "record_id": "a/b c.xml",
        "kind": Kind.PERMANENT,
        "error_type": "Malformed",
        "message": "no title",
        "traceback": "line 1",
        "fingerprint": fingerprint,
        "tries": 1,
        "first_seen": at(minute),
        "last_seen": at(minute),
        "source": {"bucket": "b", "key": "k", "line": 3},
        "code_version": "v1",
        **more,
    }
    return FailureRecord(**fields)


def opened(**changes: Any) -> Entry:
    """An entry that failed in R1 at minute 1, of which people were told."""
    return replace(note_failure(None, failure()).entry, **changes)


RESOLVED = opened(status=Status.RESOLVED, resolution=Resolution(run_id="R2", at=at(5)))
WAIVED = opened(
    status=Status.WAIVED, waiver=Waiver(reason="as scanned", at=at(2), fingerprint="f1", until=at(20))
)
HELD = opened(status=Status.REPLAYING, hold=Hold(replay_id="P1", until=at(20)))
HELD_AND_WAIVED = replace(WAIVED, status=Status.REPLAYING, hold=HELD.hold)


class TestAFailure:
    def test_opens_an_entry_with_all_that_is_known_of_it(self) -> None:
        noted = note_failure(None, failure())
        assert (noted.is_new, noted.changed) == (True, True)
        entry = noted.entry
        assert (entry.status, entry.occurrences, entry.first_seen, entry.last_seen) == (
            Status.OPEN,
            1,
            at(1),
            at(1),
        )
        assert (entry.ordinal, entry.source, entry.traceback) == (
            7,
            {"bucket": "b", "key": "k", "line": 3},
            "line 1",
        )
        assert (entry.alerted, entry.told_by, entry.history) == ("f1", "R1", (entry.last,))

    @pytest.mark.parametrize(
        ("found", "seen", "status", "is_new"),
        [
            pytest.param(opened(), failure("R2", 9), "open", False, id="known"),
            pytest.param(opened(), failure("R2", 9, "f2"), "open", True, id="fails differently"),
            pytest.param(RESOLVED, failure("R3", 9), "open", True, id="resolved and back"),
            pytest.param(RESOLVED, failure("R3", 4), "resolved", False, id="before it was resolved"),
            pytest.param(WAIVED, failure("R2", 9), "waived", False, id="waived"),
            pytest.param(WAIVED, failure("R2", 9, "f2"), "open", True, id="waived for another reason"),
            pytest.param(WAIVED, failure("R2", 21), "open", True, id="waiver ran out"),
            pytest.param(HELD, failure("P1", 9), "open", False, id="replay fails again"),
            pytest.param(HELD, failure("P1", 9, "f2"), "open", True, id="replay brings another reason"),
            pytest.param(HELD, failure("R2", 9), "replaying", False, id="another run comes across"),
            pytest.param(HELD, failure("R2", 9, "f2"), "replaying", True, id="another run, differently"),
            pytest.param(HELD, failure("R2", 21), "open", False, id="dead replay lets go"),
            pytest.param(HELD_AND_WAIVED, failure("P1", 9), "waived", False, id="waived, replay fails again"),
            pytest.param(HELD_AND_WAIVED, failure("R2", 9), "replaying", False, id="waived, held"),
            pytest.param(HELD_AND_WAIVED, failure("P1", 9, "f2"), "open", True, id="waiver did not cover"),
        ],
    )
    def test_of_a_record_that_is_registered(
        self, found: Entry, seen: FailureRecord, status: str, *, is_new: bool
    ) -> None:
        noted = note_failure(found, seen)
        assert (noted.entry.status, noted.is_new, noted.changed) == (status, is_new, True)
        assert noted.entry.occurrences == 2
        assert noted.entry.version == found.version + 1
        assert noted.entry.last.run_id == seen.run_id
        if noted.entry.status is Status.OPEN:
            assert (noted.entry.hold, noted.entry.waiver, noted.entry.resolution) == (None, None, None)

    @pytest.mark.parametrize("found", [None, opened(), RESOLVED, WAIVED, HELD, HELD_AND_WAIVED])
    @pytest.mark.parametrize("minute", [0, 4, 9, 30])
    @pytest.mark.parametrize("fingerprint", ["f1", "f2"])
    def test_registered_again_says_and_changes_the_same(
        self, found: Entry | None, minute: int, fingerprint: str
    ) -> None:
        first = note_failure(found, failure("R9", minute, fingerprint))
        assert note_failure(first.entry, failure("R9", minute, fingerprint)) == Noted(
            entry=first.entry, is_new=first.is_new, changed=False
        )

    def test_of_an_older_run_counts_but_says_nothing_about_today(self) -> None:
        entry = note_failure(opened(), failure("R2", 9, "f2")).entry
        noted = note_failure(entry, failure("R0", 0, "f0"))
        assert (noted.is_new, noted.entry.last.run_id, noted.entry.occurrences) == (False, "R2", 3)
        assert noted.entry.first_seen == at(0)
        assert [each.run_id for each in noted.entry.history] == ["R0", "R1", "R2"]

    def test_is_remembered_a_limited_number_of_times_and_counted_always(self) -> None:
        entry = opened()
        for number in range(2, MAX_HISTORY + 10):
            last_seen = f"2026-11-21T12:{number:02d}:00.000Z"
            entry = note_failure(entry, failure(f"R{number}", last_seen=last_seen)).entry
        assert (len(entry.history), entry.occurrences) == (MAX_HISTORY, MAX_HISTORY + 9)
        again = failure("R2", last_seen="2026-11-21T12:02:00.000Z")
        assert note_failure(entry, again) == Noted(entry=entry, is_new=False, changed=False), (
            "it was counted, although the history has forgotten it"
        )


class TestASuccess:
    @pytest.mark.parametrize("found", [opened(), WAIVED, HELD, HELD_AND_WAIVED])
    def test_resolves(self, found: Entry) -> None:
        entry = note_success(found, Success(run_id="R2", at=at(9)))
        assert entry
        assert (entry.status, entry.resolution) == (Status.RESOLVED, Resolution(run_id="R2", at=at(9)))
        assert (entry.hold, entry.waiver, entry.version) == (None, None, found.version + 1)

    @pytest.mark.parametrize(
        ("found", "run_id", "minute"),
        [
            pytest.param(RESOLVED, "R3", 9, id="resolved already"),
            pytest.param(opened(), "R0", 0, id="a run that may have read the record before it failed"),
            pytest.param(opened(), "R1", 9, id="the run in which it failed"),
        ],
    )
    def test_that_says_nothing_new_changes_nothing(self, found: Entry, run_id: str, minute: int) -> None:
        assert note_success(found, Success(run_id=run_id, at=at(minute))) is None

    @pytest.mark.parametrize(
        ("read", "minute", "resolves"),
        [
            ("2026-11-20T10:00:00.000Z", 0, True),
            ("2026-11-20T08:00:00.000Z", 9, False),
            ("2026-11-20T09:00:00.000Z", 0, False),
            ("2026-11-20T09:00:00.000Z", 9, True),
            ("", 0, False),
            ("", 9, True),
        ],
        ids=["newer version", "older version", "same, earlier", "same, later", "unknown, earlier", "unknown, later"],
    )  # fmt: skip
    def test_of_another_version_of_the_list_is_judged_by_the_version(
        self, read: str, minute: int, *, resolves: bool
    ) -> None:
        place = {"bucket": "source", "key": "list"}
        found = opened(source={**place, "line": 3, "modified": "2026-11-20T09:00:00.000Z"})
        success = Success(run_id="R2", at=at(minute), source={**place, "modified": read})
        assert (note_success(found, success) is not None) == resolves
        elsewhere = replace(success, source={"bucket": "source", "key": "other", "modified": read})
        assert (note_success(found, elsewhere) is not None) == (minute == 9)


class TestAnOperator:
    @pytest.mark.parametrize(
        "found", [opened(), WAIVED, replace(HELD, hold=Hold(replay_id="P0", until=at(2)))]
    )
    def test_holds_what_no_replay_holds(self, found: Entry) -> None:
        entry = hold(found, replay_id="P2", now=at(9), until=at(30))
        assert (entry.status, entry.hold) == (Status.REPLAYING, Hold(replay_id="P2", until=at(30)))
        assert entry.held(at(29))
        assert not entry.held(at(30))

    @pytest.mark.parametrize(("found", "why"), [(HELD, "held by replay P1"), (RESOLVED, "already resolved")])
    def test_cannot_hold_or_waive_what_is_anothers(self, found: Entry, why: str) -> None:
        with pytest.raises(Refused, match=why):
            hold(found, replay_id="P2", now=at(9), until=at(30))
        with pytest.raises(Refused, match=why):
            waive(found, reason="x", now=at(9))

    def test_holds_again_what_the_same_replay_holds(self) -> None:
        assert hold(HELD, replay_id="P1", now=at(9), until=at(40)).held(at(39))

    @pytest.mark.parametrize(
        ("found", "replay_id", "status"),
        [
            (HELD, "P1", "open"),
            (HELD_AND_WAIVED, "P1", "waived"),
            (HELD, "P2", None),
            (opened(), "P1", None),
            (RESOLVED, "P1", None),
        ],
    )
    def test_gets_back_what_a_replay_did_not_settle(
        self, found: Entry, replay_id: str, status: str | None
    ) -> None:
        entry = release(found, replay_id=replay_id)
        assert (entry.status if entry else None) == status
        assert entry is None or entry.hold is None

    def test_waives_the_reason_of_today(self) -> None:
        entry = waive(opened(), reason="as scanned", now=at(2), until=at(20))
        assert entry == replace(WAIVED, version=2)
        assert entry.waived(at(19))
        assert not entry.waived(at(20))
        assert waive(opened(), reason="for good", now=at(2)).waived(LATER)

    @pytest.mark.parametrize(
        "found", [WAIVED, RESOLVED, replace(HELD, hold=Hold(replay_id="P", until=at(2)))]
    )
    def test_reopens(self, found: Entry) -> None:
        entry = reopen(found, reason="found again", now=at(9))
        assert entry.reopening == Reopening(reason="found again", at=at(9))
        assert (entry.status, entry.hold, entry.waiver, entry.resolution) == (Status.OPEN, None, None, None)

    @pytest.mark.parametrize(("found", "why"), [(opened(), "open already"), (HELD, "held by replay P1")])
    def test_cannot_reopen(self, found: Entry, why: str) -> None:
        with pytest.raises(Refused, match=why):
            reopen(found, reason="found again", now=at(9))
