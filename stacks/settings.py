"""How each environment is configured: `cdk.json` to `EnvironmentSettings`, checked field by field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, Self

from winnow.core.contract import MAX_ROW_MB, MOST_TRIES, Policy

if TYPE_CHECKING:
    from collections.abc import Callable

LOG_RETENTION_DAYS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1827, 3653)
"""What CloudWatch Logs accepts."""

COLD_DAYS = 90
"""The least that S3 charges for an object in Glacier Instant Retrieval."""

PLANNING_AND_SETTLING_SECONDS = 9720
"""What an execution of a stage machine needs besides its worker, its backoff and the attempts that follow it, at worst.

From the times and retries in `statemachines/stage.asl.json`; a test adds them up again. Plan 2,132 s: twice 930, and its waits;
twice Settle 5,024 s; twice Register 718 s; twice Alert 960 s; four minutes in which Lambda refuses the worker, and 515 s in
which Step Functions refuses the next attempt; the worker's slack twice, 60 s; and a minute for the machine itself. Plan and Settle
are taken to run out of time twice, as often as the machine lets them, and not to fail late more often than that.
"""

HOURS = {"minute": 1 / 60, "hour": 1, "day": 24}

MOST_HOURS_WITHOUT_SUCCESS = 168
"""An alarm looks back seven days at most."""

LONGEST_WINDOW_SECONDS = 890
"""SQS holds the message that closes a window back for 900 seconds at most, and the last arrivals take some more to be gathered."""

SHORTEST_RECURSION_SECONDS = 600
"""A stage that leaves its retries less than this could as well have none."""


class EnvironmentSettingsError(ValueError):
    """A mistake in the configuration: one line naming field, value and remedy."""

    def __init__(self, name: str, value: object, remedy: str) -> None:
        super().__init__(f"{name} {remedy}, got: {value!r}")
        self.name = name


class Removal(StrEnum):
    """What becomes of data when its stack is deleted."""

    RETAIN = "retain"
    """Buckets, tables and logs stay."""
    DESTROY = "destroy"
    """They go too. S3 deletes no bucket that still holds objects: empty it first."""


class Context(Protocol):
    """The part of a construct's node that context is read from."""

    def try_get_context(self, key: str) -> Any:
        """The value under a key, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSettings:
    """Configuration of one environment. Whatever `cdk.json` leaves out has the value given here."""

    environment: str = "dev"
    """Its name; part of the stack's name, and of every event, metric, alert and command."""
    account: str | None = None
    """AWS account to deploy to; None for the one that the credentials belong to."""
    region: str | None = None
    """AWS region to deploy to; None for the one that the credentials come with."""

    schedule: str | None = None
    """When to run: `rate(1 day)` or `cron(0 2 * * ? *)`, in UTC; None for no schedule."""
    source_prefix: str = ""
    """Only objects under this prefix of the source bucket are records."""
    arrivals_window_seconds: int | None = None
    """Objects that arrive within this many seconds of the first make one run; None to start none."""

    max_tries: int = 4
    """Tries of a record in all."""
    spend_tries_first: bool = False
    """Use up the tries before a first attempt without any success fails its stage."""
    backoff_seconds: int = 30
    """Longest wait before the first retry; doubles with each."""
    max_backoff_seconds: int = 600
    max_row_mb: int = MAX_ROW_MB
    """A longer row of a text list, in MiB unpacked, is a failure of its own: a worker has to hold it."""
    worker_retry_wait_seconds: int = 30
    """Wait before the one more try of a worker whose surroundings failed."""

    worker_timeout_seconds: int = 900
    worker_memory_mb: int = 1024
    worker_reserved_concurrency: int | None = None
    """Concurrency set aside for each worker, which is its limit too; None to share the account's."""
    stage_timeout_seconds: int = 8 * 3600
    """A whole stage, all attempts. Some three hours of it are kept back to settle, at worst."""
    pipeline_timeout_seconds: int = 24 * 3600

    log_retention_days: int = 30
    ledger_retention_days: int = 90
    """How long the evidence, outputs and failures of a run are kept; a replay needs them."""
    ledger_cold_after_days: int | None = None
    """When large objects, which are mostly outputs, move to storage that costs a sixth and is read as fast; None for never."""
    removal: Removal = Removal.RETAIN

    alert_emails: tuple[str, ...] = ()
    """Each is sent a message that asks to confirm the subscription."""
    watch_emails: tuple[str, ...] | None = None
    """Who hears that watching itself is broken, by a topic that does not depend on Slack; null for `alert_emails`."""
    no_success_hours: int | None = None
    """Alert when no run has succeeded for so many hours; null for a pipeline that need not run."""
    slack_webhook_secret: str | None = None
    """Name of the secret in Secrets Manager that holds the webhook's address."""

    confirm_changes: bool = False
    """Have the command line ask before it changes something here: it says where it is, and wants the name typed or `--yes`."""

    bundle_dependencies: bool = True
    """Ship the packages that the functions need. Not for an emulator that has them installed."""
    tracing: bool = True
    """X-Ray for machines and functions: which called which, and how long it took."""
    tracer_sdk: bool = False
    """Also trace within functions, each call to AWS. Its import outweighs all others at every cold start."""
    log_level: str = "INFO"
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if remedy := check(value):
                raise EnvironmentSettingsError(name, value, remedy)
        if self.max_backoff_seconds < self.backoff_seconds:
            remedy = f"must be at least backoff_seconds, which is {self.backoff_seconds}"
            raise EnvironmentSettingsError("max_backoff_seconds", self.max_backoff_seconds, remedy)
        if self.recursion_timeout_seconds < SHORTEST_RECURSION_SECONDS:
            shortest = (
                self.stage_timeout_seconds - self.recursion_timeout_seconds + SHORTEST_RECURSION_SECONDS
            )
            remedy = (
                f"must be at least {shortest}: twice worker_timeout_seconds, worker_retry_wait_seconds, "
                f"{self.longest_backoff_seconds} s of backoff, {PLANNING_AND_SETTLING_SECONDS} s to plan and to settle at "
                f"worst, {SHORTEST_RECURSION_SECONDS} s for retries; raise it, or lower those"
            )
            raise EnvironmentSettingsError("stage_timeout_seconds", self.stage_timeout_seconds, remedy)
        if self.ledger_cold_after_days is not None and self.ledger_retention_days < (
            shortest := self.ledger_cold_after_days + COLD_DAYS
        ):
            remedy = (
                f"must be at least {shortest} where ledger_cold_after_days is {self.ledger_cold_after_days}: S3 charges "
                f"{COLD_DAYS} days of cold storage for what is deleted sooner; raise it, or set ledger_cold_after_days to null"
            )
            raise EnvironmentSettingsError("ledger_retention_days", self.ledger_retention_days, remedy)
        if self.confirm_changes and not self.watchers:
            remedy = (
                "must name somebody where confirm_changes is true, or nobody hears when Slack or the alerts themselves "
                "are broken; add an address to alert_emails or watch_emails"
            )
            raise EnvironmentSettingsError("watch_emails", self.watch_emails, remedy)
        between = hours_between_runs(self.schedule)
        if self.no_success_hours is not None and between and self.no_success_hours <= between:
            remedy = (
                f"must be more than the {between:g} hours between runs of the schedule {self.schedule}, and leave a run time "
                "to finish; raise it, or set it to null"
            )
            raise EnvironmentSettingsError("no_success_hours", self.no_success_hours, remedy)
        if self.tracer_sdk and not self.tracing:
            raise EnvironmentSettingsError("tracer_sdk", self.tracer_sdk, "must be false where tracing is")
        if self.pipeline_timeout_seconds <= self.stage_timeout_seconds:
            remedy = f"must be more than stage_timeout_seconds, which is {self.stage_timeout_seconds}"
            raise EnvironmentSettingsError("pipeline_timeout_seconds", self.pipeline_timeout_seconds, remedy)

    @property
    def watchers(self) -> tuple[str, ...]:
        """E-mail addresses of who hears that watching itself is broken."""
        return self.alert_emails if self.watch_emails is None else self.watch_emails

    @property
    def recursion_timeout_seconds(self) -> int:
        """How long an attempt waits for all that follow it.

        It must be the first to run out of time: a machine's own timeout cannot be caught, so the stage would not be settled.
        """
        first_attempt = 2 * self.worker_timeout_seconds + self.worker_retry_wait_seconds
        return (
            self.stage_timeout_seconds
            - first_attempt
            - self.longest_backoff_seconds
            - PLANNING_AND_SETTLING_SECONDS
        )

    @property
    def longest_backoff_seconds(self) -> int:
        """The longest wait before a retry: the last one, with all of its jitter. An execution waits before it goes deeper."""
        if self.max_tries == 1:
            return 0
        doubled: int = self.backoff_seconds << (self.max_tries - 2)
        return min(self.max_backoff_seconds, doubled)

    @property
    def retry_policy(self) -> Policy:
        """What Plan is told about tries."""
        return Policy(
            max_tries=self.max_tries,
            spend_tries_first=self.spend_tries_first,
            backoff_seconds=self.backoff_seconds,
            max_backoff_seconds=self.max_backoff_seconds,
            max_row_mb=self.max_row_mb,
        )

    @classmethod
    def from_context(cls, context: Context) -> Self:
        """The settings of the environment that the context names (`-c environment=prod`).

        Raises:
            EnvironmentSettingsError: the context has no such environment, or something in it cannot be right.
        """
        environments = context.try_get_context("environments")
        if not isinstance(environments, Mapping) or not environments:
            raise EnvironmentSettingsError(
                "environments", environments, 'must map names to settings, as {"dev": {}}'
            )
        name = context.try_get_context("environment")
        if name not in environments:
            raise EnvironmentSettingsError("environment", name, f"must be one of {', '.join(environments)}")
        values = environments[name]
        if not isinstance(values, Mapping):
            raise EnvironmentSettingsError(f"environments.{name}", values, "must be an object of settings")
        known = {each.name for each in fields(cls)} - {"environment"}
        for key, value in values.items():
            if key not in known:
                remedy = f"is not a setting; known are {', '.join(sorted(known))}"
                raise EnvironmentSettingsError(f"environments.{name}.{key}", value, remedy)
        try:
            return cls(environment=name, **{key: _from_json(key, value) for key, value in values.items()})
        except EnvironmentSettingsError as error:
            error.args = (f"environments.{name}.{error}",)
            raise


def hours_between_runs(schedule: str | None) -> float | None:
    """How far apart a schedule's runs are; None for none, or for a cron expression, which need not be regular."""
    rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", schedule or "")
    return int(rate[1]) * HOURS[rate[2]] if rate else None


def _from_json(name: str, value: object) -> Any:
    """JSON has no tuples and no enumerations; anything unfit is left for the field's check to refuse."""
    if name in ("alert_emails", "watch_emails") and isinstance(value, list):
        return tuple(value)
    if name == "removal" and value in list(Removal):
        return Removal(str(value))
    return value


def _whole(least: int, most: int, unit: str = "") -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        if type(value) is int and least <= value <= most:
            return None
        return f"must be a whole number from {least} to {most}{unit and ' ' + unit}"

    return check


def _optional(inner: Callable[[object], str | None]) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        remedy = None if value is None else inner(value)
        return remedy and f"{remedy}, or null"

    return check


def _matching(pattern: str, remedy: str) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        return None if isinstance(value, str) and re.fullmatch(pattern, value) else remedy

    return check


def _flag(value: object) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _one_of(*choices: object) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        # True == 1, and a log is not kept for True days.
        return (
            None
            if value in choices and not isinstance(value, bool)
            else f"must be one of {', '.join(map(str, choices))}"
        )

    return check


def _schedule(value: object) -> str | None:
    """EventBridge's own rules, so that a mistake does not wait for the deployment."""
    remedy = "must be as rate(1 day), rate(12 hours) or cron(0 2 * * ? *), in UTC"
    if not isinstance(value, str):
        return remedy
    if rate := re.fullmatch(r"rate\(([1-9]\d*) (minute|hour|day)(s?)\)", value):
        return None if (rate[1] == "1") != bool(rate[3]) else f"{remedy}; one is singular, more are plural"
    if cron := re.fullmatch(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) (\S+)\)", value):
        return (
            None
            if (cron[3] == "?") != (cron[5] == "?")
            else f"{remedy}; either day of month or day of week is ?"
        )
    return remedy


def _emails(value: object) -> str | None:
    if isinstance(value, tuple) and all(
        isinstance(each, str) and re.fullmatch(r"[^@\s]+@[^@\s]+", each) for each in value
    ):
        return None
    return "must be a list of e-mail addresses"


def _tags(value: object) -> str | None:
    if isinstance(value, Mapping) and all(
        isinstance(key, str)
        and isinstance(text, str)
        and 0 < len(key) <= 128
        and not key.lower().startswith("aws:")
        for key, text in value.items()
    ):
        return None
    return "must map names (not starting with aws:) to texts"


_CHECKS: dict[str, Callable[[object], str | None]] = {
    "environment": _matching(r"[a-z][a-z0-9-]{0,31}", "must be lower-case letters, digits and -, at most 32"),
    "account": _optional(_matching(r"\d{12}", "must be 12 digits in quotes")),
    "region": _optional(_matching(r"[a-z]{2}(-[a-z]+)+-\d", "must be a region such as eu-west-1")),
    "schedule": _optional(_schedule),
    "source_prefix": _matching(
        r"([^/*?].*)?", "must be empty or the beginning of keys, without a leading / and wildcards"
    ),
    "arrivals_window_seconds": _optional(_whole(1, LONGEST_WINDOW_SECONDS, "seconds")),
    "max_tries": _whole(1, MOST_TRIES),
    "spend_tries_first": _flag,
    "backoff_seconds": _whole(0, 3600, "seconds"),
    "max_backoff_seconds": _whole(0, 24 * 3600, "seconds"),
    "max_row_mb": _whole(1, 1024, "MiB"),
    "worker_retry_wait_seconds": _whole(1, 900, "seconds"),
    "worker_timeout_seconds": _whole(1, 900, "seconds"),
    "worker_memory_mb": _whole(128, 10_240, "MB"),
    "worker_reserved_concurrency": _optional(_whole(1, 10_000)),
    "stage_timeout_seconds": _whole(1, 30 * 24 * 3600, "seconds"),
    "pipeline_timeout_seconds": _whole(1, 60 * 24 * 3600, "seconds"),
    "log_retention_days": _one_of(*LOG_RETENTION_DAYS),
    "ledger_retention_days": _whole(1, 3653, "days"),
    "ledger_cold_after_days": _optional(_whole(1, 3653, "days")),
    "removal": _one_of(*Removal),
    "alert_emails": _emails,
    "watch_emails": _optional(_emails),
    "no_success_hours": _optional(_whole(1, MOST_HOURS_WITHOUT_SUCCESS, "hours")),
    "slack_webhook_secret": _optional(
        _matching(
            r"[A-Za-z0-9/_+=.@-]{1,512}", "must be the name of a secret that holds the webhook's address"
        )
    ),
    "confirm_changes": _flag,
    "bundle_dependencies": _flag,
    "tracing": _flag,
    "tracer_sdk": _flag,
    "log_level": _one_of("DEBUG", "INFO", "WARNING", "ERROR"),
    "tags": _tags,
}
