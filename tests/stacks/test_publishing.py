"""What a pipeline that publishes is made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aws_cdk import App, Validations
from cdk_nag import AwsSolutionsChecks

from stacks.constructs.publication import Publication
from stacks.settings import EnvironmentSettings, Removal
from tests.stacks.synthesized import Synthesized, allowed, statements
from tests.stacks.test_constructs import BooksStack, clean, synthesize
from winnow.metrics.watch import Metric, Watch
from winnow.quality.rules import NullShare

if TYPE_CHECKING:
    from pathlib import Path

RULE = NullShare("title", at_most=0.01, reason="a work without a title cannot be found")
BUILD, CHECK, PUBLISH = (
    f"winnow.handlers.{name}.handler" for name in ("build_version", "check_quality", "publish")
)
CLOSE = "winnow.handlers.close_run.handler"


def works(**options: Any) -> Publication:
    return Publication("works", **{"mode": "merge", **options})


@pytest.fixture(scope="module")
def books() -> Synthesized:
    """With all that a publication can have."""
    publication = works(quality=[RULE], stale_after_hours=48, expired_after_hours=240)
    return synthesize(clean(), publish=publication)


@pytest.fixture(scope="module")
def bucket(books: Synthesized) -> str:
    return f"<{books.the('AWS::S3::Bucket', 'Published')}.Arn>"


def test_a_pipeline_without_a_publication_has_nothing_of_it() -> None:
    made = synthesize(clean())

    assert not [name for name in made.template["Resources"] if "Publish" in name]
    assert not [name for name in made.template["Outputs"] if "Publi" in name]
    assert not {BUILD, CHECK, PUBLISH} & made.handlers().keys()


def test_the_machine_publishes_after_its_last_stage_under_the_rules_given(books: Synthesized) -> None:
    states = books.definition("BooksMachine")["States"]

    assert states["Clean"]["Next"] == "BuildVersion"
    assert states["CheckQuality"]["Parameters"]["Payload"]["rules"] == [RULE.to_json()]
    for state, handler in {"BuildVersion": BUILD, "CheckQuality": CHECK, "Publish": PUBLISH}.items():
        function = books.handlers()[handler]
        assert states[state]["Parameters"]["FunctionName"] == f"<{function}.Arn>"
        assert states[state]["TimeoutSeconds"] > books.function(handler)["Timeout"]
        invoked = allowed(books.machine_permissions("BooksMachine"), "lambda:InvokeFunction")
        assert f"<{function}.Arn>" in invoked


def test_without_rules_there_is_no_gate() -> None:
    made = synthesize(clean(), publish=works())

    assert CHECK not in made.handlers()
    assert made.definition("BooksMachine")["States"]["BuildVersion"]["Next"] == "Publish"


def test_functions_are_told_what_is_published_and_where(books: Synthesized) -> None:
    where = {"Ref": books.the("AWS::S3::Bucket", "Published")}
    for handler in (BUILD, CHECK, PUBLISH):
        variables = books.variables(handler)
        assert variables["WINNOW_PUBLISHED_BUCKET"] == where
        assert variables["WINNOW_PUBLICATION"] == "works"
        assert (variables["WINNOW_PUBLICATION_MODE"], variables["WINNOW_PUBLICATION_FORMAT"]) == (
            "merge",
            "ndjson",
        )
        assert variables["WINNOW_STAGES"] == "clean"
    assert books.variables(CLOSE)["WINNOW_PUBLISHED_BUCKET"] == where
    assert books.variables(CLOSE)["WINNOW_PUBLICATION"] == "works"


def test_each_function_writes_its_own_part_and_none_deletes(books: Synthesized, bucket: str) -> None:
    works = f"{bucket}/published/works"
    written = {
        BUILD: {f"{works}/versions/*", f"{works}/history/*", f"{works}/runs/*.json"},
        CHECK: {f"{works}/versions/*/gate.json", f"{works}/versions/*/violations.ndjson.gz"},
        PUBLISH: {f"{works}/current.json", f"{works}/history/*", f"{works}/runs/*.json"},
    }
    for handler in books.handlers():
        permissions = books.permissions(handler)
        there = {each for each in allowed(permissions, "s3:PutObject") if each.startswith(bucket)}
        assert there == written.get(handler, set()), handler
        for action in ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutLifecycleConfiguration"):
            assert allowed(permissions, action) == set(), handler


@pytest.mark.parametrize("handler", [BUILD, CHECK, PUBLISH, CLOSE])
def test_who_moves_or_looks_may_read_which_a_conditional_write_takes_too(
    books: Synthesized, bucket: str, handler: str
) -> None:
    permissions = books.permissions(handler)

    assert f"{bucket}/published/works/*" in allowed(permissions, "s3:GetObject")
    assert bucket in allowed(permissions, "s3:ListBucket"), "without it S3 answers 403 for a missing object"


def test_workers_and_the_functions_of_stages_do_not_see_what_is_published(
    books: Synthesized, bucket: str
) -> None:
    readers = {
        handler
        for handler in books.handlers()
        if any(each.startswith(bucket) for each in allowed(books.permissions(handler), "s3:GetObject"))
    }

    assert readers == {BUILD, CHECK, PUBLISH, CLOSE}


def test_the_bucket_refuses_plain_http_keeps_no_versions_and_forgets_nothing_that_is_whole(
    books: Synthesized,
) -> None:
    name = books.the("AWS::S3::Bucket", "Published")
    properties = books.properties("AWS::S3::Bucket")[name]
    (policy,) = (
        each["PolicyDocument"]
        for each in books.properties("AWS::S3::BucketPolicy").values()
        if each["Bucket"] == {"Ref": name}
    )

    assert {"Bool": {"aws:SecureTransport": "false"}} in [
        each.get("Condition") for each in policy["Statement"] if each["Effect"] == "Deny"
    ]
    assert all(properties["PublicAccessBlockConfiguration"].values())
    assert "VersioningConfiguration" not in properties
    (rule,) = properties["LifecycleConfiguration"]["Rules"]
    assert rule == {
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        "Status": "Enabled",
    }


@pytest.mark.parametrize(("removal", "policy"), [(Removal.RETAIN, "Retain"), (Removal.DESTROY, "Delete")])
def test_what_is_published_outlives_its_stack_where_data_does(removal: Removal, policy: str) -> None:
    settings = EnvironmentSettings(environment="local", bundle_dependencies=False, removal=removal)
    made = synthesize(clean(), settings=settings, publish=works())

    (found,) = (each for name, each in made.resources("AWS::S3::Bucket").items() if "Published" in name)
    assert found["DeletionPolicy"] == policy


@pytest.mark.parametrize(("name", "memory"), [("ndjson", 2048), ("parquet", 2048)])
def test_a_version_is_sorted_on_disk(name: str, memory: int) -> None:
    made = synthesize(clean(), publish=works(format=name))

    assert made.function(BUILD)["EphemeralStorage"] == {"Size": 10_240}
    assert made.function(BUILD)["MemorySize"] == memory


def test_the_command_line_is_told_what_is_published(books: Synthesized) -> None:
    outputs = books.template["Outputs"]

    assert outputs["PublishedBucket"]["Value"] == {"Ref": books.the("AWS::S3::Bucket", "Published")}
    assert (outputs["PublicationName"]["Value"], outputs["PublicationMode"]["Value"]) == ("works", "merge")


# People


def granted(template: Synthesized, who: str, action: str, bucket: str) -> set[str]:
    documents = template.properties("AWS::IAM::ManagedPolicy").items()
    found = [
        each
        for name, policy in documents
        if f"People{who}" in name
        for each in statements(policy["PolicyDocument"])
    ]
    return {each.removeprefix(bucket) for each in allowed(found, action) if each.startswith(bucket)}


def test_a_viewer_reads_all_that_is_published_and_changes_none_of_it(books: Synthesized, bucket: str) -> None:
    assert granted(books, "Viewer", "s3:GetObject", bucket) == {"/published/works/*"}
    assert granted(books, "Viewer", "s3:ListBucket", bucket) == {""}
    for action in ("s3:PutObject", "s3:DeleteObject"):
        assert granted(books, "Viewer", action, bucket) == set()


def test_an_operator_moves_the_pointer_and_writes_no_version(books: Synthesized, bucket: str) -> None:
    assert granted(books, "Operator", "s3:PutObject", bucket) == {
        "/published/works/current.json",
        "/published/works/history/*",
        "/published/works/runs/*.json",
        "/published/works/hold.json",
        "/published/works/versions/*/pruning.json",
    }
    assert granted(books, "Operator", "s3:DeleteObject", bucket) == {
        "/published/works/hold.json",
        "/published/works/versions/*",
    }


# Age


@pytest.mark.parametrize(("name", "hours"), [("PublishedStale", 48), ("PublishedExpired", 240)])
def test_age_is_an_alarm_that_people_hear_and_that_says_what_it_means(
    books: Synthesized, capsys: pytest.CaptureFixture[str], name: str, hours: int
) -> None:
    watch = Watch(environment="local", pipeline="books")
    watch.count(Metric.PUBLISHED_AGE_SECONDS, 1.0)
    watch.flush()
    emitted = json.loads(capsys.readouterr().out)
    [dimensions] = emitted["_aws"]["CloudWatchMetrics"][0]["Dimensions"]
    alarm = books.properties("AWS::CloudWatch::Alarm")[books.the("AWS::CloudWatch::Alarm", name)]

    assert alarm["MetricName"] == emitted["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Name"]
    assert {each["Name"]: each["Value"] for each in alarm["Dimensions"]} == {
        dimension: emitted[dimension] for dimension in dimensions
    }
    assert (alarm["Threshold"], alarm["Period"], alarm["Statistic"]) == (hours * 3600, 3600, "Minimum")
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    assert alarm["AlarmActions"] == [{"Ref": books.the("AWS::SNS::Topic", "AlertsTopic")}]
    assert "[local] What books publishes as works is" in alarm["AlarmDescription"]
    assert "onsumers" in alarm["AlarmDescription"]
    assert len(alarm["AlarmDescription"]) <= 1024


def test_an_age_that_nobody_minds_is_no_alarm() -> None:
    made = synthesize(clean(), publish=works(stale_after_hours=None))

    assert not [name for name in made.resources("AWS::CloudWatch::Alarm") if "Published" in name]


# Mistakes, and others' rules


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "append"}, "mode must be one of replace, merge, got: 'append'"),
        ({"format": "csv"}, "format must be one of parquet, ndjson, got: 'csv'"),
        ({"stale_after_hours": 0}, r"stale_after_hours must be a whole number of hours .* got: 0"),
        ({"stale_after_hours": True}, r"stale_after_hours must be a whole number of hours .* got: True"),
        (
            {"expired_after_hours": 48},
            "expired_after_hours must be more than stale_after_hours, which is 48, got: 48",
        ),
        ({"quality": ["no nulls"]}, "rule"),
        ({"quality": [RULE, RULE]}, "name"),
    ],
)
def test_a_mistake_is_said_at_synthesis(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        works(**options)


@pytest.mark.parametrize("name", ["Works", "my works", "", "a/b"])
def test_a_publications_name_is_part_of_keys(name: str) -> None:
    with pytest.raises(ValueError, match=r"a publication's name must be lower-case letters"):
        Publication(name, mode="merge")


def test_leaves_no_finding_of_cdk_nag_without_a_reason(tmp_path: Path) -> None:
    app = App(outdir=str(tmp_path), builtin_cloud_formation_validation=False)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    settings = EnvironmentSettings(
        environment="prod", bundle_dependencies=False, alert_emails=("a@example.org",)
    )
    BooksStack(app, "Nagged", settings=settings, stages=[clean()], publish=works(quality=[RULE]))

    try:
        app.synth()
    except RuntimeError:
        report = (tmp_path / "validation-report.json").read_text(encoding="utf-8")
        pytest.fail(f"cdk-nag found something that is neither mended nor explained:\n{report}")
