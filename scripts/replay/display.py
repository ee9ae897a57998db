"""Failures and replays, for people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from scripts.replay.criteria import status_of
from winnow.alerts.shown_ids import shown_id
from winnow.register.entry import Status

if TYPE_CHECKING:
    from scripts.replay.estimate import Estimate
    from scripts.replay.grouping import Group
    from scripts.replay.orders import ReplayOrder
    from scripts.replay.rules import LeftOut
    from winnow.register.item import Summary

STATUS_STYLES = {
    Status.OPEN: "bold red",
    Status.REPLAYING: "cyan",
    Status.RESOLVED: "green",
    Status.WAIVED: "dim",
}
MAX_NAMED = 3
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Text from records other than their ids, harmless on a terminal."""
    return _UNSAFE.sub("·", text)


def moment(text: str) -> str:
    """A moment as people read it, in UTC."""
    return text[:16].replace("T", " ")


def print_groups(groups: Sequence[Group], console: Console) -> None:
    """A block per cause: reasons and ids are long, and have to be copied in one piece, which no cell of a table allows."""
    for stage in dict.fromkeys(each.stage for each in groups):
        here = [each for each in groups if each.stage == stage]
        console.print(Text(f"{stage}: {sum(each.count for each in here):,}", style="bold"))
        for each in here:
            console.print(Text("\n").join(_group(each)), soft_wrap=True)
        console.print()


def _group(group: Group) -> Iterator[Text]:
    yield Text.assemble(
        (f"{group.count:>7,} × ", "bold"),
        f"{group.kind}, ",
        (group.error_type, "bold"),
        f": {clean(group.message)}",
    )
    yield Text.assemble((f"{'e.g. ':>10}", "dim"), shown_id(group.example_id))
    when = moment(group.last_seen)
    if moment(group.first_seen) != when:
        when = f"{moment(group.first_seen)} to {when}"
    notes = [f"{count:,} {name}" for name, count in group.statuses.items() if name != Status.OPEN]
    yield Text.assemble(
        (f"{'':10}{when} UTC, fingerprint {group.fingerprint}", "dim"),
        (f", {', '.join(notes)}" if notes else "", "cyan"),
        (f", {group.new_code:,} may be worth replaying: new code since" if group.new_code else "", "green"),
    )


def print_records(entries: Sequence[Summary], now: str, console: Console) -> None:
    """A block per failure."""
    for entry in entries:
        console.print(Text("\n").join(_record(entry, status_of(entry, now))), soft_wrap=True)


def _record(entry: Summary, status: Status) -> Iterator[Text]:
    yield Text.assemble(
        (f"{entry.stage:<12}", "bold"),
        (f"{status.value:<11}", STATUS_STYLES[status]),
        (shown_id(entry.record_id), "bold"),
    )
    yield Text(f"{'':23}{entry.kind}, {entry.error_type}: {clean(entry.message)}")
    times = "once" if entry.occurrences == 1 else f"{entry.occurrences:,} times"
    held = f", held by replay {entry.replay_id}" if status is Status.REPLAYING else ""
    yield Text(f"{'':23}{times}, last {moment(entry.last_seen)} UTC in run {entry.run_id}{held}", style="dim")


def records(count: int) -> str:
    return "1 record" if count == 1 else f"{count:,} records"


def print_order(order: ReplayOrder, expected: Estimate, console: Console, *, canary: int = 0) -> None:
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
    console.print(Text(f"  given as they were in {of}; e.g. {_named(order)}"), soft_wrap=True)
    if canary and canary < count:
        console.print(f"  {canary:,} first; the other {count - canary:,} only if they pass", soft_wrap=True)
    console.print(
        f"  about {_duration(expected.seconds)} and ${expected.dollars:,.4f}{_without(expected)}",
        soft_wrap=True,
    )


def _named(order: ReplayOrder) -> str:
    ids = [shown_id(each.entry.record_id) for each in order.candidates[:MAX_NAMED]]
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
        named = ", ".join(shown_id(each) for each in ids[:MAX_NAMED])
        more = f" and {len(ids) - MAX_NAMED:,} more" if len(ids) > MAX_NAMED else ""
        console.print(Text(f"      {named}{more}", style="dim"), soft_wrap=True)


def refusals(left_out: LeftOut) -> str:
    """The same on one line."""
    parts = []
    for reason, ids in left_out.by_reason.items():
        more = f" and {len(ids) - 1:,} more" if len(ids) > 1 else ""
        parts.append(f"{shown_id(ids[0])}{more}: {reason}")
    return "; ".join(parts)
