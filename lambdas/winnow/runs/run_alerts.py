"""The alerts that closing a run sends: of its stages where they were not delivered, of its end, and of its proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from winnow.alerts.content import AlertContent, Event, Severity
from winnow.core.errors import DamagedDocument, LedgerObjectMissing
from winnow.metrics.watch import Metric
from winnow.proof.prove import Proof, Reached

if TYPE_CHECKING:
    from winnow.alerts.announcer import Announcer
    from winnow.core.keys import AttemptKeys
    from winnow.metrics.watch import Watch
    from winnow.publish.published_set import PublishedSet
    from winnow.runs.run_ended import RunEnded
    from winnow.storage.ledger import Ledger
    from winnow.storage.state_table import StateTable

MAX_PROBLEMS = 5
"""Problems quoted in an alert; all are in the report."""


class RunAlerts:
    """Sends the alerts of one run, each once, however often the run is closed."""

    def __init__(
        self,
        *,
        pipeline: str,
        run_id: str,
        ledger: Ledger,
        state: StateTable,
        announcer: Announcer,
        watch: Watch,
        published: PublishedSet | None = None,
    ) -> None:
        """`published` is None where the pipeline publishes nothing."""
        self._published = published
        self._pipeline = pipeline
        self._run_id = run_id
        self._ledger = ledger
        self._state = state
        self._announcer = announcer
        self._watch = watch
        self.sent: list[str] = []
        """What was alerted now."""

    def send_of_attempt(self, attempt: AttemptKeys, execution: str) -> None:
        """Send what Settle wrote and Alert did not deliver."""
        try:
            sent = self._announcer.announce_attempt(self._ledger, attempt, execution=execution)
        except LedgerObjectMissing:  # the attempt had nothing to alert
            return
        if sent:
            self._count(f"{sent.stage} {sent.verdict}")

    def has_told(self, attempt: AttemptKeys) -> bool:
        """Whether an alert of this attempt, or of an earlier run, says why the run failed: then the run needs none of its own."""
        alert = self._ledger.find(attempt.alert, AlertContent.from_json)
        if alert is None or alert.verdict != Event.TOTAL_FAILURE:
            return False
        return self._ledger.find_json(attempt.alerted) is not None or not alert.needs_alert

    def send_of_run(self, ended: RunEnded, proof: Proof | None) -> None:
        if ended.succeeded:
            return
        # By what the gate wrote down: emulators lose the error's name, and no run goes on behind a gate that blocked.
        if ended.status == Event.FAILED and (blocked := self._blocked()):
            self._send_once(blocked, ended, f"run {ended.status} {ended.redrives}")
            return
        content = AlertContent(
            severity=Severity.ERROR if ended.status == Event.ABORTED else Severity.CRITICAL,
            verdict=Event(ended.status).value,
            pipeline=self._pipeline,
            run_id=self._run_id,
            cause=": ".join(filter(None, (_stopped_at(proof), ended.reason))) or None,
        )
        self._send_once(content, ended, f"run {ended.status} {ended.redrives}")

    def _blocked(self) -> AlertContent | None:
        """What the quality gate held back; None where that cannot be found, so that the run's own error is told instead."""
        from winnow.runs.blocked_version import find_blocked  # noqa: PLC0415  most runs pass

        if self._published is None:
            return None
        try:
            return find_blocked(self._published, pipeline=self._pipeline, run_id=self._run_id)
        except DamagedDocument:
            return None

    def send_of_proof(self, ended: RunEnded, proof: Proof) -> None:
        if proof.holds:
            return
        problems = proof.all_problems
        more = f"; and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        content = AlertContent(
            severity=Severity.CRITICAL,
            verdict=Event.NOT_CONSERVED.value,
            pipeline=self._pipeline,
            run_id=self._run_id,
            cause="; ".join(problems[:MAX_PROBLEMS]) + more,
        )
        self._send_once(content, ended, f"conservation {ended.redrives}")

    def _send_once(self, content: AlertContent, ended: RunEnded, mark: str) -> None:
        """Marked after SNS accepted: if this process dies in between, the alert is sent twice rather than never."""
        if self._state.is_marked(self._run_id, mark):
            return
        self._announcer.announce(content, execution=ended.execution)
        self._count(content.verdict)
        self._state.mark(self._run_id, mark)

    def _count(self, what: str) -> None:
        self.sent.append(what)
        self._watch.count(Metric.ALERT_SENT)


def _stopped_at(proof: Proof | None) -> str:
    """How far the run got."""
    reached = [stage for stage in proof.stages if stage.reached is not Reached.NOT_REACHED] if proof else []
    if not reached:
        return ""
    last = reached[-1]
    done = last.succeeded + last.skipped
    return f"it had come as far as stage {last.stage} ({done:,} of {last.records_in:,} records done there)"
