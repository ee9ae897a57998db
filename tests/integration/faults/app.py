"""The CDK app of the fault tests: the example as it is deployed, and a pipeline of workers that misbehave.

    cdk deploy --all --app "python -m tests.integration.faults.app" -c environment=local -c proxy=http://127.0.0.1:1234 -c hasty_seconds=10 -c window_seconds=30

Both are made of Winnow's own constructs, with the settings that emulators get; only times and memory are scaled down.
"""

from __future__ import annotations

from dataclasses import replace

import aws_cdk as cdk

from stacks.catalogue_stack import CatalogueStack
from stacks.constructs.lambda_code import LambdaCode
from stacks.constructs.pipeline import Pipeline
from stacks.constructs.source_bucket import SourceBucket
from stacks.constructs.stage import Stage
from stacks.settings import EnvironmentSettings

WORKERS = "tests.integration.faults.workers"

PIPELINE = "faults"
LIE, PATIENT, HASTY, COLLECT = "lie", "patient", "hasty", "collect"
"""Its stages, in order. A run starts at the one whose worker it is about; those after it hand on what they are given."""

PATIENT_SECONDS = 600
"""The timeout of all workers but the hasty one, which is to run into its own: a busy machine does not make them reach it."""
WORKER_MEMORY_MB = 256


class FaultsStack(cdk.Stack):
    """One pipeline in which anything can be made to go wrong.

    What Settle and the workers that misbehave say to S3, and Alert to SNS, goes through a proxy that refuses what a
    test wants refused.
    """

    def __init__(
        self,
        scope: cdk.App,
        construct_id: str,
        *,
        settings: EnvironmentSettings,
        proxy: str,
        hasty_seconds: int,
    ) -> None:
        super().__init__(scope, construct_id)
        # The workers are found through the virtual environment; the asset brings the runtime.
        code = LambdaCode(bundled=False).worker(None)
        through_proxy = {"AWS_ENDPOINT_URL_S3": proxy}
        misbehave = f"{WORKERS}.misbehave.misbehave"
        pipeline = Pipeline(
            self,
            "Faults",
            name=PIPELINE,
            settings=settings,
            source=SourceBucket(self, "Source", settings=settings),
            stages=[
                Stage.of(LIE, worker=f"{WORKERS}.lie.handler", code=code),
                Stage.of(PATIENT, worker=misbehave, code=code, environment=through_proxy),
                Stage.of(
                    HASTY,
                    worker=misbehave,
                    code=code,
                    environment=through_proxy,
                    timeout_seconds=hasty_seconds,
                ),
                Stage.of(COLLECT, worker=f"{WORKERS}.pass_on.pass_on", code=code, parquet_input=True),
            ],
        )
        pipeline.functions.settle.function.add_environment("AWS_ENDPOINT_URL_S3", proxy)
        pipeline.functions.alert.function.add_environment("AWS_ENDPOINT_URL_SNS", proxy)


def main() -> None:
    app = cdk.App()
    settings = EnvironmentSettings.from_context(app.node)
    CatalogueStack(app, f"catalogue-{settings.environment}", settings=settings)
    scaled = replace(
        settings,
        worker_timeout_seconds=PATIENT_SECONDS,
        worker_memory_mb=WORKER_MEMORY_MB,
        arrivals_window_seconds=int(app.node.get_context("window_seconds")),
    )
    FaultsStack(
        app,
        "faults",
        settings=scaled,
        proxy=app.node.get_context("proxy"),
        hasty_seconds=int(app.node.get_context("hasty_seconds")),
    )
    app.synth()


if __name__ == "__main__":
    main()
