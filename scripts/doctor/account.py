"""Checks of who we are and where: credentials, clock, region, and whether CDK can deploy there."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoRegionError

from scripts.doctor.check import CheckGroup, check
from scripts.doctor.context import DoctorContext
from scripts.doctor.examination import error_code, one_line
from scripts.doctor.finding import Finding, NotExamined

EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})

CLOCK_WARNING_SECONDS = 60
CLOCK_LIMIT_SECONDS = 300
"""AWS refuses requests that are signed with a time further away than this."""

CDK_REGION_VARIABLES = ("AWS_REGION", "AMAZON_REGION", "AWS_DEFAULT_REGION", "AMAZON_DEFAULT_REGION")
"""In the order in which the CDK command line asks them."""
CDK_LAST_REGION = "us-east-1"
"""What the CDK command line takes where nothing names a region."""

BOOTSTRAP_PARAMETER = "/cdk-bootstrap/hnb659fds/version"
OLDEST_BOOTSTRAP = 6
"""`requiresBootstrapStackVersion` of what CDK synthesises for us."""


@check("credentials", CheckGroup.ACCOUNT)
def credentials(context: DoctorContext) -> Finding:
    """AWS takes the credentials, and they are of the account that cdk.json names."""
    try:
        identity = context.identity()
    except ClientError as error:
        if error_code(error) in EXPIRED:
            return Finding.failed(
                "the credentials have expired", "Get new ones, for instance:", "aws sso login"
            )
        return Finding.failed(
            f"AWS does not take the credentials: {one_line(error)}",
            "See which are used, and from where:",
            "aws configure list",
        )
    except BotoCoreError as error:
        return Finding.failed(
            f"no credentials that work: {one_line(error)}",
            "Name a profile that has them (AWS_PROFILE), or log in. See which are used:",
            "aws configure list",
        )
    account = _named_account(context)
    if account and account != identity.account:
        return Finding.failed(
            f"they are of account {identity.account}, and cdk.json deploys {context.environment} to {account}",
            f"Use credentials of account {account}, or change the field `account` of cdk.json.",
        )
    return Finding.ok(f"account {identity.account}, as {identity.arn}")


def _named_account(context: DoctorContext) -> str | None:
    with suppress(NotExamined):
        return None if context.target.is_local else context.settings().account
    return None


@check("clock", CheckGroup.ACCOUNT)
def clock(context: DoctorContext) -> Finding:
    """This machine's clock is near AWS's: requests are signed with it."""
    ahead = context.clock_ahead_seconds()
    if ahead is None:
        return Finding.skipped("AWS did not tell the time")
    apart = abs(ahead)
    said = f"this machine's clock is {apart:.0f} s {'ahead of' if ahead > 0 else 'behind'} AWS's"
    remedy = "Have it set by NTP."
    if apart > CLOCK_LIMIT_SECONDS:
        return Finding.failed(f"{said}; AWS refuses requests beyond {CLOCK_LIMIT_SECONDS} s", remedy)
    if apart > CLOCK_WARNING_SECONDS:
        return Finding.warning(said, remedy)
    return Finding.ok("this machine's clock agrees with AWS's")


@check("region", CheckGroup.CLONE)
def region(context: DoctorContext) -> Finding:
    """This command looks where CDK deploys to."""
    try:
        ours: str | None = context.target.client("cloudformation").meta.region_name
    except NoRegionError:
        ours = None
    if context.target.is_local:
        return Finding.ok(f"{ours}, which the emulator plays")
    named = context.settings().region
    theirs, source = (named, "cdk.json") if named else cdk_region(context.variables, context.profiles())
    if ours == theirs:
        return Finding.ok(f"{ours}, by {source}")
    here = f"this command looks in {ours}" if ours else "this command has none"
    return Finding.failed(
        f"CDK deploys to {theirs} (by {source}), and {here}",
        "Name the one that you mean, for both:",
        f"export AWS_REGION={theirs if named else 'REGION'}",
    )


def cdk_region(variables: Mapping[str, str], profiles: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """The region that the CDK command line takes for a stack that names none, and what says so.

    On an EC2 instance CDK asks the instance before it takes the last one; that is left out here.
    """
    for name in CDK_REGION_VARIABLES:
        if variables.get(name):
            return variables[name], name
    chosen = variables.get("AWS_PROFILE") or variables.get("AWS_DEFAULT_PROFILE") or "default"
    for profile in (chosen, "default"):
        found = profiles.get(profile, {}).get("region")
        if found:
            return str(found), f"profile {profile}"
    return CDK_LAST_REGION, "CDK's own default, as nothing names one"


@check("bootstrap", CheckGroup.ACCOUNT)
def bootstrap(context: DoctorContext) -> Finding:
    """The account and region are prepared for CDK."""
    ssm = context.client("ssm")
    where = f"aws://{context.identity().account}/{ssm.meta.region_name}"
    command = f"npx cdk bootstrap {where} -c environment={context.environment}"
    try:
        answer = ssm.get_parameter(Name=BOOTSTRAP_PARAMETER)
    except ClientError as error:
        if error_code(error) == "ParameterNotFound":
            return Finding.failed("this account and region are not bootstrapped for CDK", "Once:", command)
        raise
    version = int(answer["Parameter"]["Value"])
    if version < OLDEST_BOOTSTRAP:
        return Finding.failed(
            f"version {version}; at least {OLDEST_BOOTSTRAP} is needed", "Once more:", command
        )
    return Finding.ok(f"version {version}; at least {OLDEST_BOOTSTRAP} is needed")
