"""From failures that may be replayed to the replays to start: who holds what, and under which id. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from winnow.proof.lineage import Place
from winnow.register.item import Summary
from winnow.storage.executions import RUNNING

MAX_GENERATIONS = 1_000
"""Of replays of one and the same selection, each started after the one before ended without settling it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An entry that nothing speaks against, except perhaps that a replay holds it."""

    entry: Summary
    places: tuple[Place, ...]


def replay_id(pipeline: str, start_at: str, candidates: Iterable[Candidate], generation: int = 0) -> str:
    """The id of the replay of a selection: the same selection always gives the same id.

    Args:
        pipeline: its name.
        start_at: the stage to start from.
        candidates: all of one stage. A record that failed again is another selection, as it failed in another run.
        generation: how many replays of this very selection have ended without settling it.
    """
    records = sorted((each.entry.record_id, each.entry.run_id) for each in candidates)
    stages = sorted({each.entry.stage for each in candidates})
    named: list[object] = [pipeline, stages, start_at, records]
    if generation:
        named.append(generation)
    digest = hashlib.blake2b(json.dumps(named).encode("utf-8", "surrogatepass"), digest_size=8)
    return f"replay-{digest.hexdigest()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOrder:
    """One replay to start."""

    replay_id: str
    stage: str
    """In which the records failed."""
    start_at: str
    candidates: tuple[Candidate, ...]
    is_resumed: bool = False
    """It holds its records already: it was prepared before, and not started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """A selection of one stage, divided by who holds what."""

    orders: tuple[ReplayOrder, ...]
    started: Mapping[str, str]
    """Replays of this very selection that were started before, and the status of each; what they hold is theirs."""
    held: Mapping[str, tuple[str, ...]]
    """Why records are left out that some other replay has, and their ids."""
    beyond_limit: int
    """Records that are free and were cut off."""


Cut = Callable[[Sequence[Candidate]], Sequence[Candidate]]
"""`--limit` or `--canary`: the first so many."""


def divide(
    pipeline: str,
    start_at: str,
    candidates: Sequence[Candidate],
    *,
    now: str,
    status: Callable[[str], str | None],
    cut: Cut,
) -> Division:
    """Say what is to be started, what was started already, and what another replay holds.

    A replay whose operator's machine died between taking hold and starting is taken up again under its own id.

    Args:
        pipeline: its name.
        start_at: the stage to start from.
        candidates: of one stage, in order.
        now: this moment.
        status: of a replay's execution; None where there is none.
        cut: applied to what is free.
    """
    free = [each for each in candidates if not each.entry.held(now)]
    holders: dict[str, list[Candidate]] = {}
    for each in candidates:
        if each.entry.held(now):
            holders.setdefault(each.entry.replay_id, []).append(each)
    orders: list[ReplayOrder] = []
    started: dict[str, str] = {}
    held: dict[str, tuple[str, ...]] = {}
    for holder, theirs in holders.items():
        state = status(holder)
        mine = _own(pipeline, start_at, holder, theirs, candidates, now, cut)
        # Free, and named by a replay that has not ended: read before it took hold, for entries are read one after the other,
        # and from an index that lags. One that has ended may have let go of it.
        named = {each.entry.record_id for each in mine if state is None or state in RUNNING}
        others = [each for each in free if each.entry.record_id not in named]
        if mine and state is None:
            orders.append(_order(holder, start_at, mine, is_resumed=True))
            free = others
            continue
        # With others that are free this selection is another than the one that was started.
        if mine and state and not others:
            started[holder] = state
            free = others
            continue
        why = f"held by replay {holder} ({state or 'about to start'}) until {theirs[0].entry.held_until}"
        held[why] = tuple(each.entry.record_id for each in theirs)
    chosen = cut(free)
    if chosen:
        orders.append(fresh_order(pipeline, start_at, chosen, status))
    return Division(orders=tuple(orders), started=started, held=held, beyond_limit=len(free) - len(chosen))


def _own(
    pipeline: str,
    start_at: str,
    holder: str,
    theirs: Sequence[Candidate],
    candidates: Sequence[Candidate],
    now: str,
    cut: Cut,
) -> Sequence[Candidate]:
    """The selection that a replay was made from, if this one is the same: all of it held, or, when it died early, some."""
    unclaimed = [each for each in candidates if not each.entry.held(now) or each.entry.replay_id == holder]
    for guess in (theirs, cut(unclaimed), cut(candidates)):
        if any(holder == replay_id(pipeline, start_at, guess, generation) for generation in range(3)):
            return guess
    return ()


def fresh_order(
    pipeline: str, start_at: str, candidates: Sequence[Candidate], status: Callable[[str], str | None]
) -> ReplayOrder:
    """The order of a replay that has not ended: what is still open after one ended was not settled by it."""
    for generation in range(MAX_GENERATIONS):
        name = replay_id(pipeline, start_at, candidates, generation)
        state = status(name)
        if state is None or state in RUNNING:
            return _order(name, start_at, candidates)
    raise AssertionError(f"{MAX_GENERATIONS} replays of one selection")


def _order(
    name: str, start_at: str, candidates: Sequence[Candidate], *, is_resumed: bool = False
) -> ReplayOrder:
    return ReplayOrder(
        replay_id=name,
        stage=candidates[0].entry.stage,
        start_at=start_at,
        candidates=tuple(candidates),
        is_resumed=is_resumed,
    )


def first(limit: int | None) -> Cut:
    """The first so many; all for None."""
    return lambda candidates: candidates if limit is None else candidates[:limit]


def by_stage(entries: Iterable[Summary], stages: Sequence[str]) -> Iterator[tuple[str, list[Summary]]]:
    """Entries by the stage they failed in, in the pipeline's order."""
    groups: dict[str, list[Summary]] = {stage: [] for stage in stages}
    for entry in entries:
        groups[entry.stage].append(entry)
    yield from ((stage, some) for stage, some in groups.items() if some)
