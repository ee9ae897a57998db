"""CloseRun: when a run has ended, prove it, report it, and send the alerts that were not delivered.

EventBridge says that a run has ended, because an execution that is aborted or times out cannot say so itself. If a step fails,
closing raises at the end, so that Lambda closes the run again; what was done is not done twice. A run that was closed without a
failure is marked, however little there was to close, so that `sweeper` finds those of which no event came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from winnow.core import keys
from winnow.core.contract import RUN_ID, now
from winnow.core.errors import DamagedDocument, WinnowError
from winnow.core.keys import AttemptKeys, StageKeys
from winnow.core.run_document import RunDocument
from winnow.metrics.watch import Metric, Watch
from winnow.planning.claim import AttemptClaim
from winnow.proof.prove import Proof, prove
from winnow.register.registering import catch_up, release_holds
from winnow.runs.published_by_run import PublishedByRun, published_by
from winnow.runs.run_alerts import RunAlerts
from winnow.runs.steps import AlertStep, ClosingStep, Steps

if TYPE_CHECKING:
    from winnow.alerts.announcer import Announcer
    from winnow.publish.published_set import PublishedSet
    from winnow.quality.result import GateResult
    from winnow.register.table import RegisterTable
    from winnow.runs.run_ended import RunEnded
    from winnow.storage.ledger import Ledger
    from winnow.storage.state_table import StateTable

UP_TO_DATE = "up to date"
BEHIND = "behind"

FIND_RUN = ClosingStep("find the run")
RELEASE_LOCK = ClosingStep("release the lock")
PROVE = ClosingStep("prove")
FIND_ATTEMPTS = ClosingStep("find attempts")
SEND_ALERT_OF_ATTEMPT = AlertStep("send an alert that was owed")
LOOK_FOR_ALERTS = AlertStep("look for alerts")
ALERT_OF_RUN = AlertStep("alert")
ALERT_OF_PROOF = AlertStep("alert of the proof")
COUNT_END = ClosingStep("count")
COUNT_PROOF = ClosingStep("count what was proved")
FIND_PUBLISHED = ClosingStep("find what was published")
FIND_GATE = ClosingStep("find what the gate said")
COUNT_PUBLISHED = ClosingStep("count what was published")
REPORT = ClosingStep("report")
RELEASE_HOLDS = ClosingStep("release the replay's holds")
MARK_CLOSED = ClosingStep("mark the run as closed")


def closed_mark(redrives: int) -> str:
    """The mark of an execution that was closed. One that Step Functions restarted since has to be closed again."""
    return f"closed {redrives}"


class CloseRunIncomplete(WinnowError):
    """Some steps of closing a run failed; they are named. Closing it again does only those."""


@dataclass(slots=True)
class Closing:
    """What closing a run did."""

    run_id: str
    status: str
    proof: Proof | None = None
    register: str | None = None
    """Whether the failure register has what the run settled; None where it settled nothing."""
    released: int = 0
    """Failures that the run held as a replay and did not settle."""
    alerts: list[str] = field(default_factory=list)
    """What was alerted now."""
    published: PublishedByRun | None = None
    """None where the pipeline publishes nothing."""
    gate: GateResult | None = None
    """None where no rule is given, or the run built no candidate."""

    def to_payload(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "status": self.status,
            "holds": self.proof.holds if self.proof else None,
            "lost": self.proof.lost if self.proof else None,
            "register": self.register,
            "alerts": self.alerts,
        }


class Closer:
    """Closes runs of one pipeline."""

    def __init__(
        self,
        *,
        pipeline: str,
        stages: Sequence[str],
        ledger: Ledger,
        register: RegisterTable,
        state: StateTable,
        announcer: Announcer,
        watch: Watch,
        published: PublishedSet | None = None,
        deadline: float = inf,
    ) -> None:
        """`published` is None where the pipeline publishes nothing. `deadline` is by `time.monotonic`: catching up with the register gives up then."""
        self._pipeline = pipeline
        self._stages = stages
        self._ledger = ledger
        self._register = register
        self._deadline = deadline
        self._state = state
        self._announcer = announcer
        self._watch = watch
        self._published = published

    def close(self, ended: RunEnded) -> Closing:
        """Close a run. Closing it again is harmless.

        Raises:
            CloseRunIncomplete: a step failed; all others were done.
        """
        steps = Steps(self._watch)
        run = steps.take(FIND_RUN, lambda: self._find(ended))
        was_planned = run is not None or bool(steps.failures)
        closing = Closing(run_id=run.run_id if run else ended.name, status=ended.status)
        self._watch.identify(run_id=closing.run_id)
        steps.take(RELEASE_LOCK, lambda: self._state.release_lock(self._pipeline, ended.execution))
        alerts = RunAlerts(
            pipeline=self._pipeline,
            run_id=closing.run_id,
            ledger=self._ledger,
            state=self._state,
            announcer=self._announcer,
            watch=self._watch,
            published=self._published,
        )
        if run and not run.stepped_aside:
            self._close(steps, closing, alerts, ended, run)
        elif run:  # a run that steps aside ends well, unless the answer that says so was lost
            steps.take(ALERT_OF_RUN, lambda: alerts.send_of_run(ended, None))
        elif not was_planned:  # PlanRun failed before it wrote the run down; only the event tells of it
            steps.take(ALERT_OF_RUN, lambda: alerts.send_of_run(ended, None))
            steps.take(COUNT_END, lambda: self._count_end(closing.run_id, ended))
            steps.take(RELEASE_HOLDS, lambda: self._release_unplanned(closing, ended))
        closing.alerts = alerts.sent
        if not steps.failures:
            steps.take(MARK_CLOSED, lambda: self._state.mark(ended.execution, closed_mark(ended.redrives)))
        if steps.failures:
            raise CloseRunIncomplete(
                f"run {closing.run_id} was not closed completely: {'; '.join(steps.failures)}"
            )
        return closing

    def _close(
        self, steps: Steps, closing: Closing, alerts: RunAlerts, ended: RunEnded, run: RunDocument
    ) -> None:
        if self._published and not run.is_probe:
            published = self._published
            closing.published = steps.take(
                FIND_PUBLISHED, lambda: published_by(published, closing.run_id, ended)
            )
            closing.gate = steps.take(FIND_GATE, lambda: _find_gate(published, closing))
        proof = steps.take(PROVE, lambda: prove(self._ledger, closing.run_id, status=ended.status))
        closing.proof = proof
        # Before alerts: failures that the register does not know yet would be alerted as new.
        self._bring_register_up_to_date(steps, closing, run)
        attempts = steps.take(FIND_ATTEMPTS, lambda: list(self._attempts(run))) or []
        for execution, attempt in attempts:
            steps.take(SEND_ALERT_OF_ATTEMPT, partial(alerts.send_of_attempt, attempt, execution))
        if not steps.take(LOOK_FOR_ALERTS, lambda: any(alerts.has_told(attempt) for _, attempt in attempts)):
            steps.take(ALERT_OF_RUN, lambda: alerts.send_of_run(ended, proof))
        if not run.is_probe:
            steps.take(COUNT_END, lambda: self._count_end(closing.run_id, ended))
        if closing.published:
            steps.take(COUNT_PUBLISHED, lambda: self._count_published(closing, ended))
        if proof:
            steps.take(ALERT_OF_PROOF, lambda: alerts.send_of_proof(ended, proof))
            steps.take(REPORT, lambda: self._report(closing, ended, proof))
            steps.take(COUNT_PROOF, lambda: self._count_proof(closing.run_id, ended, proof))

    def _bring_register_up_to_date(self, steps: Steps, closing: Closing, run: RunDocument) -> None:
        """Register what stages could not, and release what a replay still holds."""
        failed = len(steps.failures)
        for stage in run.stages_to_run:
            keys_of_stage = StageKeys(closing.run_id, stage)
            steps.take(
                ClosingStep(f"bring the failure register up to date with {stage}"),
                partial(catch_up, self._ledger, self._register, keys_of_stage, deadline=self._deadline),
            )
        if len(steps.failures) > failed:
            closing.register = BEHIND
            self._watch.count(Metric.REGISTER_BEHIND)
            return  # the register does not know all successes yet: a record released now may have succeeded, and would be replayed for nothing
        closing.register = UP_TO_DATE
        if run.replay_id:
            steps.take(RELEASE_HOLDS, lambda: self._release(closing, run.stages))

    def _release_unplanned(self, closing: Closing, ended: RunEnded) -> None:
        """Release the entries of a replay that was never planned."""
        replay = ended.input.get("replay")
        replay_id = replay.get("id") if isinstance(replay, Mapping) else None
        if not isinstance(replay_id, str) or not RUN_ID.fullmatch(replay_id):
            return
        if self._ledger.find_json(keys.run(replay_id)) is None:  # else another execution is that replay
            self._release(closing, self._stages, replay_id)

    def _release(self, closing: Closing, stages: Sequence[str], replay_id: str = "") -> None:
        closing.released += release_holds(self._register, self._pipeline, stages, replay_id or closing.run_id)

    def _find(self, ended: RunEnded) -> RunDocument | None:
        """The `run.json` of an execution; None where PlanRun failed before it wrote one."""
        for name in self._names(ended):
            if isinstance(name, str) and RUN_ID.fullmatch(name):
                run = self._ledger.find(keys.run(name), RunDocument.from_json)
                if run and run.execution == ended.execution:
                    return run
        return None

    def _names(self, ended: RunEnded) -> Iterator[object]:
        yield from dict.fromkeys((ended.name, ended.output.get("run_id"), ended.input.get("run_id")))
        yield self._state.find_run(ended.execution)

    def _attempts(self, run: RunDocument) -> Iterator[tuple[str, AttemptKeys]]:
        """Every attempt of every stage, with the execution that made it."""
        for stage in run.stages_to_run:
            number = 0
            while True:
                attempt = StageKeys(run.run_id, stage).attempt(number)
                claim = self._ledger.find(attempt.claim, AttemptClaim.from_json)
                # The parent settles an attempt whose execution died before it could claim it.
                if claim is None and self._ledger.find_json(attempt.settlement) is None:
                    break
                yield claim.execution if claim else run.execution, attempt
                number += 1

    def _report(self, closing: Closing, ended: RunEnded, proof: Proof) -> None:
        if self._is_reported_later(closing.run_id, ended):
            return
        document = {
            "run_id": closing.run_id,
            "pipeline": self._pipeline,
            "execution": ended.execution,
            "status": ended.status,
            "reason": ended.reason or None,
            "started_at": ended.started.isoformat() if ended.started else None,
            "stopped_at": ended.stopped.isoformat() if ended.stopped else None,
            "seconds": ended.seconds,
            "closed_at": now(),
            "register": closing.register,
            "published": closing.published.to_json() if closing.published else None,
            "gate": closing.gate.to_json() if closing.gate else None,
            "proof": proof.to_json(),
        }
        self._ledger.write_json(keys.run_report(closing.run_id), document)

    def _is_reported_later(self, run_id: str, ended: RunEnded) -> bool:
        """Whether a report tells of a later end. Step Functions restarted the run, and the event of its first end comes only now."""
        try:
            stopped = self._ledger.find(keys.run_report(run_id), _stopped)
        except DamagedDocument:  # it is written again
            return False
        return bool(stopped and ended.stopped and stopped > ended.stopped)

    def _count_end(self, run_id: str, ended: RunEnded) -> None:
        """Once, however often the run is closed."""
        if self._state.mark(run_id, f"counted end {ended.redrives}"):
            self._watch.count(Metric.RUN_SUCCEEDED if ended.succeeded else Metric.RUN_FAILED)
            if ended.seconds is not None:
                self._watch.count(Metric.RUN_SECONDS, ended.seconds)

    def _count_published(self, closing: Closing, ended: RunEnded) -> None:
        if closing.published and self._state.mark(closing.run_id, f"counted published {ended.redrives}"):
            has_published = closing.published.version is not None
            self._watch.count(Metric.RUN_PUBLISHED if has_published else Metric.RUN_NOT_PUBLISHED)

    def _count_proof(self, run_id: str, ended: RunEnded, proof: Proof) -> None:
        if self._state.mark(run_id, f"counted proof {ended.redrives}"):
            self._watch.count(Metric.RECORDS_LOST, proof.lost)
            self._watch.count(Metric.CONSERVATION_VIOLATION, len(proof.all_problems))


def _find_gate(published: PublishedSet, closing: Closing) -> GateResult | None:
    """What the gate said of the run's version, or of its last candidate."""
    from winnow.quality.judged import candidate_of, find_gate  # noqa: PLC0415  most pipelines publish nothing

    version = closing.published.version if closing.published else None
    if version is None:
        version = candidate_of(published, closing.run_id)
    return find_gate(published, version) if version is not None else None


def _stopped(report: Mapping[str, Any]) -> datetime | None:
    """When a run stopped, by its report. Raises KeyError, TypeError or ValueError where that has another form."""
    stopped_at = report["stopped_at"]
    return None if stopped_at is None else datetime.fromisoformat(stopped_at)
