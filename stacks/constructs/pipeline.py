"""A pipeline: stages in order, and all that it takes to start, watch and prove a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from aws_cdk import Annotations, CfnOutput, Stack
from constructs import Construct

from stacks.constructs.alerts import Alerts
from stacks.constructs.deployment import Deployment
from stacks.constructs.lambda_code import LambdaCode
from stacks.constructs.ledger_bucket import LedgerBucket
from stacks.constructs.log_group import MachineLogGroup
from stacks.constructs.machine import Machine
from stacks.constructs.monitoring import Monitoring
from stacks.constructs.people import People, PipelineParts
from stacks.constructs.probe import Probe
from stacks.constructs.publishing import Publishing
from stacks.constructs.python_function import LISTING_MEMORY_MB, OwnFunction
from stacks.constructs.register import Register
from stacks.constructs.run_closer import RunCloser
from stacks.constructs.run_state_table import RunStateTable
from stacks.constructs.stage import INVOCATION_SLACK_SECONDS, Stage
from stacks.constructs.stage_functions import MAX_LAMBDA_SECONDS, StageFunctions
from stacks.constructs.triggers import Triggers
from statemachines.pipeline import (
    PipelineMachine,
    StageStep,
    check_pipeline_name,
    check_stage_names,
    pascal_case,
)
from winnow.core.contract import OnConflict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stacks.constructs.publication import Publication
    from stacks.constructs.source_bucket import SourceBucket
    from stacks.constructs.stage import StageSpec
    from stacks.settings import EnvironmentSettings


class Pipeline(Construct):
    """Everything that a pipeline is on AWS; one to a stack.

    It creates the ledger, the state table, the failure register, the alerts, a machine and a worker per stage, the
    pipeline machine, its triggers, the run closer, a few alarms and what `winnow doctor --probe` runs, and tells the
    command line where they are by the stack's outputs.

    The first stage's worker may read the source. What else a worker needs the caller has to grant:
    `identifiers.grant_read_write_data(pipeline.stages["mint"].worker)`.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        settings: EnvironmentSettings,
        source: SourceBucket,
        stages: Sequence[StageSpec],
        on_conflict: Literal["fail", "first", "last"] = "fail",
        publish: Publication | None = None,
    ) -> None:
        """Define the pipeline.

        Args:
            scope: the construct that it belongs to.
            construct_id: its id in there.
            name: as on the command line, in the ledger and in alerts.
            settings: of the environment.
            source: every object in it is a record, unless a run is given others.
            stages: in the order in which they run.
            on_conflict: what becomes of rows of a list that repeat an id with other content; docs/sources.md.
            publish: what becomes of the last stage's outputs; docs/publishing.md. None: they stay in the ledger.

        Raises:
            ValueError: a name, or `on_conflict`, cannot be right.
        """
        super().__init__(scope, construct_id)
        check_pipeline_name(name)
        check_stage_names([spec.name for spec in stages], publishes=publish is not None)
        self.name = name
        self.settings = settings
        if on_conflict not in list(OnConflict):
            raise ValueError(f"on_conflict must be one of {', '.join(OnConflict)}, got: {on_conflict!r}")
        self._on_conflict = OnConflict(on_conflict)
        self._deployment = Deployment(
            pipeline=name,
            settings=settings,
            code=LambdaCode(bundled=settings.bundle_dependencies, tracer_sdk=settings.tracer_sdk),
        )
        self.source = source
        self.ledger = LedgerBucket(self, "Ledger", settings=settings)
        self.state = RunStateTable(self, "State", settings=settings)
        self.register = Register(self, "Register", settings=settings)
        self.alerts = Alerts(self, "Alerts", deployment=self._deployment)
        self.functions = StageFunctions(
            self,
            "StageFunctions",
            deployment=self._deployment,
            ledger=self.ledger,
            register=self.register,
            alerts=self.alerts,
            source=source,
            parquet_input=any(spec.parquet_input for spec in stages),
        )
        # One group for all machines, so that a run can be followed through its stages.
        self.executions = MachineLogGroup(self, "Executions", settings=settings)
        self.stages: Mapping[str, Stage] = {spec.name: self._stage(spec) for spec in stages}
        source.grant_read(self.stages[stages[0].name].worker)
        self.plan_run = self._plan_run()
        self.publishing = self._publishing(publish) if publish else None
        self.machine = self._machine()
        self.triggers = self._triggers()
        self.run_closer = self._run_closer()
        self.probe = Probe(
            self,
            "Probe",
            deployment=self._deployment,
            ledger=self.ledger,
            functions=self.functions,
            log_group=self.executions,
        )
        self._monitor()
        # Last, because it goes through everything that there is.
        self.people = self._people()
        self._export()
        self._warn()

    def _stage(self, spec: StageSpec) -> Stage:
        return Stage(
            self,
            f"{pascal_case(spec.name)}Stage",
            spec=spec,
            deployment=self._deployment,
            ledger=self.ledger,
            functions=self.functions,
            log_group=self.executions,
            on_conflict=self._on_conflict,
        )

    def _plan_run(self) -> OwnFunction:
        plan_run = OwnFunction(
            self,
            "PlanRun",
            deployment=self._deployment,
            name="plan_run",
            timeout_seconds=MAX_LAMBDA_SECONDS,
            memory_mb=LISTING_MEMORY_MB,
            variables=self._variables(),
        )
        self.ledger.grant_read(plan_run.function)
        self.ledger.grant_write(plan_run.function)
        self.state.grant_read_write(plan_run.function)
        self.source.grant_list(plan_run.function)
        return plan_run

    def _publishing(self, publication: Publication) -> Publishing:
        return Publishing(
            self,
            "Publishing",
            publication=publication,
            deployment=self._deployment,
            ledger=self.ledger,
            stages=",".join(self.stages),
        )

    def _machine(self) -> Machine:
        steps = [
            StageStep(
                name=name,
                machine_arn=stage.machine.state_machine.state_machine_arn,
                timeout_seconds=stage.timeout_seconds + INVOCATION_SLACK_SECONDS,
            )
            for name, stage in self.stages.items()
        ]
        definition = PipelineMachine(
            name=self.name,
            stages=steps,
            plan_run_function_arn=self.plan_run.function.function_arn,
            plan_run_timeout_seconds=self.plan_run.timeout_seconds + INVOCATION_SLACK_SECONDS,
            timeout_seconds=self.settings.pipeline_timeout_seconds,
            publishing=self.publishing.steps if self.publishing else None,
        )
        machine = Machine(
            self,
            "Machine",
            definition=definition.to_json(),
            invokes=[
                self.plan_run.function,
                *(self.publishing.functions if self.publishing else ()),
            ],
            waits_for_executions=True,
            log_group=self.executions,
            settings=self.settings,
        )
        for stage in self.stages.values():
            stage.machine.grant_start_and_wait(machine)
        # To tell a lock whose run is under way from one that a run left behind.
        machine.grant_describe_executions(self.plan_run.function)
        return machine

    def _triggers(self) -> Triggers:
        triggers = Triggers(
            self,
            "Triggers",
            deployment=self._deployment,
            variables={
                **self._variables(),
                "pipeline_arn": self._arn,
                "alert_topic_arn": self.alerts.topic.topic_arn,
            },
            source=self.source,
        )
        start_run = triggers.start_run.function
        self.machine.grant_start(start_run)
        self.state.grant_read_write(start_run)
        self.ledger.grant_write(start_run)
        # An event that it refuses is nobody's run, so nobody else can tell of it.
        self.alerts.grant_publish(start_run)
        if triggers.close_window:
            close_window = triggers.close_window.function
            self.state.grant_gather(start_run)
            self.state.grant_close_windows(close_window)
            self.ledger.grant_read(close_window)
            self.ledger.grant_write(close_window)
            self.machine.grant_start(close_window)
            self.machine.grant_describe_executions(close_window)
        return triggers

    def _run_closer(self) -> RunCloser:
        closer = RunCloser(
            self,
            "RunCloser",
            deployment=self._deployment,
            variables={
                **self._variables(),
                "pipeline_arn": self._arn,
                "register_table": self.register.table.table_name,
                "alert_topic_arn": self.alerts.topic.topic_arn,
                **(self.publishing.variables if self.publishing else {}),
            },
            machine=self.machine.state_machine,
        )
        if self.publishing:
            # To say what was published, and how old it is.
            self.publishing.published.grant_read(closer.close_run.function)
        # To find the runs whose end no event told of.
        self.machine.grant_find_executions(closer.close_run.function)
        self.ledger.grant_read(closer.close_run.function)
        self.ledger.grant_write(closer.close_run.function)
        self.state.grant_read_write(closer.close_run.function)
        self.register.grant_read_write(closer.close_run.function)
        self.alerts.grant_publish(closer.close_run.function)
        return closer

    def _people(self) -> People:
        parts = PipelineParts(
            source=self.source,
            ledger=self.ledger,
            state=self.state,
            register=self.register,
            alerts=self.alerts,
            machine=self.machine,
            stages=self.stages,
            publishing=self.publishing,
            probe=self.probe,
            everything=self.node.find_all(),
        )
        return People(self, "People", pipeline=parts)

    @property
    def _arn(self) -> str:
        return self.machine.state_machine.state_machine_arn

    def _variables(self) -> dict[str, str]:
        """What the functions around a run are told; PlanRun cannot be told the machine that invokes it."""
        return {
            "ledger_bucket": self.ledger.bucket.bucket_name,
            "source_bucket": self.source.bucket.bucket_name,
            "source_prefix": self.source.prefix,
            "state_table": self.state.table.table_name,
            "stages": ",".join(self.stages),
        }

    def _monitor(self) -> None:
        monitoring = Monitoring(self, "Monitoring", alerts=self.alerts, settings=self.settings)
        monitoring.watch_runs(self.machine.state_machine)
        monitoring.watch_counts(self._deployment)
        if self.publishing:
            monitoring.watch_age(self._deployment, self.publishing.publication)
        monitoring.watch_errors("Alert", self.functions.alert.function, "A stage's alert could not be sent.")
        monitoring.watch_errors(
            "CloseRun", self.run_closer.close_run.function, "A run that ended was not proved."
        )
        monitoring.watch_dead_letters(
            "StartRun", self.triggers.dead_letters, "Something should have started a run."
        )
        monitoring.watch_dead_letters(
            "CloseRun", self.run_closer.dead_letters, "A run that ended was not proved."
        )
        if self.alerts.slack_dead_letters:
            monitoring.watch_dead_letters(
                "Slack", self.alerts.slack_dead_letters, "An alert did not reach Slack."
            )

    def _export(self) -> None:
        """The outputs by which the command line finds everything; their names are fixed, so one pipeline to a stack."""
        stack = Stack.of(self)
        if stack.node.try_find_child("PipelineName"):
            raise ValueError(
                f"a stack must hold one pipeline, got a second: {self.name!r}; give it a stack of its own"
            )
        values = {
            "PipelineName": self.name,
            "PipelineArn": self._arn,
            "Environment": self.settings.environment,
            "ConfirmChanges": str(self.settings.confirm_changes).lower(),
            "StageNames": ",".join(self.stages),
            "LedgerBucket": self.ledger.bucket.bucket_name,
            "SourceBucket": self.source.bucket.bucket_name,
            "StateTable": self.state.table.table_name,
            "RegisterTable": self.register.table.table_name,
            "AlertTopicArn": self.alerts.topic.topic_arn,
            "WatchTopicArn": self.alerts.watch_topic.topic_arn,
            "OperatorPolicyArns": ",".join(each.managed_policy_arn for each in self.people.operator_policies),
            "ViewerPolicyArns": ",".join(each.managed_policy_arn for each in self.people.viewer_policies),
            "ProbeMachineArn": self.probe.stage.state_machine.state_machine_arn,
            # Not …MachineArn: that would be the machine of a stage called probe-errors.
            "ProbeErrorsArn": self.probe.errors.state_machine.state_machine_arn,
        }
        if self.source.prefix:
            values["SourcePrefix"] = self.source.prefix
        if self.settings.arrivals_window_seconds:
            values["ArrivalsWindowSeconds"] = str(self.settings.arrivals_window_seconds)
        if self.publishing:
            values["PublishedBucket"] = self.publishing.published.bucket.bucket_name
            values["PublicationName"] = self.publishing.publication.name
            values["PublicationMode"] = self.publishing.publication.mode
        for name, stage in self.stages.items():
            values[f"{pascal_case(name)}WorkerName"] = stage.worker.function_name
            values[f"{pascal_case(name)}CodeVersion"] = stage.code_version
            values[f"{pascal_case(name)}MachineArn"] = stage.machine.state_machine.state_machine_arn
        for key, value in values.items():
            CfnOutput(stack, key, value=value)

    def _warn(self) -> None:
        """Say at synthesis where nobody would hear. An emulator, which no e-mail leaves, is not asked."""
        settings = self.settings
        if not settings.bundle_dependencies:
            return
        if not settings.alert_emails and not settings.slack_webhook_secret:
            Annotations.of(self).add_warning_v2(
                "winnow:alerts-unheard",
                f"nobody hears of failures in {settings.environment}: set alert_emails or slack_webhook_secret",
            )
        if not settings.watchers:
            Annotations.of(self).add_warning_v2(
                "winnow:watching-unheard",
                f"nobody hears in {settings.environment} when alerting itself is broken: set alert_emails or watch_emails",
            )
