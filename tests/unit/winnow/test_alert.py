from __future__ import annotations

import html
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.alerts.announcer import Announcer, message, subject
from winnow.alerts.content import (
    MAX_CAUSES,
    MAX_EXAMPLES,
    MAX_FINGERPRINTS,
    OTHER_CAUSES,
    AlertContent,
    AlertCounts,
    CauseGroup,
    CauseTally,
    Event,
    Example,
    Severity,
    clean,
)
from winnow.alerts.shown_ids import shown_id, typed_id
from winnow.alerts.slack_blocks import escape, slack_message
from winnow.alerts.wording import compose
from winnow.core.contract import Pointer
from winnow.core.errors import LedgerObjectMissing
from winnow.core.keys import StageKeys
from winnow.storage.ledger import Ledger
from winnow.testing import MemoryStore

RUN_ID = "01JD7ZK3V5Q8W9X0Y1Z2A3B4C5"
EXECUTION = "arn:aws:states:eu-west-1:123456789012:execution:catalogue-transform:" + RUN_ID
KEYS = StageKeys(RUN_ID, "transform").attempt(0)
SNS_LIMIT_BYTES = 262_144


def content(verdict: str = "EXHAUSTED", **changes: Any) -> AlertContent:
    fields: dict[str, Any] = {
        "severity": Severity.ERROR,
        "verdict": verdict,
        "pipeline": "catalogue",
        "stage": "transform",
        "run_id": RUN_ID,
        "attempt": 3,
        "tries": 4,
        "counts": AlertCounts(records_in=183_755, succeeded=183_712, skipped=40, failed=3, new=3),
        "causes": (
            CauseGroup(
                fingerprint="f1",
                kind="transient",
                error_type="Timeout",
                message="no answer",
                count=2,
                example_id="Batak/1.xml",
            ),
            CauseGroup(
                fingerprint="f2",
                kind="permanent",
                error_type="PermanentError",
                message="no identifier",
                count=1,
                example_id="Arabic/12.xml",
            ),
        ),
        "examples": (
            Example(
                record_id="Arabic/12.xml",
                kind="permanent",
                error_type="PermanentError",
                message="no identifier",
            ),
            Example(record_id="Batak/1.xml", kind="transient", error_type="Timeout", message="no answer"),
        ),
        "failures_file": Pointer(bucket="ledger", key=f"runs/{RUN_ID}/transform/failures.ndjson.gz"),
    }
    return AlertContent(**{**fields, **changes})


class FakeSns:
    """Remembers what was published; refuses when told to."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []
        self.refuses: Exception | None = None

    def publish(self, **request: Any) -> dict[str, str]:
        if self.refuses:
            raise self.refuses
        self.published.append(request)
        return {"MessageId": f"m{len(self.published)}"}


def announcer(sns: FakeSns, environment: str = "prod") -> Announcer:
    return Announcer(topic_arn="arn:aws:sns:eu-west-1:123456789012:alerts", environment=environment, sns=sns)


class TestContent:
    @pytest.mark.parametrize(
        "each",
        [content(), content(stage=None, counts=None, failures_file=None, causes=(), examples=(), cause="x")],
    )
    def test_survives_the_ledger(self, each: AlertContent) -> None:
        assert AlertContent.from_json(json.loads(json.dumps(each.to_json()))) == each

    def test_refuses_an_unknown_verdict(self) -> None:
        with pytest.raises(ValueError, match="PERHAPS"):
            AlertContent.from_json(content("PERHAPS").to_json())


class TestTally:
    def test_groups_by_fingerprint_most_frequent_first(self) -> None:
        tally = CauseTally()
        for number, cause in enumerate("abbcbb"):
            tally.add(
                record_id=f"r{number}",
                kind="permanent",
                error_type="E",
                message=f"about {cause}",
                fingerprint=cause,
            )
        assert [(c.fingerprint, c.count, c.example_id) for c in tally.causes] == [
            ("b", 4, "r1"),
            ("a", 1, "r0"),
            ("c", 1, "r3"),
        ]
        assert [example.record_id for example in tally.examples] == ["r0", "r1", "r2", "r3", "r4"]
        assert tally.count == 6

    def test_stays_small_however_many_causes_there_are_and_accounts_for_every_failure(self) -> None:
        tally = CauseTally()
        for number in range(MAX_FINGERPRINTS * 3):
            tally.add(
                record_id=f"r{number}",
                kind="transient",
                error_type="E",
                message="x" * 5_000,
                fingerprint=str(number),
            )
        assert len(tally.causes) == MAX_CAUSES
        assert len(tally.examples) == MAX_EXAMPLES
        assert len(tally._causes) == MAX_FINGERPRINTS + 1
        assert sum(seen for _, seen in tally._causes.values()) == tally.count == MAX_FINGERPRINTS * 3
        assert tally.causes[0].fingerprint == OTHER_CAUSES
        assert tally.causes[0].count == MAX_FINGERPRINTS * 2
        assert tally.more_causes == MAX_FINGERPRINTS + 1 - MAX_CAUSES


class TestCleaning:
    @pytest.mark.parametrize(
        ("text", "limit", "shown"),
        [
            ("plain", 10, "plain"),
            ("two\nlines\r\n and\ttabs", 40, "two lines and tabs"),
            ("right\u202eleft\u2066", 40, "right left"),
            ("abcdef", 4, "abc…"),
            (" " * 500 + "x", 10, "…"),
        ],
    )
    def test_puts_text_from_records_on_one_line(self, text: str, limit: int, shown: str) -> None:
        assert clean(text, limit) == shown

    @pytest.mark.parametrize(
        ("record_id", "shown"),
        [
            ("a/../b c.xml", "a/../b c.xml"),
            ("a\nb", "a\\u000ab"),
            ("zero\u200bwidth", "zero\\u200bwidth"),
            ("🦔", "🦔"),
            ("MS\u202f12", "MS\\u202f12"),
            ("a  b", "a \\u0020b"),
            (" a ", "\\u0020a\\u0020"),
            ("写本\u30002", "写本\\u30002"),
            ("filler\u3164", "filler\\u3164"),
            ("vs\U000e0100", "vs\\U000e0100"),
            ("`id`", "\\u0060id\\u0060"),
            ("a\\b", "a\\b"),
            ("a\\u202fb", "a\\u005cu202fb"),
        ],
    )
    def test_shows_ids_so_that_they_can_be_told_apart_and_copied(self, record_id: str, shown: str) -> None:
        assert shown_id(record_id, 100) == shown
        assert typed_id(shown) == record_id

    @given(st.text())
    def test_an_id_that_is_shown_is_one_line_that_nothing_changes_on_its_way(self, record_id: str) -> None:
        shown = shown_id(record_id)
        assert " ".join(shown.split()) == shown
        assert escape(shown).count("`") == 0
        assert html.unescape(escape(shown, len(shown) * 6)) == shown
        assert typed_id(shown) == record_id

    def test_an_id_that_is_cut_says_so(self) -> None:
        assert shown_id("a" * 11, 10) == "a" * 9 + "…"

    @pytest.mark.parametrize("text", [r"\ud800", r"\U00110000", r"\u20", r"\x41"])
    def test_what_is_no_escape_is_read_as_it_is(self, text: str) -> None:
        assert typed_id(text) == text

    def test_ids_reach_slack_as_they_can_be_copied(self) -> None:
        odd = Example(record_id="MS\u202f12  `b`", kind="permanent", error_type="E", message="m")
        alert = compose(content(examples=(odd,)), environment="prod", execution=EXECUTION)
        assert "MS\\u202f12 \\u0020\\u0060b\\u0060\n" in alert.text
        blocks = json.dumps(slack_message("", json.dumps(alert.to_json()))["blocks"])
        assert json.dumps("`MS\\u202f12 \\u0020\\u0060b\\u0060`")[1:-1] in blocks


class TestWording:
    @pytest.mark.parametrize(
        ("verdict", "said"),
        [
            ("RETRY", "3 of 183,755 records failed for good; the rest is being worked on"),
            ("EXHAUSTED", "3 of 183,755 records lost; the run goes on without them"),
            ("TOTAL_FAILURE", "not one of 183,755 records succeeded; the run has stopped"),
            ("FAILED", "the run failed"),
            ("TIMED_OUT", "the run timed out"),
            ("ABORTED", "the run was aborted"),
            ("NOT_CONSERVED", "the ledger of the run does not add up; records may be missing"),
        ],
    )
    def test_says_in_the_title_what_happened_and_whether_the_run_goes_on(
        self, verdict: str, said: str
    ) -> None:
        assert (
            compose(content(verdict), environment="prod", execution=EXECUTION).title
            == f"[prod] catalogue/transform: {said}"
        )

    @pytest.mark.parametrize("verdict", ["RETRY", "EXHAUSTED"])
    def test_of_rows_of_a_list_says_to_correct_the_list_since_there_is_nothing_to_replay(
        self, verdict: str
    ) -> None:
        errors = ("ConflictingRow", "UnreadableRow")
        rows = tuple(
            replace(each, error_type=error) for each, error in zip(content().causes, errors, strict=True)
        )
        about_rows = compose(content(verdict, causes=rows), environment="prod", execution=EXECUTION)
        assert "Correct these rows in the list, and run the list again." in about_rows.steps[1]
        assert about_rows.command == (
            f"./scripts/winnow replay list --pipeline catalogue --stage transform --run {RUN_ID} --records --environment prod"
        )
        mixed = content(verdict, causes=(rows[0], content().causes[1]))
        assert "replay run" in compose(mixed, environment="prod", execution=EXECUTION).command

    def test_has_words_for_every_event(self) -> None:
        for event in Event:
            alert = compose(content(event.value), environment="prod", execution=EXECUTION)
            assert alert.summary
            assert alert.steps
            assert alert.command.startswith("./scripts/winnow ")

    def test_law_9_an_alert_says_what_to_do(self) -> None:
        text = compose(content(), environment="prod", execution=EXECUTION).text
        assert "183,755 in, 183,712 succeeded, 40 skipped, 3 failed" in text
        assert "2 x transient, Timeout: no answer" in text
        assert "Arabic/12.xml\n      permanent, PermanentError: no identifier" in text
        assert f"s3://ledger/runs/{RUN_ID}/transform/failures.ndjson.gz" in text
        assert (
            "https://eu-west-1.console.aws.amazon.com/states/home?region=eu-west-1#/v2/executions/details/"
            in text
        )
        assert (
            f"./scripts/winnow replay run --pipeline catalogue --stage transform --run {RUN_ID} --execute --environment prod\n"
            in text
        )

    def test_tells_of_one_record_in_the_singular(self) -> None:
        counts = AlertCounts(records_in=1, succeeded=0, skipped=0, failed=1, new=1)
        assert (
            "1 of 1 record lost" in compose(content(counts=counts), environment="", execution=EXECUTION).title
        )

    def test_says_how_many_were_alerted_before(self) -> None:
        counts = AlertCounts(records_in=9, succeeded=4, skipped=0, failed=5, new=2)
        assert (
            "(3 of them alerted before)"
            in compose(content(counts=counts), environment="x", execution=EXECUTION).summary
        )

    def test_blames_the_environment_unless_all_were_rejected_as_permanent(self) -> None:
        transient, permanent = content("TOTAL_FAILURE").causes
        for causes, blamed in (
            ((transient, permanent), "environment"),
            ((permanent,), "rejected as permanent"),
        ):
            alert = compose(content("TOTAL_FAILURE", causes=causes), environment="prod", execution=EXECUTION)
            assert blamed in alert.summary

    @pytest.mark.parametrize("event", Event)
    @pytest.mark.parametrize("stage", ["transform", None])
    def test_names_the_environment_wherever_it_is_read(self, event: Event, stage: str | None) -> None:
        sns = FakeSns()
        announcer(sns, "staging").announce(content(event.value, stage=stage), execution=EXECUTION)
        (request,) = sns.published
        parts = json.loads(request["Message"])
        structured = json.loads(parts["lambda"])
        assert request["Subject"].startswith("[staging] ")
        assert parts["default"].startswith("[staging] ")
        assert structured["environment"] == "staging"
        assert " [staging] " in slack_message("", parts["lambda"])["blocks"][0]["text"]["text"]
        assert structured["replay_command"].endswith(" --environment staging")
        assert f"{structured['replay_command']}\n" in parts["default"]

    def test_aims_at_the_emulator_where_it_runs_there(self) -> None:
        alert = compose(content(), environment="local", execution=EXECUTION)
        assert alert.command.endswith("--execute --local")
        assert "--environment" not in alert.command
        assert alert.console_url is None

    def test_keeps_text_from_records_out_of_title_and_steps(self) -> None:
        evil = CauseGroup(
            fingerprint="x",
            kind="permanent",
            error_type="E",
            message="<!channel>\nfake",
            count=1,
            example_id="a\nb",
        )
        alert = compose(content(causes=(evil,)), environment="prod", execution=EXECUTION)
        assert "channel" not in alert.title + alert.summary + "".join(alert.steps)
        assert "<!channel> fake" in alert.text


class TestMessage:
    def test_gives_people_text_and_programs_everything(self) -> None:
        alert = compose(content(), environment="prod", execution=EXECUTION)
        parts = json.loads(message(alert))
        assert parts["default"] == alert.text
        structured = json.loads(parts["lambda"])
        assert structured == json.loads(parts["sqs"])
        assert structured["title"] == alert.title
        assert structured["counts"]["failed"] == 3
        assert AlertContent.from_json(structured) == alert.content

    @pytest.mark.parametrize("filler", ["x", "🦔", "\\", '"', "\u0007", "<&>`"])
    def test_fits_into_sns_whatever_records_hold(self, filler: str) -> None:
        record_id = filler * (1024 // len(filler.encode()))
        cause = CauseGroup(
            fingerprint="f",
            kind="crashed",
            error_type=filler * 500,
            message=filler * 5_000,
            count=1,
            example_id=record_id,
        )
        example = Example(
            record_id=record_id, kind="crashed", error_type=filler * 500, message=filler * 5_000
        )
        alert = compose(
            content(causes=(cause,) * MAX_CAUSES, examples=(example,) * MAX_EXAMPLES, cause=filler * 32_000),
            environment="prod",
            execution=EXECUTION,
        )
        assert len(message(alert).encode()) < SNS_LIMIT_BYTES - 10_000
        assert len(alert.content.causes) == MAX_CAUSES

    @pytest.mark.parametrize(
        ("title", "expected"),
        [
            ("plain", "plain"),
            ("Zürich\nline", "Z?rich line"),
            ("x" * 150, "x" * 97 + "..."),
        ],
    )
    def test_makes_a_subject_that_sns_takes(self, title: str, expected: str) -> None:
        assert subject(title) == expected


class TestAnnouncer:
    def ledger(self) -> Ledger:
        ledger = Ledger(MemoryStore())
        ledger.write_json(KEYS.alert, content().to_json())
        return ledger

    def test_publishes_once_for_an_attempt(self) -> None:
        sns, ledger = FakeSns(), self.ledger()
        first = announcer(sns).announce_attempt(ledger, KEYS, execution=EXECUTION)
        second = announcer(sns).announce_attempt(ledger, KEYS, execution=EXECUTION)
        assert first == content()
        assert second is None
        assert len(sns.published) == 1
        assert ledger.read_json(KEYS.alerted)["message_id"] == "m1"

    def test_sends_severity_as_an_attribute_and_one_message_per_protocol(self) -> None:
        sns = FakeSns()
        announcer(sns).announce(content("TOTAL_FAILURE", severity=Severity.CRITICAL), execution=EXECUTION)
        (request,) = sns.published
        assert request["MessageStructure"] == "json"
        assert request["MessageAttributes"]["severity"] == {"DataType": "String", "StringValue": "critical"}
        assert request["Subject"].startswith("[prod] CRITICAL catalogue/transform: not one of")

    def test_raises_what_sns_says_and_owes_the_alert(self) -> None:
        sns, ledger = FakeSns(), self.ledger()
        sns.refuses = RuntimeError("throttled")
        with pytest.raises(RuntimeError, match="throttled"):
            announcer(sns).announce_attempt(ledger, KEYS, execution=EXECUTION)
        assert ledger.find_json(KEYS.alerted) is None
        sns.refuses = None
        assert announcer(sns).announce_attempt(ledger, KEYS, execution=EXECUTION)

    def test_raises_where_there_is_nothing_to_alert(self) -> None:
        with pytest.raises(LedgerObjectMissing):
            announcer(FakeSns()).announce_attempt(Ledger(MemoryStore()), KEYS, execution=EXECUTION)
