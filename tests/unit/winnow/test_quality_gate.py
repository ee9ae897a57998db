"""The gate between BuildVersion and Publish: judged once, written down once, and told by one alert."""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest
from moto import mock_aws

from tests.unit.winnow.publications import FAILS, SKIPPED, Publication, numbered
from tests.unit.winnow.test_alert import EXECUTION, SNS_LIMIT_BYTES
from winnow.alerts.announcer import message
from winnow.alerts.content import AlertContent
from winnow.alerts.slack_blocks import slack_message
from winnow.alerts.wording import compose
from winnow.core.errors import DamagedDocument, PublishRefused, QualityGateFailed
from winnow.core.sfn_errors import SfnError
from winnow.handlers import check_quality
from winnow.publish.documents import Format
from winnow.quality.gate import QualityGate, run_counts
from winnow.quality.judged import candidate_of, find_gate
from winnow.quality.result import GateOutcome, GateResult
from winnow.quality.rules import (
    DeleteBudget,
    InRange,
    LossBudget,
    References,
    RowCount,
    Rule,
    RuleSeverity,
    ShareChanged,
    Unique,
    rules_to_json,
)
from winnow.runs.blocked_version import find_blocked
from winnow.storage import clients
from winnow.storage.ledger import Ledger
from winnow.storage.store import S3Store
from winnow.testing import FakeContext

WHY = "consumers count on it"
SMALL = InRange("n", maximum=10, reason="a page has ten lines")
REPEATED = Unique("n", reason="one shelf each", severity=RuleSeverity.WARN)


def gate(works: Publication, *rules: Rule) -> QualityGate:
    return QualityGate(ledger=works.ledger, published=works.set, rules=rules)


@pytest.mark.parametrize("form", Format)
def test_judges_what_a_run_built(form: Format) -> None:
    works = Publication(form=form)
    works.go("01", numbered({"a": 1, "b": 2, "c": 3, "d": 4}))
    built = works.build(
        works.run("02", numbered({"a": 1, "b": 20, "c": FAILS, "d": "deleted", "e": SKIPPED, "f": 20}))
    )

    result = gate(
        works,
        RowCount(min_ratio=0.9, reason=WHY),
        DeleteBudget(at_most=0.25, reason=WHY),
        ShareChanged(at_most=0.2, reason=WHY),
        LossBudget(at_most=0.1, reason=WHY),
        SMALL,
        REPEATED,
    ).judge(built.version)

    assert [(each.outcome, each.found) for each in result.results] == [
        ("passed", "4 rows, 1 times the 4 of version 1"),
        ("passed", "1 of the 4 rows of version 1 removed (25%)"),
        ("blocked", "1 of the 4 rows of version 1 changed (25%)"),
        ("blocked", "1 of 6 records failed (16.67%)"),
        ("blocked", "not so in 2 of 4 rows (50%)"),
        ("warned", "2 of 4 rows have one that another row has, too (50%)"),
    ]
    assert (result.outcome, result.base, result.run_id) == (GateOutcome.BLOCKED, 1, "run-02")
    assert result.violations_file
    assert [json.loads(line) for line in Ledger(works.store).read_lines(result.violations_file.key)] == [
        {"rule": "in range n", "id": "b"},
        {"rule": "in range n", "id": "f"},
        {"rule": "unique n", "id": "b"},
        {"rule": "unique n", "id": "f"},
    ]


def test_stays_as_it_was_judged_first_whatever_the_rules_are_now() -> None:
    works = Publication()
    built = works.build(works.run("01", numbered({"a": 11, "b": 11})))

    first = gate(works, SMALL).judge(built.version)
    before = dict(works.store.objects)
    again = gate(works, REPEATED).judge(built.version)

    assert again == first == find_gate(works.set, built.version)
    assert works.store.objects == before


def test_looks_again_without_writing_anything() -> None:
    works = Publication()
    built = works.build(works.run("01", numbered({"a": 11})))
    before = dict(works.store.objects)

    looked = gate(works, SMALL).examine(built.version)

    assert (looked.outcome, looked.results[0].first_ids, looked.violations_file) == (
        GateOutcome.BLOCKED,
        ("a",),
        None,
    )
    assert works.store.objects == before


def test_two_invocations_at_once_give_one_answer() -> None:
    works = Publication()
    built = works.build(works.run("01", numbered({"a": 11})))
    other = gate(works, RowCount(at_least=0, reason=WHY))
    slow = gate(works, SMALL)
    measured = slow.examine

    def examine(version: int, *, keep_ids: bool = False) -> GateResult:
        result = measured(version, keep_ids=keep_ids)
        other.judge(version)
        return result

    slow.examine = examine  # type: ignore[method-assign]
    assert slow.judge(built.version).outcome is GateOutcome.PASSED


def test_a_first_version_has_no_last_one_to_be_held_against() -> None:
    works = Publication()
    built = works.build(works.run("01", numbered("ab")))
    rules = (
        RowCount(min_ratio=2, reason=WHY),
        DeleteBudget(at_most=0, reason=WHY),
        ShareChanged(at_most=0, reason=WHY),
    )

    assert gate(works, *rules).judge(built.version).outcome is GateOutcome.PASSED


def test_holds_an_empty_version_against_the_last() -> None:
    works = Publication()
    works.go("01", numbered("ab"))
    built = works.build(works.run("02", {"a": "deleted", "b": "deleted"}))

    result = gate(works, RowCount(min_ratio=0.5, reason=WHY), SMALL, REPEATED).judge(built.version)

    assert [each.outcome for each in result.results] == ["blocked", "passed", "passed"]
    assert result.results[0].found == "0 rows, 0 times the 2 of version 1"


def test_refers_to_the_current_version_of_a_publication_in_another_bucket() -> None:
    authors = Publication()
    authors.go("01", numbered("x"))
    authors.build(authors.run("02", numbered("y")))  # not published, so nothing may refer to it
    works = Publication()
    built = works.build(works.run("03", {"a": {"author": "x"}, "b": {"author": "y"}}))
    asked: list[str] = []

    def open_bucket(name: str) -> Any:
        asked.append(name)
        return authors.store

    elsewhere = References("author", publication="works", bucket="of-authors", reason=WHY)
    here = References("author", publication="works", reason=WHY, name="here")
    judge = QualityGate(
        ledger=works.ledger, published=works.set, rules=[elsewhere, here], open_bucket=open_bucket
    )

    found, missing = judge.examine(built.version).results

    assert asked == ["of-authors"]
    assert found.first_ids == ("b",)
    assert missing.found == "cannot be evaluated: publication works has no current version"


def test_a_file_that_is_not_the_one_that_was_written_is_judged_by_nobody() -> None:
    works = Publication()
    built = works.build(works.run("01", numbered("ab")))
    key = works.set.need_manifest(built.version).files[0].key
    works.store.objects["published", key] += b"\0"

    with pytest.raises(DamagedDocument, match=r"part-00000.*its body is not the one that was written"):
        gate(works, SMALL).judge(built.version)
    assert find_gate(works.set, built.version) is None


def test_a_version_that_is_not_whole_is_refused() -> None:
    with pytest.raises(PublishRefused, match="has no whole version of that number"):
        gate(Publication(), SMALL).judge(1)


def test_counts_losses_from_the_first_stage_that_ran_and_not_where_the_ledger_is_empty() -> None:
    works = Publication()
    run_id = works.run("01", numbered({"a": 1, "b": FAILS}))

    counts = run_counts(works.ledger, run_id)

    assert counts
    assert (counts.records_in, counts.failed) == (2, 1)
    assert run_counts(works.ledger, "run-02") is None


def test_finds_the_last_candidate_of_a_run() -> None:
    works = Publication()
    assert candidate_of(works.set, "run-01") is None
    mine = works.run("01", numbered("a"))
    works.build(mine)
    works.go("02", numbered("b"))
    works.build(mine)

    assert candidate_of(works.set, mine) == 3


class TestHandler:
    @pytest.fixture
    def works(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "us-east-1",
            "WINNOW_PIPELINE": "catalogue",
            "WINNOW_LEDGER_BUCKET": "ledger",
            "WINNOW_PUBLISHED_BUCKET": "published",
            "WINNOW_PUBLICATION": "works",
            "WINNOW_ENVIRONMENT": "prod",
        }.items():
            monkeypatch.setenv(name, value)
        works = Publication()
        with mock_aws():
            clients.client.cache_clear()
            clients._session.cache_clear()
            make = botocore.session.get_session().create_client
            s3: Any = make("s3", region_name="us-east-1")
            s3.create_bucket(Bucket="ledger")
            s3.create_bucket(Bucket="published")
            works.build(works.run("01", numbered({"a": 11, "b": 11})))
            for store in (works.store, works.ledger.store):
                for (bucket, key), body in store.objects.items():  # type: ignore[attr-defined]
                    S3Store(bucket, s3).put(key, body)
            yield S3Store("published", s3)
        clients.client.cache_clear()
        clients._session.cache_clear()

    def test_lets_a_version_through_and_counts_what_it_warns_of(
        self, works: S3Store, capsys: pytest.CaptureFixture[str]
    ) -> None:
        answer = check_quality.handler(event(REPEATED), FakeContext())  # type: ignore[arg-type]

        assert answer == {"violations": 1, "outcome": "warned"}
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["rule"] for line in lines if line.get("message") == "rule violated"] == ["unique n"]
        assert [line["QualityWarned"] for line in lines if "QualityWarned" in line] == [[1.0]]
        assert json.loads(works.get("published/works/versions/1/gate.json").body)["outcome"] == "warned"

    def test_a_version_that_passes_costs_no_metric(
        self, works: S3Store, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rule = RowCount(at_least=1, reason=WHY)
        answer = check_quality.handler(event(rule), FakeContext())  # type: ignore[arg-type]

        assert answer == {"violations": 0, "outcome": "passed"}
        assert capsys.readouterr().out == ""
        assert list(works.keys("published/works/versions/1/violations")) == []

    def test_fails_by_the_name_that_the_machine_does_not_retry(
        self, works: S3Store, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for _ in range(2):
            with pytest.raises(QualityGateFailed) as failed:
                check_quality.handler(event(SMALL, REPEATED), FakeContext())  # type: ignore[arg-type]
            assert str(failed.value) == (
                "version 1 of works is blocked by 1 of 2 rules, and nothing is published yet: "
                "in range n (not so in 2 of 2 rows (100%))"
            )
        assert QualityGateFailed.__name__ == SfnError.QUALITY_GATE_FAILED
        assert "QualityBlocked" in capsys.readouterr().out
        assert json.loads(works.get("published/works/versions/1/gate.json").body)["outcome"] == "blocked"

    def test_law_7_its_error_stays_small_whatever_is_violated(self, works: S3Store) -> None:  # noqa: ARG002
        rules = [
            InRange("n", maximum=number, reason=WHY, name=f"rule {number} {'x' * 60}") for number in range(10)
        ]

        with pytest.raises(QualityGateFailed, match=r"; and 5 more$") as failed:
            check_quality.handler(event(*rules), FakeContext())  # type: ignore[arg-type]
        assert len(str(failed.value)) < 2_000


def event(*rules: Rule) -> dict[str, Any]:
    return {"run_id": "run-01", "version": 1, "rules": rules_to_json(rules)}


def blocked(works: Publication, began: str, records: Any, *rules: Rule) -> AlertContent:
    """The alert of a run whose candidate was blocked."""
    run_id = works.run(began, numbered(records))
    gate(works, *rules).judge(works.build(run_id).version)
    content = find_blocked(works.set, pipeline="catalogue", run_id=run_id)
    assert content
    return content


class TestAlert:
    def test_law_9_says_which_rule_what_was_found_which_ids_and_both_ways_on(self) -> None:
        works = Publication()
        works.go("01", numbered("abc"))
        content = blocked(works, "02", dict.fromkeys("abcdefg", 11), SMALL, REPEATED)

        alert = compose(content, environment="prod", execution=EXECUTION)

        assert alert.title == (
            "[prod] CRITICAL catalogue: the quality gate blocked version 2 of works; published stays version 1"
        )
        assert (
            "violates 1 rule. Consumers do not see that version: published stays version 1." in alert.summary
        )
        assert (
            "Rules that block\n"
            "  in range n: a page has ten lines\n"
            "      expected: n is at most 10 in every row\n"
            "      found: not so in 7 of 7 rows (100%)\n"
            "      first ids: a, b, c, d, e\n"
        ) in alert.text
        assert "1. Look at the rules" in alert.text
        assert "2. If the data is wrong: fix its source or the worker's code, and run again" in alert.text
        assert "3. If the data is right and the rule is not: publish the version as it is" in alert.text
        assert (
            "./scripts/winnow publish promote 2 --publication works --reason WHY --execute --environment prod\n"
            in alert.text
        )
        assert (
            "All ids that violate a rule, one JSON line each: s3://published/published/works/versions/2/violations.ndjson.gz"
            in alert.text
        )

    def test_says_that_nothing_is_published_yet(self) -> None:
        content = blocked(Publication(), "01", {"a": 11}, SMALL)
        title = compose(content, environment="prod", execution=EXECUTION).title
        assert title.endswith("blocked version 1 of works; nothing of works is published yet")

    def test_survives_the_way_to_slack_where_foreign_text_is_code(self) -> None:
        evil = {"id": "<!channel>"}
        works = Publication()
        run_id = works.run("01", {evil["id"]: {"n": 11}})
        gate(works, InRange("n", maximum=10, reason="`<!here>`")).judge(works.build(run_id).version)
        content = find_blocked(works.set, pipeline="catalogue", run_id=run_id)
        assert content
        assert AlertContent.from_json(json.loads(json.dumps(content.to_json()))) == content

        alert = compose(content, environment="prod", execution=EXECUTION)
        shown = json.dumps(slack_message("", json.dumps(alert.to_json())), ensure_ascii=False)

        assert "*Rules that block*" in shown
        assert "first ids: &lt;!channel&gt;" in shown
        assert "<!" not in shown

    def test_fits_into_sns_however_many_rules_are_violated(self) -> None:
        works = Publication()
        rules = [
            InRange("n", maximum=number, reason="ö" * 300, name=f"{number} {'x' * 70}")
            for number in range(10)
        ]
        content = blocked(works, "01", {f"{'é' * 500}{number}": 11 for number in range(9)}, *rules, SMALL)

        alert = compose(content, environment="prod", execution=EXECUTION)

        assert content.blocked
        assert (len(content.blocked.rules), content.blocked.more_rules) == (10, 1)
        assert "  and 1 more\n" in alert.text
        assert len(message(alert).encode()) < SNS_LIMIT_BYTES

    def test_is_none_where_the_gate_let_the_run_through_or_never_judged_it(self) -> None:
        works = Publication()
        run_id = works.run("01", numbered("a"))
        assert find_blocked(works.set, pipeline="catalogue", run_id=run_id) is None
        version = works.build(run_id).version
        assert find_blocked(works.set, pipeline="catalogue", run_id=run_id) is None
        gate(works, SMALL).judge(version)
        assert find_blocked(works.set, pipeline="catalogue", run_id=run_id) is None
