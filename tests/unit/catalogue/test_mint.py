from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

from catalogue import identifiers
from catalogue.identifiers import (
    ALPHABET,
    LETTERS,
    Identifier,
    IdentifierClaim,
    IdentifierTable,
    TableBusy,
    is_outage,
    new_canonical_id,
)
from catalogue.mint import IdentifierTaken, connect, mint
from catalogue.settings import SettingMissing
from tests.unit.catalogue.fakes import TABLE, OneAtATime, aws_error, create_table
from winnow import Output, PermanentError, Record


def work(identifier: str, file: str | None = None) -> Record:
    return Record(
        file or f"{identifier}.xml", {"sourceIdentifier": identifier, "title": f"Title of {identifier}"}
    )


def claims(*names: str, owner: str | None = None) -> list[IdentifierClaim]:
    return [IdentifierClaim(source_identifier=name, owner=owner or f"{name}.xml") for name in names]


def canonical_ids(outcomes: list[Any]) -> list[str]:
    assert all(isinstance(outcome, Output) for outcome in outcomes), outcomes
    return [outcome.id for outcome in outcomes]


def items(dynamodb: OneAtATime) -> dict[str, dict[str, str]]:
    found = dynamodb.scan(TableName=TABLE)["Items"]
    return {
        item["pk"]["S"]: {name: value["S"] for name, value in item.items() if name != "pk"} for item in found
    }


def assert_one_to_one(dynamodb: OneAtATime) -> None:
    """Both kinds of item say the same, so every identifier has one canonical id and every canonical id one identifier."""
    found = items(dynamodb)
    forth = {
        key.removeprefix("source#"): item["canonical_id"]
        for key, item in found.items()
        if key.startswith("source#")
    }
    back = {
        key.removeprefix("canonical#"): item["source_identifier"]
        for key, item in found.items()
        if key.startswith("canonical#")
    }
    assert back == {canonical: source for source, canonical in forth.items()}
    assert len(forth) == len(back)


def test_a_canonical_id_is_short_and_cannot_be_misread() -> None:
    made = {new_canonical_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(f"[{LETTERS}][{ALPHABET}]{{7}}", each) for each in made)
    assert not set("ilo01") & set(ALPHABET)


@pytest.mark.usefixtures("dynamodb")
def test_a_work_gets_a_canonical_id_that_becomes_the_id_of_the_output() -> None:
    (output,) = mint([work("MS_1")])
    assert isinstance(output, Output)
    assert output.data == {"canonicalId": output.id, "sourceIdentifier": "MS_1", "title": "Title of MS_1"}


def test_minting_again_gives_the_same_ids(dynamodb: OneAtATime) -> None:
    batch = [work(f"MS_{number}") for number in range(7)]
    first = canonical_ids(mint(batch))
    before = items(dynamodb)
    assert canonical_ids(mint(batch)) == first
    assert canonical_ids(mint(batch[::-1])) == first[::-1]
    assert items(dynamodb) == before
    assert_one_to_one(dynamodb)


def test_old_and_new_mix_in_a_batch_larger_than_any_of_dynamodbs_limits(dynamodb: OneAtATime) -> None:
    old = canonical_ids(mint([work(f"MS_{number}") for number in range(0, 130, 2)]))
    both = canonical_ids(mint([work(f"MS_{number}") for number in range(130)]))
    assert both[::2] == old
    assert len(set(both)) == 130
    assert_one_to_one(dynamodb)


@pytest.mark.usefixtures("dynamodb")
def test_an_identifier_that_two_files_claim_stays_with_the_first() -> None:
    first, second, other = mint([work("MS_1", "a.xml"), work("MS_1", "b.xml"), work("MS_2", "b.xml")])
    assert isinstance(first, Output)
    assert isinstance(second, IdentifierTaken)
    assert str(second).startswith(
        "xml:id 'MS_1' belongs to a.xml; give this description an xml:id of its own"
    )
    assert isinstance(other, Output)


@pytest.mark.usefixtures("dynamodb")
def test_the_owner_is_remembered_across_runs_whatever_the_order() -> None:
    (canonical,) = canonical_ids(mint([work("MS_1", "z.xml")]))
    taken, kept = mint([work("MS_1", "a.xml"), work("MS_1", "z.xml")])
    assert isinstance(taken, PermanentError)
    assert isinstance(kept, Output)
    assert kept.id == canonical


@pytest.mark.usefixtures("dynamodb")
def test_one_file_may_ask_twice_in_a_batch() -> None:
    first, second = canonical_ids(mint([work("MS_1"), work("MS_1")]))
    assert first == second


def test_a_released_identifier_goes_to_the_next_file_with_its_canonical_id(dynamodb: OneAtATime) -> None:
    (canonical,) = canonical_ids(mint([work("MS_1", "old/MS_1.xml")]))
    dynamodb.update_item(
        TableName=TABLE,
        Key={"pk": {"S": "source#MS_1"}},
        UpdateExpression="REMOVE #owner",
        ExpressionAttributeNames={"#owner": "owner"},
    )
    moved, late = mint([work("MS_1", "new/MS_1.xml"), work("MS_1", "old/MS_1.xml")])
    assert isinstance(moved, Output)
    assert moved.id == canonical
    assert isinstance(late, IdentifierTaken)
    assert_one_to_one(dynamodb)


@pytest.mark.usefixtures("dynamodb")
@pytest.mark.parametrize(
    "data",
    [None, "text", {}, {"sourceIdentifier": ""}, {"sourceIdentifier": 7}, {"sourceIdentifier": "x" * 257}],
)
def test_a_record_that_is_no_work_is_permanent_and_costs_only_itself(data: Any) -> None:
    bad, good = mint([Record("a.xml", data), work("MS_1")])
    assert isinstance(bad, PermanentError)
    assert isinstance(good, Output)


def test_a_canonical_id_that_is_taken_is_drawn_again(dynamodb: OneAtATime) -> None:
    (taken,) = IdentifierTable(dynamodb, TABLE).claim(claims("MS_1")).values()
    draws = iter([taken.canonical_id, "fresh222", "fresh333", "fresh444"])
    found = IdentifierTable(dynamodb, TABLE, new_id=lambda: next(draws)).claim(claims("MS_2", "MS_3"))
    assert {name: identifier.canonical_id for name, identifier in found.items()} == {
        "MS_2": "fresh333",
        "MS_3": "fresh444",
    }
    assert_one_to_one(dynamodb)


class Rival(OneAtATime):
    """A client that lets another process act just before the first transaction of ours."""

    def __init__(self, client: Any, act: Callable[[], object]) -> None:
        super().__init__(client)
        self._act: Callable[[], object] | None = act

    def transact_write_items(self, **request: Any) -> Any:
        act, self._act = self._act, None
        if act:
            act()
        return self._client.transact_write_items(**request)


def test_whoever_is_slower_takes_what_the_faster_minted(dynamodb: OneAtATime, table: IdentifierTable) -> None:
    fast: dict[str, Identifier] = {}
    rival = Rival(dynamodb, lambda: fast.update(table.claim(claims("MS_2", owner="rival.xml"))))
    found = IdentifierTable(rival, TABLE).claim(claims("MS_1", "MS_2", "MS_3"))
    assert found["MS_2"] == fast["MS_2"]
    assert found["MS_2"].owner == "rival.xml"
    assert found["MS_1"].owner == "MS_1.xml"
    assert_one_to_one(dynamodb)


def test_many_minters_at_once_agree(dynamodb: OneAtATime) -> None:
    names = [f"MS_{number}" for number in range(24)]
    barrier = threading.Barrier(8)

    def one(number: int) -> dict[str, Identifier]:
        barrier.wait()
        ordered = names[number * 3 :] + names[: number * 3]
        return IdentifierTable(dynamodb, TABLE).claim(claims(*ordered, owner=f"{number}.xml"))

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(one, range(8)))
    assert all(result == results[0] for result in results)
    assert set(results[0]) == set(names)
    assert_one_to_one(dynamodb)


class Stub:
    """A client whose answers are written down."""

    def __init__(self, **operations: Callable[..., Any]) -> None:
        self.__dict__.update(operations)


def test_keys_that_dynamodb_left_unread_are_asked_for_again(
    dynamodb: OneAtATime, table: IdentifierTable
) -> None:
    known = table.claim(claims("MS_1", "MS_2", "MS_3"))
    asked = []

    def one_key_a_call(RequestItems: dict[str, Any]) -> Any:  # noqa: N803  boto's name
        keys = RequestItems[TABLE]["Keys"]
        asked.append(len(keys))
        answer = dynamodb.batch_get_item(RequestItems={TABLE: {"Keys": keys[:1]}})
        return answer | {"UnprocessedKeys": {TABLE: {"Keys": keys[1:]}} if keys[1:] else {}}

    found = IdentifierTable(Stub(batch_get_item=one_key_a_call), TABLE).claim(claims("MS_1", "MS_2", "MS_3"))
    assert found == known
    assert asked == [3, 2, 1]


def test_a_table_that_never_answers_in_full_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identifiers, "PAUSES_SECONDS", (0.0,) * 3)
    unread = {"Responses": {}, "UnprocessedKeys": {TABLE: {"Keys": [{"pk": {"S": "source#MS_1"}}]}}}
    with pytest.raises(TableBusy, match="1 of 1 keys unread after 3 goes"):
        IdentifierTable(Stub(batch_get_item=lambda **_: unread), TABLE).claim(claims("MS_1"))


def cancelled(*codes: str) -> ClientError:
    return aws_error(
        "TransactionCanceledException", 400, CancellationReasons=[{"Code": code} for code in codes]
    )


def refusing(error: Exception) -> Stub:
    def refuse(**_: Any) -> Any:
        raise error

    return Stub(batch_get_item=lambda **_: {"Responses": {}}, transact_write_items=refuse)


def test_endless_conflicts_are_busy_not_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identifiers, "PAUSES_SECONDS", (0.0,) * 3)
    with pytest.raises(TableBusy, match="refused 1 new identifiers 3 times"):
        IdentifierTable(refusing(cancelled("TransactionConflict", "None")), TABLE).claim(claims("MS_1"))


OUTAGES = [
    aws_error("ThrottlingException", 400),
    aws_error("ProvisionedThroughputExceededException", 400),
    aws_error("InternalServerError", 500),
    cancelled("None", "ThrottlingError"),
    EndpointConnectionError(endpoint_url="https://dynamodb"),
    TableBusy(),
]
OTHERS = [
    aws_error("ValidationException", 400),
    aws_error("AccessDeniedException", 400),
    cancelled("None", "ValidationError"),
    ValueError(),
]


@pytest.mark.usefixtures("dynamodb")
@pytest.mark.parametrize("error", OUTAGES, ids=repr)
def test_an_outage_fails_each_work_as_transient_without_asking_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    assert is_outage(error)
    monkeypatch.setattr("catalogue.mint.client", lambda _service: refusing(error))
    first, bad, second = mint([work("MS_1"), Record("a.xml"), work("MS_2")])
    assert first is second is error
    assert isinstance(bad, PermanentError)


@pytest.mark.usefixtures("dynamodb")
@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_any_other_error_is_raised_so_that_the_runtime_finds_the_record_it_belongs_to(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    assert not is_outage(error)
    monkeypatch.setattr("catalogue.mint.client", lambda _service: refusing(error))
    with pytest.raises(type(error)):
        mint([work("MS_1")])


def test_a_lambda_without_its_tables_name_fails_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catalogue.mint.client", lambda _service: None)
    monkeypatch.delenv("IDENTIFIERS_TABLE", raising=False)
    with pytest.raises(SettingMissing, match="IDENTIFIERS_TABLE is not set"):
        connect()


@pytest.fixture(scope="module")
def fresh_tables() -> Iterator[Callable[[], OneAtATime]]:
    """A client with an empty table, as often as a property test needs one."""
    with mock_aws():
        client = OneAtATime(
            boto3.client(
                "dynamodb", "eu-west-1", aws_access_key_id="testing", aws_secret_access_key="testing"
            )
        )

        def fresh() -> OneAtATime:
            if client.list_tables()["TableNames"]:
                client.delete_table(TableName=TABLE)
            create_table(client)
            return client

        yield fresh


BATCHES = st.lists(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["1.xml", "2.xml", "3.xml"])), max_size=6),
    max_size=5,
)


@settings(max_examples=25, deadline=None)
@given(batches=BATCHES)
def test_whatever_the_claims_one_identifier_one_owner_one_canonical_id(
    fresh_tables: Callable[[], OneAtATime], batches: list[list[tuple[str, str]]]
) -> None:
    client = fresh_tables()
    draws = itertools.cycle(
        ["aaaaaaa2", "aaaaaaa3", "aaaaaaa4", "aaaaaaa5", "aaaaaaa6"]
    )  # collides all the time
    seen: dict[str, Identifier] = {}
    first_owner: dict[str, str] = {}
    for batch in batches:
        for name, owner in batch:
            first_owner.setdefault(name, owner)
        wanted = [IdentifierClaim(source_identifier=name, owner=owner) for name, owner in batch]
        found = IdentifierTable(client, TABLE, new_id=lambda: next(draws)).claim(wanted)
        for name, identifier in found.items():
            assert seen.setdefault(name, identifier) == identifier
    assert {name: identifier.owner for name, identifier in seen.items()} == first_owner
    assert len({identifier.canonical_id for identifier in seen.values()}) == len(seen)
    assert_one_to_one(client)
