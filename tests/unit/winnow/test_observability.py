from __future__ import annotations

import ast
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from winnow.core.contract import Kind
from winnow.core.errors import StageInputError
from winnow.metrics import watch as observability
from winnow.metrics.watch import Metric, Watch, get_logger, watched
from winnow.settings import Settings

WINNOW = Path(observability.__file__).parents[1]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("WINNOW_PIPELINE", "catalogue")
    monkeypatch.setenv("WINNOW_ENVIRONMENT", "prod")
    return Settings.from_env()


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


class TestMetrics:
    def test_are_emitted_once_with_environment_pipeline_and_stage_as_the_only_dimensions(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with watched(settings, stage="adapt", run_id="01J") as watch:
            watch.count(Metric.RECORDS_IN, 60)
            watch.count(Metric.RECORDS_IN, 2)
            watch.count(Metric.RUN_SECONDS, 1.5)
        (emf,) = printed(capsys)
        (directive,) = emf["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == "Winnow"
        assert directive["Dimensions"] == [["environment", "pipeline", "stage"]]
        assert directive["Metrics"] == [
            {"Name": "RecordsIn", "Unit": "Count"},
            {"Name": "RunSeconds", "Unit": "Seconds"},
        ]
        assert (emf["environment"], emf["pipeline"], emf["stage"]) == ("prod", "catalogue", "adapt")
        assert emf["run_id"] == "01J"
        assert emf["RecordsIn"] == [62]

    def test_of_a_whole_run_have_environment_and_pipeline_as_dimensions(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with watched(settings) as watch:
            watch.count(Metric.RUN_SUCCEEDED)
        (emf,) = printed(capsys)
        assert emf["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["environment", "pipeline"]]

    def test_are_emitted_when_the_invocation_fails(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fails() -> None:
            with watched(settings) as watch:
                watch.count(Metric.ALERT_FAILED)
                raise OSError("down")

        with pytest.raises(OSError, match="down"):
            fails()
        assert printed(capsys)[-1]["AlertFailed"] == [1]

    def test_nothing_counted_prints_nothing(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with watched(settings):
            pass
        assert printed(capsys) == []

    def test_keep_their_invocations_apart(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for stage in ("adapt", "mint"):
            with watched(settings, stage=stage, run_id=stage) as watch:
                watch.count(Metric.SKIPPED)
        assert [(emf["stage"], emf["run_id"]) for emf in printed(capsys)] == [
            ("adapt", "adapt"),
            ("mint", "mint"),
        ]

    def test_law_6_what_cannot_be_emitted_breaks_nothing(
        self, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**_: object) -> None:
            raise RuntimeError("no metrics today")

        monkeypatch.setattr(observability, "AmazonCloudWatchEMFProvider", refuse)
        with watched(settings) as watch:
            watch.count(Metric.SUCCEEDED, 3)
        (line,) = printed(capsys)
        assert (line["message"], line["error"]) == ("metrics were not emitted", "no metrics today")

    def test_law_6_a_broken_standard_output_breaks_nothing(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Broken:
            def write(self, _: str) -> int:
                raise OSError("pipe")

            def flush(self) -> None:
                raise OSError("pipe")

        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", Broken())
            with watched(settings, run_id="01J") as watch:
                watch.count(Metric.SUCCEEDED)

    def test_are_counted_by_watches_that_know_their_environment(self) -> None:
        """Only `watched` makes them, from the Lambda's settings; and the tests' own worker, which emits none."""
        makers = {
            path.relative_to(WINNOW).as_posix()
            for path in WINNOW.rglob("*.py")
            if any(
                isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Watch"
                for node in ast.walk(ast.parse(path.read_text()))
            )
        }
        assert makers == {"metrics/watch.py", "testing/worker_run.py"}

    def test_name_every_kind_of_failure(self) -> None:
        assert {kind: Metric.failed(kind).value for kind in Kind} == {
            Kind.PERMANENT: "FailedPermanent",
            Kind.TRANSIENT: "FailedTransient",
            Kind.CRASHED: "FailedCrashed",
            Kind.MISSING: "FailedMissing",
        }


class TestLogs:
    def test_carry_the_ids_for_as_long_as_the_invocation_lasts(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        context = SimpleNamespace(aws_request_id="request-1")
        with watched(settings, stage="adapt", context=context) as watch:
            watch.identify(run_id="01J")
            get_logger().info("inside", record_id="a")
        get_logger().info("after")
        inside, after = printed(capsys)
        assert {
            name: inside[name] for name in ("pipeline", "run_id", "stage", "record_id", "request_id")
        } == {
            "pipeline": "catalogue",
            "run_id": "01J",
            "stage": "adapt",
            "record_id": "a",
            "request_id": "request-1",
        }
        assert not {"run_id", "stage", "record_id", "request_id"} & set(after)

    def test_say_an_error_of_our_own_in_one_line_without_a_traceback(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(StageInputError), watched(settings, run_id="01J"):
            raise StageInputError("records", [], 'an empty list is not "all"')
        (line,) = printed(capsys)
        assert line["message"] == 'records: an empty list is not "all", got: []'
        assert (line["level"], line["error_type"], line["run_id"]) == ("ERROR", "StageInputError", "01J")
        assert "exception" not in line

    def test_show_the_traceback_of_any_other_error(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(ZeroDivisionError), watched(settings):
            _ = 1 / 0
        (line,) = printed(capsys)
        assert line["exception_name"] == "ZeroDivisionError"


class TestTraces:
    def test_are_made_only_where_configuration_asks_for_them(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        entered: list[str] = []

        class Segment:
            def __enter__(self) -> None:
                entered.append("in")

            def __exit__(self, *_: object) -> None:
                entered.append("out")

        tracer = SimpleNamespace(provider=SimpleNamespace(in_subsegment=lambda name: Segment()))  # noqa: ARG005
        monkeypatch.setattr(observability, "_tracer", lambda _: tracer)
        with watched(settings):
            pass
        assert entered == []
        with watched(replace(settings, trace=True)):
            pass
        assert entered == ["in", "out"]

    def test_law_6_a_tracer_that_fails_breaks_nothing(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: str) -> None:
            raise RuntimeError("no daemon")

        monkeypatch.setattr(observability, "_tracer", refuse)
        with watched(replace(settings, trace=True)) as watch:
            watch.count(Metric.SUCCEEDED)


def test_counts_from_many_threads_add_up() -> None:
    watch = Watch(environment="test", pipeline="catalogue")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: watch.count(Metric.SUCCEEDED), range(4_000)))
    assert watch._sums == {Metric.SUCCEEDED: 4_000}
