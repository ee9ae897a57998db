"""What a user meets who builds a pipeline of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aws_cdk import App, Stack
from aws_cdk import aws_lambda as lambda_
from aws_cdk.assertions import Annotations, Match, Template

from stacks.constructs.pipeline import Pipeline
from stacks.constructs.python_function import winnow_variables
from stacks.constructs.source_bucket import SourceBucket
from stacks.constructs.stage import Stage
from stacks.settings import EnvironmentSettings, EnvironmentSettingsError
from tests.stacks.synthesized import Synthesized

if TYPE_CHECKING:
    from constructs import Construct

    from stacks.constructs.stage import StageSpec

WORKER = lambda_.Code.from_inline("def clean(event, context): ...")
SETTINGS = EnvironmentSettings(environment="local", bundle_dependencies=False, tracing=False)


class BooksStack(Stack):
    """About as much as a pipeline of one's own takes."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: EnvironmentSettings,
        stages: list[StageSpec],
        **options: Any,
    ) -> None:
        super().__init__(scope, construct_id)
        source = SourceBucket(self, "Source", settings=settings)
        self.pipeline = Pipeline(
            self, "Books", name="books", settings=settings, source=source, stages=stages, **options
        )


def clean(**options: Any) -> StageSpec:
    return Stage.of("clean", worker="index.clean", **{"code": WORKER, **options})


def synthesize(*stages: StageSpec, settings: EnvironmentSettings = SETTINGS, **options: Any) -> Synthesized:
    app = App(builtin_cloud_formation_validation=False)
    stack = BooksStack(app, "Books", settings=settings, stages=[*stages], **options)
    return Synthesized(dict(Template.from_stack(stack).to_json()))


def test_one_stage_is_a_pipeline() -> None:
    made = synthesize(clean())

    assert made.template["Outputs"]["StageNames"]["Value"] == "clean"
    assert made.definition("BooksMachine")["States"]["Clean"]["Next"] == "SumUp"


def test_a_stage_has_its_own_limits() -> None:
    made = synthesize(
        clean(
            memory_mb=3008, timeout_seconds=120, reserved_concurrency=3, max_tries=2, spend_tries_first=True
        ),
        Stage.of("publish", worker="index.publish", code=WORKER),
    )

    worker, other = made.function("index.clean"), made.function("index.publish")
    policy = made.definition("CleanStage")["States"]["Plan"]["Parameters"]["Payload"]["policy"]
    assert (worker["MemorySize"], worker["Timeout"], worker["ReservedConcurrentExecutions"]) == (3008, 120, 3)
    assert (policy["max_tries"], policy["spend_tries_first"]) == (2, True)
    assert (other["MemorySize"], other["Timeout"]) == (
        SETTINGS.worker_memory_mb,
        SETTINGS.worker_timeout_seconds,
    )
    assert "ReservedConcurrentExecutions" not in other


def test_a_workers_variables_do_not_hide_winnows_own() -> None:
    made = synthesize(clean(environment={"TABLE": "books", "WINNOW_STAGE": "mine"}))

    assert made.variables("index.clean")["TABLE"] == "books"
    assert made.variables("index.clean")["WINNOW_STAGE"] == "clean"


def test_plan_run_has_a_whole_processor_to_list_with() -> None:
    assert synthesize(clean()).function("winnow.handlers.plan_run.handler")["MemorySize"] == 1769


def test_plan_carries_pyarrow_where_a_stage_may_be_given_parquet() -> None:
    plan = "winnow.handlers.plan.handler"

    assert synthesize(clean()).function(plan)["MemorySize"] == 512
    assert synthesize(clean(parquet_input=True)).function(plan)["MemorySize"] == 2048


@pytest.mark.parametrize(("tracer_sdk", "expected"), [(False, "false"), (True, "true")])
def test_functions_import_the_tracer_only_where_configured(*, tracer_sdk: bool, expected: str) -> None:
    settings = EnvironmentSettings(bundle_dependencies=False, tracing=True, tracer_sdk=tracer_sdk)

    assert synthesize(clean(), settings=settings).variables("index.clean")["WINNOW_TRACE"] == expected


def test_without_slack_there_is_no_slack_function() -> None:
    assert "winnow.handlers.slack.handler" not in synthesize(clean()).handlers()


@pytest.mark.parametrize(
    ("worker", "message"),
    [
        (
            "catalogue.adept.adapt",
            r"worker must be a function of a module under .*lambdas, got: 'catalogue\.adept\.adapt'",
        ),
        ("adapt", "worker must be a dotted path to a function, .* got: 'adapt'"),
        ("", "worker must be a dotted path to a function"),
    ],
)
def test_refuses_a_worker_that_is_not_there(worker: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stage.of("adapt", worker=worker)


def test_checks_a_stages_own_limits_like_the_environments() -> None:
    with pytest.raises(
        EnvironmentSettingsError,
        match="worker_timeout_seconds must be a whole number from 1 to 900 seconds, got: 1000",
    ):
        synthesize(clean(timeout_seconds=1000))


def test_refuses_two_stages_of_one_name() -> None:
    with pytest.raises(
        ValueError, match="a stage's name must be its own in the pipeline, got twice: 'clean'"
    ):
        synthesize(clean(), clean())


def test_refuses_a_second_pipeline_in_a_stack() -> None:
    stack = BooksStack(App(), "Books", settings=SETTINGS, stages=[clean()])

    with pytest.raises(ValueError, match="a stack must hold one pipeline, got a second: 'films'"):
        Pipeline(
            stack,
            "Films",
            name="films",
            settings=SETTINGS,
            source=SourceBucket(stack, "FilmSource", settings=SETTINGS),
            stages=[clean()],
        )


def test_takes_what_becomes_of_conflicting_rows_in_plain_words() -> None:
    made = synthesize(clean(), on_conflict="last")
    plan = made.definition("CleanStageMachine")["States"]["Plan"]

    assert plan["Parameters"]["Payload"]["policy"]["on_conflict"] == "last"
    with pytest.raises(ValueError, match="on_conflict must be one of fail, first, last, got: 'newest'"):
        synthesize(clean(), on_conflict="newest")


def test_refuses_a_variable_that_no_function_reads() -> None:
    with pytest.raises(
        ValueError, match=r"variables must be fields of winnow\.settings\.Settings, got: 'ledgerbucket'"
    ):
        winnow_variables({"ledgerbucket": "x"})


@pytest.mark.parametrize(
    ("heard_by", "warnings"),
    [
        ({}, ["nobody hears of failures in dev", "nobody hears in dev when alerting itself is broken"]),
        ({"slack_webhook_secret": "hook"}, ["nobody hears in dev when alerting itself is broken"]),
        ({"watch_emails": ("a@example.org",)}, ["nobody hears of failures in dev"]),
        ({"alert_emails": ("a@example.org",)}, []),
    ],
)
def test_synthesis_warns_where_nobody_would_hear(heard_by: dict[str, Any], warnings: list[str]) -> None:
    app = App(
        context={"aws:cdk:bundling-stacks": []},  # packages come from an index
        builtin_cloud_formation_validation=False,
    )
    settings = EnvironmentSettings(environment="dev", tracing=False, **heard_by)
    stack = BooksStack(app, "Books", settings=settings, stages=[clean()])

    said = [
        str(each.entry.data) for each in Annotations.from_stack(stack).find_warning("*", Match.any_value())
    ]

    unheard = sorted(text for text in said if "nobody hears" in text)
    assert len(unheard) == len(warnings)
    for text, expected in zip(unheard, sorted(warnings), strict=True):
        assert text.startswith(expected)


def test_an_emulator_is_not_asked_who_hears() -> None:
    app = App(builtin_cloud_formation_validation=False)
    stack = BooksStack(app, "Books", settings=SETTINGS, stages=[clean()])

    assert Annotations.from_stack(stack).find_warning("*", Match.string_like_regexp("nobody hears")) == []
