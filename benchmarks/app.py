"""The CDK app that is measured: a pipeline of Winnow's own constructs, with three trivial workers.

cdk synth --app "python -m benchmarks.app" -c environment=local
"""

from __future__ import annotations

from dataclasses import replace

import aws_cdk as cdk

from benchmarks.workers import PIPELINE, STAGES
from stacks.constructs.lambda_code import LambdaCode
from stacks.constructs.pipeline import Pipeline
from stacks.constructs.source_bucket import SourceBucket
from stacks.constructs.stage import Stage
from stacks.settings import EnvironmentSettings

WORKER_TIMEOUT_SECONDS = 900


class WeatherStack(cdk.Stack):
    """Readings → checked → converted → labelled."""

    def __init__(self, scope: cdk.App, construct_id: str, *, settings: EnvironmentSettings) -> None:
        super().__init__(scope, construct_id)
        # The workers are found through the virtual environment; the asset brings the runtime.
        code = LambdaCode(bundled=False).worker(None)
        Pipeline(
            self,
            "Weather",
            name=PIPELINE,
            settings=settings,
            source=SourceBucket(self, "Source", settings=settings),
            stages=[Stage.of(name, worker=f"benchmarks.workers.{name}", code=code) for name in STAGES],
        )


def main() -> None:
    app = cdk.App()
    settings = replace(
        EnvironmentSettings.from_context(app.node),
        worker_timeout_seconds=WORKER_TIMEOUT_SECONDS,
        slack_webhook_secret=None,
    )
    WeatherStack(app, PIPELINE, settings=settings)
    app.synth()


if __name__ == "__main__":
    main()
