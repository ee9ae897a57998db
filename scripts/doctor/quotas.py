"""Checks of what the account allows, against what a pipeline asks for."""

from typing import Any

from botocore.exceptions import ClientError

from scripts.doctor.check import CheckGroup, check
from scripts.doctor.context import DoctorContext
from scripts.doctor.examination import DENIED, error_code, missing_permission
from scripts.doctor.finding import Finding, NotExamined

KEPT_UNRESERVED = 100
"""Lambda refuses a reservation that would leave less than this to all functions without one."""
FEW_AT_ONCE = 100
"""A new account may have 10, which one run's functions and their retries can use up."""
MORE_CONCURRENCY = "aws service-quotas request-service-quota-increase --service-code lambda --quota-code L-B99A9384 --desired-value 1000"

DEFAULT_OPEN_EXECUTIONS = 1_000_000
"""Of an account in a region, as AWS documents it."""
FEW_OPEN_EXECUTIONS = 1_000

MAX_POLICY_CHARS = 5_120
NEARLY_FULL_CHARS = 4_600
MAX_POLICIES = 10
"""Of CloudWatch Logs' resource policies: characters of each, and their number in a region."""
DELIVERY_POLICY = "AWSLogDeliveryWrite"
"""How the name of the policy begins that Step Functions adds the log groups of its machines to."""


@check("concurrency", CheckGroup.ACCOUNT)
def concurrency(context: DoctorContext) -> Finding:
    """Lambda may run as many functions at once as the workers are to be given."""
    functions = context.client("lambda")
    limits = functions.get_account_settings()["AccountLimit"]
    total, unreserved = limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]
    each = context.settings().worker_reserved_concurrency
    have = f"Lambda may run {total:,} at once, {unreserved:,} of them unreserved"
    if each:
        workers = _workers(context)
        reserved = sum(_reserved(functions, name) for name in workers)
        count = max(1, len(workers))
        missing = count * each - reserved
        stages = f"{count} worker{'s' if count > 1 else ''}" if workers else "each worker"
        asked = f"{stages} × {each} reserved"
        if missing > 0 and unreserved - missing < KEPT_UNRESERVED:
            return Finding.failed(
                f"{have}; {asked} would leave less than {KEPT_UNRESERVED} of them, so Lambda refuses it",
                "Lower worker_reserved_concurrency in cdk.json, or ask for more:",
                MORE_CONCURRENCY,
            )
        have = f"{have}; {asked}"
    if total < FEW_AT_ONCE:
        return Finding.warning(
            f"{have}: few, as new accounts have it; runs at the same time will be throttled",
            "Ask for more:",
            MORE_CONCURRENCY,
        )
    return Finding.ok(have)


def _workers(context: DoctorContext) -> list[str]:
    """Names of the deployed workers; none before the first deploy."""
    try:
        return list(context.stack().of_stages("WorkerName").values())
    except NotExamined:
        return []


def _reserved(functions: Any, name: str) -> int:
    answer = functions.get_function_concurrency(FunctionName=name)
    return int(answer.get("ReservedConcurrentExecutions") or 0)


@check("executions", CheckGroup.ACCOUNT)
def executions(context: DoctorContext) -> Finding:
    """Step Functions may have as many executions open as runs need."""
    needed = 2 + context.settings().max_tries
    asks = f"a run opens a few at once, some {needed} where it retries"
    try:
        quota, why = _open_executions(context.client("service-quotas")), "Service Quotas does not list it"
    except NotExamined as reason:
        quota, why = None, str(reason)
    except ClientError as error:
        if error_code(error) not in DENIED:
            raise
        quota, why = None, f"you lack the permission {missing_permission(error)}"
    if quota is None:
        return Finding.skipped(
            f"{why}; by default AWS allows {DEFAULT_OPEN_EXECUTIONS:,} open executions, and {asks}"
        )
    said = f"{quota:,} executions may be open; {asks}"
    if quota < FEW_OPEN_EXECUTIONS:
        return Finding.warning(said, "Ask for more in the console of Service Quotas.")
    return Finding.ok(said)


def _open_executions(quotas: Any) -> int | None:
    for page in quotas.get_paginator("list_service_quotas").paginate(ServiceCode="states"):
        for quota in page["Quotas"]:
            if "open executions" in quota["QuotaName"].lower():
                return int(quota["Value"])
    return None


@check("log policies", CheckGroup.ACCOUNT)
def log_policies(context: DoctorContext) -> Finding:
    """CloudWatch Logs still has room for the permission by which Step Functions writes logs."""
    policies: list[dict[str, Any]] = []
    for page in context.client("logs").get_paginator("describe_resource_policies").paginate():
        policies += page["resourcePolicies"]
    sizes = {each["policyName"]: len(each.get("policyDocument", "")) for each in policies}
    has_delivery = any(name.startswith(DELIVERY_POLICY) for name in sizes)
    counted = f"{len(sizes)} of {MAX_POLICIES} resource policies"
    look = "See them, and delete what is left of other stacks:"
    command = "aws logs describe-resource-policies"
    if len(sizes) >= MAX_POLICIES and not has_delivery:
        return Finding.failed(
            f"{counted}: no room for the one that Step Functions makes, so a machine that logs is refused",
            look,
            command,
        )
    full = {name: size for name, size in sizes.items() if size >= NEARLY_FULL_CHARS}
    if full:
        told = ", ".join(f"{name} {size:,}" for name, size in full.items())
        return Finding.warning(
            f"nearly full: {told} of {MAX_POLICY_CHARS:,} characters. Winnow's machines log to /aws/vendedlogs/, for which "
            "AWS makes room; others may find none",
            look,
            command,
        )
    largest = f", the largest of {max(sizes.values()):,} of {MAX_POLICY_CHARS:,} characters" if sizes else ""
    return Finding.ok(f"{counted}{largest}")
