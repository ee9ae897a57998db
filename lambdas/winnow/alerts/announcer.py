"""Delivery of alerts to SNS: each at least once, and once where nothing goes wrong."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from winnow.alerts.content import AlertContent
from winnow.alerts.wording import compose
from winnow.core.contract import now
from winnow.core.errors import LedgerConflict

if TYPE_CHECKING:
    from winnow.alerts.wording import Alert
    from winnow.core.keys import AttemptKeys
    from winnow.storage.ledger import Ledger

MAX_SUBJECT_CHARS = 100
"""SNS's limit; ASCII only, no line breaks."""
STRUCTURED_PROTOCOLS = ("lambda", "sqs")
"""Subscribers that are programs get JSON; people get the text."""


class Announcer:
    """Publishes alerts to one topic."""

    def __init__(self, *, topic_arn: str, environment: str, sns: Any) -> None:
        self._topic_arn = topic_arn
        self._environment = environment
        self._sns = sns

    def announce(self, content: AlertContent, *, execution: str) -> str:
        """Publish an alert; returns SNS's message id. Whatever SNS says against it is raised, for the caller to count."""
        alert = compose(content, environment=self._environment, execution=execution)
        answer = self._sns.publish(
            TopicArn=self._topic_arn,
            Subject=subject(alert.title),
            Message=message(alert),
            MessageStructure="json",
            MessageAttributes={
                "severity": {"DataType": "String", "StringValue": content.severity.value},
                "verdict": {"DataType": "String", "StringValue": content.verdict},
            },
        )
        return str(answer["MessageId"])

    def announce_attempt(self, ledger: Ledger, keys: AttemptKeys, *, execution: str) -> AlertContent | None:
        """Publish what an attempt has to alert, unless that was done before.

        The marker is written after SNS accepted: if this process dies in between, the alert comes twice rather than never.

        Returns:
            What was published; None when it was published before, or needs no alert.

        Raises:
            LedgerObjectMissing: the attempt has nothing to alert.
        """
        content = ledger.read(keys.alert, AlertContent.from_json)
        if not content.needs_alert or ledger.find_json(keys.alerted) is not None:
            return None
        message_id = self.announce(content, execution=execution)
        with suppress(LedgerConflict):  # a second delivery of the same order, at the same moment
            ledger.write_json(keys.alerted, {"message_id": message_id, "alerted_at": now()}, if_absent=True)
        return content


def subject(title: str) -> str:
    """The title as SNS takes it as a subject."""
    plain = " ".join(title.encode("ascii", "replace").decode().split())
    return plain if len(plain) <= MAX_SUBJECT_CHARS else plain[: MAX_SUBJECT_CHARS - 3] + "..."


def message(alert: Alert) -> str:
    """The SNS message: plain text for people, everything for programs."""
    structured = json.dumps(alert.to_json(), ensure_ascii=False)
    per_protocol = {"default": alert.text, **dict.fromkeys(STRUCTURED_PROTOCOLS, structured)}
    return json.dumps(per_protocol, ensure_ascii=False)
