"""What ./scripts/demo shows, from a deployment to a replay."""
