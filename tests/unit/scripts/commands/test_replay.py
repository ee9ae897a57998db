"""`winnow replay` as an operator uses it, over a pipeline that really fails and recovers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from click.testing import CliRunner
from moto import mock_aws

from scripts.commands import cli
from tests.unit.scripts.commands.replays import RUNS, STAGES, Bench, ids
from winnow.core.keys import StageKeys
from winnow.register.entry import Entry, Status, hold
from winnow.register.item import item_of
from winnow.register.table import RegisterTable


@contextmanager
def opened() -> Iterator[Bench]:
    with mock_aws(), pytest.MonkeyPatch.context() as monkeypatch:
        made = Bench.build()
        monkeypatch.setattr("scripts.commands.aim.at_environment", lambda: made.target)
        # Sixteen requests instead of two find nothing more, and moto is slow; its tables are not made for threads.
        monkeypatch.setattr("winnow.register.item.PARTITIONS", 2)
        monkeypatch.setattr("scripts.replay.site.RegisterTable", partial(RegisterTable, lanes=1))
        yield made


@pytest.fixture
def bench() -> Iterator[Bench]:
    with opened() as made:
        yield made


@pytest.fixture(scope="class")
def failed() -> Iterator[Bench]:
    """A bench after a run in which three records failed; for tests that only look at it."""
    with opened() as made:
        fail(made, transform__T_a="permanent", transform__T_b="permanent", mint__T_c="transient")
        yield made


def fail(bench: Bench, **broken: str) -> None:
    """A run of five files in which some records fail: `stage__id=kind`."""
    bench.broken = {name.replace("__", "/").replace("T_", "T-"): kind for name, kind in broken.items()}
    bench.run(bench.upload(a="1", b="2", c="3", d="4", e="5"))


ODD = "MS\u202f12  f. `3`"
SHOWN = "MS\\u202f12 \\u0020f. \\u00603\\u0060"


@pytest.fixture(scope="class")
def odd() -> Iterator[Bench]:
    """A bench after a run in which records with odd ids failed; one looks, letter by letter, like another as it is shown."""
    with opened() as made:
        made.broken = {f"adapt/{each}": "permanent" for each in (ODD, "a\u00a0b", "a\\u00a0b")}
        made.run(made.upload(**{ODD: "1", "a\u00a0b": "2", "a\\u00a0b": "3", "good": "4"}))
        yield made


class TestOddIds:
    """Ids that cannot be copied as they are: they are shown escaped, and every command takes them so."""

    def test_are_shown_escaped(self, odd: Bench) -> None:
        listed = odd.winnow("list", "--records")
        assert f"{SHOWN}\n" in listed.stdout
        assert ODD not in listed.stdout
        assert ODD in ids(odd.lines("list", "--records")), "programs get them as they are"

    @pytest.mark.parametrize("typed", [ODD, SHOWN])
    def test_are_found_as_they_are_and_as_they_are_shown(self, odd: Bench, typed: str) -> None:
        [document] = odd.lines("show", typed)
        assert document["record_id"] == ODD
        assert [attempt["kind"] for attempt in document["history"][0]["attempts"]] == ["permanent"]
        assert odd.winnow("show", typed).stdout.startswith(f"{SHOWN}  catalogue/adapt")
        assert ids(odd.lines("list", "--records", "--id", typed)) == [ODD]
        traced = CliRunner().invoke(cli.main, ["verify", RUNS[0], "--id", typed])
        assert traced.stdout.startswith(f"adapt       failed      {SHOWN}")

    @pytest.mark.parametrize(
        ("typed", "meant"),
        [("a\\u00a0b", "a\\u00a0b"), ("a\\u005cu00a0b", "a\\u00a0b"), ("a\u00a0b", "a\u00a0b")],
    )
    def test_an_id_that_looks_escaped_is_itself_first(self, odd: Bench, typed: str, meant: str) -> None:
        assert ids(odd.lines("list", "--records", "--id", typed)) == [meant]

    def test_are_replayed_as_they_are_shown(self, odd: Bench) -> None:
        shown = odd.winnow("run", "--id", SHOWN, "--force")
        assert "1 record that failed in adapt" in shown.stdout
        assert f"e.g. {SHOWN}\n" in shown.stdout

    def test_are_waived_as_they_are_shown(self, odd: Bench) -> None:
        assert odd.winnow("waive", "--id", SHOWN, "--reason", "so be it").exit_code == 0
        assert odd.entry("adapt", ODD).status is Status.WAIVED


class TestList:
    def test_groups_by_cause(self, bench: Bench) -> None:
        fail(bench, transform__T_a="permanent", transform__T_b="permanent", mint__T_c="transient")
        first, second = bench.lines("list")
        assert (first["stage"], first["count"], first["kind"]) == ("transform", 2, "permanent")
        assert first["example_id"] in {"T-a", "T-b"}
        assert first["statuses"] == {"open": 2}
        assert (second["stage"], second["count"], second["error_type"]) == ("mint", 1, "TimeoutError")

    def test_marks_permanent_failures_whose_stage_has_new_code(self, bench: Bench) -> None:
        fail(bench, transform__T_a="permanent", mint__T_c="transient")
        assert "worth" not in bench.winnow("list").stdout
        bench.code_versions = dict.fromkeys(STAGES, "v2")
        assert "1 may be worth replaying" in bench.winnow("list").stdout
        assert [line["new_code"] for line in bench.lines("list", "--records")] == [True, False]

    def test_tables_show_every_failure(self, bench: Bench) -> None:
        fail(bench, transform__T_a="permanent", mint__T_c="transient")
        for options in ((), ("--records",)):
            text = bench.winnow("list", *options).stdout
            assert "T-a" in text
            assert "T-c" in text


class TestFilters:
    @pytest.mark.parametrize(
        ("options", "found"),
        [
            ([], ["T-a", "T-b", "T-c"]),
            (["--stage", "mint"], ["T-c"]),
            (["--kind", "permanent"], ["T-a", "T-b"]),
            (["--error-type", "TimeoutError"], ["T-c"]),
            (["--id", "T-b", "--id", "T-c"], ["T-b", "T-c"]),
            (["--run", RUNS[0]], ["T-a", "T-b", "T-c"]),
            (["--run", RUNS[1]], []),
            (["--status", "resolved"], []),
            (["--since", "1h"], ["T-a", "T-b", "T-c"]),
            (["--until", "2020-01-01"], []),
        ],
    )
    def test_find_what_they_say(self, failed: Bench, options: list[str], found: list[str]) -> None:
        assert ids(failed.lines("list", "--records", *options)) == found


class TestShow:
    def test_tells_history_tries_and_lineage(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient")
        (document,) = bench.lines("show", "T-c")
        assert [len(each["attempts"]) for each in document["history"]] == [2]
        assert [[each["record_id"] for each in some] for some in document["lineage"]] == [
            ["T-c"],
            ["T-c"],
            ["c"],
        ]
        source = document["lineage"][-1][0]["source"]
        assert (source["bucket"], source["key"]) == ("source", "c")
        text = bench.winnow("show", "T-c").stdout
        assert "TimeoutError: no answer" in text
        assert "s3://source/c" in text

    def test_says_when_there_is_no_such_failure(self, bench: Bench) -> None:
        result = bench.winnow("show", "nobody")
        assert result.exit_code == 2
        assert "ID must be the id of a record that has failed" in result.stderr


class TestDryRun:
    def test_shows_what_would_run_and_starts_nothing(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient", transform__T_a="transient")
        result = bench.winnow("run", "--all")
        assert result.exit_code == 0
        assert "2 replays, as their records failed in different stages" in result.stdout
        assert "Nothing was started" in result.stdout
        assert not bench.stepfunctions.started
        assert bench.entry("mint", "T-c").status is Status.OPEN

    def test_the_reason_of_reopening_is_kept_and_shown(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient")
        bench.winnow("waive", "--id", "T-c", "--reason", "lost in 1941")
        bench.winnow("reopen", "--id", "T-c", "--reason", "found  again,\nin the attic")
        reopening = bench.entry("mint", "T-c").reopening
        assert reopening
        assert reopening.reason == "found again, in the attic"
        shown = bench.winnow("show", "T-c").stdout
        assert f"  opened again at {reopening.at}: found again, in the attic\n" in shown
        assert bench.lines("show", "T-c")[0]["reopening"]["reason"] == "found again, in the attic"

    def test_an_entry_from_before_reasons_were_kept_is_read(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient")
        before = bench.entry("mint", "T-c")
        item = item_of(before)
        rest = json.loads(item["rest"]["S"])
        del rest["reopening"]
        bench.client("dynamodb").put_item(TableName="register", Item=item | {"rest": {"S": json.dumps(rest)}})
        assert bench.entry("mint", "T-c") == before
        assert "opened again" not in bench.winnow("show", "T-c").stdout

    def test_estimates_from_the_runs_before(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient")
        (line,) = bench.lines("run", "--stage", "mint")
        assert line["records"] == 1
        assert line["estimate"]["dollars"] > 0
        assert line["estimate"]["without"] == []


class TestRun:
    def test_replays_what_an_alert_names_and_resolves_it(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient", mint__T_d="transient")
        bench.broken = {"mint/T-d": "transient"}
        bench.stepfunctions.play = bench.replay
        result = bench.winnow(
            "run", "--pipeline", "catalogue", "--stage", "mint", "--run", RUNS[0], "--execute"
        )
        assert result.exit_code == 0, result.output
        ((name, given),) = bench.stepfunctions.started.items()
        assert name.startswith("replay-")
        assert given == {
            "run_id": name,
            "start_at": "mint",
            "records": {"bucket": "ledger", "key": f"replays/{name}/selection.json"},
            "replay": {"id": name},
            "trigger": {"kind": "replay", "id": name},
        }
        assert bench.selected(name) == [(RUNS[0], "mint", [2, 4])]
        assert bench.entry("mint", "T-c").status is Status.RESOLVED
        again = bench.entry("mint", "T-d")
        assert (again.status, again.occurrences, again.last.run_id) == (Status.OPEN, 2, name)

    def test_holds_what_it_replays_while_it_runs(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient")
        bench.winnow("run", "--stage", "mint", "--execute")
        (name,) = bench.stepfunctions.started
        entry = bench.entry("mint", "T-c")
        assert entry.status is Status.REPLAYING
        assert entry.hold is not None
        assert entry.hold.replay_id == name

    def test_pressing_the_button_twice_starts_it_once(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient")
        bench.winnow("run", "--stage", "mint", "--execute")
        result = bench.winnow("run", "--stage", "mint", "--execute")
        assert result.exit_code == 0
        assert "of this selection was already started; its status is RUNNING" in result.stdout
        [name] = bench.stepfunctions.started
        [line] = bench.lines("run", "--stage", "mint", "--execute")
        assert (line["replay_id"], line["started"], line["started_before"]) == (name, False, True)

    def test_goes_on_where_a_crash_between_hold_and_start_left_it(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fail(bench, mint__T_c="transient", mint__T_d="transient")
        with monkeypatch.context() as crash:
            crash.setattr(bench.stepfunctions, "start_execution", _die)
            assert bench.winnow("run", "--stage", "mint", "--execute").exit_code == 130
        held = bench.entry("mint", "T-c").hold
        assert held is not None
        result = bench.winnow("run", "--stage", "mint", "--execute")
        assert result.exit_code == 0, result.output
        assert list(bench.stepfunctions.started) == [held.replay_id]

    def test_a_replay_that_died_without_settling_can_be_replayed(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient")
        bench.stepfunctions.play = lambda _: "ABORTED"
        bench.winnow("run", "--stage", "mint", "--execute")
        result = bench.winnow("run", "--stage", "mint", "--execute")
        assert "its status is ABORTED" in result.stdout
        (first,) = bench.stepfunctions.started
        bench.register.apply("catalogue", "mint", ["T-c"], lambda _, found: _let_lease_end(found))
        bench.stepfunctions.play = bench.replay
        bench.broken = {}
        assert bench.winnow("run", "--stage", "mint", "--execute").exit_code == 0
        assert len(bench.stepfunctions.started) == 2
        assert bench.entry("mint", "T-c").status is Status.RESOLVED
        assert bench.entry("mint", "T-c").resolution.run_id != first  # type: ignore[union-attr]

    def test_from_an_earlier_stage_goes_through_the_lineage(self, bench: Bench) -> None:
        fail(bench, mint__T_c="permanent")
        bench.broken = {}
        bench.stepfunctions.play = bench.replay
        result = bench.winnow("run", "--id", "T-c", "--from", "start", "--execute")
        assert result.exit_code == 0, result.output
        (name,) = bench.stepfunctions.started
        assert bench.selected(name) == [(RUNS[0], "adapt", [2, 3])]
        assert bench.entry("mint", "T-c").status is Status.RESOLVED
        assert bench.ledger.read_json(StageKeys(name, "adapt").result)["counts"]["in"] == 1

    def test_a_replay_of_a_replay_goes_back_to_the_first_run(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient")
        bench.stepfunctions.play = bench.replay
        bench.winnow("run", "--stage", "mint", "--execute")
        bench.broken = {}
        assert bench.winnow("run", "--stage", "mint", "--from", "transform", "--execute").exit_code == 0
        _, second = bench.stepfunctions.started
        assert bench.selected(second) == [(RUNS[0], "transform", [2, 3])]
        assert bench.entry("mint", "T-c").status is Status.RESOLVED

    def test_limit_takes_the_first_of_each_stage(self, bench: Bench) -> None:
        fail(bench, mint__T_a="transient", mint__T_b="transient", mint__T_c="transient")
        result = bench.winnow("run", "--stage", "mint", "--limit", "2", "--execute")
        assert "not included because of --limit: 1" in result.stdout
        (name,) = bench.stepfunctions.started
        assert bench.selected(name) == [(RUNS[0], "mint", [0, 2])]

    def test_follows_with_watch_and_tells_what_was_lost_again(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient", mint__T_d="transient")
        bench.broken = {"mint/T-d": "transient"}
        bench.stepfunctions.play = bench.replay
        result = bench.winnow("run", "--stage", "mint", "--execute", "--watch")
        assert result.exit_code == 3
        assert "SUCCEEDED" in result.stdout


class TestCanary:
    def test_the_rest_follows_when_it_passes(self, bench: Bench) -> None:
        fail(bench, mint__T_a="transient", mint__T_b="transient", mint__T_c="transient")
        bench.broken = {}
        bench.stepfunctions.play = bench.replay
        result = bench.winnow("run", "--stage", "mint", "--canary", "1", "--execute")
        assert result.exit_code == 0, result.output
        assert [len(_ordinals(bench, name)) for name in bench.stepfunctions.started] == [1, 2]
        assert bench.lines("list") == []

    def test_the_rest_stays_when_it_does_not(self, bench: Bench) -> None:
        fail(bench, mint__T_a="transient", mint__T_b="transient", mint__T_c="transient")
        bench.stepfunctions.play = bench.replay
        result = bench.winnow("run", "--stage", "mint", "--canary", "1", "--execute")
        assert result.exit_code == 1
        assert "the canary did not pass, so the other 2 records were not started" in result.stdout
        assert len(bench.stepfunctions.started) == 1
        assert bench.entry("mint", "T-c").status is Status.OPEN


class TestLanes:
    def test_a_full_lane_starts_nothing_and_gives_back(self, bench: Bench) -> None:
        fail(bench, mint__T_a="transient", transform__T_b="transient")
        lane = ("--lane", "nightly", "--execute")
        assert bench.winnow("run", "--stage", "mint", *lane).exit_code == 0
        result = bench.winnow("run", "--stage", "transform", *lane)
        assert result.exit_code == 2
        assert "its lane is full" in result.stderr
        assert bench.entry("transform", "T-b").status is Status.OPEN
        (running,) = bench.stepfunctions.started
        bench.stepfunctions.statuses[running] = "SUCCEEDED"
        assert bench.winnow("run", "--stage", "transform", *lane).exit_code == 0
        assert len(bench.stepfunctions.started) == 2

    def test_a_lane_has_as_many_places_as_it_is_given(self, bench: Bench) -> None:
        fail(bench, mint__T_a="transient", transform__T_b="transient")
        result = bench.winnow("run", "--all", "--lane", "nightly", "--lane-limit", "2", "--execute")
        assert result.exit_code == 0
        assert len(bench.stepfunctions.started) == 2


class TestAMistake:
    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            ("run", "a selection is needed, such as --stage or --run"),
            ("run --pipeline other --all", "--pipeline must be one of catalogue"),
            ("run --stage publish", "--stage must be one of adapt, transform, mint"),
            ("run --stage mint --from publish", "--from must be start or one of adapt, transform, mint"),
            ("run --stage transform --from mint", "--from must not come after transform"),
            ("run --stage mint --since yesterday", "--since must be a moment as"),
            ("run --stage mint --lane Night", "--lane must be lower-case letters"),
            ("run --id nobody", "nothing to replay: no failure matches"),
            ("run --run nobody", "nothing to replay: pipeline catalogue has no failures of run nobody"),
            ("waive --reason why", "a selection is needed"),
            ("waive --id T-c --reason why --waive-until 2020-01-01", "--waive-until must be in the future"),
            ("waive --id T-a --reason \t", "--reason must say why"),
        ],
    )
    def test_is_told_in_one_line(self, failed: Bench, arguments: str, line: str) -> None:
        result = failed.winnow(*arguments.split(" "))
        assert result.exit_code == 2
        assert result.stdout == ""
        assert line in result.stderr
        assert result.stderr.count("\n") == 1
        assert not failed.stepfunctions.started

    def test_in_one_entry_is_told_after_what_was_to_be_done(self, failed: Bench) -> None:
        result = failed.winnow("reopen", "--id", "T-c", "--reason", "why")
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.splitlines() == [
            "dev: reopen failures of catalogue (1), in the account of the test",
            "Error: nothing was opened again: T-c: open already",
        ]


class TestRefusals:
    def test_what_another_replay_holds(self, bench: Bench) -> None:
        fail(bench, mint__T_b="transient", mint__T_c="transient")
        bench.winnow("run", "--id", "T-c", "--execute")
        (first,) = bench.stepfunctions.started
        result = bench.winnow("run", "--stage", "mint", "--execute")
        assert result.exit_code == 0
        assert f"held by replay {first} (RUNNING)" in result.stdout
        _, second = bench.stepfunctions.started
        assert bench.selected(second) == [(RUNS[0], "mint", [1, 2])]

    def test_what_is_resolved(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient")
        bench.broken = {}
        bench.run(bench.upload(c="new"), RUNS[1])
        for selection in (("--run", RUNS[0]), ("--id", "T-c"), ("--stage", "mint")):
            result = bench.winnow("run", *selection, "--execute")
            assert result.exit_code == 2
            assert "already resolved" in result.stderr

    def test_what_failed_again_since(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient")
        bench.run(bench.upload(c="3"), RUNS[1])
        result = bench.winnow("run", "--run", RUNS[0], "--execute")
        assert result.exit_code == 2
        assert f"T-c failed again since, in run {RUNS[1]}" in result.stderr

    def test_permanent_failures_under_the_code_they_failed_with(self, bench: Bench) -> None:
        fail(bench, transform__T_a="permanent", transform__T_b="transient")
        result = bench.winnow("run", "--stage", "transform", "--execute")
        assert "permanent under the code that is deployed (test)" in result.stdout
        (name,) = bench.stepfunctions.started
        assert bench.selected(name) == [(RUNS[0], "transform", [1, 2])]
        alone = bench.winnow("run", "--id", "T-a", "--execute")
        assert alone.exit_code == 2
        assert "T-a: permanent under the code that is deployed" in alone.stderr

    @pytest.mark.parametrize("options", [("--force",), ("--from", "adapt")])
    def test_not_so_by_force_or_from_an_earlier_stage(self, bench: Bench, options: tuple[str, ...]) -> None:
        fail(bench, transform__T_a="permanent")
        assert bench.winnow("run", "--id", "T-a", *options, "--execute").exit_code == 0
        assert len(bench.stepfunctions.started) == 1

    def test_not_so_under_new_code(self, bench: Bench) -> None:
        fail(bench, transform__T_a="permanent")
        bench.code_versions["transform"] = "v2"
        assert bench.winnow("run", "--id", "T-a", "--execute").exit_code == 0

    def test_not_so_where_the_first_stage_reads_a_corrected_source(self, bench: Bench) -> None:
        fail(bench, adapt__a="permanent")
        alert = ("run", "--pipeline", "catalogue", "--stage", "adapt", "--run", RUNS[0], "--execute")
        assert bench.winnow(*alert).exit_code == 2
        bench.upload(a="corrected")
        bench.broken = {}
        bench.stepfunctions.play = bench.replay
        assert bench.winnow(*alert).exit_code == 0
        assert bench.entry("adapt", "a").status is Status.RESOLVED

    def test_what_is_superseded(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient", transform__T_b="transient")
        bench.broken = {"adapt/c": "transient", "adapt/b": "transient"}
        bench.run(bench.upload(c="new", b="2"), RUNS[1])
        result = bench.winnow("run", "--stage", "mint", "--execute")
        assert result.exit_code == 2
        assert f"superseded: the source object changed since, and run {RUNS[1]} has it" in result.stderr
        assert bench.winnow("run", "--stage", "transform", "--execute").exit_code == 0
        assert bench.winnow("run", "--stage", "mint", "--from", "start", "--execute").exit_code == 0

    def test_not_so_where_no_newer_run_has_it(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient")
        bench.upload(c="new")
        assert bench.winnow("run", "--stage", "mint", "--execute").exit_code == 0

    def test_rows_that_never_were_records(self, bench: Bench) -> None:
        bench.s3.put_object(Bucket="source", Key="list", Body=b'{"id": "a"}\nnonsense\n')
        bench.run({"bucket": "source", "key": "list"})
        result = bench.winnow("run", "--all", "--force", "--execute")
        assert result.exit_code == 2
        assert "no record that could be replayed" in result.stderr

    def test_a_lineage_that_begins_too_late(self, bench: Bench) -> None:
        bench.broken = {"mint/x": "transient", "mint/y": "transient"}
        bench.run(["x"], start_at="transform")
        result = bench.winnow("run", "--stage", "mint", "--from", "start", "--execute")
        assert result.exit_code == 2
        assert f"its lineage ends at transform: run {RUNS[0]} began there" in result.stderr

    def test_waived_failures_unless_asked_for(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient")
        assert bench.winnow("waive", "--id", "T-c", "--reason", "lost in 1941").stdout == "waived: 1\n"
        assert "waived; add --status waived" in bench.winnow("run", "--all").stderr
        assert bench.winnow("run", "--status", "waived", "--execute").exit_code == 0


class TestWaiving:
    def test_waives_and_reopens(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient")
        bench.winnow("waive", "--id", "T-c", "--reason", "vendor is at it", "--waive-until", "30d")
        entry = bench.entry("mint", "T-c")
        assert entry.status is Status.WAIVED
        assert entry.waiver is not None
        assert entry.waiver.reason == "vendor is at it"
        assert "vendor is at it" in bench.winnow("show", "T-c").stdout
        assert bench.winnow("reopen", "--id", "T-c", "--reason", "fixed").stdout == "opened again: 1\n"
        assert bench.entry("mint", "T-c").status is Status.OPEN


class TestRebuild:
    def story(self, bench: Bench) -> None:
        fail(bench, mint__T_c="transient", transform__T_a="permanent", adapt__e="permanent")
        bench.run(bench.upload(c="3", a="1"), RUNS[1])
        bench.broken = {"transform/T-a": "transient"}
        bench.run(bench.upload(c="3", a="1"), RUNS[2])

    def everything(self, bench: Bench) -> list[str]:
        return [
            line["record_id"]
            for line in bench.lines("list", "--records", "--status", "open", "--status", "resolved")
        ]

    def test_gives_the_same_content(self, bench: Bench) -> None:
        self.story(bench)
        before = [
            bench.entry(stage, i) for stage, i in (("mint", "T-c"), ("transform", "T-a"), ("adapt", "e"))
        ]
        assert bench.lines("rebuild", "--dry-run")[0]["same"] == 3
        dynamodb = bench.client("dynamodb")
        for item in dynamodb.scan(TableName="register")["Items"]:
            dynamodb.delete_item(TableName="register", Key={"pk": item["pk"], "sk": item["sk"]})
        assert bench.winnow("rebuild", "--dry-run").exit_code == 1
        assert bench.lines("list") == []
        (line,) = bench.lines("rebuild")
        assert (line["missing"], line["to_write"]) == (3, 3)
        after = [bench.entry(entry.stage, entry.record_id) for entry in before]
        assert [_content(entry) for entry in after] == [_content(entry) for entry in before]
        assert bench.lines("rebuild", "--dry-run")[0]["same"] == 3

    def test_puts_right_what_differs_and_keeps_what_only_the_register_knows(self, bench: Bench) -> None:
        self.story(bench)
        bench.winnow("waive", "--id", "e", "--reason", "lost in 1941")
        bench.register.apply("catalogue", "mint", ["T-c"], lambda _, found: _reopened(found))
        (line,) = bench.lines("rebuild")
        assert (line["changed"], line["same"], line["kept"]) == (1, 2, 1)
        assert bench.entry("mint", "T-c").status is Status.RESOLVED
        assert bench.entry("adapt", "e").status is Status.WAIVED

    def test_what_was_opened_again_by_hand_stays_open(self, bench: Bench) -> None:
        self.story(bench)
        assert bench.entry("mint", "T-c").status is Status.RESOLVED
        bench.winnow("reopen", "--id", "T-c", "--status", "resolved", "--reason", "it is not")
        assert bench.entry("mint", "T-c").status is Status.OPEN
        (line,) = bench.lines("rebuild")
        assert (line["to_write"], line["kept"]) == (0, 1)
        entry = bench.entry("mint", "T-c")
        assert (entry.status, entry.resolution) == (Status.OPEN, None)
        assert entry.reopening
        assert entry.reopening.reason == "it is not"

    @pytest.mark.parametrize("document", ["run.json", "mint/plan.json", "mint/failures.ndjson.gz"])
    def test_one_damaged_run_does_not_stop_the_rest(self, bench: Bench, document: str) -> None:
        self.story(bench)
        bench.run(bench.upload(x="bad-x"), "AFTER")
        key = f"runs/{RUNS[0]}/{document}"
        assert key in set(bench.ledger.store.keys("runs/")), sorted(
            bench.ledger.store.keys(f"runs/{RUNS[0]}")
        )
        bench.ledger.store.put(key, bench.ledger.store.get(key).body[:20])
        result = bench.winnow("rebuild")
        assert result.exit_code == 1
        assert f"skipped: s3://{bench.ledger.bucket}/{key} is damaged" in result.stderr
        assert "1 runs are damaged and were skipped" in result.stdout

    def test_a_damaged_run_is_counted_in_json(self, bench: Bench) -> None:
        self.story(bench)
        bench.ledger.write_json(f"runs/{RUNS[0]}/run.json", {})
        before = bench.entry("adapt", "e")
        result = bench.winnow("rebuild", "--json")
        assert result.exit_code == 1
        assert list(json.loads(result.stdout)["damaged_runs"]) == [RUNS[0]]
        assert bench.entry("adapt", "e") == before

    def test_what_a_damaged_run_resolved_stays_resolved(self, bench: Bench) -> None:
        self.story(bench)
        before = bench.entry("mint", "T-c")
        assert before.status is Status.RESOLVED
        assert before.resolution
        bench.ledger.write_json(f"runs/{before.resolution.run_id}/run.json", {})
        assert bench.winnow("rebuild").exit_code == 1
        assert bench.entry("mint", "T-c").status is Status.RESOLVED


def _content(entry: Entry) -> str:
    return json.dumps(dataclasses.asdict(entry) | {"version": 0}, sort_keys=True)


def _reopened(found: Entry | None) -> Entry:
    assert found
    return dataclasses.replace(found, status=Status.OPEN, resolution=None, version=found.version + 1)


def _let_lease_end(found: Entry | None) -> Entry:
    assert found
    assert found.hold
    return hold(found, replay_id=found.hold.replay_id, now="2020-01-01", until="2020-01-02")


def _ordinals(bench: Bench, name: str) -> list[int]:
    (part,) = bench.selected(name)
    return [n for start, stop in zip(part[2][::2], part[2][1::2], strict=True) for n in range(start, stop)]


def _die(**_: object) -> None:
    raise KeyboardInterrupt
