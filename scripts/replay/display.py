"""Failures and replays, for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scripts.replay.criteria import status_of
from winnow.register import Status

if TYPE_CHECKING:
    from scripts.replay.choice import LeftOut, Order
    from scripts.replay.estimate import Estimate
    from scripts.replay.grouping import Group
    from winnow.register_table import Summary

STATUS_STYLES = {
    Status.OPEN: "bold red",
    Status.REPLAYING: "cyan",
    Status.RESOLVED: "green",
    Status.WAIVED: "dim",
}
MAX_NAMED = 3
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Text from records, harmless on a terminal."""
    return _UNSAFE.sub("·", text)


def moment(text: str) -> str:
    """A moment as people read it, in UTC."""
    return text[:16].replace("T", " ")


def _table(*columns: str, right: Iterable[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for column in columns:
        is_number = column in right
        table.add_column(column, justify="right" if is_number else "left", no_wrap=is_number)
    return table


def print_groups(groups: Sequence[Group], console: Console) -> None:
    """One block per cause: what and how often, then an example."""
    for stage in dict.fromkeys(each.stage for each in groups):
        here = [each for each in groups if each.stage == stage]
        console.print(Text(f"{stage}: {sum(each.count for each in here):,}", style="bold"))
        table = _table("", "Kind", "Cause", "Seen first", "and last (UTC)", "Fingerprint", right=("",))
        for each in here:
            table.add_row(
                f"{each.count:,}",
                each.kind,
                _cause(each),
                moment(each.first_seen),
                moment(each.last_seen),
                each.fingerprint,
            )
        console.print(table)
        console.print()


def _cause(group: Group) -> Text:
    text = Text.assemble((group.error_type, "bold"), f": {clean(group.message)}")
    text.append(f"\ne.g. {clean(group.example_id)}", style="dim")
    others = {name: count for name, count in group.statuses.items() if name != Status.OPEN}
    if others:
        text.append("\n" + ", ".join(f"{count:,} {name}" for name, count in others.items()), style="cyan")
    if group.new_code:
        text.append(f"\n{group.new_code:,} may be worth replaying: new code since", style="green")
    return text


def print_records(entries: Sequence[Summary], now: str, console: Console) -> None:
    """One line per failure."""
    table = _table(
        "Stage", "Status", "Record", "Kind", "Cause", "Times", "Last (UTC)", "Run", right=("Times",)
    )
    for entry in entries:
        status = status_of(entry, now)
        table.add_row(
            entry.stage,
            Text(status.value, style=STATUS_STYLES[status]),
            Text(clean(entry.record_id), overflow="fold"),
            entry.kind,
            Text.assemble((entry.error_type, "bold"), f": {clean(entry.message)}"),
            f"{entry.occurrences:,}",
            moment(entry.last_seen),
            Text(entry.run_id, overflow="fold"),
        )
    console.print(table)


def records(count: int) -> str:
    return "1 record" if count == 1 else f"{count:,} records"


def print_order(order: Order, expected: Estimate, console: Console, *, canary: int = 0) -> None:
    """What a replay would run."""
    count = len(order.candidates)
    start = "" if order.start_at == order.stage else f", from {order.start_at}"
    runs = len({place.run_id for each in order.candidates for place in each.places})
    console.print(
        Text.assemble(
            (f"{records(count)} that failed in {order.stage}{start}", "bold"),
            f"   {order.replay_id}",
        ),
        soft_wrap=True,
    )
    of = "1 run" if runs == 1 else f"{runs:,} runs"
    console.print(f"  given as they were in {of}; e.g. {_named(order)}", markup=False, soft_wrap=True)
    if canary and canary < count:
        console.print(f"  {canary:,} first; the other {count - canary:,} only if they pass", soft_wrap=True)
    console.print(
        f"  about {_duration(expected.seconds)} and ${expected.dollars:,.4f}{_without(expected)}",
        soft_wrap=True,
    )


def _named(order: Order) -> str:
    ids = [clean(each.entry.record_id) for each in order.candidates[:MAX_NAMED]]
    return ", ".join(ids)


def _without(expected: Estimate) -> str:
    return (
        f", not counting {', '.join(expected.unknown)}, which no run has finished" if expected.unknown else ""
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_left_out(left_out: LeftOut, console: Console) -> None:
    """What is not replayed, by reason, with a few names."""
    for reason, ids in left_out.by_reason.items():
        console.print(Text.assemble((f"  {len(ids):,} ", "yellow"), reason), soft_wrap=True)
        named = ", ".join(clean(each) for each in ids[:MAX_NAMED])
        more = f" and {len(ids) - MAX_NAMED:,} more" if len(ids) > MAX_NAMED else ""
        console.print(Text(f"      {named}{more}", style="dim"), soft_wrap=True)


def refusals(left_out: LeftOut) -> str:
    """The same on one line."""
    parts = []
    for reason, ids in left_out.by_reason.items():
        more = f" and {len(ids) - 1:,} more" if len(ids) > 1 else ""
        parts.append(f"{clean(ids[0])}{more}: {reason}")
    return "; ".join(parts)
