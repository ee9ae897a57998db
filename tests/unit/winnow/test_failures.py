from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import winnow
from winnow import PermanentError
from winnow.core.contract import Kind
from winnow.journal.reports import (
    MAX_CAUSES,
    MAX_MESSAGE_CHARS,
    MAX_TRACEBACK_FRAMES,
    FailureReport,
    fingerprint,
    one_line,
    ordinal_of_line,
    trim_traceback,
    words_of,
)


def raised(error: BaseException, depth: int = 0) -> BaseException:
    """An error with a traceback of our own frames."""

    def dive(n: int) -> None:
        if n:
            dive(n - 1)
        raise error

    try:
        dive(depth)
    except BaseException as caught:  # noqa: BLE001
        return caught
    raise AssertionError


class Leaving(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("a b"), "a b"),
        (ValueError("a\n\n  b\t\r\nc"), "a b c"),
        (ValueError("ü \ud800"), "ü ?"),
        (ValueError(), "ValueError"),
        (ValueError("  "), "ValueError"),
        (KeyError("x"), "'x'"),
        (Mute(), "Mute"),
        (Leaving(), "Leaving"),
        (ValueError("x" * 5_000), "x" * (MAX_MESSAGE_CHARS - 1) + "…"),
        (ValueError(None), "None"),
        (SystemExit(), "SystemExit"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_message_is_one_line_of_limited_length_and_never_empty(error: BaseException, words: str) -> None:
    assert words_of(error) == words


def test_a_text_can_be_cut_shorter() -> None:
    assert one_line("abcdef", 4) == "abc…"
    assert one_line("abcd", 4) == "abcd"


def test_a_traceback_shows_the_users_innermost_frames() -> None:
    trace = trim_traceback(raised(ValueError("x"), depth=30).__traceback__)
    assert trace.count("File ") == MAX_TRACEBACK_FRAMES
    assert trace.splitlines()[-2].endswith("in dive")
    assert trace.splitlines()[-1] == "  raise error"
    assert trim_traceback(None) == ""


def error_report(error: BaseException, kind: Kind = Kind.TRANSIENT) -> FailureReport:
    return FailureReport.of_error(error, ordinal=0, record_id="r", kind=kind)


def test_of_a_group_the_report_tells_the_error_that_decides() -> None:
    bad = ValueError("bad")
    raised(bad, depth=2)
    inner = ExceptionGroup("some", [bad])
    group = raised(ExceptionGroup("all", [PermanentError("never"), inner]))
    made = error_report(group)
    assert (made.error_type, made.message) == ("ValueError", "bad")
    assert made.traceback.count("in dive") == 3
    made = error_report(raised(ExceptionGroup("all", [PermanentError("no id")])), Kind.PERMANENT)
    assert (made.error_type, made.message) == ("PermanentError", "no id")


def chained(*errors: BaseException) -> BaseException:
    """The first error, raised from the second, and so on."""
    for error, cause in pairwise(errors):
        error.__cause__ = cause
    return errors[0]


def test_of_a_chain_the_report_tells_every_cause_with_its_frames() -> None:
    made = error_report(chained(raised(RuntimeError("gave up")), raised(ValueError("x" * 5_000), depth=30)))
    assert made.error_type == "RuntimeError"
    assert made.message.startswith("gave up; caused by ValueError: xxx")
    assert len(made.message) <= MAX_MESSAGE_CHARS
    assert 2 <= made.traceback.count("File ") <= MAX_TRACEBACK_FRAMES
    other = error_report(chained(RuntimeError("gave up"), KeyError("title")))
    assert fingerprint("s", made.error_type, made.message) != fingerprint(
        "s", other.error_type, other.message
    )


def test_a_chain_without_an_end_is_told_up_to_a_limit() -> None:
    error, cause = ValueError("a"), ValueError("b")
    assert error_report(chained(error, cause, error)).message == "a; caused by ValueError: b"
    made = error_report(chained(*(ValueError(f"e{number}") for number in range(1_000))))
    assert made.message.count("caused by") == MAX_CAUSES - 1
    deep: Exception = PermanentError("never")
    for _ in range(5_000):
        deep = ExceptionGroup("one more", [deep])
    assert error_report(deep, Kind.PERMANENT).message == "never"


def report(**changes: Any) -> FailureReport:
    usual: dict[str, Any] = {
        "ordinal": 12, "record_id": "r", "kind": Kind.PERMANENT, "error_type": "E", "message": "m",
    }  # fmt: skip
    return FailureReport(**{**usual, **changes})


def test_a_line_begins_with_the_ordinal_so_that_it_can_be_passed_over_unparsed() -> None:
    line = report().to_line("transform", "2026-11-20T12:00:00.000Z").encode()
    assert ordinal_of_line(line) == json.loads(line)["ordinal"] == 12


def test_a_report_of_an_error_says_what_where_and_under_which_code() -> None:
    made = FailureReport.of_error(
        raised(PermanentError("no id")),
        ordinal=1,
        record_id="r",
        kind=Kind.PERMANENT,
        source_key="k",
        code_version="v",
    )
    assert (made.error_type, made.message, made.source_key, made.code_version) == (
        "PermanentError",
        "no id",
        "k",
        "v",
    )
    assert "test_failures.py" in made.traceback


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no row 17", "no row 18"),
        ("'a' is unknown", "'bcd' is unknown"),
        ('"a" is unknown', '"bcd" is unknown'),
        ("at 0xdeadbeef", "at 0x7f00"),
        ("id 01234567-89ab-cdef-0123-456789abcdef gone", "id fedcba98-7654-3210-fedc-ba9876543210 gone"),
        ("took 3.5 s", "took 12.25 s"),
    ],
)
def test_the_same_cause_has_one_fingerprint_with_any_numbers_and_names(one: str, other: str) -> None:
    assert fingerprint("s", "E", one) == fingerprint("s", "E", other)


def test_other_causes_have_other_fingerprints() -> None:
    prints = {
        fingerprint(*case)
        for case in (
            ("s", "E", "no title"),
            ("t", "E", "no title"),
            ("s", "F", "no title"),
            ("s", "E", "no date"),
        )
    }
    assert len(prints) == 4
    assert fingerprint("s", "E", "\ud800")


def test_a_users_package_whose_name_begins_like_ours_keeps_its_frames() -> None:
    ours = Path(winnow.__file__).parent
    for folder, kept in ((f"{ours}_pipelines", True), (str(ours), False)):
        namespace: dict[str, Any] = {}
        exec(compile("def fail(): raise ValueError", f"{folder}/worker.py", "exec"), namespace)
        with pytest.raises(ValueError) as caught:
            namespace["fail"]()
        assert ("in fail" in trim_traceback(caught.value.__traceback__)) is kept
