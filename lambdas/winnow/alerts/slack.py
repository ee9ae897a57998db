"""Delivery to Slack: the webhook, its secret, and patience within the Lambda's time."""

from __future__ import annotations

import json
import random
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Retry
from urllib3.exceptions import HTTPError, InvalidHeader

from winnow.alerts.slack_blocks import slack_message
from winnow.core.errors import WinnowError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

POST_TIMEOUT_SECONDS = 10.0
FIRST_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 20.0
MAX_REASON_BYTES = 200
REMEMBERED_DELIVERIES = 1_000
"""SNS message ids that a process remembers, so that a retried event does not repeat what had arrived."""


class SlackError(WinnowError):
    """Slack did not take a message. The webhook's URL, a secret, is in no error and no log."""


class Webhook:
    """An incoming webhook whose URL is kept in Secrets Manager."""

    def __init__(
        self,
        *,
        secret_arn: str,
        secrets: Any,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._secret_arn = secret_arn
        self._secrets = secrets
        self._clock = clock
        self._sleep = sleep
        self._url = ""

    def post(self, payload: Mapping[str, Any], *, deadline: float) -> None:
        """Send a message, with as many tries as fit before the deadline (of the same clock).

        Throttling and outages are waited out; a webhook that is gone is looked up anew once, as an operator may have replaced it;
        a message that Slack finds malformed is sent once more as plain text, as any alert beats none.

        Raises:
            SlackError: it did not arrive.
        """
        url = self._url or self._read_url()
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            answer = _send(url, payload, timeout=min(POST_TIMEOUT_SECONDS, deadline - self._clock()))
            if answer.ok:
                return
            if answer.status in {403, 404, 410}:
                before, url = url, self._read_url()
                if url == before:
                    raise SlackError(
                        f"slack's webhook is gone or disabled ({answer}): put a new one into {self._secret_arn}"
                    )
                continue
            if answer.status == 400 and "blocks" in payload:
                payload = {"text": payload["text"]}
                continue
            if not answer.passing:
                raise SlackError(f"slack refused the message ({answer})")
            wait = answer.retry_after_seconds or random.uniform(backoff / 2, backoff)  # noqa: S311  jitter, no secret
            if self._clock() + wait + 1 > deadline:
                raise SlackError(f"slack did not take the message in time ({answer})")
            self._sleep(wait)
            backoff = min(MAX_BACKOFF_SECONDS, backoff * 2)

    def _read_url(self) -> str:
        secret = self._secrets.get_secret_value(SecretId=self._secret_arn).get("SecretString", "")
        self._url = webhook_url(secret, self._secret_arn)
        return self._url


def webhook_url(secret: str, secret_arn: str) -> str:
    """The URL in a secret: the secret itself, or its `url` when it is JSON.

    Raises:
        SlackError: there is none that may be posted to.
    """
    text = secret.strip()
    if text.startswith("{"):
        try:
            text = str(json.loads(text).get("url", "")).strip()
        except ValueError:
            text = ""
    parts = urlsplit(text)
    loopback = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
        raise SlackError(
            f"the secret holds no webhook URL: aws secretsmanager put-secret-value --secret-id {secret_arn} "
            "--secret-string https://hooks.slack.com/services/..."
        )
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    """0 when there was none."""
    reason: str
    retry_after_seconds: float = 0

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def passing(self) -> bool:
        """Waiting may help."""
        return self.status in {0, 429} or self.status >= 500

    def __str__(self) -> str:
        return f"{self.status or 'no answer'}: {self.reason}"


def _send(url: str, payload: Mapping[str, Any], *, timeout: float) -> _Answer:
    """Send a message once. A redirect is an answer like any other: the message goes nowhere else."""
    body = json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")
    try:
        with _pool(url).request(
            "POST",
            url,
            body=body,
            headers={"Content-Type": "application/json; charset=utf-8"},
            timeout=max(0.1, timeout),
            retries=False,
            preload_content=False,
        ) as answer:
            reason = answer.read(MAX_REASON_BYTES).decode("utf-8", "replace")
            return _Answer(
                status=answer.status,
                reason=reason or answer.reason or "",
                retry_after_seconds=_seconds_to_wait(answer),
            )
    except (OSError, HTTPError) as error:  # their texts hold the webhook's URL
        return _Answer(status=0, reason=type(error).__name__)


def _pool(url: str) -> PoolManager:
    """Connections for one message, through the proxy that the environment names for its host, if any."""
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    return ProxyManager(proxy) if proxy else PoolManager()


def _seconds_to_wait(answer: BaseHTTPResponse) -> float:
    """What the answer's Retry-After asks for, in seconds or as a date; 0 if it asks for nothing."""
    try:
        return Retry().get_retry_after(answer) or 0.0
    except InvalidHeader:
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One message of the topic, as SNS hands it to a Lambda."""

    message_id: str
    subject: str
    body: str

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Raises KeyError if SNS did not send it."""
        sns = record["Sns"]
        return cls(message_id=sns["MessageId"], subject=sns.get("Subject") or "", body=sns["Message"])


class Courier:
    """Brings notifications to Slack, each once as far as this process can tell."""

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook
        self._delivered: OrderedDict[str, None] = OrderedDict()

    def deliver(self, notifications: list[Notification], *, deadline: float) -> int:
        """Deliver all that can be delivered; one that fails does not keep back the others.

        Returns:
            How many were sent now; those that had arrived before are not sent again.

        Raises:
            SlackError: some were not delivered, so that SNS and Lambda bring the event again, or to the dead-letter queue.
        """
        problems: list[str] = []
        sent = 0
        for notification in notifications:
            if notification.message_id in self._delivered:
                continue
            try:
                self._webhook.post(slack_message(notification.subject, notification.body), deadline=deadline)
            except Exception as error:  # noqa: BLE001  one that fails keeps no other back
                problems.append(f"{notification.message_id}: {error}")
            else:
                sent += 1
                self._delivered[notification.message_id] = None
                if len(self._delivered) > REMEMBERED_DELIVERIES:
                    self._delivered.popitem(last=False)
        if problems:
            raise SlackError(
                f"{len(problems)} of {len(notifications)} alerts did not reach slack: {'; '.join(problems)}"
            )
        return sent
