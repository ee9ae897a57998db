"""What people and programs start runs and stages with that is not right.

The emulator loses the class names of exceptions, so the error name `StageInputError` is the business of the tests on
the other interpreter; here it is the message.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.faults.app import COLLECT
from tests.integration.faults.lab import Lab, Run, about, await_
from winnow.core.contract import Pointer

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("faults")]

REFUSED_BY_THE_PIPELINE: dict[str, tuple[object, str]] = {
    "no-object": (
        "all of them",
        "input: must be an object; {} runs over the whole source, got: 'all of them'",
    ),
    "empty-list": (
        {"records": []},
        'records: an empty list is not "all"; point to a list in S3 instead, got: []',
    ),
    "wrong-type": (
        {"records": "all"},
        "records: must be a list of ids or a pointer to a list in S3, got: 'all'",
    ),
    "unknown-field": ({"recordz": ["a"]}, "recordz: unknown field; known are"),
    "no-id": ({"records": [{"name": "a"}]}, 'records[0].id: is missing; give every record an "id"'),
    "newline-in-an-id": (
        {"records": ["a\nb"]},
        "records[0]: a record id must not hold control characters or line breaks",
    ),
    "bad-run-id": (
        {"run_id": "../x", "records": ["a"]},
        "run_id: must be letters, digits, - and _, at most 64",
    ),
    "no-such-stage": (
        {"start_at": "nowhere"},
        "start_at: must be one of this pipeline's stages: lie, patient, hasty, collect",
    ),
    "bad-pointer": (
        {"records": {"bucket": 7, "key": "k"}},
        "records.bucket: must be a non-empty string, got: 7",
    ),
}


def refused_by_the_pipeline(name: str) -> Callable[[Lab], Run]:
    def drive(lab: Lab) -> Run:
        return lab.start_with(REFUSED_BY_THE_PIPELINE[name][0], name=f"refused-{name}").stopped()

    drive.__name__ = name
    return drive


@about(*map(refused_by_the_pipeline, REFUSED_BY_THE_PIPELINE))
def test_a_pipeline_says_in_one_line_what_is_wrong_with_its_input(run: Run) -> None:
    assert run.status() == "FAILED"
    message = json.loads(run.cause())["errorMessage"]
    assert message.startswith(REFUSED_BY_THE_PIPELINE[run.run_id.removeprefix("refused-")][1])
    assert "\n" not in message
    [alert] = await_("the alert", run.alerts)
    assert alert["verdict"] == "FAILED"
    assert message in alert["cause"]


def parquet(columns: dict[str, list[str]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


REFUSED_BY_THE_STAGE: dict[str, tuple[Callable[[Lab], object], str]] = {
    "missing-object": (
        lambda lab: {"records": {"bucket": lab.faults.ledger_bucket, "key": "inputs/nowhere.ndjson"}},
        "records: does not exist; check bucket and key, got: 's3://",
    ),
    "no-id-column": (
        lambda lab: {"records": lab.put_object("inputs/no-id.parquet", parquet({"shelfmark": ["a", "b"]}))},
        "records.id_column: is no column of s3://",
    ),
    "no-list": (
        lambda lab: {"records": lab.put_object("inputs/no-list", b"<!doctype html><title>503</title>")},
        "records: looks like HTML or XML; write JSON Lines, a JSON array or Parquet",
    ),
    "mostly-unreadable": (
        lambda lab: {"records": lab.put_object("inputs/table.csv", b"id,title\n" + b"a,b\n" * 200)},
        "201 of its 201 rows are no records (line 1 is not JSON",
    ),
    "no-parquet": (
        lambda lab: {"records": lab.put_object("inputs/no.parquet", b"PAR1 and then nothing")},
        "cannot be read as Parquet",
    ),
    "wrong-try-count": (
        lambda _: {"records": ["a"], "try_count": "two"},
        "try_count: must be a whole number from 0 to 19, got: 'two'",
    ),
    "nothing-owed": (
        lambda _: {"records": ["a"], "only": []},
        'only: an empty list is not "all"; leave the field out for all',
    ),
}


def refused_by_the_stage(name: str) -> Callable[[Lab], Run]:
    def drive(lab: Lab) -> Run:
        return lab.start_stage(COLLECT, REFUSED_BY_THE_STAGE[name][0](lab), name=f"refused-{name}").stopped()

    drive.__name__ = name
    return drive


@about(*map(refused_by_the_stage, REFUSED_BY_THE_STAGE))
def test_a_stage_says_in_one_line_what_is_wrong_with_its_input(run: Run) -> None:
    assert run.status() == "FAILED"
    message = json.loads(run.cause())["errorMessage"]
    assert REFUSED_BY_THE_STAGE[run.run_id.removeprefix("refused-")][1] in message
    assert "\n" not in message


UNREADABLE = b"\n".join(
    [
        b'{"id": "first"}',
        b'{"id": "cut off',
        b'{"id": "third"}',
        b'["no", "object"]',
        b'{"id": 5}',
        b'{"name": "no id"}',
        b"",
        b'{"id": "\xff"}',
        b'"last"',
    ]
)


def unreadable_lines(lab: Lab) -> Run:
    pointer = lab.put_object("inputs/unreadable.ndjson", UNREADABLE)
    return lab.run("unreadable-lines", Pointer.from_event(pointer, "records"))


@about(unreadable_lines)
def test_an_unreadable_line_is_counted_by_its_number_and_costs_only_itself(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=["first", "third", "last"], lost=[run.row_id(line) for line in (2, 4, 5, 6, 8)])
    assert run.counts()["in"] == 8
    for failure in run.failures().values():
        assert failure["kind"] == "permanent"
        assert failure["message"].startswith(f"line {failure['source']['line']}")
    assert "is not JSON" in run.failures()[run.row_id(2)]["message"]
    assert 'has no "id"' in run.failures()[run.row_id(6)]["message"]


ODD = [
    "a/b",
    "..",
    "../../etc/passwd",
    "/",
    "C:\\x",
    "two words",
    " ",
    "📚",
    "כתב יד",
    "x" * 1024,
    "é" * 512,
    "a#1",
    "%2F",
    "'; --",
]
IMPOSSIBLE = ["a\nb", "x" * 1025, "é" * 513, "", "\u2028"]


def odd_ids(lab: Lab) -> Run:
    return lab.run("odd-ids", [*ODD, *IMPOSSIBLE])


@about(odd_ids)
def test_any_script_and_any_path_is_an_id_and_what_cannot_be_one_is_counted(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(
        good=ODD, lost=[run.row_id(len(ODD) + number) for number in range(1, len(IMPOSSIBLE) + 1)]
    )


def parquet_list(lab: Lab) -> Run:
    body = parquet({"shelfmark": ["MS 1", "MS 2", "MS 1"], "title": ["one", "two", "one"]})
    pointer = {**lab.put_object("inputs/list.parquet", body), "id_column": "shelfmark"}
    return lab.run("parquet-list", Pointer.from_event(pointer, "records"), start_at=COLLECT)


@about(parquet_list)
def test_a_parquet_list_is_read_by_its_id_column(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=["MS 1", "MS 2"])
    assert run.counts()["duplicates"] == 1
