"""Units of work: what a worker's function is called with once, a record or a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from winnow.core.contract import Kind
from winnow.core.record import Delete
from winnow.runtime.options import Options
from winnow.runtime.outcome import BatchMismatch, batch_outcome, begin_again, call, kind_of, record_outcome
from winnow.runtime.sink import Gate, Item, Sink

T = TypeVar("T")


def process(function: Callable[[Any], Any], items: Sequence[Item], sink: Sink, options: Options) -> None:
    """Run the function on one unit of work: a record, or a batch. Never raises what a record raised.

    A deletion of an earlier stage is handed on without the function.
    """
    if options.batch is None:
        for ordinal, record in items:
            try:
                is_deletion = type(record.data) is Delete
                value = record.data if is_deletion else call(function, record, options.retry)
                record_outcome(sink, ordinal, record, value, options.outputs)
            except BaseException as error:  # noqa: BLE001  any error is this record's
                sink.failed(ordinal, record.id, kind_of(error), error)
        return
    items = _without_deletions(items, sink, options)
    if not items:
        return
    try:
        value = call(function, [record for _, record in items], options.retry)
        batch_outcome(sink, items, value, options.outputs)
    except BaseException as error:  # noqa: BLE001
        kind = Kind.PERMANENT if isinstance(error, BatchMismatch) else kind_of(error)
        if len(items) == 1:
            ordinal, record = items[0]
            sink.failed(ordinal, record.id, kind, error)
            return
        begin_again([record for _, record in items])
    else:
        return
    for item in items:  # one by one, to find the records that fail
        process(function, [item], sink, options)


def _without_deletions(items: Sequence[Item], sink: Sink, options: Options) -> Sequence[Item]:
    """Hand on the deletions of a batch; what is left is the function's."""
    rest = [item for item in items if type(item[1].data) is not Delete]
    if len(rest) < len(items):
        for ordinal, record in items:
            if type(record.data) is Delete:
                record_outcome(sink, ordinal, record, record.data, options.outputs)
    return rest


def units(items: Iterable[tuple[int, T]], gate: Gate, size: int) -> Iterator[list[tuple[int, T]]]:
    """Units of at most `size` records, as long as records may be taken."""
    unit: list[tuple[int, T]] = []
    for item in items:
        if not gate.take(item[0]):
            break
        unit.append(item)
        if len(unit) >= size:
            yield unit
            unit = []
    if unit:
        yield unit
