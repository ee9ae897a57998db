"""`winnow local`: the whole system on this machine, for development."""

import click
from rich.console import Console

from scripts.deployed import pipelines
from scripts.local import emulator
from scripts.local import state as local_state
from scripts.local.deployment import deploy_to_emulator
from scripts.local.emulator import CREDENTIALS, REGION, Endpoint
from scripts.local.state import LocalState
from scripts.local.target import at_emulator
from scripts.terminal.errors import CommandRefused
from winnow.core.contract import now


@click.group(
    epilog="""
\b
Examples:
  winnow local up                     start it and deploy this clone's app
  winnow local up --wait-scale 0.1    with waits and retries ten times as fast
  winnow run catalogue --local        commands use it with --local
  winnow local down                   stop it and delete all of its data
"""
)
def local() -> None:
    """The embedded AWS on this machine, with the app deployed: no account, no Docker."""


@local.command()
@click.option(
    "--wait-scale",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Factor on every wait of a state machine; with 0.1 retries are ten times as fast.",
)
def up(wait_scale: float) -> None:
    """Start the embedded AWS and deploy the app."""
    console = Console(stderr=True)
    state = LocalState.read()
    if state or emulator.is_running(local_state.HOME):
        raise CommandRefused(
            "the emulator is already running (winnow local status); to deploy changed code: winnow local down, then up"
        )
    with deploy_to_emulator(local_state.HOME, console, wait_scale=wait_scale) as running:
        state = LocalState(endpoint=running.endpoint, started_at=now())
        state.write()
        running.release()
    print_state(state, Console())


@local.command()
def status() -> None:
    """Show whether it is running, its address, the deployed pipelines and how to connect."""
    state = LocalState.read()
    if not state:
        starting = emulator.is_running(local_state.HOME)
        click.echo("starting" if starting else "not running; start it: winnow local up")
        raise SystemExit(1)
    print_state(state, Console())


@local.command()
def down() -> None:
    """Stop it and all runs in it; delete its data."""
    click.echo("stopped" if emulator.stop(local_state.HOME) else "not running")


def print_state(state: LocalState, console: Console) -> None:
    """Print the address of the local emulator, the deployed pipelines, and how other tools connect to it."""

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    say(f"[bold]{state.endpoint.url}[/]  since {state.started_at}, log {local_state.HOME / 'emulator.log'}")
    for pipeline in pipelines.deployed(at_emulator(state.endpoint)):
        say(f"\npipeline [bold]{pipeline.name}[/]: {' → '.join(pipeline.stages)}")
        say(f"  source   s3://{pipeline.source_bucket}/{pipeline.source_prefix}")
        say(f"  ledger   s3://{pipeline.ledger_bucket}/")
        say(f"  machine  {pipeline.arn}")
        say(f"  run it   ./scripts/winnow run {pipeline.name} --local --source FOLDER_OR_ZIP")
    say(f"\nThe AWS CLI and SDKs reach it with:\n\n{_exports(state.endpoint)}")


def _exports(endpoint: Endpoint) -> str:
    variables = {
        "AWS_ENDPOINT_URL": endpoint.url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,  # all that boto3 reads
        **CREDENTIALS,
    }
    return "  export " + " ".join(f"{name}={value}" for name, value in variables.items())
