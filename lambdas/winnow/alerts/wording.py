"""An alert in words, which an operator reads at 3 am. What happened, is anything blocked, why, which records, what to type (law 9)."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from winnow.alerts.console import execution_url, object_url
from winnow.alerts.content import (
    MAX_REASON_CHARS,
    OTHER_CAUSES,
    AlertContent,
    AlertCounts,
    Event,
    Severity,
    clean,
)
from winnow.alerts.shown_ids import shown_id
from winnow.core.contract import MAX_RECORD_ID_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from winnow.alerts.content import BlockedVersion, BrokenRule, CauseGroup

LOCAL = "local"
"""Name of the environment that runs on the emulator: there is no console, and commands carry `--local`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What subscribers get, and what the Slack Lambda lays out."""

    content: AlertContent
    environment: str
    title: str
    """One line, no text from records."""
    summary: str
    """What happened and what it means for the run, in two or three sentences; no text from records."""
    steps: tuple[str, ...]
    """What to do, in order; no text from records."""
    command: str
    """What to type, exactly."""
    text: str
    """The whole alert as plain text, for e-mail."""
    console_url: str | None
    failures_url: str | None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError if it is not an alert of Winnow."""
        return cls(
            content=AlertContent.from_json(value),
            environment=value["environment"],
            title=value["title"],
            summary=value["summary"],
            steps=tuple(value["steps"]),
            command=value["replay_command"],
            text=value["text"],
            console_url=value["console_url"],
            failures_url=value["failures_url"],
        )

    def to_json(self) -> dict[str, Any]:
        """The content's fields and the words', side by side."""
        return {
            **self.content.to_json(),
            "environment": self.environment,
            "title": self.title,
            "summary": self.summary,
            "steps": list(self.steps),
            "replay_command": self.command,
            "text": self.text,
            "console_url": self.console_url,
            "failures_url": self.failures_url,
        }


MAX_ALERT_BYTES = 70_000
"""The structured form travels up to three times in one SNS message of 262,144 bytes, quoted as JSON within JSON."""
DETAIL = ((MAX_RECORD_ID_BYTES, 300), (200, 120), (60, 40))
"""Characters of an id and of a message that are shown: the first pair that makes the alert fit."""


def compose(content: AlertContent, *, environment: str, execution: str) -> Alert:
    """Put an alert into words.

    Args:
        content: what happened; its text from records is cleaned here, and cut until the alert fits into SNS.
        environment: its name, for the title and the command.
        execution: ARN of the execution to look at first.
    """
    for id_chars, message_chars in DETAIL:
        alert = _compose(_cut(content, id_chars, message_chars), environment, execution)
        if (
            len(json.dumps(json.dumps(alert.to_json(), ensure_ascii=False), ensure_ascii=False).encode())
            < MAX_ALERT_BYTES
        ):
            break
    return alert


def _cut(content: AlertContent, id_chars: int, message_chars: int) -> AlertContent:
    return replace(
        content,
        cause=clean(content.cause, MAX_REASON_CHARS) if content.cause else None,
        causes=tuple(
            replace(
                cause,
                error_type=clean(cause.error_type, 100),
                message=clean(cause.message, message_chars),
                example_id=shown_id(cause.example_id, id_chars),
            )
            for cause in content.causes
        ),
        examples=tuple(
            replace(
                example,
                error_type=clean(example.error_type, 100),
                message=clean(example.message, message_chars),
                record_id=shown_id(example.record_id, id_chars),
            )
            for example in content.examples
        ),
        blocked=content.blocked and _cut_blocked(content.blocked, id_chars, message_chars),
    )


def _cut_blocked(blocked: BlockedVersion, id_chars: int, message_chars: int) -> BlockedVersion:
    return replace(
        blocked,
        rules=tuple(
            replace(
                rule,
                name=clean(rule.name, 100),
                reason=clean(rule.reason, message_chars),
                expected=clean(rule.expected, message_chars),
                found=clean(rule.found, message_chars),
                first_ids=tuple(shown_id(each, id_chars) for each in rule.first_ids),
            )
            for rule in blocked.rules
        ),
    )


def _compose(content: AlertContent, environment: str, execution: str) -> Alert:
    file = content.failures_file
    local = environment == LOCAL
    alert = Alert(
        content=content,
        environment=environment,
        title=_title(content, environment),
        summary=_summary(content),
        steps=_steps(content),
        command=_command(content, environment),
        text="",
        console_url=None if local else execution_url(execution),
        failures_url=None if local or file is None else object_url(execution, file.bucket, file.key),
    )
    return replace(alert, text=_text(alert))


def _title(content: AlertContent, environment: str) -> str:
    where = "/".join(filter(None, (content.pipeline, content.stage)))
    loud = "CRITICAL " if content.severity is Severity.CRITICAL else ""
    return f"[{environment or 'winnow'}] {loud}{where}: {_headline(content)}"


def _headline(content: AlertContent) -> str:
    counts = content.counts
    match content.verdict, counts:
        case Event.RETRY, AlertCounts():
            number = _records(counts.new + counts.known, counts.records_in)
            return f"{number} failed for good{_split(counts)}; the rest is being worked on"
        case Event.EXHAUSTED, AlertCounts():
            number = _records(counts.failed, counts.records_in)
            return f"{number} lost{_split(counts)}; the run goes on without them"
        case Event.TOTAL_FAILURE, AlertCounts():
            return f"not one of {_records(counts.records_in)} succeeded; the run has stopped"
        case Event.TIMED_OUT, _:
            return "the run timed out"
        case Event.ABORTED, _:
            return "the run was aborted"
        case Event.NOT_CONSERVED, _:
            return "the ledger of the run does not add up; records may be missing"
        case Event.REFUSED, _:
            return "an event that asked for a run was refused"
        case Event.BLOCKED, _:
            return f"the quality gate blocked {_version(content)}; {_stays(content)}"
        case Event.TEST, _:
            return "a test of the alerts; nothing is wrong"
        case _:
            return "the run failed"


def _summary(content: AlertContent) -> str:
    counts, stage = content.counts, content.stage
    match content.verdict, counts:
        case Event.RETRY, AlertCounts():
            return (
                f"These {_records(counts.new + counts.known)} can never succeed as they are, so they are not tried again. "
                f"Stage {stage} keeps working on the others. Nothing is blocked.{_known(counts)}"
            )
        case Event.EXHAUSTED, AlertCounts():
            before = counts.failed - counts.new - counts.known
            said = f" ({before:,} of them alerted before)" if before > 0 else ""
            return (
                f"Stage {stage} is done after {_tries(content.tries)}. What succeeded goes on; "
                f"{_records(counts.failed)}{said} will be missing from the result until replayed. Nothing is blocked."
                f"{_known(counts)}"
            )
        case Event.TOTAL_FAILURE, _:
            known = _known(counts) if counts else ""
            return (
                f"Stage {stage} failed after {_tries(content.tries)}, and with it the run: later stages did not start, "
                f"and what was published before stays as it is. {_likely(content)}{known}"
            )
        case Event.NOT_CONSERVED, _:
            return (
                "What the stages were given and what they accounted for differ, so records may have been lost in silence. "
                "Do not trust this run's results before you know why."
            )
        case Event.TIMED_OUT, _:
            return (
                "The run took longer than its machine allows and was stopped. What was done until then "
                "is in the ledger; later stages did not start."
            )
        case Event.ABORTED, _:
            return "An operator stopped the run by hand. What was done until then is in the ledger."
        case Event.REFUSED, _:
            return (
                "The event asks for something that cannot be run, so no run was started, and it will not be delivered again. "
                "Runs that are under way are not touched."
            )
        case Event.BLOCKED, _:
            return (
                f"The run's records are done, and it built {_version(content)}, which violates "
                f"{_rules_that_block(content)}. Consumers do not see that version: {_stays(content)}. "
                "It is kept, so nothing is lost and nothing has to be run again to publish it after all."
            )
        case Event.TEST, _:
            return "An operator sent this to check that alerts arrive. Real alerts come in the same way."
        case _:
            return "The run stopped with an error that is not about single records. What was done is in the ledger."


def _version(content: AlertContent) -> str:
    blocked = content.blocked
    return f"version {blocked.version} of {blocked.publication}" if blocked else "what the run made"


def _stays(content: AlertContent) -> str:
    if content.blocked is None:
        return "what was published before stays as it is"
    if content.blocked.published is None:
        return f"nothing of {content.blocked.publication} is published yet"
    return f"published stays version {content.blocked.published}"


def _rules_that_block(content: AlertContent) -> str:
    blocked = content.blocked
    number = len(blocked.rules) + blocked.more_rules if blocked else 0
    return "1 rule" if number == 1 else f"{number:,} rules"


def _split(counts: AlertCounts) -> str:
    """New failures apart from known ones: people soon ignore a title that adds up both."""
    return f" ({counts.new:,} new, {counts.known:,} known)" if counts.known else ""


def _known(counts: AlertCounts) -> str:
    if not counts.known:
        return ""
    if not counts.new:
        return " All of this is known: each of these records failed in the same way in an earlier run."
    return (
        f" {_records(counts.known)} failed in the same way in an earlier run, or were waived; "
        f"what is new is {_records(counts.new)}."
    )


def _likely(content: AlertContent) -> str:
    if content.is_permanent_throughout:
        return "All were rejected as permanent: look at the source as a whole, or at the worker's own rules."
    return (
        "When everything fails at once it is usually the environment "
        "(a dependency, credentials, the code deployed last), not the records."
    )


ROW_ERRORS = frozenset({"UnreadableRow", "UnusableId", "ConflictingRow"})
"""Of rows of a list that were given to no worker: there is nothing to replay."""


def _is_about_rows(content: AlertContent) -> bool:
    about = content.verdict in (Event.RETRY, Event.EXHAUSTED) and content.stage is not None
    return about and not content.more_causes and {each.error_type for each in content.causes} <= ROW_ERRORS


def _steps(content: AlertContent) -> tuple[str, ...]:
    if _is_about_rows(content):
        return (
            "Look at the reasons: they name the lines.",
            "Correct these rows in the list, and run the list again. Waive those that are to stay as they are.",
            "To list the rows:",
        )
    match content.verdict:
        case Event.RETRY:
            return (
                "Look at the causes: one cause, one fix.",
                "Correct the records at their source, or the worker's code.",
                "When the run has ended, replay exactly the failed records (without --execute it only shows what would run):",
            )
        case Event.EXHAUSTED:
            return (
                "Look at the causes: one cause, one fix.",
                "Correct the records at their source, or the worker's code or what it depends on.",
                "Replay exactly the failed records (without --execute it only shows what would run):",
            )
        case Event.TOTAL_FAILURE:
            return (
                "Look at the causes and at what changed last: a deployment, a credential, a dependency.",
                "Put it right.",
                "Replay the stage's records from here on (without --execute it only shows what would run):",
            )
        case Event.NOT_CONSERVED:
            return (
                "Hold back whatever uses this run's results.",
                "See which stage does not add up, and by how much:",
            )
        case Event.REFUSED:
            return (
                "Read the cause: it names the field, what is wrong with it, and the event.",
                "Correct what sends such events, and send this one again; or start the run by hand:",
            )
        case Event.BLOCKED:
            return (
                "Look at the rules, at what was found, and at the ids.",
                "If the data is wrong: fix its source or the worker's code, and run again, or replay what failed.",
                (
                    "If the data is right and the rule is not: publish the version as it is, with your reason "
                    "(without --execute it only shows what would change):"
                ),
            )
        case Event.TEST:
            return (
                "You need to do nothing: a real alert would have reached you, too.",
                "To check everything else:",
            )
        case _:
            return (
                "Read the cause, and the execution's history.",
                "Put it right, then start a new run:",
            )


def _command(content: AlertContent, environment: str) -> str:
    if content.verdict == Event.NOT_CONSERVED:
        words = ["verify", content.run_id]
    elif content.blocked is not None:
        words = ["publish", "promote", str(content.blocked.version)]
        words += ["--publication", content.blocked.publication, "--reason", "WHY", "--execute"]
    elif content.verdict == Event.TEST:
        words = ["doctor", content.pipeline]
    elif content.stage is None:
        words = ["run", content.pipeline]
    elif _is_about_rows(content):
        words = ["replay", "list", "--pipeline", content.pipeline, "--stage", content.stage]
        words += ["--run", content.run_id, "--records"]
    else:
        words = ["replay", "run", "--pipeline", content.pipeline, "--stage", content.stage]
        words += ["--run", content.run_id, "--execute"]
    return shlex.join(["./scripts/winnow", *words, *_aim(environment)])


def _aim(environment: str) -> list[str]:
    """Options that aim a command at this environment, whatever the reader's shell names."""
    if environment == LOCAL:
        return ["--local"]
    return ["--environment", environment] if environment else []


def _records(number: int, of: int | None = None) -> str:
    if of is None:
        return "1 record" if number == 1 else f"{number:,} records"
    return f"{number:,} of {_records(of)}"


def _tries(tries: int) -> str:
    return "1 try" if tries == 1 else f"{tries} tries"


def cause_line(cause: CauseGroup) -> str:
    """One group of failures on one line, for people."""
    what = OTHER_CAUSES if cause.fingerprint == OTHER_CAUSES else f"{cause.error_type}: {cause.message}"
    return f"{cause.count:,} x {cause.kind}, {what}"


def rule_lines(rule: BrokenRule) -> list[str]:
    """What is told of a rule that blocks, for people."""
    ids = [f"first ids: {', '.join(rule.first_ids)}"] if rule.first_ids else []
    return [f"expected: {rule.expected}", f"found: {rule.found}", *ids]


def all_of(content: AlertContent) -> str:
    """What the alert's file lists."""
    return "All ids that violate a rule" if content.blocked else "All failures"


def _text(alert: Alert) -> str:
    content = alert.content
    lines = [alert.title, "", alert.summary, ""]
    if content.cause:
        lines += ["Cause", f"  {content.cause}", ""]
    if content.causes:
        lines += ["Failures by cause", *(f"  {cause_line(cause)}" for cause in content.causes)]
        if content.more_causes:
            lines.append(f"  and {content.more_causes:,} more causes")
        lines.append("")
    if content.examples:
        lines.append("First records")
        for example in content.examples:
            lines += [
                f"  {example.record_id}",
                f"      {example.kind}, {example.error_type}: {example.message}",
            ]
        lines.append("")
    if content.blocked:
        lines.append("Rules that block")
        for rule in content.blocked.rules:
            lines += [f"  {rule.name}: {rule.reason}", *(f"      {line}" for line in rule_lines(rule))]
        if content.blocked.more_rules:
            lines.append(f"  and {content.blocked.more_rules:,} more")
        lines.append("")
    lines += ["What to do", *(f"  {number}. {step}" for number, step in enumerate(alert.steps, start=1))]
    lines += ["", f"       {alert.command}", ""]
    if content.failures_file:
        lines += [f"{all_of(content)}, one JSON line each: {content.failures_file}"]
    if alert.console_url:
        lines += [f"Execution: {alert.console_url}"]
    if content.counts:
        lines += [f"Stage so far: {_so_far(content.counts)}; {_tries(content.tries)}"]
    lines += [
        f"Run {content.run_id} of pipeline {content.pipeline}"
        if content.run_id
        else f"Pipeline {content.pipeline}"
    ]
    return "\n".join(lines)


def _so_far(counts: AlertCounts) -> str:
    so_far = f"{counts.records_in:,} in, {counts.succeeded:,} succeeded, {counts.skipped:,} skipped, {counts.failed:,} failed"
    return f"{so_far} ({counts.repetitions})" if counts.repetitions else so_far
