"""AWS list prices in US dollars, in the region us-east-1, without free tiers, as published in 2025. Other regions differ by some per cent.

Sources: the pages aws.amazon.com/step-functions/pricing, /s3/pricing, /lambda/pricing, /dynamodb/pricing and /sns/pricing.
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
