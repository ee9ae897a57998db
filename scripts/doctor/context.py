"""What checks look at: the clone, the account behind the command's target, and the stack of one environment."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError

from scripts import ROOT
from scripts.deployed.target import Target
from scripts.doctor.finding import NotExamined
from scripts.doctor.settings import read_settings
from scripts.doctor.stack import DeployedStack, StackResource, find_resources, find_stacks
from stacks.settings import EnvironmentSettings, EnvironmentSettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who AWS says that we are."""

    account: str
    arn: str


def output_of(command: Sequence[str]) -> str | None:
    """What a program prints, without blanks around it; None where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def aws_profiles() -> Mapping[str, Mapping[str, Any]]:
    """The profiles of the AWS configuration files, by name."""
    found: Mapping[str, Mapping[str, Any]] = botocore.session.Session().full_config.get("profiles", {})
    return found


@dataclass(slots=True, kw_only=True)
class DoctorContext:
    """Everything that a check may ask for. What AWS is asked for is asked once.

    What cannot be had raises `NotExamined`, with the reason: the check that tells about it says more.
    """

    target: Target
    environment: str
    """The environment that is examined."""
    pipeline: str | None = None
    """The pipeline that is examined; None for the only one."""
    root: Path = ROOT
    """The clone."""
    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: Callable[[], float] = time.time
    """Seconds since the epoch, as this machine has it."""
    output_of: Callable[[Sequence[str]], str | None] = output_of
    profiles: Callable[[], Mapping[str, Mapping[str, Any]]] = aws_profiles

    _identity: Identity | ClientError | BotoCoreError | None = field(default=None, init=False)
    _clock_ahead_seconds: float | None = field(default=None, init=False)
    _stacks: list[DeployedStack] | ClientError | BotoCoreError | None = field(default=None, init=False)
    _resources: list[StackResource] | None = field(default=None, init=False)
    _making: threading.RLock = field(default_factory=threading.RLock, init=False)
    """boto3 makes no two clients at the same time, and probes run at the same time."""

    def client(self, service: str) -> Any:
        """The client of an AWS service.

        Raises:
            NotExamined: AWS does not take the credentials, or there is no region; the checks of these say why. Or the
                emulator does not have the service.
        """
        try:
            self.identity()
        except (ClientError, BotoCoreError):
            raise NotExamined("needs credentials that work") from None
        try:
            with self._making:
                return self.target.client(service)
        except NoRegionError:
            raise NotExamined("needs a region") from None
        except Exception:  # localstack-client raises this very class for a service that it does not know
            if self.target.is_local:
                raise NotExamined(f"the emulator does not have {service}") from None
            raise

    def identity(self) -> Identity:
        """Who we are. Needs no permission.

        Raises:
            ClientError: AWS does not take the credentials.
            BotoCoreError: there are none, or AWS does not answer.
        """
        if self._identity is None:
            asked = self.clock()
            try:
                answer = self.target.client("sts").get_caller_identity()
                self._identity = Identity(account=answer["Account"], arn=answer["Arn"])
                self._compare_clocks(asked, answer)
            except ClientError as error:
                self._identity = error
                self._compare_clocks(asked, error.response)
            except BotoCoreError as error:
                self._identity = error
        if isinstance(self._identity, Exception):
            raise self._identity
        return self._identity

    def clock_ahead_seconds(self) -> float | None:
        """By how much this machine's clock is ahead of AWS's; None where AWS did not answer, or without the time."""
        with suppress(ClientError, BotoCoreError):
            self.identity()
        return self._clock_ahead_seconds

    def _compare_clocks(self, asked: float, answer: Mapping[str, Any]) -> None:
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        try:
            theirs = parsedate_to_datetime(date).timestamp()
        except (TypeError, ValueError):
            return
        # The header has whole seconds, cut off; the answer was made somewhere between asking and having it.
        self._clock_ahead_seconds = (asked + self.clock()) / 2 - (theirs + 0.5)

    def stacks(self) -> list[DeployedStack]:
        """Winnow's stacks in the account and region, of every environment; also one that is half deployed."""
        if self._stacks is None:
            try:
                self._stacks = find_stacks(self.client("cloudformation"))
            except (ClientError, BotoCoreError) as error:
                self._stacks = error
        if isinstance(self._stacks, Exception):
            raise self._stacks
        return self._stacks

    def stack(self, *, whole: bool = True) -> DeployedStack:
        """The stack that is examined.

        Args:
            whole: it must have been deployed once; else a first deploy that failed, or is under way, will do.

        Raises:
            NotExamined: it is not deployed, or there are several and none was chosen.
        """
        try:
            stacks = self.stacks()
        except (ClientError, BotoCoreError):
            raise NotExamined("the stack cannot be read") from None
        found = [
            stack
            for stack in stacks
            if stack.environment == self.environment and self.pipeline in {None, stack.pipeline}
        ]
        if not found:
            raise NotExamined("not deployed yet")
        if len(found) > 1:
            raise NotExamined("there are several stacks; see names, and give PIPELINE")
        if whole and not found[0].outputs:
            raise NotExamined("its first deploy has not come to an end")
        return found[0]

    def settings(self) -> EnvironmentSettings:
        """What cdk.json says of the environment.

        Raises:
            NotExamined: it is wrong; the check of settings says why.
        """
        try:
            return read_settings(self.root, self.environment)
        except EnvironmentSettingsError:
            raise NotExamined("needs settings that are valid") from None

    def resources(self, resource_type: str) -> list[StackResource]:
        """What the stack that is examined has of a type, such as AWS::SQS::Queue.

        Raises:
            NotExamined: it is not deployed.
        """
        if self._resources is None:
            self._resources = find_resources(self.client("cloudformation"), self.stack().name)
        return [each for each in self._resources if each.type == resource_type]
