"""Turns what a worker's function returns or raises into outcomes of its records."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from winnow.core.contract import Kind, record_id_problem
from winnow.core.errors import PermanentError, TransientError
from winnow.core.record import Delete, Output, Record, Retry, Skip
from winnow.journal.reports import causes_of, leaves_of
from winnow.runtime.sink import Item, Line, Sink
from winnow.storage.formats import OutputFormat, UnusableOutput

PERMANENT = (PermanentError, UnusableOutput)


def kind_of(error: BaseException) -> Kind:
    """The kind of failure that an error means: what should happen next.

    A group of errors is permanent if all errors in it are. An error that was raised from a permanent one is permanent,
    unless it is a `TransientError`.

    Raises:
        KeyboardInterrupt: it is the operator's. Any other error costs only the record that raises it.
    """
    if isinstance(error, BaseExceptionGroup):
        kinds = {kind_of(leaf) for leaf in leaves_of(error)}
        return next(kind for kind in (Kind.CRASHED, Kind.TRANSIENT, Kind.PERMANENT) if kind in kinds)
    if isinstance(error, KeyboardInterrupt):
        raise error
    if isinstance(error, PERMANENT):
        return Kind.PERMANENT
    if isinstance(error, MemoryError):
        return Kind.CRASHED
    if error.__cause__ is not None and not isinstance(error, TransientError):
        return _kind_of_causes(causes_of(error)[1:])
    return Kind.TRANSIENT


def _kind_of_causes(causes: Sequence[BaseException]) -> Kind:
    """The kind of an error that says nothing of its own: that of the first cause that says one."""
    for cause in causes:
        if isinstance(cause, PERMANENT):
            return Kind.PERMANENT
        if isinstance(cause, TransientError):
            break
    return Kind.TRANSIENT


def call(function: Callable[[Any], Any], argument: Any, retry: Retry | None) -> Any:
    """Call a worker's function, again where its retry says so."""
    for attempt in range(1, retry.attempts if retry else 1):
        try:
            return complete(function(_handed(argument)))
        except BaseException as error:
            if retry is None or not _may_pass(error, retry):
                raise
            begin_again(argument)
            time.sleep(retry.wait_seconds * 2 ** (attempt - 1) * random.random())  # noqa: S311
    return complete(function(_handed(argument)))


def _may_pass(error: BaseException, retry: Retry) -> bool:
    """Whether to call again: each error, also of a group, is one that the retry is for, and waiting may help."""
    return (
        all(isinstance(leaf, retry.on) for leaf in leaves_of(error)) and kind_of(error) is not Kind.PERMANENT
    )


def _handed(argument: Any) -> Any:
    """What the function is given. A batch comes as a copy of the list, which the function may empty."""
    return list(argument) if isinstance(argument, list) else argument


def begin_again(argument: Any) -> None:
    """Reset a record, or a batch, before it is handed to the function again."""
    for record in argument if isinstance(argument, list) else (argument,):
        record._begin_again()  # noqa: SLF001  ours


def complete(value: Any) -> Any:
    """A function's value. A generator is run to its end here, so that an error that it raises counts as the record's."""
    # Most functions return a dict, and `isinstance` of an abstract class takes longer than all the rest.
    return _Many(value) if type(value) is not dict and isinstance(value, Iterator) else value


class _Many(list[Any]):
    """The values of a generator."""


def record_outcome(sink: Sink, ordinal: int, record: Record, value: Any, form: OutputFormat) -> None:
    """Tell the sink one record's outcome. Raises `UnusableOutput`."""
    if type(value) is dict:  # checked first: most workers return a dict
        name = record._id  # noqa: SLF001
        line = Line(name, ordinal, form.line(name, name, value))
        sink.succeeded(ordinal, [line], record._warnings)  # noqa: SLF001  ours
    elif value is None:
        sink.succeeded(ordinal, [], record._warnings)  # noqa: SLF001
    elif isinstance(value, Skip):
        sink.skipped(ordinal, str(value.reason), record._warnings)  # noqa: SLF001
    elif isinstance(value, BaseException):
        sink.failed(ordinal, record.id, kind_of(value), value)
    elif isinstance(value, _Many):
        lines = [
            _line(ordinal, record, item, form, own_id=_checked_id(f"{record.id}#{number}"), content="")
            for number, item in enumerate(value, start=1)
        ]
        sink.succeeded(ordinal, lines, record._warnings)  # noqa: SLF001
    else:
        sink.succeeded(ordinal, [_line(ordinal, record, value, form, own_id=record.id)], record._warnings)  # noqa: SLF001


def _line(
    ordinal: int,
    record: Record,
    value: Any,
    form: OutputFormat,
    *,
    own_id: str,
    content: str | None = None,
) -> Line:
    data = value.data if isinstance(value, Output) else value
    deletion = type(data) is Delete
    if not isinstance(value, Output) or value.id is None or value.id == own_id:
        return Line(own_id, ordinal, form.line(own_id, record.id, data), content, deletion=deletion)
    identifier = _checked_id(value.id)
    body = form.line(identifier, record.id, data)
    return Line(identifier, ordinal, body, _content(data, body), deletion=deletion)


def _content(data: Any, body: Any) -> str:
    """Tells outputs of one id apart. Only for outputs with an id of their own: others have one that no other record's has.

    Data that is nested deeper than this encoder goes is told by its line, which is like no other record's.
    """
    try:
        text = json.dumps(data, sort_keys=True, default=repr)
    except TypeError:  # keys of several types have no order
        text = json.dumps(data, default=repr)
    except RecursionError:
        text = str(body)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _checked_id(identifier: object) -> str:
    problem = record_id_problem(identifier)
    if problem:
        raise UnusableOutput(f"the output's id {problem}, got: {str(identifier)[:100]!r}")
    return str(identifier)


class BatchMismatch(Exception):
    """A batch worker returned neither one value per record nor outputs that name their sources."""


def batch_outcome(sink: Sink, items: Sequence[Item], value: Any, form: OutputFormat) -> None:
    """Tell the sink the outcomes of a batch worker's call.

    Raises:
        BatchMismatch: the value does not say which outcome belongs to which record.
        UnusableOutput: an output that joins records cannot be written.
    """
    if value is None:
        value = [None] * len(items)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise BatchMismatch(f"a batch worker must return a list, got: {type(value).__name__}")
    named = sum(isinstance(each, Output) and each.sources is not None for each in value)
    if named and named == len(value):
        _joined(sink, items, value, form)
        return
    if named:
        raise BatchMismatch(
            f"a batch worker must return `sources` with all outputs or with none, got: {named} of {len(value)}"
        )
    if len(value) != len(items):
        raise BatchMismatch(
            f"a batch worker must return one value per record, or outputs with `sources`, got: {len(value)} for {len(items)}"
        )
    for (ordinal, record), each in zip(items, value, strict=True):
        try:
            record_outcome(sink, ordinal, record, each, form)
        except BaseException as error:  # noqa: BLE001  the others have their outcome and must not run again
            sink.failed(ordinal, record.id, kind_of(error), error)


def _joined(sink: Sink, items: Sequence[Item], outputs: Sequence[Output], form: OutputFormat) -> None:
    """Many to one: a record is done when an output names it. A record that no output names stays outstanding."""
    ordinals = {id(record): ordinal for ordinal, record in items}
    lines: list[Line] = []
    named: set[int] = set()
    foreign = 0
    for output in outputs:
        sources = list(output.sources or ())
        known = {ordinals[id(record)]: record.id for record in sources if id(record) in ordinals}
        foreign += sum(id(record) not in ordinals for record in sources) or not sources
        if not known:
            continue
        origin = list(known.values())
        identifier = _checked_id(output.id if output.id is not None else origin[0])
        body = form.line(identifier, origin, output.data)
        joins, deletion = tuple(sorted(known)), type(output.data) is Delete
        lines.append(Line(identifier, min(known), body, _content(output.data, body), joins, deletion))
        named.update(known)
    if foreign:
        sink.lied(foreign)
    if named:
        warnings = [text for ordinal, record in items if ordinal in named for text in record.warnings]
        sink.joined(sorted(named), lines, warnings)
