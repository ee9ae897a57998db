"""The framework of `winnow doctor`: what becomes of a check's errors, the report, the exit codes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError, NoRegionError
from click.testing import CliRunner, Result
from rich.console import Console

from scripts.commands import cli
from scripts.doctor.account import credentials
from scripts.doctor.check import Check, CheckGroup
from scripts.doctor.checks import CHECKS, PROBES
from scripts.doctor.context import DoctorContext
from scripts.doctor.examination import Examined, examine
from scripts.doctor.finding import Finding, FindingStatus, NotExamined
from scripts.doctor.report import Report
from tests.unit.scripts.doctor.accounts import ME, Account, aws_error, context, denied, stack


def check_that(
    outcome: Finding | Exception, name: str = "thing", group: CheckGroup = CheckGroup.ACCOUNT
) -> Check:
    def look(_: DoctorContext) -> Finding:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Check(name=name, group=group, look=look)


@pytest.mark.parametrize(
    ("outcome", "is_local", "status", "what"),
    [
        (Finding.ok("fine"), False, FindingStatus.OK, "fine"),
        (NotExamined("not deployed yet"), False, FindingStatus.SKIPPED, "not deployed yet"),
        (
            denied("sqs:GetQueueAttributes"),
            False,
            FindingStatus.WARNING,
            "not examined: you lack the permission sqs:GetQueueAttributes",
        ),
        (
            aws_error("AccessDeniedException", "no", "GetServiceQuota"),
            False,
            FindingStatus.WARNING,
            "not examined: you lack the permission to call GetServiceQuota",
        ),
        (
            aws_error("InvalidAction", "no", "GetX"),
            True,
            FindingStatus.SKIPPED,
            "the emulator does not have GetX",
        ),
        (
            aws_error("InvalidAction", "no", "GetX"),
            False,
            FindingStatus.FAILED,
            "AWS: An error occurred (InvalidAction) when calling the GetX operation: no",
        ),
        (denied("sqs:X"), True, FindingStatus.WARNING, "not examined: you lack the permission sqs:X"),
        (NoCredentialsError(), False, FindingStatus.FAILED, "AWS: Unable to locate credentials"),
        (KeyError("Stacks"), False, FindingStatus.FAILED, "could not be examined: KeyError: 'Stacks'"),
        (
            ValueError("two\nlines"),
            False,
            FindingStatus.FAILED,
            "could not be examined: ValueError: two lines",
        ),
    ],
)
def test_what_happens_in_a_check_is_its_finding(
    *, outcome: Finding | Exception, is_local: bool, status: FindingStatus, what: str
) -> None:
    finding = examine(check_that(outcome), context(is_local=is_local))
    assert (finding.status, finding.what) == (status, what)


@pytest.mark.parametrize(
    ("is_local", "command", "aimed"),
    [
        (False, "aws sqs list-queues", "aws sqs list-queues"),
        (True, "aws sqs list-queues", "aws --endpoint-url http://127.0.0.1:4566 sqs list-queues"),
        (True, "winnow verify a --local", "winnow verify a --local"),
        (True, "", ""),
    ],
)
def test_a_command_of_the_aws_cli_reaches_the_emulator_that_was_examined(
    *, is_local: bool, command: str, aimed: str
) -> None:
    finding = Finding.failed("broken", "Mend it:", command)
    assert examine(check_that(finding), context(is_local=is_local)).command == aimed


def test_who_we_are_is_asked_once_even_if_aws_does_not_answer() -> None:
    account = Account({"sts.get_caller_identity": NoCredentialsError()})
    examined = context()
    object.__setattr__(examined.target, "client", account.client)
    for _ in range(2):
        with pytest.raises(NotExamined, match="needs credentials that work"):
            examined.client("sqs")
    assert account.calls == ["sts.get_caller_identity"]


def printed(finding: Finding, width: int | None) -> str:
    out = io.StringIO()
    terminal = {} if width is None else {"force_terminal": True, "width": width, "color_system": None}
    check = check_that(finding, name="dead letters")
    report = Report(Console(file=out, **terminal), [check])  # type: ignore[arg-type]
    report.show(Examined(check, finding))
    return out.getvalue()


COMMAND = (
    "aws sqs receive-message --queue-url https://sqs.eu-west-1.amazonaws.com/123456789012/books-dev-letters"
)
LONG = Finding.warning(
    "3 messages wait in the queue of runs that could not be started by any of the triggers",
    "Look at the first of them, and if there are more of its kind, at these:",
    COMMAND,
)


def test_a_terminal_gets_wrapped_lines_and_a_command_that_can_be_copied() -> None:
    assert printed(LONG, 80).splitlines() == [
        "",
        "The account",
        "  warning  dead letters  3 messages wait in the queue of runs that could not be",
        "                         started by any of the triggers",
        "                         → Look at the first of them, and if there are more of",
        "                           its kind, at these:",
        f"                           {COMMAND}",
    ]


def test_a_pipe_gets_a_line_per_check() -> None:
    lines = printed(LONG, None).splitlines()
    assert lines[2].startswith("  warning  dead letters  3 messages")
    assert lines[2].endswith("triggers")


def winnow(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


def aim(monkeypatch: pytest.MonkeyPatch, *checks: Check, probes: tuple[Check, ...] = (), **more: Any) -> None:
    target = context(**more).target
    monkeypatch.setattr("scripts.commands.aim.at_environment", lambda: target)
    monkeypatch.setattr("scripts.commands.doctor.CHECKS", checks)
    monkeypatch.setattr("scripts.commands.doctor.PROBES", probes)


FINE = check_that(Finding.ok("fine"), "fine", CheckGroup.CLONE)
ODD = check_that(Finding.warning("odd", "Look."), "odd")
BROKEN = check_that(Finding.failed("broken", "Mend it:", "make mend"), "broken", CheckGroup.DEPLOYED)
AWAY = check_that(NotExamined("not deployed yet"), "away", CheckGroup.DEPLOYED)


@pytest.mark.parametrize(
    ("checks", "code", "last"),
    [
        ((FINE,), 0, "1 ok"),
        ((FINE, ODD, AWAY), 0, "1 ok, 1 warning, 1 skipped"),
        ((ODD, ODD), 0, "2 warnings"),
        ((FINE, BROKEN, FINE), 1, "2 ok, 1 failed"),
    ],
)
def test_only_what_failed_makes_the_exit_code_1(
    checks: tuple[Check, ...], code: int, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    aim(monkeypatch, *checks)
    result = winnow("doctor")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (code, last)


def test_a_line_per_check_under_the_heading_of_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    aim(monkeypatch, FINE, ODD, BROKEN, AWAY)
    assert winnow("doctor").stdout.splitlines() == [
        "pipeline books, environment dev, in the account of the test",
        "",
        "This clone",
        "  ok       fine    fine",
        "",
        "The account",
        "  warning  odd     odd",
        "                   → Look.",
        "",
        "What is deployed",
        "  failed   broken  broken",
        "                   → Mend it:",
        "                     make mend",
        "  skipped  away    not deployed yet",
        "",
        "1 ok, 1 warning, 1 failed, 1 skipped",
    ]


def test_checks_that_are_skipped_for_one_reason_share_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    far = check_that(NotExamined("not deployed yet"), "far away", CheckGroup.DEPLOYED)
    aim(monkeypatch, AWAY, far, BROKEN, AWAY)
    assert winnow("doctor").stdout.splitlines()[3:] == [
        "  skipped  2 checks  not deployed yet: away, far away",
        "  failed   broken    broken",
        "                     → Mend it:",
        "                       make mend",
        "  skipped  away      not deployed yet",
        "",
        "1 failed, 3 skipped",
    ]


def test_json_is_one_object_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    aim(monkeypatch, FINE, BROKEN)
    result = winnow("doctor", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "environment": "dev",
        "pipeline": "books",
        "target": "the account of the test",
        "failed": True,
        "checks": [
            {
                "name": "fine",
                "group": "clone",
                "status": "ok",
                "what": "fine",
                "remedy": "",
                "command": "",
            },
            {
                "name": "broken",
                "group": "deployed",
                "status": "failed",
                "what": "broken",
                "remedy": "Mend it:",
                "command": "make mend",
            },
        ],
    }


PROD = stack(StackName="books-prod", outputs={"Environment": "prod"})
TEXTS = stack(StackName="texts-dev", outputs={"PipelineName": "texts"})


@pytest.mark.parametrize(
    ("arguments", "stacks", "line"),
    [
        (
            (),
            [stack(), PROD],
            "--environment or WINNOW_ENVIRONMENT must say which environment is meant, dev or prod, got: nothing",
        ),
        ((), [stack(), TEXTS], "PIPELINE must be one of books, texts"),
        (
            ("--probe",),
            [stack(outputs={"ConfirmChanges": "true"})],
            "changes in dev have to be confirmed and there is no terminal to ask at, so nothing was done; add --yes",
        ),
    ],
)
def test_what_could_mean_two_things_is_refused(
    arguments: tuple[str, ...], stacks: list[dict[str, Any]], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    aim(monkeypatch, FINE, stacks=stacks)
    result = winnow("doctor", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"Error: {line}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "head"),
    [
        (("--environment", "prod"), "pipeline books, environment prod"),
        (("texts",), "pipeline texts, environment dev"),
    ],
)
def test_the_arguments_choose_among_what_is_deployed(
    arguments: tuple[str, ...], head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    aim(monkeypatch, FINE, stacks=[stack(), PROD, TEXTS])
    assert winnow("doctor", *arguments).stdout.startswith(f"{head}, in")


def test_before_the_first_deploy_the_environment_is_that_of_cdk_json(monkeypatch: pytest.MonkeyPatch) -> None:
    aim(monkeypatch, FINE, stacks=[])
    assert winnow("doctor").stdout.startswith("environment dev, in")


@pytest.mark.parametrize("arguments", [("--probe", "--yes"), ()])
def test_probes_run_only_when_they_are_asked_for(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = check_that(Finding.ok("sent"), "alert", CheckGroup.PROBE)
    aim(monkeypatch, FINE, probes=(probe,))
    assert ("sent" in winnow("doctor", *arguments).stdout) == bool(arguments)


def test_the_whole_list_runs_without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = context({"sts.get_caller_identity": NoCredentialsError()}).target
    monkeypatch.setattr("scripts.commands.aim.at_environment", lambda: target)
    monkeypatch.chdir(tmp_path)
    result = winnow("doctor", "--json")
    by_status: dict[str, set[str]] = {}
    for each in json.loads(result.stdout)["checks"]:
        if each["group"] != "clone":
            by_status.setdefault(each["status"], set()).add(each["name"])
    assert result.exit_code == 1
    assert by_status.pop("failed") == {"credentials"}
    assert by_status.pop("ok") == {"slack secret"}  # cdk.json names none
    assert set(by_status) == {"skipped"}


def statuses(examined: DoctorContext, *groups: CheckGroup) -> dict[str, str]:
    """What each check of some groups finds, in words."""
    checks = [each for each in CHECKS if each.group in groups]
    found = [(each.name, examine(each, examined)) for each in checks]
    return {name: f"{finding.status}: {finding.what}" for name, finding in found}


DEPLOYED = [each.name for each in CHECKS if each.group is CheckGroup.DEPLOYED]


def test_before_the_first_deploy_what_is_deployed_is_skipped() -> None:
    found = statuses(context(stacks=[]), CheckGroup.DEPLOYED)
    assert found == dict.fromkeys(DEPLOYED, "skipped: not deployed yet")


def test_after_a_first_deploy_that_failed_only_the_stack_is_examined() -> None:
    failed = {**stack(StackStatus="ROLLBACK_COMPLETE"), "Outputs": []}
    found = statuses(context(stacks=[failed]), CheckGroup.DEPLOYED)
    assert found.pop("stack").startswith("failed: books-dev is ROLLBACK_COMPLETE")
    assert set(found.values()) == {"skipped: its first deploy has not come to an end"}


def test_of_two_stacks_of_one_pipeline_none_is_examined() -> None:
    found = statuses(context(stacks=[stack(), stack(StackName="books-copy")]), CheckGroup.DEPLOYED)
    assert set(found.values()) == {"skipped: there are several stacks; see names, and give PIPELINE"}


def test_without_a_region_what_needs_one_is_skipped() -> None:
    examined = context()
    whole = examined.target.client

    def without_region(service: str) -> Any:
        if service != "sts":  # which needs none
            raise NoRegionError
        return whole(service)

    object.__setattr__(examined.target, "client", without_region)
    found = statuses(examined, CheckGroup.ACCOUNT, CheckGroup.DEPLOYED)
    assert found.pop("credentials").startswith("ok: ")
    assert found.pop("clock").startswith("ok: ")
    assert found.pop("slack secret").startswith("ok: ")  # cdk.json names none
    assert found.pop("executions").startswith("skipped: needs a region; by default AWS allows")
    assert set(found.values()) == {"skipped: needs a region"}


def test_names_of_checks_tell_them_apart() -> None:
    names = [each.name for each in (*CHECKS, *PROBES)]
    assert len(names) == len(set(names))


def test_credentials_say_who_they_are() -> None:
    assert examine(credentials, context()) == Finding.ok(f"account 123456789012, as {ME}")


def test_probes_are_told_before_they_begin_and_asked_for_where_the_environment_wants_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probe = check_that(Finding.ok("seen"), "tiny", CheckGroup.PROBE)
    stacks = [stack(outputs={"ConfirmChanges": "true"})]
    aim(monkeypatch, FINE, probes=(probe,), stacks=stacks)
    result = winnow("doctor", "--probe", "--yes")
    assert result.exit_code == 0
    first, second = result.stderr.splitlines()
    assert first == "dev: probes of books, in the account of the test"
    assert "about 3 minutes" in second
    assert "about 1 cent" in second
    assert "  ok       tiny  seen" in result.stdout


def test_probes_are_not_asked_for_where_nothing_is_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = check_that(NotExamined("not deployed yet"), "tiny", CheckGroup.PROBE)
    aim(monkeypatch, FINE, probes=(probe,), stacks=[])
    result = winnow("doctor", "--probe")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "skipped  tiny  not deployed yet" in result.stdout


def test_no_probe_begins_without_being_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = check_that(AssertionError("begun"), "tiny", CheckGroup.PROBE)
    aim(monkeypatch, FINE, probes=(probe,))
    result = winnow("doctor")
    assert result.exit_code == 0
    assert "tiny" not in result.stdout


def test_whoever_stops_looking_is_told_what_becomes_of_the_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> Any:
        raise KeyboardInterrupt

    aim(monkeypatch, FINE, probes=(FINE,))
    monkeypatch.setattr("scripts.commands.doctor.examine_together", stop)
    result = winnow("doctor", "--probe", "--yes")
    assert result.exit_code == 130
    assert "executions called probe-… that were started end by themselves" in result.stderr
