"""What ./scripts/test runs: lint, types and tests, and with --stress a machine that is made slow and uneven."""
