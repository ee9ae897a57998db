"""dev and prod in one account: a command works on one of them, says on which, and asks first where it is to."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from moto import mock_aws

from scripts.commands import cli
from scripts.commands.aim import aimed_at, at_environment
from scripts.deployed import pipelines
from scripts.deployed.target import ChosenEnvironment, Target
from scripts.local import emulator
from scripts.local.emulator import Endpoint
from scripts.local.state import LocalState
from scripts.terminal.errors import CommandRefused, Mistake
from tests.unit.scripts.commands.replays import RUNS, STAGES, Bench, Stacks
from winnow.core import keys
from winnow.register.entry import Status
from winnow.register.table import RegisterTable

DEV = {"catalogue-dev": ("catalogue", "dev")}
PROD = {"catalogue-prod": ("catalogue", "prod")}
BOOKS = {"books-dev": ("books", "dev")}
OLD = {"catalogue-old": ("catalogue", "")}
TWIN = {"catalogue-dev-2": ("catalogue", "dev")}

Deployed = dict[str, tuple[str, str]]


def outputs(stacks: Deployed) -> dict[str, dict[str, str]]:
    return {
        stack: {
            "PipelineName": name,
            "PipelineArn": f"arn:aws:states:eu-west-1:123456789012:stateMachine:{stack}",
            "StageNames": ",".join(STAGES),
            "LedgerBucket": "ledger",
            "SourceBucket": "source",
            **({"Environment": environment} if environment else {}),
        }
        for stack, (name, environment) in stacks.items()
    }


def account(stacks: Deployed, environment: str = "", named_by: str = "--environment") -> Target:
    told = Stacks(outputs(stacks))
    chosen = ChosenEnvironment(name=environment, named_by=named_by) if environment else None
    return Target(name="the account", is_local=False, client=lambda _: told, environment=chosen)


class TestFindingAPipeline:
    @pytest.mark.parametrize(
        ("stacks", "environment", "found"),
        [
            (DEV, "", "catalogue-dev"),
            (DEV, "dev", "catalogue-dev"),
            (DEV | PROD, "dev", "catalogue-dev"),
            (DEV | PROD, "prod", "catalogue-prod"),
            (OLD, "", "catalogue-old"),
            (DEV | OLD, "dev", "catalogue-dev"),
        ],
    )
    def test_is_that_of_the_environment(self, stacks: Deployed, environment: str, found: str) -> None:
        assert pipelines.find(account(stacks, environment), "catalogue").stack == found
        assert pipelines.only_one(account(stacks, environment)).stack == found
        assert [each.stack for each in pipelines.deployed(account(stacks, environment))] == [found]

    def test_by_name_is_not_disturbed_by_stacks_of_other_pipelines(self) -> None:
        twins = {"books-1": ("books", "dev"), "books-2": ("books", "dev"), "books-prod": ("books", "prod")}
        assert pipelines.find(account(DEV | twins), "catalogue").stack == "catalogue-dev"

    @pytest.mark.parametrize(
        ("stacks", "between"),
        [
            (DEV | PROD, "dev or prod"),
            (DEV | OLD, "stack catalogue-old, which names no environment or dev"),
        ],
    )
    def test_in_several_environments_is_refused_by_naming_them(self, stacks: Deployed, between: str) -> None:
        line = (
            f"--environment or WINNOW_ENVIRONMENT must say which pipeline catalogue is meant, that of {between} "
            "(the account), got: nothing"
        )
        for look in (partial(pipelines.find, name="catalogue"), pipelines.only_one):
            with pytest.raises(Mistake) as refused:
                look(account(stacks))
            assert refused.value.message == line

    @pytest.mark.parametrize("named_by", ["--environment", "WINNOW_ENVIRONMENT"])
    def test_in_an_environment_that_is_not_deployed_names_those_that_are(self, named_by: str) -> None:
        line = (
            f"{named_by} must be an environment that is deployed, here dev or prod (the account), got: 'prd'"
        )
        for look in (partial(pipelines.find, name="catalogue"), pipelines.only_one, pipelines.deployed):
            with pytest.raises(Mistake) as refused:
                look(account(DEV | PROD, "prd", named_by))
            assert refused.value.message == line

    def test_of_another_environment_is_not_found(self) -> None:
        with pytest.raises(
            Mistake, match=r"PIPELINE must be one of catalogue \(the account, prod\), got: 'books'"
        ):
            pipelines.find(account(BOOKS | PROD, "prod"), "books")

    @pytest.mark.parametrize("environment", ["", "dev"])
    def test_in_two_stacks_is_refused_by_naming_both(self, environment: str) -> None:
        line = "stacks catalogue-dev and catalogue-dev-2 both hold pipeline catalogue of environment dev; delete one"
        for look in (partial(pipelines.find, name="catalogue"), pipelines.only_one, pipelines.deployed):
            with pytest.raises(CommandRefused, match=line):
                look(account(TWIN | DEV, environment))
        assert len(pipelines.everywhere(account(TWIN | DEV))) == 2


class TestTheEnvironmentOfACommand:
    @pytest.fixture(autouse=True)
    def _here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("scripts.commands.aim.at_environment", lambda: account(DEV | PROD))

    @staticmethod
    def told(*arguments: str) -> str:
        """How a command that finds no pipeline `x` says where it looked."""
        result = CliRunner().invoke(cli.main, [*arguments])
        assert result.exit_code == 2
        return result.stderr

    @pytest.mark.parametrize("arguments", ["--environment prod run x", "run x --environment prod"])
    def test_is_taken_before_and_after_its_name(
        self, arguments: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert "(the account, prod), got: 'x'" in self.told(*arguments.split())
        monkeypatch.setenv("WINNOW_ENVIRONMENT", "dev")
        assert "(the account, prod), got: 'x'" in self.told(*arguments.split()), "what is typed counts more"

    def test_is_otherwise_that_of_the_shell(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WINNOW_ENVIRONMENT", "dev")
        assert "(the account, dev), got: 'x'" in self.told("run", "x")
        monkeypatch.setenv("WINNOW_ENVIRONMENT", "")
        assert "(the account), got: 'x'" in self.told("run", "x")

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (
                "--environment dev run x --environment prod",
                "--environment must name one environment, not dev too",
            ),
            ("run x --environment=", "--environment must name one environment, got: ''"),
            (
                "run catalogue",
                "--environment or WINNOW_ENVIRONMENT must say which pipeline catalogue is meant",
            ),
            ("replay list", "--environment or WINNOW_ENVIRONMENT must say which pipeline catalogue is meant"),
            ("verify x --pipeline catalogue", "--environment or WINNOW_ENVIRONMENT must say which pipeline"),
        ],
    )
    def test_in_doubt_is_refused_in_one_line(self, arguments: str, line: str) -> None:
        told = self.told(*arguments.split())
        assert f"Error: {line}" in told
        assert told.count("\n") == 1

    def test_of_the_emulator_is_not_that_of_the_shell(self, monkeypatch: pytest.MonkeyPatch) -> None:
        state = LocalState(endpoint=Endpoint(url="http://127.0.0.1:9"), started_at="")
        monkeypatch.setattr("scripts.commands.aim.LocalState.read", lambda: state)
        monkeypatch.setattr(
            "scripts.commands.aim.at_emulator", lambda _: account({"l": ("catalogue", "local")})
        )
        monkeypatch.setenv("WINNOW_ENVIRONMENT", "prod")
        assert "(the account), got: 'x'" in self.told("run", "x", "--local")
        assert "must be an environment that is deployed, here local" in self.told(
            "run", "x", "--local", "--environment", "prod"
        )

    def test_of_the_demonstration_is_not_that_of_the_shell(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WINNOW_ENVIRONMENT", "prod")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://before")
        with aimed_at(Endpoint(url="http://127.0.0.1:9")):
            assert "(the account), got: 'x'" in self.told("run", "x")
        assert os.environ["WINNOW_ENVIRONMENT"] == "prod"
        assert os.environ["AWS_ENDPOINT_URL"] == "http://before"

    def test_of_the_shell_does_not_reach_what_runs_in_an_emulator(self) -> None:
        assert emulator.environment_without_aws({"WINNOW_ENVIRONMENT": "prod", "A": "1"})["A"] == "1"
        assert "WINNOW_ENVIRONMENT" not in emulator.environment_without_aws({"WINNOW_ENVIRONMENT": "prod"})


class TestTheRegion:
    @pytest.fixture(autouse=True)
    def _nothing_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)

    @pytest.mark.parametrize(
        ("named", "region"),
        [
            ({"AWS_REGION": "eu-west-2"}, "eu-west-2"),
            ({"AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-3"),
            ({"AWS_REGION": "eu-west-2", "AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-2"),
            ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-3"}, "eu-west-3"),
        ],
    )
    def test_is_that_of_the_environment_variables_as_cdk_reads_them(
        self, named: dict[str, str], region: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in named.items():
            monkeypatch.setenv(name, value)
        target = at_environment()
        assert target.name.endswith(f"region {region}")
        assert target.client("s3").meta.region_name == region

    def test_is_else_that_of_the_profile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config = tmp_path / "config"
        config.write_text("[profile library]\nregion = eu-north-1\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        monkeypatch.setenv("AWS_PROFILE", "library")
        assert at_environment().name.endswith("region eu-north-1")

    def test_that_nothing_names_is_asked_for_in_one_line(self) -> None:
        result = CliRunner().invoke(cli.main, ["run", "catalogue"])
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: AWS_REGION must name the region that was deployed to")
        assert result.stderr.count("\n") == 1


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A pipeline in prod, where changes are confirmed, after a run in which two records failed."""
    with mock_aws():
        made = Bench.build()
        monkeypatch.setattr("scripts.commands.aim.at_environment", lambda: made.target)
        monkeypatch.setattr("winnow.register.item.PARTITIONS", 2)
        monkeypatch.setattr("scripts.replay.site.RegisterTable", partial(RegisterTable, lanes=1))
        made.broken = {"mint/T-a": "transient", "mint/T-b": "transient"}
        made.run(made.upload(a="1", b="2", c="3"))
        made.broken = {}
        made.winnow("waive", "--id", "T-b", "--reason", "lost in 1941")
        made.stated = {"Environment": "prod", "ConfirmChanges": "true"}
        yield made


def winnow(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


CHANGES = {
    ("run", "catalogue", "--source", "corrected"): "run 01",
    ("replay", "run", "--stage", "mint", "--execute"): "replay 1 record of catalogue",
    ("replay", "waive", "--id", "T-a", "--reason", "why"): "waive failures of catalogue (1)",
    ("replay", "reopen", "--id", "T-b", "--reason", "why"): "reopen failures of catalogue (1)",
    ("replay", "rebuild"): "rebuild the failure register of catalogue",
}
"""Every command that changes something in a pipeline, and how it says so."""
MOVES_OF_PUBLISH = {f"publish {move}" for move in ("hold", "promote", "prune", "release", "rollback")}
MAY_CHANGE = MOVES_OF_PUBLISH | {
    "run",
    "replay run",
    "replay waive",
    "replay reopen",
    "replay rebuild",
    "alert test",
    "doctor",
}
CHANGES_NOTHING = {
    "gate",
    "publish diff",
    "publish list",
    "publish show",
    "replay list",
    "replay show",
    "verify",
}
ON_THIS_MACHINE = {"local up", "local status", "local down"}


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, set[str]]]:
    """Every command and its options."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", {option for each in command.params for option in each.opts}


def test_every_command_either_may_be_confirmed_or_changes_nothing() -> None:
    found = dict(commands(cli.main))
    assert {name for name, options in found.items() if "--yes" in options} == MAY_CHANGE
    assert {name for name, options in found.items() if "--environment" not in options} == ON_THIS_MACHINE
    assert set(found) == MAY_CHANGE | CHANGES_NOTHING | ON_THIS_MACHINE
    assert {"--local", "--environment"} <= {option for each in cli.main.params for option in each.opts}


def snapshot(bench: Bench) -> object:
    """All that a change could touch."""
    listed = (bench.s3.list_objects_v2(Bucket=bucket) for bucket in ("ledger", "source"))
    objects = [(each["Key"], each["ETag"]) for page in listed for each in page.get("Contents", ())]
    items = bench.client("dynamodb").scan(TableName="register")["Items"]
    return objects, sorted(map(repr, items)), dict(bench.stepfunctions.started)


class TestAChange:
    @pytest.fixture(autouse=True)
    def _corrected(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("corrected").mkdir()
        Path("corrected", "a").write_text("1")
        monkeypatch.setattr("scripts.commands.run.RunWatch.of", self._not_followed)

    @staticmethod
    def _not_followed(*_: object) -> None:
        raise CommandRefused("this test does not follow runs")

    @pytest.mark.parametrize("arguments", CHANGES)
    def test_that_nobody_can_be_asked_about_is_refused_before_anything_is_done(
        self, bench: Bench, arguments: tuple[str, ...]
    ) -> None:
        before = snapshot(bench)
        result = winnow(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        first, second = result.stderr.splitlines()
        assert first.startswith(f"prod: {CHANGES[arguments]}")
        assert first.endswith(", in the account of the test")
        assert second == (
            "Error: changes in prod have to be confirmed and there is no terminal to ask at, so nothing was done; add --yes"
        )
        assert snapshot(bench) == before

    @pytest.mark.parametrize("arguments", CHANGES)
    @pytest.mark.parametrize("confirms", ["true", "false"])
    def test_is_done_unasked_after_saying_where(
        self, bench: Bench, arguments: tuple[str, ...], confirms: str
    ) -> None:
        bench.stated["ConfirmChanges"] = confirms
        before = snapshot(bench)
        result = winnow(*arguments, *(["--yes"] if confirms == "true" else []))
        assert result.stderr.splitlines()[0].startswith(f"prod: {CHANGES[arguments]}")
        assert "confirmed" not in result.stderr
        assert (snapshot(bench) != before) or arguments == ("replay", "rebuild")

    @pytest.mark.parametrize(
        "arguments",
        [
            "replay list",
            "replay show T-a",
            "replay run --stage mint",
            "replay rebuild --dry-run",
            f"verify {RUNS[0]}",
        ],
    )
    def test_that_is_only_shown_asks_nothing(self, bench: Bench, arguments: str) -> None:
        result = winnow(*arguments.split())
        assert "prod:" not in result.stderr
        assert "confirmed" not in result.stderr
        assert result.exit_code in {0, 1, 3}
        assert not bench.stepfunctions.started

    def test_that_would_do_nothing_is_not_asked_about(self, bench: Bench) -> None:
        result = winnow("replay", "waive", "--id", "nobody", "--reason", "why")
        assert result.stderr == "Error: nothing was waived: no failure matches\n"
        assert bench.entry("mint", "T-a").status is Status.OPEN

    def test_with_a_mistake_is_refused_before_it_is_asked_about(self, bench: Bench) -> None:
        before = snapshot(bench)
        Path("ids.ndjson").write_text('"a"\n')
        result = winnow("run", "catalogue", "--records", "ids.ndjson", "--from", "publish")
        assert result.stderr.startswith("Error: start_at: must be one of this pipeline's stages")
        assert snapshot(bench) == before, "the list is not uploaded either"

    @pytest.mark.usefixtures("bench")
    def test_says_how_to_look_at_it_in_the_same_environment(self) -> None:
        result = winnow("replay", "run", "--stage", "mint", "--execute", "--yes", "--environment", "prod")
        assert result.stdout.splitlines()[-1].endswith(" --environment prod")


@contextmanager
def at_a_terminal(typed: str) -> Iterator[int]:
    """Have this process be at a terminal at which something is typed; yields its other end."""
    ours, theirs = os.openpty()
    with pytest.MonkeyPatch.context() as monkeypatch, ExitStack() as stack:
        stack.callback(os.close, ours)
        stack.callback(os.close, theirs)
        for name, mode in (("stdin", "r"), ("stderr", "w")):
            monkeypatch.setattr(sys, name, stack.enter_context(os.fdopen(os.dup(theirs), mode)))
        os.write(ours, typed.encode())
        yield ours


class TestAtATerminal:
    @staticmethod
    def waive() -> None:
        cli.main.main(["replay", "waive", "--id", "T-a", "--reason", "why"], standalone_mode=False)

    @pytest.mark.parametrize("typed", ["prod\n", "  prod \n"])
    def test_the_name_of_the_environment_is_typed_to_go_on(self, bench: Bench, typed: str) -> None:
        with at_a_terminal(typed) as terminal:
            self.waive()
            assert b"Type prod to go on: " in os.read(terminal, 1000)
        assert bench.entry("mint", "T-a").status is Status.WAIVED

    @pytest.mark.parametrize("typed", ["yes\n", "\n", "dev\n", "\x04"])
    def test_anything_else_does_nothing(self, bench: Bench, typed: str) -> None:
        refusal = pytest.raises(click.ClickException, match="prod was not typed, so nothing was done")
        with at_a_terminal(typed), refusal as refused:
            self.waive()
        assert refused.value.exit_code == 2
        assert bench.entry("mint", "T-a").status is Status.OPEN


class TestVerify:
    def test_a_run_id_that_two_environments_have_is_refused(self, bench: Bench) -> None:
        bench.other_stacks = outputs(DEV)
        result = winnow("verify", RUNS[0])
        assert result.exit_code == 2
        assert f"must say which run {RUNS[0]} is meant, that of dev or prod" in result.stderr
        for environment in ("dev", "prod"):
            assert winnow("verify", RUNS[0], "--environment", environment).exit_code in {0, 3}

    def test_looks_in_the_environment_that_is_chosen(self, bench: Bench) -> None:
        bench.client("s3").create_bucket(
            Bucket="elsewhere", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        bench.other_stacks = {
            "catalogue-dev-2": {**outputs(DEV)["catalogue-dev"], "LedgerBucket": "elsewhere"}
        }
        assert winnow("verify", RUNS[0]).exit_code in {0, 3}, "in whichever environment it is"
        assert winnow("verify", RUNS[0], "--environment", "dev").exit_code == 2
        assert bench.ledger.find_json(keys.run(RUNS[0]))
