"""Replays that meet each other, die, come twice, or find the register gone; and one of very many records."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scripts import ROOT
from scripts.replay.chooser import Chooser
from scripts.replay.criteria import Criteria
from scripts.replay.orders import ReplayOrder, first
from scripts.replay.rules import Rules
from scripts.replay.site import Site
from scripts.replay.starting import LEASE, start, take_hold
from tests.integration.conftest import WINNOW
from tests.integration.faults.lab import await_
from tests.integration.faults.loopback import Proxy, Request
from tests.integration.replays.desk import Desk, open_desk
from winnow.batch.selection import Selection
from winnow.core import keys
from winnow.core.contract import MAX_INLINE_BYTES, iso
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.register.entry import Entry

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("replay-edges")]

SAMPLE = (ROOT / "tests" / "data" / "manuscripts" / "Arabic" / "MS_Arabic_1.xml").read_text()
MANY = 10_000
"""More than any page, window or transaction holds. Fifty thousand are in the unit tests, whose register is in memory."""


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    """Between the worker of the first stage and S3."""
    with Proxy() as made:
        yield made


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, proxy: Proxy) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("edges") / "emulator") as made:
        made.lead_through(proxy, stage="adapt")
        yield made


class Bucket:
    """A bucket that is not there yet, so that whatever is to be read from it fails for now."""

    def __init__(self, desk: Desk, name: str, count: int) -> None:
        self._s3 = desk.s3
        self.name = name
        self.ids = [f"{name}/{number:02}.xml" for number in range(count)]

    @property
    def records(self) -> list[dict[str, Any]]:
        return [{"id": each, "data": {"bucket": self.name, "key": each}} for each in self.ids]

    def open(self) -> None:
        self._s3.create_bucket(
            Bucket=self.name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        for number, key in enumerate(self.ids):
            text = SAMPLE.replace('xml:id="MS_Arabic_1"', f'xml:id="{self.name}-{number}"', 1)
            assert text != SAMPLE
            self._s3.put_object(Bucket=self.name, Key=key, Body=text.encode())


def reading(bucket: Bucket) -> Callable[[Request], bool]:
    """Whether a request reads from a bucket."""
    return lambda request: request.target.startswith(f"/{bucket.name}/")


def order_of(site: Site, ids: Iterable[str]) -> ReplayOrder:
    """What `winnow replay run --id …` decides to do."""
    rules = Rules(first_stage=site.pipeline.stages[0], code_versions=site.pipeline.code_versions)
    entries = site.entries(Criteria(stage="adapt", ids=tuple(ids)))
    [order] = Chooser(site).choose(entries, None, rules, first(None)).orders
    return order


def selected(desk: Desk, replay_id: str) -> Ranges:
    """Ordinals that a replay was started with; its records all come from one run."""
    document = desk.ledger.read_json(keys.replay_selection(replay_id))
    [part] = Selection.from_json(document).parts
    return part.ordinals


def resolved_by(desk: Desk, ids: Iterable[str]) -> dict[str, str]:
    found = {each: desk.entry("adapt", each).resolution for each in ids}
    return {each: resolution.run_id for each, resolution in found.items() if resolution}


def test_of_two_operators_at_the_same_moment_each_gets_what_the_other_has_not(
    desk: Desk, proxy: Proxy
) -> None:
    bucket = Bucket(desk, "two-operators", 30)
    desk.run(bucket.records, "two-operators")
    bucket.open()
    gate = proxy.hold(reading(bucket))  # so that neither replay ends before the other is started
    sites = [desk.site, desk.site]
    # Both have looked before either takes hold.
    orders = [
        order_of(site, ids) for site, ids in zip(sites, (bucket.ids[:20], bucket.ids[10:]), strict=True)
    ]
    together = threading.Barrier(2)

    def press(site: Site, order: ReplayOrder) -> Any:
        together.wait()
        return start(site, order)

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(press, sites, orders))
    gate.open()
    assert all(each.now for each in both)
    assert sorted(each.count for each in both) == [10, 20]
    [late] = [each for each in both if len(each.lost)]
    [other] = [each for each in both if each is not late]
    [(reason, ids)] = late.lost.by_reason.items()
    assert (reason, ids) == (f"held by replay {other.replay_id}", bucket.ids[10:20])
    ordinals = [selected(desk, each.replay_id) for each in both]
    assert not ordinals[0] & ordinals[1]
    assert len(ordinals[0] | ordinals[1]) == 30
    for each in both:
        desk.closed(each.replay_id)
    by = resolved_by(desk, bucket.ids)
    assert [list(by.values()).count(each.replay_id) for each in both] == [each.count for each in both]


def test_pressing_the_button_twice_starts_it_once(desk: Desk, proxy: Proxy) -> None:
    here, gone = Bucket(desk, "pressed-here", 1), Bucket(desk, "pressed-gone", 1)
    desk.run([*here.records, *gone.records], "pressed-twice")
    here.open()
    gate = proxy.hold(reading(gone))  # so that the replay is under way when the button is pressed again
    command = [str(WINNOW), "replay", "run", "--run", "pressed-twice", "--execute", "--json"]
    environment = desk.deployment.emulator.endpoint.environment()
    pressed = [
        subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [json.loads(each.communicate()[0]) for each in pressed]
    assert [each.returncode for each in pressed] == [0, 0]
    [replay_id] = {each["replay_id"] for each in said}
    assert sorted(each["started"] for each in said) == [False, True]
    assert desk.executions().count(replay_id) == 1
    gone.open()
    gate.open()
    desk.closed(replay_id)
    assert set(resolved_by(desk, [*here.ids, *gone.ids]).values()) == {replay_id}
    again = desk.replay("run", "--run", "pressed-twice", "--execute")
    assert again.returncode == 2
    assert "already resolved" in again.stderr


def test_what_a_replay_held_that_was_killed_can_be_replayed_again(desk: Desk, proxy: Proxy) -> None:
    here, gone = Bucket(desk, "killed-here", 3), Bucket(desk, "killed-gone", 3)
    everything = [*here.ids, *gone.ids]
    desk.run([*here.records, *gone.records], "killed")
    here.open()
    first = proxy.hold(reading(gone))
    [line] = desk.lines("run", "--run", "killed", "--execute")
    killed = line["replay_id"]
    await_("the first attempt of the replay", first.is_reached)
    settled = StageKeys(killed, "adapt").attempt(0).settlement
    second = proxy.hold(lambda request: reading(gone)(request) and bool(desk.ledger.find_json(settled)))
    first.open()
    await_("the second attempt of the replay", second.is_reached)
    assert {desk.entry("adapt", each).hold.replay_id for each in everything} == {killed}  # type: ignore[union-attr]
    desk.stop(killed)
    desk.closed(killed)
    assert desk.ledger.find_json(StageKeys(killed, "adapt").result) is None
    entries = [desk.entry("adapt", each) for each in everything]
    assert {(entry.status, entry.hold) for entry in entries} == {("open", None)}
    gone.open()
    second.open()
    replay_id = desk.started("--run", "killed")
    assert replay_id != killed
    assert set(resolved_by(desk, everything).values()) == {replay_id}


def test_a_lease_ends_where_nobody_hears_of_a_replays_end(desk: Desk) -> None:
    bucket = Bucket(desk, "leased", 4)
    desk.run(bucket.records, "leased")
    bucket.open()
    site = desk.site
    dead = order_of(site, bucket.ids[:3])
    assert not len(take_hold(site, dead))  # and then the operator's machine died

    refused = desk.replay("run", *("--id", bucket.ids[0], "--id", bucket.ids[1]), "--execute")
    assert refused.returncode == 2
    assert f"held by replay {dead.replay_id} (about to start) until" in refused.stderr

    later = iso(datetime.now(UTC) + LEASE + timedelta(minutes=1))
    afterwards = replace(site, clock=lambda: later)
    order = order_of(afterwards, bucket.ids)
    started = start(afterwards, order)
    assert (started.now, started.count) == (True, 4)
    desk.closed(started.replay_id)
    assert set(resolved_by(desk, bucket.ids).values()) == {started.replay_id}


def test_a_replay_that_was_not_started_is_taken_up_under_its_own_name(desk: Desk) -> None:
    bucket = Bucket(desk, "taken-up", 3)
    desk.run(bucket.records, "taken-up")
    bucket.open()
    site = desk.site
    dead = order_of(site, bucket.ids)
    take_hold(site, dead)
    assert desk.started("--run", "taken-up") == dead.replay_id
    assert set(resolved_by(desk, bucket.ids).values()) == {dead.replay_id}


def test_a_duplicate_that_is_started_by_hand_is_refused_and_takes_nothing(desk: Desk, proxy: Proxy) -> None:
    here, gone = Bucket(desk, "twin-here", 1), Bucket(desk, "twin-gone", 1)
    desk.run([*here.records, *gone.records], "twin")
    here.open()
    gate = proxy.hold(reading(gone))
    [line] = desk.lines("run", "--run", "twin", "--execute")
    replay_id = line["replay_id"]
    await_("the replay's worker", gate.is_reached)
    given = json.loads(desk.describe(desk.execution(replay_id))["input"])
    duplicate = desk.start(given, name="started-by-hand")
    await_("its end", lambda: desk.describe(duplicate)["status"] != "RUNNING")
    [alert] = await_("its closing", lambda: desk.alerts("started-by-hand"))
    assert "was used before" in alert["cause"]
    assert desk.entry("adapt", gone.ids[0]).hold.replay_id == replay_id  # type: ignore[union-attr]
    gone.open()
    gate.open()
    desk.closed(replay_id)
    assert set(resolved_by(desk, [*here.ids, *gone.ids]).values()) == {replay_id}


def comparable(entries: dict[tuple[str, str], Entry]) -> dict[tuple[str, str], Entry]:
    return {key: replace(entry, version=0) for key, entry in entries.items()}


def test_the_register_is_rebuilt_from_the_ledger_with_the_same_content(desk: Desk) -> None:
    bucket = Bucket(desk, "rebuilt", 4)
    desk.run(bucket.records, "rebuilt-1")
    desk.run(bucket.records, "rebuilt-2")
    bucket.open()
    desk.started("--id", bucket.ids[0])
    waived = desk.replay("waive", "--id", bucket.ids[1], "--reason", "lost in 1941")
    assert waived.returncode == 0
    before = desk.entries()
    assert desk.replay("rebuild", "--dry-run").returncode == 0, "they agree as they are"

    desk.forget("adapt", bucket.ids[0])
    desk.forget("adapt", bucket.ids[2])
    desk.site.register.apply(
        "catalogue",
        "adapt",
        [bucket.ids[3]],
        lambda _, found: (
            replace(found, ordinal=7, traceback="", version=found.version + 1) if found else None
        ),
    )
    assert desk.replay("rebuild", "--dry-run").returncode == 1
    done = desk.replay("rebuild")
    assert done.returncode == 0, done.stderr
    after = desk.entries()
    assert comparable(after) == comparable(before)


def one_of_two_malformed(desk: Desk, folder: str) -> list[dict[str, Any]]:
    fine = SAMPLE.replace('xml:id="MS_Arabic_1"', f'xml:id="{folder}"', 1)
    return desk.put({f"{folder}/broken.xml": "<TEI>", f"{folder}/fine.xml": fine})


@pytest.mark.parametrize(
    ("handlers", "register"),
    [(("register",), "up to date"), (("register", "close_run"), "behind")],
    ids=["while-a-stage-settles", "until-after-the-run"],
)
def test_a_run_stands_while_the_register_is_unavailable_and_says_so(
    desk: Desk, handlers: Sequence[str], register: str
) -> None:
    run_id = f"unavailable-{len(handlers)}"
    records = one_of_two_malformed(desk, run_id)
    broken = f"{run_id}/broken.xml"
    with ExitStack() as stack:
        for handler in handlers:
            stack.enter_context(desk.pointed_elsewhere(handler))
        desk.run(records, run_id)
        assert desk.status(run_id) == "SUCCEEDED"
        assert desk.counts(run_id, "adapt") == (2, 1, 0, 1)
        assert desk.report(run_id)["register"] == register  # type: ignore[index]
    [alert] = desk.alerts(run_id)
    assert alert["counts"]["new"] == 1
    if register == "behind":
        assert desk.site.register.find("catalogue", "adapt", broken) is None
        desk.close_again(run_id)  # as its Lambda does by itself, or as an operator does from its dead letters
        assert desk.report(run_id)["register"] == "up to date"  # type: ignore[index]
    entry = desk.entry("adapt", broken)
    assert (entry.status, entry.occurrences, entry.last.run_id) == ("open", 1, run_id)
    assert len(desk.alerts(run_id)) == 1
    assert desk.replay("rebuild", "--dry-run").returncode == 0


def test_a_rebuild_makes_up_for_a_run_that_nobody_closed(desk: Desk) -> None:
    records = one_of_two_malformed(desk, "not-closed")
    with desk.pointed_elsewhere("register"), desk.pointed_elsewhere("close_run"):
        desk.run(records, "not-closed")
    assert desk.replay("rebuild").returncode == 0
    assert desk.entry("adapt", "not-closed/broken.xml").last.run_id == "not-closed"


def test_a_replay_of_very_many_carries_pointers_only(desk: Desk) -> None:
    ids = [f"many/{number:05}" for number in range(MANY)]
    # Started where they do not belong, so that each is rejected for good.
    desk.run(ids, "many", start_at="transform")
    assert desk.counts("many", "transform") == (MANY, 0, 0, MANY)
    replay_id = desk.started("--run", "many", "--force")
    assert desk.counts(replay_id, "transform") == (MANY, 0, 0, MANY)
    entries = [each for each in desk.site.register.all("catalogue", "transform") if each.run_id == replay_id]
    assert {(each.status, each.occurrences) for each in entries} == {("open", 2)}
    assert len(entries) == MANY
    size = len(json.dumps(desk.ledger.read_json(keys.replay_selection(replay_id))))
    assert size < 1_000, "a few ranges"
    assert desk.largest_payload(replay_id) < MAX_INLINE_BYTES
