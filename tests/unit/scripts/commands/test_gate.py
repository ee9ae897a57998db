"""`winnow gate`: the rules on what a run built, those that are deployed or those of this clone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from scripts.commands import cli, gate
from scripts.deployed import pipelines
from scripts.deployed.pipelines import DeployedPipeline
from scripts.deployed.runs import FoundRun
from scripts.deployed.target import Target
from tests.unit.winnow.publications import Publication, numbered
from winnow.quality.judged import find_gate
from winnow.quality.rules import InRange, Rule, RuleSeverity, Unique, rules_to_json

if TYPE_CHECKING:
    from pathlib import Path

WHY = "a page has ten lines"
BLOCKS = InRange("n", maximum=10, reason=WHY)
WARNS = Unique("n", reason="one shelf each", severity=RuleSeverity.WARN)
PASSES = InRange("n", maximum=100, reason=WHY, name="passes")
RULES = [PASSES, BLOCKS]
"""Of this clone: `--rules` reads it from here."""
NO_RULES = ["unique"]


@dataclass
class Site:
    """An account with one pipeline, whose gate has some rules."""

    works: Publication = field(default_factory=Publication)
    rules: tuple[Rule, ...] = (PASSES,)
    publishes: bool = True

    def client(self, service: str) -> Any:
        assert service == "stepfunctions"
        return self

    def describe_state_machine(self, **request: str) -> dict[str, str]:
        assert request == {"stateMachineArn": "arn"}
        payload = {"run_id.$": "$.run_id", "rules": rules_to_json(self.rules)}
        states: dict[str, Any] = {"CheckQuality": {"Parameters": {"Payload": payload}}} if self.rules else {}
        return {"definition": json.dumps({"States": states})}

    def winnow(self, *arguments: str) -> Result:
        before = dict(self.works.store.objects)
        done = CliRunner().invoke(cli.main, ["gate", *arguments], catch_exceptions=False)
        assert self.works.store.objects == before
        return done


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    """Version 1 is published; run 02 built version 2, which nobody has judged."""
    made = Site()
    made.works.go("01", numbered({"a": 1}))
    made.works.build(made.works.run("02", numbered({"b": 11, "c": 11})))
    pipeline = DeployedPipeline(
        name="catalogue",
        arn="arn",
        stages=("last",),
        ledger_bucket="ledger",
        source_bucket="s",
        source_prefix="",
    )

    def find(_: Target, run: str, __: None) -> FoundRun:
        return FoundRun(run_id=run, pipeline="catalogue", ledger=made.works.ledger, document=None, alone={})

    target = Target(name="the account", is_local=False, client=made.client)
    monkeypatch.setattr(gate, "current_target", lambda: target)
    monkeypatch.setattr(gate, "find_in_ledgers", find)
    monkeypatch.setattr(pipelines, "find", lambda _target, _name: pipeline)
    monkeypatch.setattr(
        gate, "open_published", lambda _target, _pipeline: made.works.set if made.publishes else None
    )
    return made


@pytest.mark.parametrize(
    ("rules", "code", "said"),
    [((PASSES,), 0, "passed (1 passed)"), ((PASSES, WARNS), 3, "warned (1 passed, 1 warned)"),
     ((WARNS, BLOCKS), 1, "blocked (1 warned, 1 blocked)")],
)  # fmt: skip
def test_says_by_its_exit_code_what_the_deployed_rules_say(
    site: Site, rules: tuple[Rule, ...], code: int, said: str
) -> None:
    site.rules = rules
    done = site.winnow("run-02")

    assert done.exit_code == code
    assert done.stdout.splitlines()[0] == f"version 2 of works, 3 rows, of run run-02: {said}"
    assert find_gate(site.works.set, 2) is None


def test_explains_each_rule(site: Site) -> None:
    site.rules = (BLOCKS, WARNS)

    assert site.winnow("run-02", "--explain").stdout.splitlines()[1:] == [
        "  blocked in range n: not so in 2 of 3 rows (66.67%)",
        "          because: a page has ten lines",
        "          expected: n is at most 10 in every row; blocks",
        "          first ids: b, c",
        "  warned  unique n: 2 of 3 rows have one that another row has, too (66.67%)",
        "          because: one shelf each",
        "          expected: no two rows have the same n; only warns",
        "          first ids: b, c",
    ]


def test_evaluates_rules_of_this_clone_before_they_are_deployed(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text(json.dumps(rules_to_json(RULES)))

    for named in (f"{__name__}:RULES", str(file)):
        done = site.winnow("run-02", "--rules", named, "--json")
        assert done.exit_code == 1
        assert [each["outcome"] for each in json.loads(done.stdout)["results"]] == ["passed", "blocked"]


def test_evaluates_what_is_published_and_any_other_version_too(site: Site) -> None:
    assert json.loads(site.winnow("run-01", "--json").stdout)["version"] == 1
    assert json.loads(site.winnow("run-01", "--version", "2", "--json").stdout)["version"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run-03",), "RUN must have built a version of works; see winnow publish list, got: 'run-03'"),
        (("run-02", "--version", "9"), "version: works has no whole version of that number"),
        (("run-02", "--rules", "no/such.json"), "--rules must be a JSON file with a list of rules"),
        (("run-02", "--rules", "no.such:RULES"), "--rules must be MODULE:NAME of a list of rules in this clone"),
        (("run-02", "--rules", f"{__name__}:NOTHING"), "--rules must be MODULE:NAME of a list of rules in this clone"),
        (("run-02", "--rules", f"{__name__}:Site"), "--rules must be MODULE:NAME of a list of rules in this clone"),
        (("run-02", "--rules", f"{__name__}:NO_RULES"), "quality.rules: must be rules of winnow.quality.rules, got: 'unique'"),
    ],
)  # fmt: skip
def test_refuses_in_one_line_what_it_cannot_evaluate(
    site: Site, arguments: tuple[str, ...], said: str
) -> None:
    done = site.winnow(*arguments)

    assert done.exit_code == 2
    assert said in done.stderr.strip().splitlines()[-1]


def test_refuses_a_pipeline_without_a_gate_or_a_publication(site: Site) -> None:
    site.rules = ()
    assert "--rules must be given, as the deployed pipeline has no gate" in site.winnow("run-02").stderr
    site.publishes = False
    assert (
        "must be of a pipeline that publishes, and catalogue publishes nothing"
        in site.winnow("run-02").stderr
    )
