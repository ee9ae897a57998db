"""`winnow publish`: what is published is looked at, and moved between its versions, by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from scripts.commands import cli
from scripts.commands.publish import desk
from scripts.deployed.pipelines import DeployedPipeline
from scripts.deployed.target import ChosenEnvironment, Target
from tests.unit.scripts.commands.replays import Stacks
from tests.unit.winnow.publications import Publication, numbered
from winnow.core.contract import Pointer
from winnow.publish.published_set import PublishedSet
from winnow.quality.result import GateOutcome, GateResult, RuleResult
from winnow.quality.rules import NullShare

CURATOR = "arn:aws:sts::123456789012:assumed-role/operators/curator"
CANDIDATE = 3
"""The last version that a run has built here, and not published."""


def outputs(*, publication: str = "works", environment: str = "dev", **more: str) -> dict[str, str]:
    published = {
        "PublishedBucket": "published",
        "PublicationName": publication,
        "PublicationMode": "merge",
    }
    return {
        "PipelineName": f"of-{publication}" if publication else "silent",
        "PipelineArn": "arn",
        "StageNames": "last",
        "LedgerBucket": "ledger",
        "SourceBucket": "source",
        "Environment": environment,
        **(published if publication else {}),
        **more,
    }


@dataclass
class Room:
    """An account, and a person at its command line."""

    publication: Publication
    stacks: dict[str, dict[str, str]]
    environment: str = ""

    def client(self, service: str) -> Any:
        if service == "cloudformation":
            return Stacks(self.stacks)
        assert service == "sts"
        return SimpleNamespace(get_caller_identity=lambda: {"Arn": CURATOR, "Account": "123456789012"})

    def target(self) -> Target:
        chosen = ChosenEnvironment(name=self.environment) if self.environment else None
        return Target(name="the account", is_local=False, client=self.client, environment=chosen)

    def open(self, _: Target, pipeline: DeployedPipeline) -> PublishedSet:
        assert pipeline.published_bucket == "published"
        return self.publication.set

    def winnow(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli.main, ["publish", *arguments], catch_exceptions=False)

    def json(self, *arguments: str) -> Any:
        done = self.winnow(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def refused(self, *arguments: str) -> str:
        """The one line with which a command is refused."""
        before = dict(self.publication.store.objects)
        done = self.winnow(*arguments)
        assert done.exit_code == 2, done.output
        assert self.publication.store.objects == before
        line = done.stderr.strip().splitlines()[-1]
        assert line.startswith("Error: ")
        return line


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    """Two versions were published, and a third is a candidate that the gate stopped."""
    publication = Publication()
    publication.go("01", numbered({"a": 1, "b": 1, "c": 1}))
    publication.go("02", numbered({"a": 2, "d": 1}))
    version = publication.build(publication.run("03", numbered({"a": 3}))).version
    assert version == CANDIDATE
    stopped(publication, version)
    made = Room(publication, {"works-dev": outputs()})
    monkeypatch.setattr(desk, "current_target", made.target)
    monkeypatch.setattr(desk, "open_published", made.open)
    return made


def stopped(publication: Publication, version: int) -> None:
    """The gate says no to a version."""
    rule = RuleResult(
        rule=NullShare("title", at_most=0.0, reason="a work without a title cannot be found"),
        outcome=GateOutcome.BLOCKED,
        expected="no nulls",
        found="1 of 3",
        violations=1,
        first_ids=("a",),
    )
    gate = GateResult(
        publication="works",
        version=version,
        run_id="run-03",
        base=2,
        rows=3,
        results=(rule,),
        violations_file=Pointer(bucket="ledger", key="runs/run-03/violations.ndjson.gz"),
    )
    publication.set.write_once(publication.set.keys.version(version).gate, gate.to_json())


class TestLooking:
    def test_lists_versions_and_who_moved_what_and_why(self, room: Room) -> None:
        done = room.winnow("list")

        assert done.exit_code == 0
        first, _, *rows = done.stdout.splitlines()
        assert first.startswith(
            "works  version 2 is current: 4 rows, of run run-02, which began at 2026-11-02"
        )
        assert [row.split()[:6] for row in rows[:3]] == [
            ["3", "whole", "4", "+0", "~1", "-0"],
            ["2", "current", "4", "+1", "~1", "-0"],
            ["1", "whole", "3", "+3", "~0", "-0"],
        ]
        assert "blocked" in rows[0]
        assert "publish  1 → 2  pipeline catalogue: run run-02" in done.stdout

    def test_lists_as_json(self, room: Room) -> None:
        found = room.json("list")

        assert (found["publication"], found["current"], found["hold"]) == ("works", 2, None)
        assert [each["version"] for each in found["versions"]] == [1, 2, 3]
        assert [move["to"] for move in found["history"]] == [1, 2]

    def test_only_the_last_moves_are_listed_unless_all_are_asked_for(self, room: Room) -> None:
        for _ in range(6):
            room.winnow("hold", "--reason", "index", "--execute")
            room.winnow("release", "--reason", "done", "--execute")

        assert "… and 4 earlier moves; --history shows them" in room.winnow("list").stdout
        assert room.winnow("list", "--history").stdout.count("curator: ") == 12

    def test_nothing_published_yet_is_said(self, room: Room) -> None:
        room.publication.store.objects.clear()

        assert room.winnow("list").stdout == "works  nothing is published yet\n"

    def test_shows_a_version_with_what_the_gate_said(self, room: Room) -> None:
        done = room.winnow("show", "3")

        assert done.exit_code == 0
        assert "version 3  whole" in done.stdout
        assert "built on version 2" in done.stdout
        assert "blocked  null share title: expected no nulls, found 1 of 3; first ids: a" in done.stdout
        shown = room.json("show", "3")
        assert (shown["manifest"]["rows"], shown["gate"]["outcome"]) == (4, "blocked")

    def test_a_version_that_there_is_not_is_refused(self, room: Room) -> None:
        assert "got: 9" in room.refused("show", "9")

    def test_says_what_changed_by_id(self, room: Room) -> None:
        done = room.winnow("diff", "1", "2")

        assert done.stdout.splitlines() == ["~ a  n", "+ d", "works version 1 to 2: +1 ~1 -0"]
        back = room.winnow("diff", "2", "1")
        assert back.stdout.splitlines() == ["~ a  n", "- d", "works version 2 to 1: +0 ~1 -1"]
        lines = [json.loads(line) for line in room.winnow("diff", "1", "2", "--json").stdout.splitlines()]
        assert lines[0] == {"id": "a", "kind": "changed", "before": {"n": 1}, "after": {"n": 2}}
        assert lines[1] == {"id": "d", "kind": "added", "before": None, "after": {"n": 1}}

    def test_names_the_first_of_many_changes_and_counts_all(self, room: Room) -> None:
        room.publication.go("04", numbered([f"n{number:03d}" for number in range(60)]))

        short = room.winnow("diff", "2", "4").stdout.splitlines()
        assert len(short) == 52
        assert short[-2:] == ["… and 10 more; --all names them", "works version 2 to 4: +60 ~0 -0"]
        assert len(room.winnow("diff", "2", "4", "--all").stdout.splitlines()) == 61

    def test_a_diff_with_a_version_that_there_is_not_is_refused(self, room: Room) -> None:
        assert "got: 9" in room.refused("diff", "1", "9")

    def test_a_damaged_document_is_one_line(self, room: Room) -> None:
        room.publication.store.put(room.publication.set.keys.current, b"{")

        done = room.winnow("list")

        assert done.exit_code == 1
        assert "current.json is damaged" in done.stderr
        assert done.stderr.count("\n") == 1


class TestMoving:
    @pytest.mark.parametrize(
        ("arguments", "said", "current"),
        [
            (("promote", "3"), "promote works: version 2 to version 3", 3),
            (("rollback",), "rollback works: version 2 to version 1", 1),
            (("hold",), "hold works at version 2", 2),
        ],
    )
    def test_says_what_it_would_do_and_does_it_when_told_to(
        self, room: Room, arguments: tuple[str, ...], said: str, current: int
    ) -> None:
        before = dict(room.publication.store.objects)
        dry = room.winnow(*arguments, "--reason", "checked by hand")
        assert dry.exit_code == 0
        assert dry.stdout == f"would {said}\nnothing was changed; add --execute to do it\n"
        assert room.publication.store.objects == before

        done = room.winnow(*arguments, "--reason", "checked by hand", "--execute")

        assert (done.exit_code, done.stdout) == (0, f"done: {said}\n")
        assert f"dev: {said}, in the account" in done.stderr
        assert room.publication.current.version == current
        last = list(room.publication.set.history())[-1]
        assert (last.kind, last.who, last.why) == (arguments[0], CURATOR, "checked by hand")

    def test_what_was_promoted_is_read(self, room: Room) -> None:
        room.winnow("promote", "3", "--reason", "checked", "--execute")

        assert room.publication.rows() == {"a": 3, "b": 1, "c": 1, "d": 1}

    def test_as_json(self, room: Room) -> None:
        dry = room.json("promote", "3", "--reason", "checked")
        done = room.json("promote", "3", "--reason", "checked", "--execute")

        assert (dry["executed"], done["executed"]) == (False, True)
        assert (done["move"]["from"], done["move"]["to"], done["move"]["who"]) == (2, 3, CURATOR)

    def test_a_hold_keeps_runs_from_publishing_until_it_is_released(self, room: Room) -> None:
        room.winnow("hold", "--reason", "index is rebuilt", "--execute")
        assert "index is rebuilt" in str(room.publication.go("04", numbered({"a": 9})).reason)
        assert f"by {CURATOR}: index is rebuilt" in room.winnow("list").stdout
        assert "held already" in room.refused("hold", "--reason", "again", "--execute")

        room.winnow("release", "--reason", "done", "--execute")

        assert room.publication.go("05", numbered({"a": 10})).version == 5
        assert "not held" in room.refused("release", "--reason", "again", "--execute")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("promote", "9", "--reason", "x"), "got: 9"),
            (("promote", "2", "--reason", "x"), "it is current already, got: 2"),
            (("promote", "3", "--reason", " "), "--reason must say why"),
            (("promote", "3"), "Missing option '--reason'"),
            (("promote", "three", "--reason", "x"), "'three' is not a valid integer"),
            (("rollback", "--reason", "x", "--publication", "books"), "must be one of works"),
            (("prune", "--keep", "0"), "0 is not in the range"),
        ],
    )
    def test_a_mistake_is_one_line_and_changes_nothing(
        self, room: Room, arguments: tuple[str, ...], said: str
    ) -> None:
        assert said in room.refused(*arguments, "--execute")

    def test_an_environment_that_wants_it_is_asked_first(self, room: Room) -> None:
        room.stacks["works-dev"]["ConfirmChanges"] = "true"

        assert "have to be confirmed" in room.refused("rollback", "--reason", "x", "--execute")
        assert room.winnow("rollback", "--reason", "x").exit_code == 0, "what changes nothing is not asked"
        assert room.winnow("rollback", "--reason", "x", "--execute", "--yes").exit_code == 0
        assert room.publication.current.version == 1


class TestPruning:
    @pytest.fixture
    def aged(self, room: Room, monkeypatch: pytest.MonkeyPatch) -> Room:
        """Long after the runs: none of their versions is being built."""
        for number in range(4, 7):
            room.publication.go(f"{number:02d}", numbered({"a": number}))
        monkeypatch.setattr("winnow.publish.operating.LIVE", timedelta(days=-1))
        return room

    def test_says_what_it_would_delete_and_keeps_what_is_pointed_at(self, aged: Room) -> None:
        before = dict(aged.publication.store.objects)

        done = aged.winnow("prune", "--keep", "1")

        assert done.exit_code == 0, done.output
        lines = done.stdout.splitlines()
        assert "keeps version 6: current" in lines
        assert lines[-2:] == [
            "would delete versions 1, 2, 3, 4",
            "nothing was changed; add --execute to do it",
        ]
        assert aged.publication.store.objects == before

    def test_deletes_when_told_to_and_writes_it_down(self, aged: Room) -> None:
        done = aged.winnow("prune", "--keep", "1", "--execute")

        assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "deleted versions 1, 2, 3, 4")
        assert "dev: delete versions 1, 2, 3, 4 of works, in the account" in done.stderr
        assert aged.publication.rows() == {"a": 6, "b": 1, "c": 1, "d": 1}
        pruned = [move for move in aged.publication.set.history() if move.kind == "prune"]
        assert [move.after for move in pruned] == [1, 2, 3, 4]
        assert {move.who for move in pruned} == {CURATOR}
        assert {move.why for move in pruned} == {"only the newest 1 are kept"}
        assert aged.winnow("prune", "--keep", "1", "--execute").stdout.endswith(
            "there is nothing to delete\n"
        )
        assert aged.json("prune", "--keep", "1")["delete"] == []


class TestFindingAPublication:
    def test_needs_a_name_only_where_there_are_several(self, room: Room) -> None:
        room.stacks["silent-dev"] = outputs(publication="")
        assert room.winnow("list").exit_code == 0

        room.stacks["books-dev"] = outputs(publication="books")

        line = room.refused("list")
        assert line == "Error: --publication must be one of books, works (the account), got: 'nothing'"
        assert room.winnow("list", "--publication", "works").exit_code == 0

    def test_of_one_publication_in_two_environments_one_is_to_be_named(self, room: Room) -> None:
        room.stacks["works-prod"] = outputs(environment="prod")

        assert "must say whose works is meant, of dev or prod" in room.refused("list")
        room.environment = "prod"
        assert room.winnow("list").exit_code == 0

    def test_a_pipeline_that_publishes_nothing_is_said_to(self, room: Room) -> None:
        room.stacks.clear()
        room.stacks["silent-dev"] = outputs(publication="")

        assert "needs a pipeline that publishes" in room.refused("list")
