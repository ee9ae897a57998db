from __future__ import annotations

import io
import json
import urllib.request
from typing import Any

from rich.console import Console

from scripts.demonstration.slack_receiver import SlackReceiver, render
from tests.patience import PATIENCE_SECONDS
from tests.unit.winnow.test_alert import EXECUTION, content
from winnow.alerts.slack_blocks import alert_message
from winnow.alerts.wording import compose


def post(url: str, message: dict[str, Any]) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(message).encode())) as answer:
        assert answer.read() == b"ok"


def shown(message: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(render(message))
    written: str = console.file.getvalue()  # type: ignore[attr-defined]
    return written


def test_keeps_what_arrives_in_order() -> None:
    with SlackReceiver() as slack:
        post(slack.url, {"text": "first"})
        post(slack.url, {"text": "second"})
        assert slack.receive(2, within_seconds=PATIENCE_SECONDS) == [{"text": "first"}, {"text": "second"}]
        assert slack.receive(1, within_seconds=0) == []


def test_shows_a_whole_alert_readably() -> None:
    alert = compose(content(), environment="local", execution=EXECUTION)
    text = shown(alert_message(alert))
    assert "🟠" in text
    for part in (
        alert.title,
        alert.command,
        *alert.steps,
        *(each.record_id for each in alert.content.examples),
    ):
        assert " ".join(part.split()) in " ".join(text.replace("│", " ").split())
    assert "```" not in text
    assert "large_orange_circle" not in text


def test_undoes_slacks_escapes_and_markup() -> None:
    assert "R&D <!channel> x < y bold" in shown({"text": "R&amp;D `&lt;!channel&gt;` x &lt; y *bold*"})


def test_shows_what_it_does_not_know_as_it_is() -> None:
    assert '{"type": "divider"}' in shown({"blocks": [{"type": "divider"}]})
