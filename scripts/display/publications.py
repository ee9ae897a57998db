"""Shows publications, their versions and their history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from rich.table import Table
from rich.text import Text

from winnow.alerts.shown_ids import shown_id
from winnow.core.errors import PublishRefused
from winnow.publish.operating import Operator, State
from winnow.quality.judged import find_gate
from winnow.quality.result import GateOutcome, GateResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from winnow.publish.documents import Counts, CurrentVersion, Move, PublicationHold
    from winnow.publish.operating import VersionListing
    from winnow.publish.published_set import PublishedSet

LAST_MOVES = 10
STATE_STYLES = {State.CURRENT: "bold green", State.WHOLE: "", State.UNFINISHED: "yellow", State.PRUNED: "dim"}
OUTCOME_STYLES = {GateOutcome.PASSED: "green", GateOutcome.WARNED: "yellow", GateOutcome.BLOCKED: "bold red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionView:
    """A version, and what the gate said of it."""

    listed: VersionListing
    gate: GateResult | None
    """None where no rule was evaluated."""

    @classmethod
    def read(cls, published: PublishedSet, version: int) -> Self:
        """One version.

        Raises:
            PublishRefused: no run has begun it.
            DamagedDocument: a document of it cannot be read.
        """
        found = Operator(published, who="").version(version)
        if found is None:
            raise PublishRefused(
                f"version: no run of {published.name} has begun it; see winnow publish list, got: {version}"
            )
        return cls.of(published, found)

    @classmethod
    def of(cls, published: PublishedSet, listed: VersionListing) -> Self:
        """A version of the list. Raises `DamagedDocument`."""
        return cls(listed=listed, gate=find_gate(published, listed.version))

    def to_json(self) -> dict[str, Any]:
        listed = self.listed
        return {
            "version": listed.version,
            "state": listed.state.value,
            "claim": listed.claim.to_json(),
            "manifest": listed.manifest.to_json() if listed.manifest else None,
            "gate": self.gate.to_json() if self.gate else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationView:
    """All of a publication but its rows."""

    name: str
    current: CurrentVersion | None
    hold: PublicationHold | None
    versions: Sequence[VersionView]
    history: Sequence[Move]

    @classmethod
    def read(cls, published: PublishedSet) -> Self:
        """Raises `DamagedDocument`."""
        current, _ = published.current()
        return cls(
            name=published.name,
            current=current,
            hold=published.hold(),
            versions=[VersionView.of(published, each) for each in Operator(published, who="").versions()],
            history=list(published.history()),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "publication": self.name,
            "current": self.current.version if self.current else None,
            "hold": self.hold.to_json() if self.hold else None,
            "versions": [each.to_json() for each in self.versions],
            "history": [each.to_json() for each in self.history],
        }


def counts_text(counts: Counts) -> str:
    """How a version differs from the one that it was built on: `+12 ~3 -1`."""
    return f"+{counts.added:,} ~{counts.changed:,} -{counts.removed:,}"


def print_publication(view: PublicationView, console: Console, *, all_moves: bool) -> None:
    """The versions, newest first, and the history, latest first."""
    if view.current:
        console.print(
            Text.assemble(
                (view.name, "bold"),
                f"  version {view.current.version} is current: {view.current.rows:,} rows, "
                f"of run {view.current.run_id}, which began at {_moment(view.current.run_began)}",
            ),
            soft_wrap=True,
        )
    else:
        console.print(Text.assemble((view.name, "bold"), "  nothing is published yet"))
    if view.hold:
        hold = f"held since {_moment(view.hold.move.at)} by {view.hold.move.who}: {view.hold.move.why}"
        console.print(Text(hold, style="yellow"), soft_wrap=True)
    if view.versions:
        console.print(_versions(view.versions))
    moves = list(reversed(view.history))
    shown = moves if all_moves else moves[:LAST_MOVES]
    if shown:
        console.print()
    for move in shown:
        console.print(_move(move), soft_wrap=True)
    if len(shown) < len(moves):
        console.print(f"… and {len(moves) - len(shown):,} earlier moves; --history shows them")


def _versions(versions: Sequence[VersionView]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("Version", justify="right")
    table.add_column("State")
    table.add_column("Rows", justify="right")
    table.add_column("Changes")
    table.add_column("Gate")
    table.add_column("Run")
    for view in reversed(versions):
        listed, manifest = view.listed, view.listed.manifest
        table.add_row(
            str(listed.version),
            Text(listed.state, style=STATE_STYLES[listed.state]),
            f"{manifest.rows:,}" if manifest else "·",
            counts_text(manifest.counts) if manifest else "·",
            _outcome(view.gate),
            listed.claim.run_id,
        )
    return table


def _outcome(gate: GateResult | None) -> Text:
    return Text(gate.outcome, style=OUTCOME_STYLES[gate.outcome]) if gate else Text("·", style="dim")


def _move(move: Move) -> Text:
    before = "nothing" if move.before is None else str(move.before)
    after = "nothing" if move.after is None else str(move.after)
    what = after if before == after else f"{before} → {after}"
    return Text.assemble((_moment(move.at), "dim"), f"  {move.kind}  {what}  {move.who}: {move.why}")


def _moment(text: str) -> str:
    return text[:19].replace("T", " ")


def print_version(view: VersionView, console: Console) -> None:
    """Everything of one version."""
    listed, manifest = view.listed, view.listed.manifest

    def say(name: str, value: str) -> None:
        console.print(Text.assemble((f"{name:<9}", "dim"), value), soft_wrap=True)

    console.print(
        Text.assemble((f"version {listed.version}", "bold"), "  ", (listed.state, STATE_STYLES[listed.state]))
    )
    say(
        "run",
        f"{listed.claim.run_id}, begun at {_moment(manifest.run_began)}" if manifest else listed.claim.run_id,
    )
    base = listed.claim.base
    say("built on", "nothing" if base is None else f"version {base}")
    if manifest:
        counts = manifest.counts
        say("rows", f"{manifest.rows:,}, as {manifest.format} in {len(manifest.files):,} files")
        say("changes", f"{counts_text(counts)}, {counts.unchanged:,} unchanged, {counts.kept:,} kept")
        for column in manifest.schema or ():
            say("column", f"{column.name} {column.type}")
        for file in manifest.files:
            say("file", f"{file.key}  {file.rows:,} rows, {file.bytes:,} bytes")
    if view.gate:
        _print_gate(view.gate, console)


def _print_gate(gate: GateResult, console: Console) -> None:
    console.print(Text.assemble(("gate     ", "dim"), _outcome(gate)))
    for result in gate.results:
        ids = f"; first ids: {', '.join(map(shown_id, result.first_ids))}" if result.first_ids else ""
        console.print(
            Text.assemble(
                "  ",
                (result.outcome, OUTCOME_STYLES[result.outcome]),
                f"  {result.rule.name}: expected {result.expected}, found {result.found}{ids}",
            ),
            soft_wrap=True,
        )
