"""The embedded AWS: one ministack process on loopback, on a free port, stopped with the process that started it."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from scripts.local import tether
from scripts.terminal.errors import CommandFailed

ACCOUNT = "000000000000"
REGION = "eu-west-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
LOOPBACK = "127.0.0.1,localhost"

READY_WITHIN_SECONDS = 60
NOT_INHERITED = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "WINNOW_ENVIRONMENT"}
PROGRAM = Path(__file__).with_name("emulator_process.py")
ATTEMPTS = 3
"""To start: another process may take the free port just before it is used."""


class EmulatorError(CommandFailed):
    """The emulator does not do what it should; the message ends with the end of its log."""


class PortTakenError(EmulatorError):
    """Another process took the free port first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where an emulator answers."""

    url: str
    ca_bundle: Path | None = None
    """What clients must trust; None without TLS."""

    def environment(self) -> dict[str, str]:
        """Environment of a process that is to reach this emulator and cannot reach anything else of AWS."""
        variables = environment_without_aws(os.environ) | CREDENTIALS
        variables |= {"AWS_ENDPOINT_URL": self.url, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
        if self.ca_bundle:
            bundle = str(self.ca_bundle)
            variables |= {"AWS_CA_BUNDLE": bundle, "SSL_CERT_FILE": bundle, "NODE_EXTRA_CA_CERTS": bundle}
        return variables

    def is_answering(self) -> bool:
        """Whether its health endpoint answers."""
        trust = ssl.create_default_context(cafile=self.ca_bundle) if self.ca_bundle else None
        past_proxies = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
        )
        try:
            with past_proxies.open(f"{self.url}/_ministack/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def environment_without_aws(inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment without anything that leads to a real account, goes through a proxy or slows Python down."""
    variables = {
        name: value
        for name, value in inherited.items()
        if not name.startswith("AWS_") and name not in NOT_INHERITED
    }
    already = inherited.get("NO_PROXY") or inherited.get("no_proxy")
    past_proxies = f"{already},{LOOPBACK}" if already else LOOPBACK
    return variables | {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": past_proxies,
        "no_proxy": past_proxies,
    }


class Emulator:
    """A running emulator. Ends when told to, when left as a context, and when this process ends in any way."""

    def __init__(self, home: Path, endpoint: Endpoint, process: tether.Tethered) -> None:
        self.home = home
        self.endpoint = endpoint
        self._process = process
        self._released = False

    @classmethod
    def start(cls, home: Path, *, wait_scale: float = 1.0, strict: bool = False) -> Self:
        """Start an emulator and wait until it answers.

        Args:
            home: folder of its own, made here and removed when it ends.
            wait_scale: factor on every wait of a state machine, retries included.
            strict: TLS, and IAM really evaluated: slower, and it proves every permission.

        Raises:
            EmulatorError: it did not start, or another one lives in this home.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return cls._start(home, wait_scale=wait_scale, strict=strict)
            except PortTakenError:
                continue
        return cls._start(home, wait_scale=wait_scale, strict=strict)

    @classmethod
    def _start(cls, home: Path, *, wait_scale: float, strict: bool) -> Self:
        if is_running(home):
            raise EmulatorError(f"an emulator is running in {home} already; stop it first: winnow local down")
        shutil.rmtree(home, ignore_errors=True)
        temporary = home / "tmp"
        temporary.mkdir(parents=True)
        port = _free_port()
        variables = environment_without_aws(os.environ) | CREDENTIALS
        variables |= {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "MINISTACK_REGION": REGION,
            "SFN_WAIT_SCALE": str(wait_scale),
            "TMPDIR": str(temporary),
            # It would look for containers of its own to clear away, and listen for MQTT on a fixed port.
            "DOCKER_HOST": f"unix://{home}/no-docker",
            "IOT_MTLS_ENABLED": "0",
        }
        endpoint = Endpoint(url=f"http://127.0.0.1:{port}")
        if strict:
            variables |= {"USE_SSL": "1", "AUTH": "true"}
            endpoint = Endpoint(url=f"https://localhost:{port}", ca_bundle=_certificate(variables))
        process = tether.Tethered(
            [sys.executable, "-P", str(PROGRAM)],
            environment=variables,
            log=home / "emulator.log",
            lock=home / "lock",
            remove=home,
        )
        emulator = cls(home, endpoint, process)
        try:
            emulator._await_answer(port)
        except BaseException:
            emulator.stop()
            shutil.rmtree(home, ignore_errors=True)
            raise
        return emulator

    def _await_answer(self, port: int) -> None:
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while not self.endpoint.is_answering():
            if self._process.poll() is not None:
                log = self.log_tail()
                error = PortTakenError if f":{port} is already in use" in log else EmulatorError
                raise error(f"the emulator ended at once; its log ends with:\n{log}")
            if time.monotonic() > deadline:
                raise EmulatorError(
                    f"the emulator does not answer after {READY_WITHIN_SECONDS} s; its log ends with:\n{self.log_tail()}"
                )
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._released:
            self.stop()

    def log_tail(self, lines: int = 20) -> str:
        """The end of its log."""
        return tail(self.home / "emulator.log", lines)

    def release(self) -> None:
        """Let it run on after this process; `stop` of its home ends it."""
        self._process.release()
        self._released = True

    def stop(self) -> None:
        """End it and all that it started; its home goes too. Harmless when it has ended."""
        self._process.stop()


def is_running(home: Path) -> bool:
    """Whether an emulator lives in this home."""
    return tether.is_held(home / "lock")


def stop(home: Path) -> bool:
    """End an emulator that was released; False when there is none."""
    return tether.stop_holder(home / "lock")


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(nothing)"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _certificate(variables: Mapping[str, str]) -> Path:
    """Have the emulator make its certificate before it starts: its clients' environment names it."""
    make = "from ministack.core.tls import resolve_tls_material; print(resolve_tls_material()[0])"
    made = subprocess.run(
        [sys.executable, "-c", make], env=dict(variables), capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise EmulatorError(
            f"cannot make a certificate, which needs openssl: {made.stderr.strip().splitlines()[-1]}"
        )
    return Path(made.stdout.strip())
