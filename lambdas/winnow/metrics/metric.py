"""What is counted. Apart from the emitting of it, so that who only counts does not import a logger."""

from __future__ import annotations

from enum import StrEnum

from winnow.core.contract import Kind


class Metric(StrEnum):
    """Every metric's name. Those that end in `Seconds` are durations; all others are counts."""

    RECORDS_IN = "RecordsIn"
    SUCCEEDED = "Succeeded"
    SKIPPED = "Skipped"
    FAILED_PERMANENT = "FailedPermanent"
    FAILED_TRANSIENT = "FailedTransient"
    FAILED_CRASHED = "FailedCrashed"
    FAILED_MISSING = "FailedMissing"
    RETRIED = "Retried"
    """Records handed to another try. Never alerted; a rising share of `RecordsIn` is an alarm."""
    TRIES = "Tries"
    DUPLICATES = "Duplicates"
    """Rows, and outputs, that repeat another one's id and content."""
    SUPERSEDED = "Superseded"
    """Rows that repeat an id with other content, and were left out because the pipeline is set to."""
    CONFLICTS = "Conflicts"
    """Records that failed because their id, or their output's, was taken."""
    WARNINGS = "Warnings"
    EVIDENCE_REFUSED = "EvidenceRefused"
    """Claims that the journal's reader did not believe: a worker that lied, or a foreign batch."""
    TOTAL_FAILURE = "TotalFailure"

    FAILURES_NEW = "FailuresNew"
    """Failures of an alert that no earlier alert named."""
    FAILURES_KNOWN = "FailuresKnown"
    RESOLVED = "Resolved"
    """Failures of earlier runs whose records have succeeded."""
    OPEN_FAILURES = "OpenFailures"
    """Of a stage, when one of its runs was registered: neither resolved nor waived."""
    REGISTER_BEHIND = "RegisterBehind"
    """The failure register could not take what the ledger has. Closing the run tries again."""

    RUN_STARTED = "RunStarted"
    RUN_DUPLICATE = "RunDuplicate"
    """Events that start nothing because a run has them: delivered again, or the arrival of what `winnow run` uploaded."""
    RUN_REFUSED = "RunRefused"
    """Events that can start nothing, however often they are delivered."""
    RUN_STEPPED_ASIDE = "RunSteppedAside"
    RUN_SUCCEEDED = "RunSucceeded"
    RUN_FAILED = "RunFailed"
    RUN_SECONDS = "RunSeconds"
    RUN_SWEPT = "RunSwept"
    """Runs that were closed late: no event told of their end, or closing them had failed."""
    RUN_PUBLISHED = "RunPublished"
    """Runs that moved the pointer of what is published."""
    RUN_NOT_PUBLISHED = "RunNotPublished"
    """Runs that succeeded in every stage and did not: held, overtaken by a later run, or stopped by the gate."""
    PUBLISHED_AGE_SECONDS = "PublishedAgeSeconds"
    """Since the run began that made the current version; measured every hour."""
    RECORDS_LOST = "RecordsLost"
    CONSERVATION_VIOLATION = "ConservationViolation"

    QUALITY_WARNED = "QualityWarned"
    """Rules of the gate that a version violates and is published all the same."""
    QUALITY_BLOCKED = "QualityBlocked"
    """Rules of the gate that a version violates, or that cannot be evaluated, so that it is not published."""

    ALERT_SENT = "AlertSent"
    ALERT_FAILED = "AlertFailed"
    """SNS did not take an alert. The run goes on; closing the run tries again."""
    SLACK_DELIVERED = "SlackDelivered"
    SLACK_FAILED = "SlackFailed"
    WATCHING_FAILED = "WatchingFailed"
    """A step of closing a run (proof, report, lock) failed; the run itself is untouched."""

    @classmethod
    def failed(cls, kind: Kind) -> Metric:
        """The metric that counts records failed with a kind."""
        return _FAILED[kind]

    @property
    def unit(self) -> str:
        return "Seconds" if self.endswith("Seconds") else "Count"


_FAILED = {
    Kind.PERMANENT: Metric.FAILED_PERMANENT,
    Kind.TRANSIENT: Metric.FAILED_TRANSIENT,
    Kind.CRASHED: Metric.FAILED_CRASHED,
    Kind.MISSING: Metric.FAILED_MISSING,
}
