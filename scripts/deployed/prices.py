"""AWS list prices in US dollars, in the region us-east-1, without free tiers, as published in 2026. Other regions differ by some per cent.

The only table of prices: estimates of replays, `./scripts/bench cost` and the costs in docs/deploying.md follow from it.

Sources: the pages aws.amazon.com/step-functions/pricing, /s3/pricing, /lambda/pricing, /dynamodb/pricing, /cloudwatch/pricing,
/kms/pricing and /secrets-manager/pricing.
"""

STATE_TRANSITION = 25 / 1e6
"""Standard workflows; a retry counts as one, too."""
S3_WRITE = 5 / 1e6
"""PUT, COPY, POST, LIST."""
S3_READ = 0.40 / 1e6
"""GET, HEAD and all others."""
LAMBDA_REQUEST = 0.20 / 1e6
LAMBDA_GB_SECOND = 0.000_013_333_4
"""On arm64, which Winnow deploys to; a fifth less than on x86."""
DYNAMODB_WRITE = 0.625 / 1e6
DYNAMODB_READ = 0.125 / 1e6
"""On demand, strongly consistent, up to 4 KB."""

S3_GB_MONTH = 0.023
S3_COLD_GB_MONTH = 0.004
"""Glacier Instant Retrieval: read like any other object, for 0.03 a GB; an object counts as 128 KB and 90 days at least."""
S3_COLD_TRANSITION = 20 / 1e6
"""An object's move there, by a lifecycle rule."""

METRIC_MONTH = 0.30
"""Custom, a name with a set of dimensions; by the hour, and only the hours in which it gets a value."""
ALARM_MONTH = 0.10
LOGS_GB = 0.50
"""Taken in, which is paid once."""
LOGS_GB_MONTH = 0.03
KEY_MONTH = 1.00
"""Of KMS."""
SECRET_MONTH = 0.40
