"""What an environment costs a month: the numbers of docs/deploying.md, from the table of prices and from what `./scripts/bench cost` counts."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.deployed import prices

NIGHTS = 30
GB = 1e9

TRANSITIONS = 24
S3_WRITES = 50
S3_READS = 115
INVOCATIONS = 14
DYNAMODB_REQUESTS = 56
OWN_GB_SECONDS = 2.5
LOG_BYTES = 9_901
METRICS = 58
"""Of a run of three stages, as counted: what it takes however few its records are. Metrics each with its dimensions."""

PUBLISHING_METRICS = 1
"""What a run that publishes adds: `RunPublished`."""

HOURLY_METRICS = 1
"""Whether or not anything runs."""

FLUSH_SECONDS = 5
"""Between two segments of a journal, each with a segment of outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nightly:
    """An environment whose pipeline of three stages runs once a night."""

    alarms: int
    records: int = 200_000
    stages: int = 3
    worker_seconds: int = 900
    """Of each stage."""
    worker_gb: float = 1.0
    output_bytes: int = 1_000
    """Of a record in each stage, compressed."""
    hours: int = 2
    """In which metrics get a value, of 24."""
    retention_days: int = 365
    cold_after_days: int = 30

    @property
    def idle(self) -> float:
        """Nothing runs: the alerts' key, alarms, the webhook's secret, the age of what is published, measured every hour."""
        return (
            prices.KEY_MONTH
            + self.alarms * prices.ALARM_MONTH
            + prices.SECRET_MONTH
            + HOURLY_METRICS * prices.METRIC_MONTH
        )

    @property
    def overhead(self) -> float:
        """What a run takes on top of the workers' own time."""
        flushes = self.stages * self.worker_seconds / FLUSH_SECONDS
        return NIGHTS * (
            TRANSITIONS * prices.STATE_TRANSITION
            + (S3_WRITES + 2 * flushes) * prices.S3_WRITE
            + (S3_READS + 2 * flushes) * prices.S3_READ
            + INVOCATIONS * prices.LAMBDA_REQUEST
            + OWN_GB_SECONDS * prices.LAMBDA_GB_SECOND
            + DYNAMODB_REQUESTS * prices.DYNAMODB_WRITE
            + LOG_BYTES / GB * prices.LOGS_GB
        )

    @property
    def workers(self) -> float:
        """The workers' own time."""
        return NIGHTS * self.stages * self.worker_seconds * self.worker_gb * prices.LAMBDA_GB_SECOND

    @property
    def metrics(self) -> float:
        """Custom metrics, paid for in the hours in which they get a value."""
        return self.metrics_all_day * self.hours / 24

    @property
    def metrics_all_day(self) -> float:
        """The same where something runs each hour."""
        return (METRICS + PUBLISHING_METRICS) * prices.METRIC_MONTH

    @property
    def storage(self) -> float:
        """The ledger's outputs, once the retention is over."""
        days = min(self.cold_after_days, self.retention_days)
        cold = self._gb_of(self.retention_days - days)
        moved = NIGHTS * self.stages * self.worker_seconds / FLUSH_SECONDS if cold else 0
        return (
            self._gb_of(days) * prices.S3_GB_MONTH
            + cold * prices.S3_COLD_GB_MONTH
            + moved * prices.S3_COLD_TRANSITION
        )

    @property
    def storage_uncooled(self) -> float:
        """The same without cold storage."""
        return self._gb_of(self.retention_days) * prices.S3_GB_MONTH

    def _gb_of(self, days: int) -> float:
        return days * self.records * self.stages * self.output_bytes / GB
