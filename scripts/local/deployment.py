"""The app, deployed to an emulator of its own."""

from pathlib import Path

from rich.console import Console

from scripts.local import cdk
from scripts.local.emulator import Emulator
from scripts.local.target import at_emulator
from scripts.terminal.steps import step

NO_WEBHOOK = "http://127.0.0.1:9/nobody-listens"


def deploy_to_emulator(
    home: Path,
    console: Console,
    *,
    wait_scale: float = 1.0,
    strict: bool = False,
    webhook: str = NO_WEBHOOK,
) -> Emulator:
    """Start an emulator and deploy the app of this clone to it.

    Args:
        home: the emulator's, see `Emulator.start`.
        console: where to say what is going on.
        wait_scale: factor on every wait of a state machine.
        strict: TLS and IAM enforced.
        webhook: where alerts for Slack are to go.

    Raises:
        Failure: it cannot be done; the message ends with the end of the log that says why.
    """
    # In the background: it needs no emulator, and it is what takes longest.
    synthesis = cdk.Synthesis()
    with step(console, "starting the embedded AWS") as say:
        emulator = Emulator.start(home, wait_scale=wait_scale, strict=strict)
        say(emulator.endpoint.url)
    try:
        _deploy(emulator, synthesis, console, webhook)
    except BaseException:
        emulator.stop()
        raise
    return emulator


def _deploy(emulator: Emulator, synthesis: cdk.Synthesis, console: Console, webhook: str) -> None:
    with step(console, "cdk bootstrap"):
        bootstrap = cdk.bootstrap(emulator.endpoint, emulator.home / "bootstrap.log")
        _put_secret(emulator, webhook)
        bootstrap.wait()
    with step(console, "cdk synth") as say:
        assembly = synthesis.wait()
        if synthesis.is_reused:
            say("nothing changed since the last time")
    with step(console, "cdk deploy"):
        cdk.deploy(assembly, emulator.endpoint, emulator.home / "deploy.log").wait()


def _put_secret(emulator: Emulator, webhook: str) -> None:
    """The webhook's address is the one thing that the app expects to find in its account."""
    name = cdk.settings().get("slack_webhook_secret")
    if name:
        secrets = at_emulator(emulator.endpoint).client("secretsmanager")
        secrets.create_secret(Name=name, SecretString=webhook)
