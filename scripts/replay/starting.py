"""Starting a replay: take hold of its entries, write down what it is, start the pipeline. Each step can be taken again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from scripts.replay.rules import LeftOut
from winnow.batch.selection import Selection
from winnow.core import keys
from winnow.core.contract import iso
from winnow.core.errors import LedgerConflict
from winnow.core.ranges import Ranges
from winnow.proof.lineage import parts_of
from winnow.register.entry import Refused, hold, release
from winnow.storage.executions import RUNNING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scripts.replay.lanes import Lane
    from scripts.replay.orders import Candidate, ReplayOrder
    from scripts.replay.site import Site
    from winnow.register.entry import Entry

LEASE = timedelta(hours=6)
"""A stage's own time limit by default. The end of the run releases the hold at once; this is for replays whose end was never reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What became of an order."""

    replay_id: str
    count: int
    """Records that the replay has."""
    lost: LeftOut
    """Records that another replay took first, or that changed meanwhile."""
    now: bool = False
    """It was started by this."""
    before: bool = False
    """It had been started already."""
    waits_for: tuple[str, ...] = ()
    """Replays that fill its lane."""


def start(site: Site, order: ReplayOrder, *, lane: Lane | None = None, lease: timedelta = LEASE) -> Started:
    """Start a replay. Done again, by anybody, it goes on where it was left, and starts it once.

    Raises:
        RegisterUnavailable: the register cannot be changed; nothing was started.
    """
    lost = take_hold(site, order, lease=lease)
    gone = {record_id for ids in lost.by_reason.values() for record_id in ids}
    mine = [each for each in order.candidates if each.entry.record_id not in gone]
    if not mine:
        return Started(replay_id=order.replay_id, count=0, lost=lost)
    count = len(mine)
    if not _write(site, order.replay_id, mine):
        if _is_running(site, order):
            # It has settled some of its records since this was chosen; what it holds is its own.
            return Started(replay_id=order.replay_id, count=count, lost=lost, before=True)
        let_go(site, order, mine)
        for each in mine:
            lost.add(
                f"part of what {order.replay_id} once took hold of is not to be had any more; ask again later",
                each.entry.record_id,
            )
        return Started(replay_id=order.replay_id, count=0, lost=lost)
    if lane and (running := lane.enter(order.replay_id)):
        let_go(site, order, mine)
        return Started(replay_id=order.replay_id, count=count, lost=lost, waits_for=tuple(running))
    is_new = site.executions.start(
        order.replay_id,
        {
            "run_id": order.replay_id,
            "start_at": order.start_at,
            "records": site.ledger.pointer(keys.replay_selection(order.replay_id)),
            "replay": {"id": order.replay_id},
            "trigger": {"kind": "replay", "id": order.replay_id},
        },
    )
    if not is_new and not _is_running(site, order):
        # It has ended since this was chosen, so nothing else would release it before the lease ends.
        let_go(site, order, mine)
    return Started(replay_id=order.replay_id, count=count, lost=lost, now=is_new, before=not is_new)


def _is_running(site: Site, order: ReplayOrder) -> bool:
    return site.executions.status(site.executions.arn(order.replay_id)) in RUNNING


def take_hold(site: Site, order: ReplayOrder, *, lease: timedelta = LEASE) -> LeftOut:
    """Take hold of an order's entries.

    Returns:
        Those that are not to be had (any more), and why.
    """
    now = site.clock()
    until = iso(datetime.fromisoformat(now) + lease)
    failed_in = {each.entry.record_id: each.entry.run_id for each in order.candidates}
    refused: dict[str, str] = {}

    def change(record_id: str, found: Entry | None) -> Entry | None:
        refused.pop(record_id, None)
        try:
            if found is None:
                raise Refused("no longer in the register")  # noqa: TRY301  one way out for all that are lost
            if found.last.run_id != failed_in[record_id]:
                raise Refused(f"failed again meanwhile, in run {found.last.run_id}")  # noqa: TRY301
            return hold(found, replay_id=order.replay_id, now=now, until=until)
        except Refused as why:
            refused[record_id] = str(why)
            return None

    site.register.apply(site.pipeline.name, order.stage, failed_in, change)
    lost = LeftOut()
    for record_id in sorted(refused):
        lost.add(refused[record_id], record_id)
    return lost


def let_go(site: Site, order: ReplayOrder, candidates: Iterable[Candidate]) -> None:
    """Give entries back that were taken hold of."""
    site.register.apply(
        site.pipeline.name,
        order.stage,
        (each.entry.record_id for each in candidates),
        lambda _, found: release(found, replay_id=order.replay_id) if found else None,
    )


def _write(site: Site, replay_id: str, candidates: Iterable[Candidate]) -> bool:
    """Write the selection once: two operators who start it at the same moment start the same replay.

    Where an earlier start has written another one, that one is used; records that it does not name are released when the replay is closed.

    Returns:
        Whether all that the written selection names is held.
    """
    parts = parts_of(place for each in candidates for place in each.places)
    key = keys.replay_selection(replay_id)
    try:
        site.ledger.write_json(key, Selection(parts=parts).to_json(), if_absent=True)
    except LedgerConflict:
        ours = {(part.run_id, part.stage): part.ordinals for part in parts}
        written = site.ledger.read(key, Selection.from_json)
        nothing = Ranges.empty()
        return not any(part.ordinals - ours.get((part.run_id, part.stage), nothing) for part in written.parts)
    return True
