"""CloseRun: when a run has ended, however it ended, prove it, report it, and say what nobody has said yet.

It hears of the end from outside (EventBridge), because an execution that is aborted or times out cannot say so itself. Each step
stands alone: one that fails is counted and keeps no other back (law 6). If any failed, closing raises at the end, so that Lambda
closes the run again; what was done is not done twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Self

from winnow.alerts.content import AlertContent, Event, Severity
from winnow.core import keys
from winnow.core.contract import RUN_ID, now
from winnow.core.errors import LedgerObjectMissing, WinnowError
from winnow.core.keys import AttemptKeys, StageKeys
from winnow.core.sfn_errors import innermost
from winnow.metrics.watch import Metric, Watch, get_logger
from winnow.proof.prove import Proof, Reached, prove, stages_of
from winnow.register.registering import catch_up, release_holds

if TYPE_CHECKING:
    from winnow.alerts.announcer import Announcer
    from winnow.register.table import RegisterTable
    from winnow.storage.ledger import Ledger
    from winnow.storage.state_table import StateTable

SUCCEEDED = "SUCCEEDED"
UP_TO_DATE = "up to date"
BEHIND = "behind"
MAX_PROBLEMS = 5
"""Problems quoted in an alert; all are in the report."""


class CloseRunIncomplete(WinnowError):
    """Some steps of closing a run failed; they are named. Closing it again does only those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """EventBridge's news of an execution of the pipeline that has ended."""

    execution: str
    name: str
    status: str
    started: datetime | None
    stopped: datetime | None
    input: Mapping[str, Any]
    output: Mapping[str, Any]
    error: str
    cause: str
    redrives: int
    """How often Step Functions itself restarted it; each end is news of its own."""

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Self:
        """Raises KeyError when it is not such news."""
        detail = event["detail"]
        return cls(
            execution=detail["executionArn"],
            name=detail["name"],
            status=detail["status"],
            started=_moment(detail.get("startDate")),
            stopped=_moment(detail.get("stopDate")),
            input=_document(detail.get("input")),
            output=_document(detail.get("output")),
            error=detail.get("error") or "",
            cause=detail.get("cause") or "",
            redrives=detail.get("redriveCount") or 0,
        )

    @property
    def seconds(self) -> float | None:
        return (self.stopped - self.started).total_seconds() if self.started and self.stopped else None

    @property
    def reason(self) -> str:
        """Why it ended as it did, in words."""
        return str(innermost(self.error, self.cause))


def _moment(milliseconds: object) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if isinstance(milliseconds, int | float) else None


def _document(text: object) -> Mapping[str, Any]:
    """Input or output of an execution; nothing when EventBridge left it out for its size."""
    try:
        document = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        document = None
    return document if isinstance(document, Mapping) else {}


@dataclass(slots=True)
class Closing:
    """What closing a run did, for the log and for whoever invoked it."""

    run_id: str
    status: str
    proof: Proof | None = None
    register: str | None = None
    """Whether the failure register has what the run settled; None where it settled nothing."""
    released: int = 0
    """Failures that the run held as a replay and did not settle."""
    alerts: list[str] = field(default_factory=list)
    """What was alerted now."""
    failures: list[str] = field(default_factory=list)
    """Steps that failed, and why."""

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
        deadline: float = inf,
    ) -> None:
        """`deadline` is by `time.monotonic`: catching up with the register gives up then."""
        self._pipeline = pipeline
        self._stages = stages
        self._ledger = ledger
        self._register = register
        self._deadline = deadline
        self._state = state
        self._announcer = announcer
        self._watch = watch

    def close(self, ended: RunEnded) -> Closing:
        """Close a run. Closing it again is harmless.

        Raises:
            CloseRunIncomplete: a step failed; all others were done.
        """
        closing = Closing(run_id=ended.name, status=ended.status)
        run = self._step(closing, "find the run", lambda: self._find(ended))
        if run:
            closing.run_id = run["run_id"]
        self._watch.identify(run_id=closing.run_id)
        self._step(
            closing, "release the lock", lambda: self._state.release_lock(self._pipeline, ended.execution)
        )
        if run and not run["stepped_aside"]:
            self._close(closing, ended, run)
        elif run == {}:  # PlanRun did not get as far as to write the run down; only the event tells of it
            self._step(closing, "alert", lambda: self._alert_of_run(closing, ended))
            self._step(closing, "count", lambda: self._count_end(closing, ended))
            self._step(closing, "release the replay's holds", lambda: self._release_unplanned(closing, ended))
        if closing.failures:
            raise CloseRunIncomplete(
                f"run {closing.run_id} was not closed completely: {'; '.join(closing.failures)}"
            )
        return closing

    def _close(self, closing: Closing, ended: RunEnded, run: Mapping[str, Any]) -> None:
        closing.proof = self._step(
            closing, "prove", lambda: prove(self._ledger, closing.run_id, status=ended.status)
        )
        # Before alerts: what the register does not know yet would be alerted as news.
        self._bring_register_up_to_date(closing, run)
        attempts = self._step(closing, "find attempts", lambda: list(self._attempts(run))) or []
        for execution, attempt in attempts:
            self._step(
                closing, "send an alert that was owed", partial(self._send, closing, attempt, execution)
            )
        told = self._step(
            closing, "look for alerts", lambda: any(self._told(attempt) for _, attempt in attempts)
        )
        if not told:
            self._step(closing, "alert", lambda: self._alert_of_run(closing, ended))
        self._step(closing, "count", lambda: self._count_end(closing, ended))
        if closing.proof:
            proof = closing.proof
            self._step(closing, "alert of the proof", lambda: self._alert_of_proof(closing, ended, proof))
            self._step(closing, "report", lambda: self._report(closing, ended, proof))
            self._step(closing, "count what was proved", lambda: self._count_proof(closing, ended, proof))

    def _bring_register_up_to_date(self, closing: Closing, run: Mapping[str, Any]) -> None:
        """Register what stages could not, and give back what a replay still holds."""
        failed = len(closing.failures)
        for stage in stages_of(run):
            keys_of_stage = StageKeys(closing.run_id, stage)
            catching_up = partial(
                catch_up, self._ledger, self._register, keys_of_stage, deadline=self._deadline
            )
            self._step(closing, f"bring the failure register up to date with {stage}", catching_up)
        if len(closing.failures) > failed:
            closing.register = BEHIND
            self._watch.count(Metric.REGISTER_BEHIND)
            return  # what succeeded is not known to the register yet: replaying that again would be in vain
        closing.register = UP_TO_DATE
        if run.get("replay"):
            stages: Sequence[str] = run["stages"]
            self._step(closing, "release the replay's holds", lambda: self._release(closing, stages))

    def _release_unplanned(self, closing: Closing, ended: RunEnded) -> None:
        """A replay that did not get as far as to be planned held what it was to replay."""
        replay = ended.input.get("replay")
        replay_id = replay.get("id") if isinstance(replay, Mapping) else None
        if not isinstance(replay_id, str) or not RUN_ID.fullmatch(replay_id):
            return
        if self._ledger.find_json(keys.run(replay_id)) is None:  # else another execution is that replay
            self._release(closing, self._stages, replay_id)

    def _release(self, closing: Closing, stages: Sequence[str], replay_id: str = "") -> None:
        closing.released += release_holds(self._register, self._pipeline, stages, replay_id or closing.run_id)

    def _step(self, closing: Closing, name: str, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except Exception as error:  # noqa: BLE001  law 6
            get_logger().exception(f"closing the run: could not {name}", error=str(error))
            metric = Metric.ALERT_FAILED if "alert" in name else Metric.WATCHING_FAILED
            self._watch.count(metric)
            closing.failures.append(f"{name}: {error}")
            return None

    def _find(self, ended: RunEnded) -> Mapping[str, Any]:
        """The run that an execution was; empty where PlanRun did not get as far as to write it down."""
        for name in self._names(ended):
            if isinstance(name, str) and RUN_ID.fullmatch(name):
                run: Mapping[str, Any] | None = self._ledger.find_json(keys.run(name))
                if run and run["execution"] == ended.execution:
                    return run
        return {}

    def _names(self, ended: RunEnded) -> Iterator[object]:
        yield from dict.fromkeys((ended.name, ended.output.get("run_id"), ended.input.get("run_id")))
        yield self._state.find_run(ended.execution)

    def _attempts(self, run: Mapping[str, Any]) -> Iterator[tuple[str, AttemptKeys]]:
        """Every attempt of every stage, and the execution that made it."""
        for stage in stages_of(run):
            number = 0
            while True:
                attempt = StageKeys(run["run_id"], stage).attempt(number)
                claim = self._ledger.find_json(attempt.claim)
                # The parent settles an attempt whose execution died before it could claim it.
                if claim is None and self._ledger.find_json(attempt.settlement) is None:
                    break
                yield claim["execution"] if claim else run["execution"], attempt
                number += 1

    def _send(self, closing: Closing, attempt: AttemptKeys, execution: str) -> None:
        """What Settle wrote down and Alert did not deliver."""
        try:
            sent = self._announcer.announce_attempt(self._ledger, attempt, execution=execution)
        except LedgerObjectMissing:  # the attempt had nothing to alert
            return
        if sent:
            self._sent(closing, f"{sent.stage} {sent.verdict}")

    def _told(self, attempt: AttemptKeys) -> bool:
        """Whether the failure of a stage, and with it of the run, has reached the topic, or is what an earlier run told."""
        alert = self._ledger.find_json(attempt.alert)
        return bool(
            alert
            and alert["verdict"] == Event.TOTAL_FAILURE
            and (
                self._ledger.find_json(attempt.alerted) is not None
                or not AlertContent.from_json(alert).is_news
            )
        )

    def _alert_of_run(self, closing: Closing, ended: RunEnded) -> None:
        if ended.status == SUCCEEDED:
            return
        where = _stopped_at(closing.proof)
        content = AlertContent(
            severity=Severity.ERROR if ended.status == Event.ABORTED else Severity.CRITICAL,
            verdict=Event(ended.status).value,
            pipeline=self._pipeline,
            run_id=closing.run_id,
            cause=": ".join(filter(None, (where, ended.reason))) or None,
        )
        self._announce_once(closing, content, ended, f"run {ended.status} {ended.redrives}")

    def _alert_of_proof(self, closing: Closing, ended: RunEnded, proof: Proof) -> None:
        if proof.holds:
            return
        problems = proof.all_problems
        more = f"; and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        content = AlertContent(
            severity=Severity.CRITICAL,
            verdict=Event.NOT_CONSERVED.value,
            pipeline=self._pipeline,
            run_id=closing.run_id,
            cause="; ".join(problems[:MAX_PROBLEMS]) + more,
        )
        self._announce_once(closing, content, ended, f"conservation {ended.redrives}")

    def _announce_once(self, closing: Closing, content: AlertContent, ended: RunEnded, what: str) -> None:
        """Marked after SNS accepted: if this process dies in between, the alert comes twice rather than never."""
        if self._state.is_marked(closing.run_id, what):
            return
        self._announcer.announce(content, execution=ended.execution)
        self._sent(closing, content.verdict)
        self._state.mark(closing.run_id, what)

    def _sent(self, closing: Closing, what: str) -> None:
        closing.alerts.append(what)
        self._watch.count(Metric.ALERT_SENT)

    def _report(self, closing: Closing, ended: RunEnded, proof: Proof) -> None:
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
            "proof": proof.to_json(),
        }
        self._ledger.write_json(keys.run_report(closing.run_id), document)

    def _count_end(self, closing: Closing, ended: RunEnded) -> None:
        """Once, however often the run is closed."""
        if self._state.mark(closing.run_id, f"counted end {ended.redrives}"):
            self._watch.count(Metric.RUN_SUCCEEDED if ended.status == SUCCEEDED else Metric.RUN_FAILED)
            if ended.seconds is not None:
                self._watch.count(Metric.RUN_SECONDS, ended.seconds)

    def _count_proof(self, closing: Closing, ended: RunEnded, proof: Proof) -> None:
        if self._state.mark(closing.run_id, f"counted proof {ended.redrives}"):
            self._watch.count(Metric.RECORDS_LOST, proof.lost)
            self._watch.count(Metric.CONSERVATION_VIOLATION, len(proof.all_problems))


def _stopped_at(proof: Proof | None) -> str:
    """How far the run got."""
    reached = [stage for stage in proof.stages if stage.reached is not Reached.NOT_REACHED] if proof else []
    if not reached:
        return ""
    last = reached[-1]
    done = last.succeeded + last.skipped
    return f"it had come as far as stage {last.stage} ({done:,} of {last.records_in:,} records done there)"
