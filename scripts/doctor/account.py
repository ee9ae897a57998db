"""Checks of the account and the region that a pipeline is deployed to. They need no deployed pipeline."""

from botocore.exceptions import BotoCoreError, ClientError

from scripts.doctor.check import CheckGroup, check
from scripts.doctor.context import DoctorContext
from scripts.doctor.examination import one_line
from scripts.doctor.finding import Finding

EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})


@check("credentials", CheckGroup.ACCOUNT)
def credentials(context: DoctorContext) -> Finding:
    """AWS takes the credentials; who they belong to."""
    try:
        identity = context.identity()
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in EXPIRED:
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
            "Name a profile that has them, or log in; see which are used:",
            "aws configure list",
        )
    return Finding.ok(f"account {identity.account}, as {identity.arn}")
