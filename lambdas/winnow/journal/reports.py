"""Failure reports: why a record failed, one JSON line each, complete, never capped, never sampled."""

from __future__ import annotations

import hashlib
import linecache
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from types import TracebackType
from typing import Any

from winnow.core.contract import Kind, now
from winnow.core.errors import PermanentError
from winnow.storage.jsonlines import quoted
from winnow.storage.ledger import Ledger, compress

MAX_MESSAGE_CHARS = 1_000
MAX_TRACEBACK_FRAMES = 10
MAX_CAUSES = 5
"""Errors of a chain (`raise … from …`) that a report tells, the outermost among them."""
MAX_FINGERPRINT_SHAPE_CHARS = 200


# Not frozen: that would treble the time that each takes to make, and a worker may make a million.
@dataclass(slots=True, kw_only=True)
class FailureReport:
    """Why a record failed, from the process that saw it fail. It explains; it never decides."""

    ordinal: int
    record_id: str
    kind: Kind
    error_type: str
    message: str
    traceback: str = ""
    source_key: str = ""
    source_bucket: str = ""
    source_line: int | None = None
    code_version: str = ""

    @classmethod
    def of_error(
        cls, error: BaseException, *, ordinal: int, record_id: str, kind: Kind, **where: Any
    ) -> FailureReport:
        """From what a worker's function raised. Of a group it tells the error that decides; of a chain, every cause."""
        if isinstance(error, BaseExceptionGroup):
            error = _deciding_leaf(error, kind)
        return cls(
            ordinal=ordinal,
            record_id=record_id,
            kind=kind,
            error_type=type(error).__name__,
            message=words_of(error) if error.__cause__ is None else _words_of_chain(error),
            traceback=trim_traceback(error.__traceback__)
            if error.__cause__ is None
            else _traceback_of_chain(error),
            **where,
        )

    def to_line(self, stage: str, at: str) -> str:
        """The line in an attempt's reports; the ordinal first, so that it can be read without parsing the rest."""
        same_cause = fingerprint(stage, self.error_type, self.message)
        line = "null" if self.source_line is None else self.source_line
        # Put together by hand: an encoder that looks at every value takes twice as long, and a worker may write a million.
        return (
            f'{{"ordinal":{self.ordinal},"record_id":{quoted(self.record_id)},"kind":"{self.kind.value}",'
            f'"error_type":{quoted(self.error_type)},"message":{quoted(self.message)},'
            f'"traceback":{quoted(self.traceback)},"fingerprint":"{same_cause}",'
            f'"source":{{"bucket":{quoted(self.source_bucket)},"key":{quoted(self.source_key)},"line":{line}}},'
            f'"code_version":{quoted(self.code_version)},"at":"{at}"}}'
        )


ORDINAL_START = len('{"ordinal":')


def ordinal_of_line(line: bytes) -> int:
    """The ordinal of a report or failure record, without parsing it."""
    return int(line[ORDINAL_START : line.index(b",", ORDINAL_START)])


def one_line(text: str, limit: int = MAX_MESSAGE_CHARS) -> str:
    """A text of any size on one line, short enough for a message, a state or a log line."""
    # A lone surrogate cannot be written anywhere: not to a log, not to S3, not into a state.
    line = " ".join((text if text.isascii() else text.encode("utf-8", "replace").decode()).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def words_of(error: BaseException) -> str:
    """An error's message on one line; its type where it has no message or raises when asked."""
    try:
        words = one_line(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  an error's own `__str__` may raise, or exit
        words = ""
    return words or type(error).__name__


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """The errors that a group holds, in groups within it as well; the error itself if it is no group."""
    waiting = [error]
    while waiting:
        first = waiting.pop()
        if isinstance(first, BaseExceptionGroup):
            waiting.extend(reversed(first.exceptions))
        else:
            yield first


def causes_of(error: BaseException) -> list[BaseException]:
    """An error and the errors that it was raised from, the outermost first; at most `MAX_CAUSES`."""
    chain = [error]
    while len(chain) < MAX_CAUSES:
        cause = chain[-1].__cause__
        if cause is None or any(cause is each for each in chain):
            break
        chain.append(next(leaves_of(cause)))
    return chain


def _deciding_leaf(group: BaseException, kind: Kind) -> BaseException:
    """The first error of a group that is of the group's kind: one that may pass makes all of it transient."""
    leaves = list(leaves_of(group))
    if kind is Kind.PERMANENT:
        return leaves[0]
    return next((leaf for leaf in leaves if not isinstance(leaf, PermanentError)), leaves[0])


def _words_of_chain(error: BaseException) -> str:
    outer, *causes = causes_of(error)
    share = MAX_MESSAGE_CHARS // (1 + len(causes))
    told = [f"; caused by {type(each).__name__}: {one_line(words_of(each), share)}" for each in causes]
    return one_line(one_line(words_of(outer), share) + "".join(told))


def _traceback_of_chain(error: BaseException) -> str:
    """Frames as in `trim_traceback`: of the first cause, then of each error that was raised from it."""
    chain = causes_of(error)
    share = MAX_TRACEBACK_FRAMES // len(chain)
    return "\n".join(filter(None, (trim_traceback(each.__traceback__, share) for each in reversed(chain))))


# Settle does not load pathlib for this.
_WINNOW = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")  # noqa: PTH118, PTH120


def trim_traceback(trace: TracebackType | None, limit: int = MAX_TRACEBACK_FRAMES) -> str:
    """The innermost frames of the user's code, without Winnow's."""
    frames: list[str] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        frame = _frame(code.co_filename, trace.tb_lineno, code.co_name)
        if frame:
            frames.append(frame)
        trace = trace.tb_next
    return "\n".join(frames[-limit:])


@lru_cache(maxsize=1_000)
def _frame(file: str, line: int, name: str) -> str:
    """One frame of the user's code; empty for Winnow's. Cached: many records fail in the same place."""
    if file.startswith(_WINNOW):
        return ""
    return f'File "{file}", line {line}, in {name}\n  {linecache.getline(file, line).strip()}'


@cache
def _variable() -> re.Pattern[str]:
    """What differs between messages of one shape. Compiled on first use: most cold starts see no failure."""
    return re.compile(
        r"""'[^']*'|"[^"]*"|‘[^’]*’|\b0x[0-9a-fA-F]+\b|\b[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,})*\b|\d+"""
    )


def fingerprint(stage: str, error_type: str, message: str) -> str:
    """Same stage, same error type, same shape of message (numbers, quoted text and hex taken out): same cause."""
    return _fingerprint(stage, error_type, _variable().sub("#", message)[:MAX_FINGERPRINT_SHAPE_CHARS])


@lru_cache(maxsize=1_000)
def _fingerprint(stage: str, error_type: str, shape: str) -> str:
    return hashlib.blake2b(
        f"{stage}\0{error_type}\0{shape}".encode("utf-8", "replace"), digest_size=6
    ).hexdigest()


def write_reports(ledger: Ledger, key: str, stage: str, reports: Iterable[FailureReport]) -> None:
    """Write the failure reports that one journal segment refers to."""
    at = now()
    text = "".join(report.to_line(stage, at) + "\n" for report in reports)
    ledger.store.put(key, compress(text.encode("utf-8", "replace")))
