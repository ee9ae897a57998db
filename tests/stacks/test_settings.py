from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from stacks.constructs.log_group import RETENTION
from stacks.settings import (
    _CHECKS,
    LOG_RETENTION_DAYS,
    PLANNING_AND_SETTLING_SECONDS,
    EnvironmentSettings,
    EnvironmentSettingsError,
    Removal,
)
from tests.stacks.conftest import Node

if TYPE_CHECKING:
    from collections.abc import Callable


def read(values: dict[str, Any]) -> EnvironmentSettings:
    return EnvironmentSettings.from_context(Node({"environment": "dev", "environments": {"dev": values}}))


@pytest.mark.parametrize("environment", ["local", "dev", "prod"])
def test_reads_every_environment_of_cdk_json(
    configured: Callable[[str], EnvironmentSettings], environment: str
) -> None:
    assert configured(environment).environment == environment


def test_an_environment_may_leave_everything_out() -> None:
    assert read({}) == EnvironmentSettings(environment="dev")


def test_reads_json_into_typed_values() -> None:
    settings = read({"removal": "destroy", "alert_emails": ["a@example.org"], "tags": {"team": "data"}})

    assert settings.removal is Removal.DESTROY
    assert settings.alert_emails == ("a@example.org",)
    assert settings.tags == {"team": "data"}


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("account", 123456789012, "must be 12 digits in quotes, or null"),
        ("account", "1234", "must be 12 digits"),
        ("alert_emails", "a@example.org", "must be a list of e-mail addresses"),
        ("alert_emails", ["nobody"], "must be a list of e-mail addresses"),
        ("watch_emails", ["nobody"], "must be a list of e-mail addresses, or null"),
        ("arrivals_window_seconds", 891, "must be a whole number from 1 to 890 seconds, or null"),
        ("backoff_seconds", -1, "must be a whole number from 0"),
        ("backoff_seconds", 1.5, "must be a whole number"),
        ("bundle_dependencies", "false", "must be true or false"),
        ("ledger_cold_after_days", 0, "must be a whole number from 1 to 3653 days, or null"),
        ("ledger_retention_days", 0, "must be a whole number from 1 to 3653 days"),
        ("log_level", "debug", "must be one of DEBUG, INFO, WARNING, ERROR"),
        ("log_retention_days", 15, "must be one of 1, 3, 5, 7, 14, 30"),
        ("log_retention_days", True, "must be one of 1, 3"),
        ("max_tries", "4", "must be a whole number from 1 to 20"),
        ("max_tries", True, "must be a whole number"),
        ("no_success_hours", 169, "must be a whole number from 1 to 168 hours, or null"),
        ("region", "Ireland", "must be a region such as eu-west-1, or null"),
        ("removal", "delete", "must be one of retain, destroy"),
        ("schedule", "every day", r"must be as rate\(1 day\)"),
        ("schedule", "rate(1 days)", "one is singular"),
        ("schedule", "rate(2 day)", "more are plural"),
        ("schedule", "cron(0 2 * * *)", r"must be as rate\(1 day\)"),
        ("schedule", "cron(0 2 * * * *)", r"either day of month or day of week is \?"),
        ("slack_webhook_secret", "https://hooks", "must be the name of a secret"),
        ("source_prefix", "/tei", "without a leading /"),
        ("spend_tries_first", None, "must be true or false"),
        ("tags", {"aws:team": "x"}, "must map names"),
        ("tags", {"team": 1}, "must map names"),
        ("tracing", 1, "must be true or false"),
        ("worker_memory_mb", 64, "must be a whole number from 128 to 10240 MB"),
        ("worker_reserved_concurrency", 0, "must be a whole number from 1"),
        ("worker_timeout_seconds", 901, "must be a whole number from 1 to 900 seconds"),
    ],
)
def test_a_mistake_is_one_line_with_field_value_and_remedy(name: str, value: object, remedy: str) -> None:
    with pytest.raises(EnvironmentSettingsError) as raised:
        read({name: value})

    message = str(raised.value)
    assert message.startswith(f"environments.dev.{name} ")
    assert re.search(remedy, message)
    assert message.endswith(f"got: {[*value] and tuple(value) if isinstance(value, list) else value!r}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"backoff_seconds": 60, "max_backoff_seconds": 30},
            "max_backoff_seconds must be at least backoff_seconds, which is 60",
        ),
        (
            {"stage_timeout_seconds": 3600},
            r"stage_timeout_seconds must be at least 12270: twice worker_timeout_seconds, .* got: 3600",
        ),
        (
            {"schedule": "rate(1 day)", "no_success_hours": 24},
            r"no_success_hours must be more than the 24 hours between runs of the schedule rate\(1 day\), .*, got: 24",
        ),
        (
            {"schedule": "rate(90 minutes)", "no_success_hours": 1},
            r"no_success_hours must be more than the 1.5 hours between runs",
        ),
        (
            {"confirm_changes": True},
            "watch_emails must name somebody where confirm_changes is true, .*, got: None",
        ),
        (
            {"confirm_changes": True, "alert_emails": ["a@example.org"], "watch_emails": []},
            r"watch_emails must name somebody where confirm_changes is true, .*, got: \(\)",
        ),
        (
            {"pipeline_timeout_seconds": 28_800},
            "pipeline_timeout_seconds must be more than stage_timeout_seconds",
        ),
        (
            {"ledger_retention_days": 119, "ledger_cold_after_days": 30},
            r"ledger_retention_days must be at least 120 where ledger_cold_after_days is 30: .* got: 119",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvironmentSettingsError, match=message):
        read(values)


def test_names_a_setting_that_does_not_exist() -> None:
    with pytest.raises(
        EnvironmentSettingsError,
        match=r"environments\.dev\.max_retries is not a setting; known are account, .*got: 3",
    ):
        read({"max_retries": 3})


def test_the_environment_names_itself() -> None:
    with pytest.raises(EnvironmentSettingsError, match=r"environments\.dev\.environment is not a setting"):
        read({"environment": "prod"})


@pytest.mark.parametrize("environments", [None, [], {}, "dev"])
def test_needs_environments(environments: object) -> None:
    with pytest.raises(EnvironmentSettingsError, match="environments must map names to settings"):
        EnvironmentSettings.from_context(Node({"environment": "dev", "environments": environments}))


def test_lists_the_environments_there_are() -> None:
    with pytest.raises(
        EnvironmentSettingsError, match="environment must be one of dev, prod, got: 'production'"
    ):
        EnvironmentSettings.from_context(
            Node({"environment": "production", "environments": {"dev": {}, "prod": {}}})
        )


def test_the_recursion_runs_out_of_time_before_its_stage() -> None:
    settings = EnvironmentSettings(
        worker_timeout_seconds=60, worker_retry_wait_seconds=30, stage_timeout_seconds=20_000
    )

    assert settings.recursion_timeout_seconds == 20_000 - 150 - 120 - PLANNING_AND_SETTLING_SECONDS


@pytest.mark.parametrize("schedule", [None, "cron(0 2 * * ? *)", "rate(3 hours)"])
def test_a_dead_man_may_be_set_for_any_schedule_that_leaves_it_time(schedule: str | None) -> None:
    assert read({"schedule": schedule, "no_success_hours": 4}).no_success_hours == 4


@pytest.mark.parametrize(
    ("values", "watchers"),
    [
        ({"alert_emails": ["a@example.org"]}, ("a@example.org",)),
        ({"alert_emails": ["a@example.org"], "watch_emails": ["b@example.org"]}, ("b@example.org",)),
        ({"alert_emails": ["a@example.org"], "watch_emails": []}, ()),
        ({"watch_emails": ["b@example.org"]}, ("b@example.org",)),
        ({}, ()),
    ],
)
def test_who_hears_alerts_hears_of_broken_watching_unless_others_are_named(
    values: dict[str, Any], watchers: tuple[str, ...]
) -> None:
    assert read(values).watchers == watchers


def test_every_log_retention_is_one_that_cdk_knows() -> None:
    assert tuple(RETENTION) == LOG_RETENTION_DAYS


def test_every_setting_but_the_name_is_checked() -> None:
    assert set(_CHECKS) == {field.name for field in fields(EnvironmentSettings)}
