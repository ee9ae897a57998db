"""What really happened in a catalogue in the summer of 2026, and what an operator does about the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts import ROOT
from tests.integration.replays.desk import STAGES, Desk, open_desk
from winnow.register.entry import Entry

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("replay-story")]

DATA = ROOT.parent / "shared" / "data" / "tei"
EIGHTY, EIGHTY_ONE = "Spanish/MS_Amer_80.xml", "Spanish/MS_Amer_81.xml"
CORRECT = "catalogue.transform.transform"
DEFECTIVE = "tests.integration.replays.defective.transform"

REPEATED = 113
"""Root identifiers of the snapshot that another file has too."""
WARNED_OF = 5
"""Descriptions of the snapshot that transform finds something odd in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A run's result, and the register and the alerts right after it."""

    run_id: str
    code: int
    status: str
    counts: dict[str, tuple[int, int, int, int]]
    register: dict[tuple[str, str], Entry]
    alerts: list[dict[str, Any]]

    @property
    def statuses(self) -> dict[str, str]:
        return {record_id: entry.status.value for (_, record_id), entry in self.register.items()}

    def failed_in(self, stage: str, status: str = "open") -> set[str]:
        return {i for (where, i), entry in self.register.items() if (where, entry.status) == (stage, status)}


def tell(desk: Desk, run_id: str, code: int = 0) -> Chapter:
    reached = [stage for stage in STAGES if desk.ledger.find_json(f"runs/{run_id}/{stage}/result.json")]
    return Chapter(
        run_id=run_id,
        code=code,
        status=desk.status(run_id),
        counts={stage: desk.counts(run_id, stage) for stage in reached},
        register=desk.entries(),
        alerts=desk.alerts(run_id),
    )


def run_over(desk: Desk, source: Path) -> Chapter:
    code, run_id = desk.upload_and_run(source)
    return tell(desk, run_id, code)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    if not DATA.exists():
        pytest.skip(f"the real catalogue is not at {DATA}")
    with open_desk(tmp_path_factory.mktemp("story") / "emulator") as made:
        yield made


@pytest.fixture(scope="module")
def upload(desk: Desk) -> Chapter:
    return run_over(desk, DATA / "changesets" / "2026-07-25-ad8baaeb.zip")


@pytest.fixture(scope="module")
def correction(desk: Desk, upload: Chapter) -> Chapter:
    assert upload.run_id
    return run_over(desk, DATA / "changesets" / "2026-08-18-12ad8427.zip")


@pytest.fixture(scope="module")
def edit(desk: Desk, correction: Chapter) -> Chapter:
    assert correction.run_id
    return run_over(desk, DATA / "changesets" / "2026-08-18-2efbf31.zip")


@pytest.fixture(scope="module")
def snapshot(desk: Desk, edit: Chapter) -> Chapter:
    """The whole catalogue, on the day that a defective transform had been deployed."""
    assert edit.run_id
    desk.deploy_worker("transform", handler=DEFECTIVE, version="defective")
    return run_over(desk, DATA / "snapshot.zip")


@pytest.fixture(scope="module")
def listed(desk: Desk, snapshot: Chapter) -> str:
    """What `winnow replay list` shows once the worker is mended and deployed."""
    assert snapshot.run_id
    desk.deploy_worker("transform", handler=CORRECT, version="mended")
    return desk.replay("list", "--kind", "permanent").stdout


@pytest.fixture(scope="module")
def replayed(desk: Desk, listed: str) -> Chapter:
    assert listed
    return tell(desk, desk.started("--stage", "transform"))


@pytest.fixture(scope="module")
def renamed(desk: Desk, replayed: Chapter) -> tuple[str, Chapter]:
    """A cataloguer gives one of two files with the same identifier another; the operator replays it from the file on."""
    record_id = min(replayed.failed_in("mint"))
    where = {"Bucket": desk.pipeline.source_bucket, "Key": record_id}
    text = desk.s3.get_object(**where)["Body"].read().decode()
    [taken] = re.findall(r'<TEI[^>]*xml:id="([^"]+)"', text)
    desk.s3.put_object(**where, Body=text.replace(f'xml:id="{taken}"', f'xml:id="{taken}_2"', 1).encode())
    refused = desk.replay("run", "--stage", "mint", "--id", record_id, "--execute")
    assert refused.returncode == 2
    assert "use --from an earlier stage" in refused.stderr
    return record_id, tell(desk, desk.started("--stage", "mint", "--id", record_id, "--from", "start"))


def test_an_upload_loses_two_of_five_and_one_alert_says_so(upload: Chapter) -> None:
    assert (upload.code, upload.status) == (3, "SUCCEEDED")
    assert upload.counts == {"adapt": (5, 3, 0, 2), "transform": (3, 3, 0, 0), "mint": (3, 3, 0, 0)}
    assert upload.statuses == {EIGHTY: "open", EIGHTY_ONE: "open"}
    [alert] = upload.alerts
    assert {each["record_id"] for each in alert["examples"]} == {EIGHTY, EIGHTY_ONE}
    assert (alert["counts"]["new"], alert["counts"]["known"]) == (2, 0)
    assert [(cause["count"], cause["error_type"]) for cause in alert["causes"]] == [(2, "MalformedXml")]


def test_a_correction_resolves_itself_in_the_normal_run(upload: Chapter, correction: Chapter) -> None:
    assert (correction.code, correction.status, correction.alerts) == (0, "SUCCEEDED", [])
    assert correction.statuses == {EIGHTY: "resolved", EIGHTY_ONE: "open"}
    resolution = correction.register["adapt", EIGHTY].resolution
    assert resolution
    assert resolution.run_id == correction.run_id
    untouched = "adapt", EIGHTY_ONE
    assert correction.register[untouched] == upload.register[untouched]


def test_an_edit_that_mends_nothing_stays_open_and_nobody_is_told_again(
    edit: Chapter, upload: Chapter
) -> None:
    # All that the run was given failed: law 5 has it end as FAILED, however well known the reason is.
    assert (edit.code, edit.status, edit.counts) == (1, "FAILED", {"adapt": (1, 0, 0, 1)})
    assert edit.statuses == {EIGHTY: "resolved", EIGHTY_ONE: "open"}
    entry, before = edit.register["adapt", EIGHTY_ONE], upload.register["adapt", EIGHTY_ONE]
    assert [each.run_id for each in entry.history] == [upload.run_id, edit.run_id]
    assert (entry.occurrences, entry.first_seen) == (2, before.first_seen)
    assert entry.last.fingerprint == before.last.fingerprint, "the reason has not changed"
    assert edit.alerts == []


def test_a_run_over_everything_tells_news_from_what_is_known(snapshot: Chapter) -> None:
    assert (snapshot.code, snapshot.status) == (3, "SUCCEEDED")
    assert snapshot.counts["adapt"] == (1636, 1606, 0, 30)
    assert snapshot.counts["transform"] == (1606, 1606 - WARNED_OF, 0, WARNED_OF)
    about = {alert["stage"]: alert for alert in snapshot.alerts}
    assert about.keys() == set(STAGES)
    assert (about["adapt"]["counts"]["new"], about["adapt"]["counts"]["known"]) == (29, 1)
    assert "30 of 1,636 records lost (29 new, 1 known)" in about["adapt"]["title"]
    assert snapshot.register["adapt", EIGHTY_ONE].occurrences == 3
    assert snapshot.register["adapt", EIGHTY].status == "resolved"


def test_a_deploy_marks_what_may_be_worth_replaying(listed: str) -> None:
    # The failures of adapt and mint are permanent, too, but their code is the same.
    assert f"{WARNED_OF} may be worth replaying: permanent failures whose stage has new code since" in listed


def test_a_mended_worker_gets_its_failures_replayed(snapshot: Chapter, replayed: Chapter) -> None:
    # Two of them have an identifier that another file had first, which only mint can see.
    assert replayed.status == "SUCCEEDED"
    assert replayed.counts == {"transform": (WARNED_OF, WARNED_OF, 0, 0), "mint": (WARNED_OF, 3, 0, 2)}
    resolved = replayed.failed_in("transform", "resolved")
    assert resolved == snapshot.failed_in("transform")
    assert {replayed.register["transform", each].resolution.run_id for each in resolved} == {replayed.run_id}  # type: ignore[union-attr]
    assert len(replayed.failed_in("mint")) == REPEATED
    [alert] = replayed.alerts
    assert (alert["stage"], alert["counts"]["new"]) == ("mint", 2)


def test_a_failure_at_mint_is_replayed_from_the_file_on(
    desk: Desk, replayed: Chapter, renamed: tuple[str, Chapter]
) -> None:
    record_id, replay = renamed
    assert (replay.status, replay.alerts) == ("SUCCEEDED", [])
    assert replay.counts == dict.fromkeys(STAGES, (1, 1, 0, 0))
    assert replay.failed_in("mint") == replayed.failed_in("mint") - {record_id}
    [document] = desk.lines("show", record_id)
    assert document["status"] == "resolved"
    assert document["resolution"]["run_id"] == replay.run_id
    assert [generation[0]["stage"] for generation in document["lineage"]] == ["mint", "transform", "adapt"]


def test_every_run_of_the_story_adds_up(
    desk: Desk, edit: Chapter, snapshot: Chapter, renamed: tuple[str, Chapter]
) -> None:
    for chapter in (edit, snapshot, renamed[1]):
        done = desk.winnow("verify", chapter.run_id)
        assert "does not add up" not in done.stdout
        lost = any(failed for *_, failed in chapter.counts.values())
        assert done.returncode == (1 if chapter.status != "SUCCEEDED" else 3 if lost else 0)


def test_the_register_is_what_the_ledger_says(desk: Desk, renamed: tuple[str, Chapter]) -> None:
    done = desk.replay("rebuild", "--dry-run")
    assert done.returncode == 0, done.stdout
    assert f"{len(renamed[1].register)} entries agree with the ledger" in done.stdout
