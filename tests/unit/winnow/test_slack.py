from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.winnow.test_alert import EXECUTION, content
from winnow.alerts.content import MAX_CAUSES, MAX_EXAMPLES, CauseGroup, Example, Severity
from winnow.alerts.slack import Courier, Notification, SlackError, Webhook, webhook_url
from winnow.alerts.slack_blocks import (
    MAX_BLOCKS,
    MAX_HEADER_CHARS,
    MAX_TEXT_CHARS,
    alert_message,
    code,
    escape,
    slack_message,
)
from winnow.alerts.wording import compose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from winnow.alerts.wording import Alert


class FakeSlack:
    """A webhook on loopback that answers as told, then 200, and remembers what it was sent."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], str]] = []
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.port = 0

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @contextmanager
    def serve(self) -> Iterator[FakeSlack]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                fake.received.append((self.path, json.loads(body)))
                status, headers, text = fake.answers.pop(0) if fake.answers else (200, {}, "ok")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        with HTTPServer(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_port
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


class FakeSecrets:
    def __init__(self, *values: str) -> None:
        self.values = list(values)
        self.asked = 0

    def get_secret_value(self, *, SecretId: str) -> dict[str, str]:  # noqa: ARG002, N803  Secrets Manager's spelling
        self.asked += 1
        return {"SecretString": self.values.pop(0) if len(self.values) > 1 else self.values[0]}


class FakeClock:
    """Time passes by sleeping only."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with FakeSlack().serve() as fake:
        yield fake


def webhook(secrets: FakeSecrets, clock: FakeClock | None = None) -> Webhook:
    clock = clock or FakeClock()
    return Webhook(secret_arn="arn:secret", secrets=secrets, clock=clock.now, sleep=clock.sleep)


MESSAGE = {"text": "hello", "blocks": [{"type": "divider"}]}


class TestWebhook:
    def test_posts_and_reads_the_secret_once(self, slack: FakeSlack) -> None:
        secrets = FakeSecrets(slack.url())
        hook = webhook(secrets)
        hook.post(MESSAGE, deadline=30)
        hook.post(MESSAGE, deadline=30)
        assert slack.received == [("/hook", MESSAGE)] * 2
        assert secrets.asked == 1

    def test_waits_as_long_as_slack_asks(self, slack: FakeSlack) -> None:
        slack.answers = [(429, {"Retry-After": "7"}, "rate_limited")]
        clock = FakeClock()
        webhook(FakeSecrets(slack.url()), clock).post(MESSAGE, deadline=30)
        assert clock.slept == [7]
        assert len(slack.received) == 2

    def test_waits_until_the_date_that_slack_gives(self, slack: FakeSlack) -> None:
        date = formatdate(time.time() + 20, usegmt=True)
        slack.answers = [(503, {"Retry-After": date}, "maintenance")]
        clock = FakeClock()
        webhook(FakeSecrets(slack.url()), clock).post(MESSAGE, deadline=60)
        [slept] = clock.slept
        assert 5 < slept <= 20

    @pytest.mark.parametrize("header", ["soon", "-5", ""])
    def test_backs_off_by_itself_when_slack_asks_for_no_time(self, slack: FakeSlack, header: str) -> None:
        slack.answers = [(429, {"Retry-After": header}, "")]
        clock = FakeClock()
        webhook(FakeSecrets(slack.url()), clock).post(MESSAGE, deadline=30)
        [slept] = clock.slept
        assert 0.5 <= slept <= 1

    def test_follows_no_redirect(self, slack: FakeSlack) -> None:
        slack.answers = [(307, {"Location": slack.url("/elsewhere")}, "")]
        with pytest.raises(SlackError, match="307"):
            webhook(FakeSecrets(slack.url())).post(MESSAGE, deadline=30)
        assert [path for path, _ in slack.received] == ["/hook"]

    def test_backs_off_with_jitter_while_slack_is_down(self, slack: FakeSlack) -> None:
        slack.answers = [(503, {}, ""), (500, {}, ""), (502, {}, "")]
        clock = FakeClock()
        webhook(FakeSecrets(slack.url()), clock).post(MESSAGE, deadline=30)
        assert [0.5 <= clock.slept[0] <= 1, 1 <= clock.slept[1] <= 2, 2 <= clock.slept[2] <= 4] == [True] * 3

    @pytest.mark.parametrize("answer", [(503, {}, "down"), (429, {"Retry-After": "60"}, "slow")])
    def test_gives_up_before_its_time_is_over(
        self, slack: FakeSlack, answer: tuple[int, dict[str, str], str]
    ) -> None:
        slack.answers = [answer] * 20
        clock = FakeClock()
        with pytest.raises(SlackError, match="in time"):
            webhook(FakeSecrets(slack.url()), clock).post(MESSAGE, deadline=10)
        assert clock.now() < 10

    def test_tries_again_when_nobody_listens(self) -> None:
        with FakeSlack().serve() as gone:
            url = gone.url()
        clock = FakeClock()
        with pytest.raises(SlackError, match="no answer: NewConnectionError"):
            webhook(FakeSecrets(url), clock).post(MESSAGE, deadline=10)
        assert len(clock.slept) >= 2

    @pytest.mark.parametrize("status", [403, 404, 410])
    def test_takes_the_new_webhook_when_the_old_one_is_gone(self, slack: FakeSlack, status: int) -> None:
        slack.answers = [(status, {}, "no_service")]
        secrets = FakeSecrets(slack.url("/old"), slack.url("/new"))
        webhook(secrets).post(MESSAGE, deadline=30)
        assert [path for path, _ in slack.received] == ["/old", "/new"]

    def test_says_what_to_do_when_the_webhook_is_gone_for_good(self, slack: FakeSlack) -> None:
        slack.answers = [(404, {}, "no_service")] * 5
        with pytest.raises(
            SlackError, match=r"gone or disabled \(404: no_service\): put a new one into arn:secret"
        ):
            webhook(FakeSecrets(slack.url())).post(MESSAGE, deadline=30)
        assert len(slack.received) == 1

    def test_sends_plain_text_when_slack_rejects_the_layout(self, slack: FakeSlack) -> None:
        slack.answers = [(400, {}, "invalid_blocks")]
        webhook(FakeSecrets(slack.url())).post(MESSAGE, deadline=30)
        assert slack.received[-1] == ("/hook", {"text": "hello"})

    def test_raises_when_slack_rejects_even_that(self, slack: FakeSlack) -> None:
        slack.answers = [(400, {}, "invalid_blocks"), (400, {}, "no_text")]
        with pytest.raises(SlackError, match=r"refused the message \(400: no_text\)"):
            webhook(FakeSecrets(slack.url())).post(MESSAGE, deadline=30)

    def test_keeps_the_url_out_of_errors(self, slack: FakeSlack) -> None:
        slack.answers = [(404, {}, "no_service")] * 5
        with pytest.raises(SlackError) as caught:
            webhook(FakeSecrets(slack.url("/T000/B000/secret"))).post(MESSAGE, deadline=30)
        assert "T000" not in str(caught.value)

    @pytest.mark.parametrize(
        ("secret", "url"),
        [
            ("https://hooks.slack.com/services/x\n", "https://hooks.slack.com/services/x"),
            ('{"url": "https://hooks.slack.com/services/x"}', "https://hooks.slack.com/services/x"),
            ("http://localhost:1234/x", "http://localhost:1234/x"),
        ],
    )
    def test_finds_the_url_in_the_secret(self, secret: str, url: str) -> None:
        assert webhook_url(secret, "arn") == url

    @pytest.mark.parametrize(
        "secret",
        ["", "r4nd0m", "{", '{"token": 1}', "http://example.com/x", "file:///etc/passwd", "https://"],
    )
    def test_refuses_what_is_no_webhook(self, secret: str) -> None:
        with pytest.raises(SlackError, match="put-secret-value --secret-id arn"):
            webhook_url(secret, "arn")


class TestCourier:
    def notifications(self, count: int) -> list[Notification]:
        return [
            Notification.from_record({"Sns": {"MessageId": f"m{i}", "Subject": None, "Message": f"text {i}"}})
            for i in range(count)
        ]

    def test_one_failure_neither_loses_nor_repeats_the_others(self, slack: FakeSlack) -> None:
        courier = Courier(webhook(FakeSecrets(slack.url())))
        slack.answers = [(200, {}, ""), (400, {}, "bad"), (400, {}, "bad"), (200, {}, "")]
        with pytest.raises(SlackError, match="1 of 3 alerts did not reach slack: m1"):
            courier.deliver(self.notifications(3), deadline=30)
        slack.received.clear()
        assert courier.deliver(self.notifications(3), deadline=30) == 1
        assert "text 1" in json.dumps(slack.received)
        assert "text 0" not in json.dumps(slack.received)

    def test_forgets_old_deliveries(self, slack: FakeSlack, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("winnow.alerts.slack.REMEMBERED_DELIVERIES", 2)
        courier = Courier(webhook(FakeSecrets(slack.url())))
        courier.deliver(self.notifications(5), deadline=30)
        assert list(courier._delivered) == ["m3", "m4"]


def texts(message: dict[str, Any]) -> list[str]:
    """Every text in a message."""
    found: list[str] = []

    def walk(value: object) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("text"), str):
                found.append(value["text"])
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk(message)
    return found


def alert(**changes: Any) -> Alert:
    return compose(content(**changes), environment="prod", execution=EXECUTION)


class TestBlocks:
    def test_says_everything_an_alert_has_to_say(self) -> None:
        said = "\n".join(texts(alert_message(alert())))
        for part in (
            "3 of 183,755 records lost",
            "*Failed*\n3",
            "2 x transient  `Timeout: no answer`",
            "`Arabic/12.xml`",
            "./scripts/winnow replay run --pipeline catalogue",
            "s3://ledger/runs/",
        ):
            assert part in said
        (actions,) = (block for block in alert_message(alert())["blocks"] if block["type"] == "actions")
        assert [button["url"].split("?")[0] for button in actions["elements"]] == [
            "https://eu-west-1.console.aws.amazon.com/states/home",
            "https://eu-west-1.console.aws.amazon.com/s3/object/ledger",
        ]

    @pytest.mark.parametrize(
        "attack",
        [
            "<!channel>",
            "<https://evil.example|Open execution>",
            "<@U123>",
            "&lt;!here&gt;",
            "`<!here>`",
            "```<!here>```",
        ],
    )
    def test_a_record_can_neither_ping_a_channel_nor_forge_a_link_nor_leave_its_code(
        self, attack: str
    ) -> None:
        cause = CauseGroup(
            fingerprint="x", kind="permanent", error_type=attack, message=attack, count=1, example_id=attack
        )
        example = Example(record_id=attack, kind="permanent", error_type=attack, message=attack)
        message = alert_message(alert(causes=(cause,), examples=(example,), cause=attack))
        for text in texts(message):
            assert "<" not in text
            assert ">" not in text
        joined = "\n".join(texts(message))
        assert joined.count("`") % 2 == 0
        assert "`&" in joined or "`\N{MODIFIER LETTER GRAVE ACCENT}" in joined

    @pytest.mark.parametrize("filler", ["x", "&", "🦔", "<"])
    def test_stays_within_slacks_limits(self, filler: str) -> None:
        record_id = filler * (1024 // len(filler.encode()))
        cause = CauseGroup(
            fingerprint="f",
            kind="crashed",
            error_type=filler * 500,
            message=filler * 5_000,
            count=10**9,
            example_id=record_id,
        )
        example = Example(record_id=record_id, kind="crashed", error_type="E", message=filler * 5_000)
        message = alert_message(
            alert(
                causes=(cause,) * MAX_CAUSES,
                more_causes=10**6,
                examples=(example,) * MAX_EXAMPLES,
                cause=filler * 40_000,
                pipeline="p" * 200,
                severity=Severity.CRITICAL,
            )
        )
        assert len(message["blocks"]) <= MAX_BLOCKS
        for block in message["blocks"]:
            limit = MAX_HEADER_CHARS if block["type"] == "header" else MAX_TEXT_CHARS
            for text in texts(block):
                assert 0 < len(text) <= limit
        assert message["blocks"][-1]["type"] == "context"

    @pytest.mark.parametrize(
        ("text", "limit", "shown"),
        [("a&b", 10, "a&amp;b"), ("&&&", 8, "&amp;…"), ("abcdef", 4, "abc…")],
    )
    def test_cuts_between_entities(self, text: str, limit: int, shown: str) -> None:
        assert escape(text, limit) == shown

    def test_shows_no_code_where_there_is_no_text(self) -> None:
        assert code(" \n") == ""

    def test_shows_a_cloudwatch_alarm(self) -> None:
        alarm = {
            "AlarmName": "slack-dlq",
            "NewStateValue": "ALARM",
            "NewStateReason": "1 > 0",
            "AlarmDescription": "Alerts do not arrive",
        }
        message = slack_message("ALARM: slack-dlq", json.dumps(alarm))
        assert message["text"] == "ALARM slack-dlq"
        assert "Alerts do not arrive" in texts(message)
        assert "```1 &gt; 0```" in texts(message)

    @pytest.mark.parametrize("body", ["plain text", "[1]", '{"verdict": "EXHAUSTED"}', ""])
    def test_shows_anything_else_as_it_came(self, body: str) -> None:
        message = slack_message("Subject", body)
        assert message["text"] == "Subject"
        assert f"```{body}```" in texts(message)

    def test_lays_out_what_sns_delivers(self) -> None:
        composed = alert()
        assert slack_message("s", json.dumps(composed.to_json())) == alert_message(composed)
