"""What a worker writes as it goes, and what that proves."""
