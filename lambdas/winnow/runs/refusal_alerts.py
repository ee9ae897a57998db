"""The alert of an event that asked for a run and was refused: else only a metric and a log would know of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from winnow.alerts.content import AlertContent, Event, Severity
from winnow.core.errors import StageInputError, shorten
from winnow.metrics.watch import Metric

if TYPE_CHECKING:
    from winnow.alerts.announcer import Announcer
    from winnow.metrics.watch import Watch
    from winnow.storage.state_table import StateTable

MARK = "refused"


class RefusalAlerts:
    """Alerts each refused event once, however often it is delivered."""

    def __init__(self, *, pipeline: str, state: StateTable, announcer: Announcer, watch: Watch) -> None:
        self._pipeline = pipeline
        self._state = state
        self._announcer = announcer
        self._watch = watch

    def send(self, event: object, error: StageInputError) -> None:
        """Alert an event that can start nothing.

        Marked after SNS accepted: if this process dies in between, the alert is sent twice rather than never. An error of SNS
        or of the state table is counted and raised, so that the event comes again and is alerted then.
        """
        subject = f"event#{_digest(event)}"
        try:
            if self._state.is_marked(subject, MARK):
                return
            self._announcer.announce(self._content(event, error), execution="")
            self._watch.count(Metric.ALERT_SENT)
            self._state.mark(subject, MARK)
        except Exception:
            self._watch.count(Metric.ALERT_FAILED)
            raise

    def _content(self, event: object, error: StageInputError) -> AlertContent:
        return AlertContent(
            severity=Severity.ERROR,
            verdict=Event.REFUSED.value,
            pipeline=self._pipeline,
            run_id="",
            cause=f"{error} ({_name(event)})",
        )


def _digest(event: object) -> str:
    """What tells events apart: EventBridge gives each an id; an event without one is told by all that it says."""
    identity = event.get("id") if isinstance(event, Mapping) else None
    if not isinstance(identity, str):
        identity = json.dumps(event, sort_keys=True)
    return hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()


def _name(event: object) -> str:
    """The event as its sender finds it again."""
    if not isinstance(event, Mapping):
        return f"the event: {shorten(event)}"
    said = [f"{field} {event[field]}" for field in ("id", "time", "source") if event.get(field)]
    return f"the event: {', '.join(said)}" if said else f"the event: {shorten(dict(event))}"
