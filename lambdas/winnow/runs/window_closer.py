"""Closes a window of arrivals: finds out which of its objects no run has, and starts one run over them.

The run bears the window's name, so Step Functions refuses a second one. One Lambda at a time closes a window, and when it dies another
begins anew: up to the start of the run nothing is lost by that, and from then on the run exists. Every object is claimed in the
state table before the run starts, because its event may be in another window, too. A claim names the run it was taken for:
whether that run exists decides if the object was seen to.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from winnow.core.contract import Pointer, SourceFormat, new_run_id
from winnow.core.errors import LedgerConflict
from winnow.core.keys import WindowKeys
from winnow.core.probe import is_probe_object
from winnow.metrics.watch import Metric, get_logger
from winnow.runs.object_events import ObjectCreated
from winnow.runs.request import RunRequest, Trigger, TriggerKind
from winnow.storage.ledger import digest_of, record_lines
from winnow.storage.state_table import Claim
from winnow.storage.upload_claims import Upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from winnow.metrics.watch import Watch
    from winnow.runs.gathering import Gatherer
    from winnow.storage.arrival_windows import ArrivalWindows, ClosedWindow
    from winnow.storage.executions import Executions
    from winnow.storage.ledger import Ledger
    from winnow.storage.state_table import StateTable
    from winnow.storage.upload_claims import UploadClaims

AT_ONCE = 16
"""Claims made, and chunks read, at once."""
LEASE_MARGIN_SECONDS = 30
"""After a Lambda's end until its run can no longer be about to appear: DescribeExecution is eventually consistent."""
MOST_PROBES_TOLD = 10
"""Of events of objects that a doctor's probe has put; they travel in the run's input."""
CLOCKS_APART_SECONDS = 5
"""By how much S3's clock may be ahead of Step Functions'. It may be more: then the same content is run over twice."""


class _Taken(Enum):
    MINE = "mine"
    DONE = "done"
    BUSY = "busy"


class WindowCloser:
    """Closes windows of one pipeline."""

    def __init__(
        self,
        *,
        stages: Sequence[str],
        source_prefix: str,
        ledger: Ledger,
        state: StateTable,
        windows: ArrivalWindows,
        uploads: UploadClaims,
        gatherer: Gatherer,
        executions: Executions,
        watch: Watch,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`gatherer` takes on what another run may be about to take."""
        self._stages = stages
        self._source_prefix = source_prefix
        self._ledger = ledger
        self._state = state
        self._windows = windows
        self._uploads = uploads
        self._gatherer = gatherer
        self._executions = executions
        self._watch = watch
        self._clock = clock

    def close(self, run_id: str, *, dead_at: float) -> None:
        """Close a window and start its run, if it has objects that no run has.

        Args:
            run_id: of the window, and of its run.
            dead_at: Unix time at which this Lambda is stopped.

        Raises:
            WindowIsBeingClosed: another Lambda may be at it. What it raises else, AWS's services raised. Do it again then.
        """
        lease_until = dead_at + LEASE_MARGIN_SECONDS
        window = self._windows.close(run_id, closer=new_run_id(), until=lease_until)
        if window is None:
            get_logger().warning("no such window; it was closed long ago", run_id=run_id)
            return
        if window.is_done:
            get_logger().info("window was closed before", run_id=run_id)
            return
        created = self._objects(window)
        if self._executions.status(self._executions.arn(run_id)) is None:
            left = self._run_over_mine(created, Claim(run_id=run_id, lease_until=lease_until))
        else:
            # A Lambda died between the start and the end of closing. The run's list is what it is, so nothing more is claimed for it.
            left = self._of_no_claim_for(created, run_id)
        if left:
            get_logger().info("objects wait for the next window", run_id=run_id, objects=len(left))
            self._gatherer.gather(left, close_when_full=False)
        self._windows.finish(run_id)

    def _objects(self, window: ClosedWindow) -> list[ObjectCreated]:
        """What the window was given, each event once."""
        read = partial(self._read_chunk, window.run_id)
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            chunks = list(pool.map(read, window.chunks))
        every = [created for chunk in chunks for created in chunk]
        distinct = {created.event_id: created for created in every}
        self._count_duplicates(len(every) - len(distinct))
        return list(distinct.values())

    def _read_chunk(self, run_id: str, digest: str) -> list[ObjectCreated]:
        key = WindowKeys(run_id).chunk(digest)
        with self._ledger.naming(key):
            return [ObjectCreated.from_json(each) for each in self._ledger.read_json(key, digest=digest)]

    def _of_no_claim_for(self, created: Sequence[ObjectCreated], run_id: str) -> list[ObjectCreated]:
        def find(each: ObjectCreated) -> Claim | None:
            return self._state.find_claim(each.event_id)

        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            claims = list(pool.map(find, created))
        return [
            each
            for each, claim in zip(created, claims, strict=True)
            if claim is None or claim.run_id != run_id
        ]

    def _run_over_mine(self, created: Sequence[ObjectCreated], mine: Claim) -> list[ObjectCreated]:
        """Claim what no run has, and start a run over it; returns what another run may be about to take."""
        taken = self._take_all(created, mine)
        by_outcome = {
            outcome: [each for each in created if taken[each.event_id] is outcome] for outcome in _Taken
        }
        self._count_duplicates(len(by_outcome[_Taken.DONE]))
        newest = _newest(by_outcome[_Taken.MINE])
        if newest:
            probes = [each.item.key for each in by_outcome[_Taken.MINE] if is_probe_object(each.item.key)]
            self._start(mine.run_id, newest, probes=probes)
        else:
            get_logger().info(
                "window starts no run: its objects are other runs', or wait for one",
                run_id=mine.run_id,
                objects=len(created),
            )
        return by_outcome[_Taken.BUSY]

    def _take_all(self, created: Sequence[ObjectCreated], mine: Claim) -> Mapping[str, _Taken]:
        uploads = {each.event_id: _upload(each) for each in created}
        uploaders = self._uploads.claimed(set(uploads.values()))
        runs = _Runs(self._executions, self._uploads, clock=self._clock)
        take = partial(self._take, mine=mine, uploaders=uploaders, runs=runs)
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            return dict(zip(uploads, pool.map(take, created), strict=True))

    def _take(
        self, created: ObjectCreated, *, mine: Claim, uploaders: Mapping[Upload, str], runs: _Runs
    ) -> _Taken:
        claim, outcome = mine, _Taken.MINE
        uploader = uploaders.get(_upload(created))
        if uploader is not None:
            if runs.started_at(uploader) is None and runs.may_yet_start(uploader):
                self._leave(created, mine, to=uploader)
                return _Taken.BUSY
            started_at = runs.started_at(uploader)
            if started_at is not None and _is_before(created, started_at):
                # The run found this very content there. Claimed for it, the arrival is known again when it is told again.
                claim = Claim(run_id=uploader, lease_until=mine.lease_until)
                outcome = _Taken.DONE
        standing = self._state.claim(created.event_id, claim)
        if standing == claim:
            return outcome
        # Of this window's run: a closer died. Its lease is over, or will be before this one's is.
        if standing.run_id != mine.run_id:
            # The lease first. A run that was asked for before it was over may have been started since.
            is_over = standing.lease_until <= self._clock()
            asked_since = standing.lease_until if is_over else None
            if runs.started_at(standing.run_id, asked_since=asked_since) is not None:
                return _Taken.DONE
            if not is_over:
                return _Taken.BUSY
        won = self._state.take_over_claim(created.event_id, claim, previous=standing)
        return outcome if won else _Taken.BUSY

    def _leave(self, created: ObjectCreated, mine: Claim, *, to: str) -> None:
        """Let go of an object that a closer of this window claimed before it died: its run, without it, would count as having it."""
        standing = self._state.find_claim(created.event_id)
        if standing is not None and standing.run_id == mine.run_id:
            others = Claim(run_id=to, lease_until=mine.lease_until)
            self._state.take_over_claim(created.event_id, others, previous=standing)

    def _start(self, run_id: str, objects: Sequence[ObjectCreated], *, probes: Sequence[str]) -> None:
        """Start the run over the objects that are records. `probes` are keys of those that are none, one for each event."""
        records = [created.item for created in objects if not is_probe_object(created.item.key)]
        told = {"probes": list(probes[:MOST_PROBES_TOLD])} if probes else {}
        body = b"".join(record_lines(item.to_record() for item in records))
        # A closer that died may have written another list. Named after its content, none is taken for another.
        key = WindowKeys(run_id).records(digest_of(body))
        with suppress(LedgerConflict):
            self._ledger.store.put(key, body, if_absent=True)
        request = RunRequest(
            run_id=run_id,
            trigger=Trigger(kind=TriggerKind.OBJECTS, details={"objects": len(records), **told}),
            start_at=self._stages[0],
            records=Pointer(bucket=self._ledger.bucket, key=key, format=SourceFormat.NDJSON),
            only=None,
            prefix=self._source_prefix,
        )
        self._executions.start(run_id, request.to_payload())
        get_logger().info("run started", run_id=run_id, trigger=request.trigger.to_payload())
        self._watch.count(Metric.RUN_STARTED)

    def _count_duplicates(self, count: int) -> None:
        if count:
            self._watch.count(Metric.RUN_DUPLICATE, count)


class _Runs:
    """Other runs that objects are claimed for; each is asked for once, or once more when its lease is over."""

    def __init__(self, executions: Executions, uploads: UploadClaims, *, clock: Callable[[], float]) -> None:
        self._executions = executions
        self._uploads = uploads
        self._clock = clock
        self._lock = threading.Lock()
        self._started: dict[str, float | None] = {}
        self._asked_at: dict[str, float] = {}
        self._may_yet_start: dict[str, bool] = {}

    def started_at(self, run_id: str, *, asked_since: float | None = None) -> float | None:
        """Unix time at which a run was started; None if it was not, asked at a given Unix time or later."""
        with self._lock:
            started = self._started.get(run_id)
            is_known = run_id in self._started and (
                started is not None or asked_since is None or self._asked_at[run_id] >= asked_since
            )
            if not is_known:
                self._asked_at[run_id] = self._clock()
                started = self._executions.started_at(self._executions.arn(run_id))
                self._started[run_id] = started
            return started

    def may_yet_start(self, run_id: str) -> bool:
        """Whether `winnow run` may still be about to start a run that does not exist. If not, it never will be."""
        with self._lock:
            if run_id not in self._may_yet_start:
                self._may_yet_start[run_id] = not self._uploads.withdraw(run_id)
                # Up to this moment it may have been started; ask once more.
                self._started.pop(run_id, None)
            return self._may_yet_start[run_id]


def _upload(created: ObjectCreated) -> Upload:
    return Upload(bucket=created.item.bucket, key=created.item.key, etag=created.item.etag)


def _is_before(created: ObjectCreated, started_at: float) -> bool:
    moment = created.moment
    return moment is not None and moment <= started_at + CLOCKS_APART_SECONDS


def _newest(created: Iterable[ObjectCreated]) -> list[ObjectCreated]:
    """The newest event of each object."""
    newest: dict[str, ObjectCreated] = {}
    for each in created:
        known = newest.get(each.item.key)
        if known is None or each.is_newer_than(known):
            newest[each.item.key] = each
    return list(newest.values())
