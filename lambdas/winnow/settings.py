"""The only module that reads the environment of a Lambda."""

from __future__ import annotations

import os
from dataclasses import dataclass

from winnow.core.errors import WinnowError


class SettingsError(WinnowError):
    """An environment variable that this Lambda needs is not set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the stack told this Lambda. A setting that a Lambda does not use may be empty; asking for it then raises."""

    pipeline: str
    ledger_bucket: str
    stage: str
    code_version: str
    state_table: str
    register_table: str
    source_bucket: str
    source_prefix: str
    stages: tuple[str, ...]
    """Names of the pipeline's stages, in order."""
    published_bucket: str
    publication: str
    """Name of the data set that the pipeline publishes."""
    publication_mode: str
    publication_format: str
    pipeline_arn: str
    window_queue_url: str
    """Queue of the windows of arrivals that are to be closed."""
    window_seconds: int
    """From when a window of arrivals opens to when it is closed."""
    alert_topic_arn: str
    slack_secret_arn: str
    environment: str
    memory_mb: int
    trace: bool

    @classmethod
    def from_env(cls) -> Settings:
        """Read the environment.

        Raises:
            SettingsError: the pipeline's name is missing, so this process is not one of Winnow's Lambdas.
        """

        def read(name: str) -> str:
            return os.environ.get(f"WINNOW_{name}", "")

        if not read("PIPELINE"):
            raise SettingsError("WINNOW_PIPELINE is not set: deploy through stacks/, which sets it")
        return cls(
            pipeline=read("PIPELINE"),
            ledger_bucket=read("LEDGER_BUCKET"),
            stage=read("STAGE"),
            code_version=read("CODE_VERSION") or "unknown",
            state_table=read("STATE_TABLE"),
            register_table=read("REGISTER_TABLE"),
            source_bucket=read("SOURCE_BUCKET"),
            source_prefix=read("SOURCE_PREFIX"),
            stages=tuple(name for name in read("STAGES").split(",") if name),
            published_bucket=read("PUBLISHED_BUCKET"),
            publication=read("PUBLICATION"),
            publication_mode=read("PUBLICATION_MODE"),
            publication_format=read("PUBLICATION_FORMAT"),
            pipeline_arn=read("PIPELINE_ARN"),
            window_queue_url=read("WINDOW_QUEUE_URL"),
            window_seconds=int(read("WINDOW_SECONDS") or 0),
            alert_topic_arn=read("ALERT_TOPIC_ARN"),
            slack_secret_arn=read("SLACK_SECRET_ARN"),
            environment=read("ENVIRONMENT"),
            memory_mb=int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")),
            trace=read("TRACE") == "true",
        )

    def need(self, name: str) -> str:
        """A text setting by field name.

        Raises:
            SettingsError: the stack did not set it for this Lambda.
        """
        value = getattr(self, name)
        if not value:
            raise SettingsError(f"WINNOW_{name.upper()} is not set for this Lambda: see stacks/constructs")
        return str(value)
