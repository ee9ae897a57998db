"""Alerts as Slack messages (Block Kit).

Whatever comes from records, from Step Functions or from strangers is shown as code: escaped, so that it cannot ping a channel or
forge a link, and without backticks, so that it cannot leave the code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from winnow.alerts.content import OTHER_CAUSES, Event, Severity
from winnow.alerts.wording import Alert, all_of, rule_lines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from winnow.alerts.content import BrokenRule, CauseGroup, Example

MAX_BLOCKS = 50
MAX_TEXT_CHARS = 3_000
MAX_HEADER_CHARS = 150
MAX_URL_CHARS = 3_000
MAX_CODE_CHARS = 1_200
"""Of one piece of foreign text: an id and its message fit into one block with room to spare."""
SIGNS = {Severity.CRITICAL: ":red_circle:", Severity.ERROR: ":large_orange_circle:"}
SIGN_OF_A_TEST = ":large_green_circle:"

Block = dict[str, Any]


def slack_message(subject: str, body: str) -> dict[str, Any]:
    """Lay out what arrived on the topic: an alert of ours, a CloudWatch alarm, or anything else as it is."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, Mapping):
        try:
            return alert_message(Alert.from_json(document))
        except (KeyError, TypeError, ValueError):
            if "AlarmName" in document:
                return _alarm_message(document)
    return _message(subject or "Message without a subject", [_section(_code_block(body))])


def alert_message(alert: Alert) -> dict[str, Any]:
    """One of our alerts."""
    content = alert.content
    blocks: list[Block] = [_section(escape(alert.summary))]
    if content.counts:
        counts = content.counts
        facts = {
            "In": counts.records_in,
            "Succeeded": counts.succeeded,
            "Skipped": counts.skipped,
            "Failed": counts.failed,
        }
        blocks.append(_fields(f"*{name}*\n{number:,}" for name, number in facts.items()))
        if counts.repetitions:
            blocks.append(_section(f"Ids that came twice: {counts.repetitions}"))
    if content.cause:
        blocks.append(_section("*Cause*\n" + _code_block(content.cause)))
    if content.causes:
        more = [f"and {content.more_causes:,} more causes"] if content.more_causes else []
        blocks += _sections(["*Failures by cause*", *map(_cause_line, content.causes), *more])
    if content.examples:
        blocks += _sections(["*First records*", *map(_example_lines, content.examples)])
    if content.blocked:
        more = [f"and {content.blocked.more_rules:,} more"] if content.blocked.more_rules else []
        blocks += _sections(["*Rules that block*", *map(_rule_lines, content.blocked.rules), *more])
    steps = (f"{number}. {escape(step)}" for number, step in enumerate(alert.steps, start=1))
    blocks += _sections(["*What to do*", *steps, _code_block(alert.command)])
    links = [
        ("Open execution", alert.console_url),
        (f"Open list of {'ids' if content.blocked else 'failures'}", alert.failures_url),
    ]
    blocks += _buttons(links)
    where = [f"run {code(content.run_id)}" if content.run_id else f"pipeline {code(content.pipeline)}"]
    if content.failures_file:
        where.append(f"{all_of(content)}, one JSON line each: {code(str(content.failures_file))}")
    blocks.append(_context(where))
    sign = SIGN_OF_A_TEST if content.verdict == Event.TEST else SIGNS[content.severity]
    return _message(alert.title, blocks, sign=sign)


def _alarm_message(alarm: Mapping[str, Any]) -> dict[str, Any]:
    """A CloudWatch alarm, which SNS hands on as JSON of its own shape."""
    state = str(alarm.get("NewStateValue", ""))
    blocks = [_section(_code_block(str(alarm.get("NewStateReason", ""))))]
    if alarm.get("AlarmDescription"):
        blocks.insert(0, _section(escape(str(alarm["AlarmDescription"]))))
    sign = ":large_green_circle:" if state == "OK" else ":red_circle:"
    return _message(f"{state} {alarm['AlarmName']}", blocks, sign=sign)


def escape(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    """Text in which Slack sees no mention, link or code; cut to `limit` characters after escaping."""
    safe = (
        text.replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace("`", "\N{MODIFIER LETTER GRAVE ACCENT}")
    )
    if len(safe) <= limit:
        return safe
    return re.sub(r"&[a-z]*$", "", safe[: limit - 1]) + "…"


def code(text: str) -> str:
    """Foreign text, inline."""
    shown = escape(" ".join(text.split()), MAX_CODE_CHARS)
    return f"`{shown}`" if shown else ""


def _code_block(text: str) -> str:
    return f"```{escape(text, MAX_TEXT_CHARS - 100)}```"


def _cause_line(cause: CauseGroup) -> str:
    what = OTHER_CAUSES if cause.fingerprint == OTHER_CAUSES else code(f"{cause.error_type}: {cause.message}")
    return f"•  {cause.count:,} x {escape(cause.kind)}  {what}"


def _example_lines(example: Example) -> str:
    return f"•  {code(example.record_id)}\n     {escape(example.kind)}  {code(f'{example.error_type}: {example.message}')}"


def _rule_lines(rule: BrokenRule) -> str:
    told = "".join(f"\n     {code(line)}" for line in rule_lines(rule))
    return f"•  {code(rule.name)}  {code(rule.reason)}{told}"


def _message(title: str, blocks: list[Block], *, sign: str = "") -> dict[str, Any]:
    header = " ".join(f"{sign} {title}".split())
    if len(header) > MAX_HEADER_CHARS:
        header = header[: MAX_HEADER_CHARS - 1] + "…"
    first = {"type": "header", "text": {"type": "plain_text", "text": header, "emoji": True}}
    # The text is what notifications and screen readers show.
    return {
        "text": escape(title),
        "unfurl_links": False,
        "unfurl_media": False,
        "blocks": [first, *blocks][:MAX_BLOCKS],
    }


def _markdown(text: str) -> Block:
    # Verbatim: Slack is not to look for links, channels and names in the text by itself.
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _section(text: str) -> Block:
    return {"type": "section", "text": _markdown(text)}


def _fields(texts: Iterable[str]) -> Block:
    return {"type": "section", "fields": [_markdown(text) for text in texts]}


def _context(texts: Iterable[str]) -> Block:
    return {"type": "context", "elements": [_markdown(text) for text in texts]}


def _sections(lines: Iterable[str]) -> list[Block]:
    """Lines packed into as few sections as their size allows."""
    sections: list[str] = []
    for line in lines:
        if sections and len(sections[-1]) + 1 + len(line) <= MAX_TEXT_CHARS:
            sections[-1] += "\n" + line
        else:
            sections.append(line)
    return [_section(text) for text in sections]


def _buttons(links: Iterable[tuple[str, str | None]]) -> list[Block]:
    buttons = [
        {"type": "button", "text": {"type": "plain_text", "text": label}, "url": url}
        for label, url in links
        if url and len(url) <= MAX_URL_CHARS
    ]
    return [{"type": "actions", "elements": buttons}] if buttons else []
