"""The report: a line per check with what to do about it below, and for programs one JSON object."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.text import Text

from scripts.doctor.check import Check, CheckGroup
from scripts.doctor.context import DoctorContext
from scripts.doctor.examination import Examined, has_failed
from scripts.doctor.finding import Finding, FindingStatus

STYLES = {
    FindingStatus.OK: "green",
    FindingStatus.WARNING: "yellow",
    FindingStatus.FAILED: "bold red",
    FindingStatus.SKIPPED: "dim",
}
STATUS_WIDTH = max(map(len, FindingStatus))
UNWRAPPED = 100_000
"""Columns of what is no terminal: programs that read lines get whole ones."""


class FindingLines:
    """Prints findings in columns: how it came out, what it is about, what was found."""

    def __init__(self, console: Console, names: Iterable[str]) -> None:
        """`names` are all that will be printed, for the width of their column."""
        self._console = console
        self._name_width = max(map(len, names), default=0)
        self._indent = " " * (2 + STATUS_WIDTH + 2 + self._name_width + 2)

    def show(self, name: str, finding: Finding) -> None:
        """Print one finding, and below it what to do about it."""
        first, *more = self._wrap(finding.what, "") or [""]
        line = Text("  ").append(f"{finding.status:<{STATUS_WIDTH}}", STYLES[finding.status])
        line.append(f"  {name:<{self._name_width}}  ")
        what = "dim" if finding.status is FindingStatus.SKIPPED else ""
        self.say(line.append(first, what))
        for each in more:
            self.say(Text(self._indent).append(each, what))
        for each in self._wrap(finding.remedy, "→ "):
            self.say(Text(self._indent + each))
        if finding.command:
            # Never wrapped: it is there to be copied.
            self.say(Text(f"{self._indent}  ").append(finding.command, "cyan"))

    def say(self, text: Text) -> None:
        """Print a line as it is."""
        self._console.print(text, soft_wrap=True, highlight=False)

    def _wrap(self, text: str, mark: str) -> list[str]:
        """Lines that fit into the last column; `mark` begins the first, and the others stand below what it begins."""
        width = self._console.width if self._console.is_terminal else UNWRAPPED
        room = max(20, width - len(self._indent))
        below = " " * len(mark)
        return textwrap.wrap(
            text,
            room,
            initial_indent=mark,
            subsequent_indent=below,
            break_long_words=False,
            break_on_hyphens=False,
        )


class Report:
    """Prints checks as they are made, under a heading per group. Checks that are skipped for the same reason share a line."""

    def __init__(self, console: Console, checks: Sequence[Check]) -> None:
        self._lines = FindingLines(console, [each.name for each in checks])
        self._group: CheckGroup | None = None
        self._skipped: list[Examined] = []
        """One after the other, for one reason, and not printed yet."""

    def head(self, context: DoctorContext) -> None:
        """Print what is examined."""
        pipeline = f"pipeline {context.pipeline}, " if context.pipeline else ""
        self._lines.say(
            Text(f"{pipeline}environment {context.environment}, in {context.target.name}", "bold")
        )

    def show(self, examined: Examined) -> None:
        """Print one check and its finding; one that was skipped may wait for the next."""
        same = [(each.check.group, each.finding) for each in self._skipped[:1]]
        if same != [(examined.check.group, examined.finding)]:
            self._show_skipped()
        if examined.check.group is not self._group:
            self._group = examined.check.group
            self._lines.say(Text(f"\n{self._group}", "bold"))
        if examined.finding.status is FindingStatus.SKIPPED:
            self._skipped.append(examined)
        else:
            self._lines.show(examined.check.name, examined.finding)

    def _show_skipped(self) -> None:
        skipped, self._skipped = self._skipped, []
        match skipped:
            case []:
                return
            case [one]:
                self._lines.show(one.check.name, one.finding)
            case [one, *_]:
                names = ", ".join(each.check.name for each in skipped)
                finding = replace(one.finding, what=f"{one.finding.what}: {names}")
                self._lines.show(f"{len(skipped)} checks", finding)

    def close(self, results: Sequence[Examined]) -> None:
        """Print how many checks came out how."""
        self._show_skipped()
        counts = Counter(each.finding.status for each in results)
        said = ", ".join(_counted(counts[status], status) for status in FindingStatus if counts[status])
        self._lines.say(Text(f"\n{said}", "bold red" if has_failed(results) else "bold"))


def _counted(count: int, status: FindingStatus) -> str:
    return f"{count} {status}{'s' if status is FindingStatus.WARNING and count > 1 else ''}"


def to_json(context: DoctorContext, results: Sequence[Examined]) -> dict[str, Any]:
    """The whole report as one object."""
    return {
        "environment": context.environment,
        "pipeline": context.pipeline,
        "target": context.target.name,
        "failed": has_failed(results),
        "checks": [_check_to_json(each.check, each.finding) for each in results],
    }


def _check_to_json(check: Check, finding: Finding) -> dict[str, Any]:
    return {"name": check.name, "group": check.group.name.lower(), **finding.to_json()}
