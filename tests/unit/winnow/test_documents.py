"""The documents that Winnow stores keep their shape, and a damaged one is named."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

from winnow.batch.plan import Plan
from winnow.core.errors import DamagedDocument, LedgerObjectMissing
from winnow.core.run_document import RunDocument
from winnow.journal.segment import OutputIds
from winnow.journal.successes import SuccessManifest
from winnow.planning.claim import AttemptClaim
from winnow.settlement.failure_records import FailureRecord, find_failure, read_failures
from winnow.settlement.result import StageResult
from winnow.settlement.settlement import Settlement
from winnow.storage.ledger import Ledger
from winnow.testing import MemoryStore

PLAN = {
    "run_id": "R1",
    "pipeline": "catalogue",
    "stage": "adapt",
    "batch_id": "B1",
    "digest": "0f",
    "count": 9,
    "source": {
        "pointer": {"bucket": "source", "key": "list"},
        "format": "ndjson",
        "etag": '"e"',
        "modified": "",
        "max_row_bytes": 99,
    },
    "dropped": [3, 4],
    "duplicates": 1,
    "superseded": 2,
    "conflicts": 1,
    "rejected": [0, 2],
    "subset": False,
    "numbered_ids": True,
    "lost_upstream": 0,
    "created_at": "2026-11-20T12:00:00.000Z",
}
FAILURE = {
    "ordinal": 7,
    "run_id": "R1",
    "pipeline": "catalogue",
    "stage": "adapt",
    "record_id": "a/b ü.xml",
    "kind": "permanent",
    "error_type": "Malformed",
    "message": "no title",
    "traceback": "line 1",
    "fingerprint": "f1",
    "tries": 2,
    "first_seen": "2026-11-20T12:01:00.000Z",
    "last_seen": "2026-11-20T12:02:00.000Z",
    "source": {"bucket": "source", "key": "list", "line": 3},
    "code_version": "v1",
}
RESULT = {
    "verdict": "EXHAUSTED",
    "cause": None,
    "output": {
        "run_id": "R1",
        "stage": "adapt",
        "tries": 2,
        "successes": {"count": 5, "batch_file_location": {"bucket": "ledger", "key": "successes"}},
        "skipped": {"count": 1},
        "failures": {"count": 3, "error_file_location": {"bucket": "ledger", "key": "failures"}},
        "lost": {"stage": 3, "run": 4},
    },
    "counts": {
        "in": 9,
        "succeeded": 5,
        "skipped": 1,
        "failed": 3,
        "duplicates": 1,
        "superseded": 2,
        "conflicts": 1,
        "same_outputs": 0,
        "warnings": 2,
        "refused": 0,
        "repeated": 1,
        "retried": 4,
    },
    "failed_by_kind": {"permanent": 2, "missing": 1},
    "skip_reasons": {"deleted": 1},
    "warned": {"no date": 2},
    "attempts": 2,
    "settled_at": "2026-11-20T12:00:00.000Z",
}
SETTLEMENT = {
    "attempt": 0,
    "try_count": 0,
    "verdict": "RETRY",
    "cause": "",
    "settled_at": "2026-11-20T12:00:00.000Z",
    "heard_at": "2026-11-20T11:59:00.000Z",
    "careful": True,
    "entries": [{"key": "o", "ids_key": "i", "lines": 2, "digest": "d", "ids_digest": "e", "accept": [0, 2]}],
    "reports": [["k", [5, 6]]],
    "otherwise": {"kind": "missing", "error_type": "NotJournaled", "message": "not journaled"},
    "wait_seconds": 12,
    "own_ids": True,
    "counters": {"warnings": 2, "refused": 0, "repeated": 1, "retried": 4},
    "skip_reasons": {"deleted": 1},
    "warned": {"no date": 2},
    "given": [0, 9],
    "succeeded": [0, 4],
    "skipped": [4, 5],
    "permanent": [5, 6],
    "crashed": [6, 7],
    "tried": [5, 7],
    "failed": [5, 7],
    "clashed": [5, 6],
    "next": [6, 9],
    "suspects": [6, 7],
    "alerted": [5, 6],
    "alert_now": [5, 6],
}
CLAIM = {"execution": "arn:e", "claimed_at": "2026-11-20T12:00:00.000Z"}
MANIFEST = {
    "winnow": "successes/1",
    "run_id": "R1",
    "stage": "adapt",
    "records": 5,
    "lines": 6,
    "lost_in_run": 4,
    "entries": [{"key": "o", "ids_key": "i", "lines": 6, "digest": "d", "ids_digest": "e"}],
}
RUN = {
    "run_id": "R1",
    "pipeline": "catalogue",
    "stages": ["adapt", "transform", "mint"],
    "start_at": "transform",
    "trigger": {"kind": "replay", "note": "after the fix"},
    "replay": {"id": "R1"},
    "execution": "arn:aws:states:eu-west-1:000000000000:execution:catalogue:R1",
    "started_at": "2026-11-20T12:00:00.000Z",
    "records": {
        "bucket": "ledger",
        "key": "runs/R1/transform/input.ndjson",
        "only": {"bucket": "b", "key": "k"},
    },
    "stepped_aside": None,
}
NULLABLE = {"cause", "replay", "stepped_aside"}
DOCUMENTS: list[tuple[Any, dict[str, Any]]] = [
    (RunDocument, RUN),
    (Plan, PLAN),
    (FailureRecord, FAILURE),
    (StageResult, RESULT),
    (Settlement, SETTLEMENT),
    (AttemptClaim, CLAIM),
    (SuccessManifest, MANIFEST),
]


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(MemoryStore("ledger"))


@pytest.mark.parametrize(("kind", "example"), DOCUMENTS, ids=lambda each: getattr(each, "__name__", ""))
def test_a_stored_document_keeps_its_shape(kind: Any, example: dict[str, Any]) -> None:
    written = kind.from_json(deepcopy(example)).to_json()
    # As text: the order of the fields is part of the shape.
    assert json.dumps(written) == json.dumps(example)


@pytest.mark.parametrize(
    ("kind", "example", "field"),
    [(kind, example, field) for kind, example in DOCUMENTS for field in example if field not in NULLABLE],
    ids=lambda each: each if isinstance(each, str) else getattr(each, "__name__", ""),
)
def test_a_document_that_lacks_a_field_is_named_with_the_field(
    ledger: Ledger, kind: Any, example: dict[str, Any], field: str
) -> None:
    ledger.write_json("some/key.json", {name: example[name] for name in example if name != field})
    with pytest.raises(DamagedDocument, match=r"^s3://ledger/some/key.json is damaged: ") as caught:
        ledger.read("some/key.json", kind.from_json)
    assert (field if field != "winnow" else "format of successes") in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "example", "change", "problem"),
    [
        (RunDocument, RUN, {"start_at": "publish"}, "`start_at` must be one of `stages`, got: 'publish'"),
        (RunDocument, RUN, {"stages": "adapt"}, "`stages` must be of type list, got: 'adapt'"),
        (RunDocument, RUN, {"replay": {}}, "`id` must be of type str, got: None"),
        (RunDocument, RUN, {"records": {"bucket": "b"}}, "records.key: must be a non-empty string"),
        (Plan, PLAN, {"count": "9"}, "`count` must be of type int, got: '9'"),
        (Plan, PLAN, {"count": -1}, "`count` must be of type int, got: -1"),
        (Plan, PLAN, {"dropped": [4, 3]}, "`dropped`: ranges must be ascending whole numbers"),
        (Plan, PLAN, {"source": {"pointer": {"bucket": "b"}, "format": "ndjson"}}, "source.key"),
        (Settlement, SETTLEMENT, {"verdict": "MAYBE"}, "`verdict` must be one of COMPLETE, RETRY, "),
        (Settlement, SETTLEMENT, {"next": "nowhere"}, "`nowhere`: ranges must be a flat list"),
        (Settlement, SETTLEMENT, {"careful": 1}, "`careful` must be of type bool, got: 1"),
        (Settlement, SETTLEMENT, {"otherwise": {"kind": "new"}}, "`otherwise`: `kind` must be one of "),
        (Settlement, SETTLEMENT, {"entries": [1]}, "`entries`: it must be an object, got: 1"),
        (
            Settlement,
            SETTLEMENT,
            {"entries": [{"key": "o"}]},
            "`entries`: `ids_key` must be of type str, got: None",
        ),
        (Settlement, SETTLEMENT, {"reports": [["k"]]}, "not enough values to unpack"),
        (StageResult, RESULT, {"counts": {}}, "`counts`: `in` must be of type int, got: None"),
        (FailureRecord, FAILURE, {"kind": "new"}, "`kind` must be one of permanent, "),
        (OutputIds, {"ids": ["a"], "of": [1]}, {"of": []}, "`of` must be as long as `ids`, got: 0 and 1"),
    ],
)
def test_a_document_with_a_wrong_field_says_what_is_wrong(
    ledger: Ledger, kind: Any, example: dict[str, Any], change: dict[str, Any], problem: str
) -> None:
    ledger.write_json("k.json", example | change)
    with pytest.raises(DamagedDocument) as caught:
        ledger.find("k.json", kind.from_json)
    assert str(caught.value).startswith("s3://ledger/k.json is damaged: ")
    assert problem in str(caught.value)
    assert str(caught.value).endswith("start a new run")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[]", b"1", b"[" * 100_000], ids=["empty", "cut", "binary", "list", "number", "deep"]
)  # fmt: skip
def test_an_object_that_is_no_document_is_named(ledger: Ledger, body: bytes) -> None:
    ledger.store.put("k.json", body)
    ledger.store.put("k.json.gz", body)
    for key in ("k.json", "k.json.gz"):
        with pytest.raises(DamagedDocument, match=f"^s3://ledger/{key} is damaged: "):
            ledger.read(key, Plan.from_json)


def test_a_document_that_is_not_there_is_missing_and_not_damaged(ledger: Ledger) -> None:
    assert ledger.find("k.json", Plan.from_json) is None
    with pytest.raises(LedgerObjectMissing):
        ledger.read("k.json", Plan.from_json)


def test_a_list_of_failures_is_read_record_by_record(ledger: Ledger) -> None:
    second = FAILURE | {"ordinal": 12, "record_id": "other"}
    records = [FailureRecord.from_json(each) for each in (FAILURE, second)]
    ledger.write_lines("list.gz", (record.to_line() for record in records))
    assert list(read_failures(ledger, "list.gz")) == records
    assert find_failure(ledger, "list.gz", 12) == records[1]
    assert find_failure(ledger, "list.gz", 13) is None


def test_a_damaged_list_of_failures_is_named(ledger: Ledger) -> None:
    record = FailureRecord.from_json(FAILURE)
    ledger.write_lines("list.gz", iter([record.to_line()] * 1_000))
    whole = ledger.store.get("list.gz").body
    ledger.store.put("cut.gz", whole[:-12])
    ledger.write_lines("other.gz", iter(['{"ordinal":1,"run_id":2}']))
    for key in ("cut.gz", "other.gz"):
        with pytest.raises(DamagedDocument, match=f"^s3://ledger/{key} is damaged: "):
            list(read_failures(ledger, key))
