"""`winnow gate`: evaluates rules of the quality gate on what a run built, as often as one likes, and changes nothing."""

import importlib
import json
from pathlib import Path

import click
from rich.console import Console

from scripts.commands.aim import current_target, target_options
from scripts.commands.publish.desk import refusals
from scripts.commands.verify import find_in_ledgers
from scripts.deployed import pipelines
from scripts.deployed.gates import deployed_rules
from scripts.deployed.publications import open_published
from scripts.display.gates import print_gate
from scripts.terminal.errors import CommandRefused, Mistake
from winnow.publish.published_set import PublishedSet
from winnow.quality.judged import candidate_of
from winnow.quality.result import GateOutcome, GateResult
from winnow.quality.rules import InvalidRule, Rule, checked_rules, rules_from_json
from winnow.storage.published_store import S3PublishedStore

EXIT_CODES = {GateOutcome.PASSED: 0, GateOutcome.WARNED: 3, GateOutcome.BLOCKED: 1}
"""As `winnow verify`: 3 is what went on although something is wrong with it."""


@click.command(
    short_help="Evaluate the rules of the gate on what a run built.",
    epilog="""
\b
Exit codes: 0 every rule passes; 3 a rule that only warns is violated; 1 a rule that blocks is violated,
or cannot be evaluated; 2 there is no such run, version or rule.

\b
Examples:
  winnow gate 01M7WM2TA039VAFTG0YJE3Y714 --explain
  winnow gate 01M7WM2TA039VAFTG0YJE3Y714 --rules stacks.catalogue_stack:RULES     before they are deployed
  winnow gate 01M7WM2TA039VAFTG0YJE3Y714 --rules rules.json --json | jq .outcome
""",
)
@click.argument("run")
@click.option(
    "--rules",
    metavar="RULES",
    help="Evaluate these instead of the deployed ones: MODULE:NAME of a list in this clone, or a JSON file.",
)
@click.option(
    "--version",
    "number",
    metavar="N",
    type=click.IntRange(min=1),
    help="[default: the last one that RUN built]",
)
@click.option("--explain", is_flag=True, help="Also say why each rule is there, and which ids come first.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@target_options
def gate(run: str, rules: str | None, number: int | None, explain: bool, as_json: bool) -> None:
    """Evaluate rules of the quality gate on the version that RUN built, published or not. Changes nothing.

    RUN is a run id, or the name or the ARN of an execution. What CheckQuality wrote down at its time, `winnow publish show` has.
    """
    from winnow.quality.gate import QualityGate  # noqa: PLC0415  no other command waits for DuckDB

    target = current_target()
    found = find_in_ledgers(target, run, None)
    pipeline = pipelines.find(target, found.pipeline)
    published = open_published(target, pipeline)
    if published is None:
        raise Mistake(
            "RUN", run, f"must be of a pipeline that publishes, and {pipeline.name} publishes nothing"
        )
    chosen = read_rules(rules) if rules else _deployed(deployed_rules(target, pipeline))
    with refusals():
        version = number or _version_of(published, found.run_id)
        result = QualityGate(
            ledger=found.ledger,
            published=published,
            rules=chosen,
            open_bucket=lambda name: S3PublishedStore(name, target.client("s3")),
        ).examine(version)
    _say(result, explain=explain, as_json=as_json)
    raise SystemExit(EXIT_CODES[result.outcome])


def read_rules(text: str) -> tuple[Rule, ...]:
    """Rules of this clone, or of a file.

    Args:
        text: `MODULE:NAME` of a list, or the path of a JSON file as `rules_to_json` writes it.

    Raises:
        Mistake: there is no such list or file, or it does not hold rules.
    """
    module, colon, name = text.rpartition(":")
    try:
        if not colon or Path(text).is_file():
            return rules_from_json(json.loads(Path(text).read_text(encoding="utf-8")))
        return checked_rules(getattr(importlib.import_module(module), name))
    except InvalidRule as error:
        raise CommandRefused(f"--rules {text}: {error}") from error
    except (OSError, ValueError) as error:
        raise Mistake("--rules", text, f"must be a JSON file with a list of rules ({error})") from error
    except (ImportError, AttributeError, TypeError) as error:
        raise Mistake(
            "--rules", text, f"must be MODULE:NAME of a list of rules in this clone ({error})"
        ) from error


def _deployed(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    if not rules:
        raise Mistake("--rules", "nothing", "must be given, as the deployed pipeline has no gate")
    return rules


def _version_of(published: PublishedSet, run_id: str) -> int:
    mark = published.published_by(run_id)
    version = mark.version if mark else candidate_of(published, run_id)
    if version is None:
        raise Mistake(
            "RUN", run_id, f"must have built a version of {published.name}; see winnow publish list"
        )
    return version


def _say(result: GateResult, *, explain: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result.to_json(), ensure_ascii=False))
    else:
        print_gate(result, Console(highlight=False), explain=explain)
