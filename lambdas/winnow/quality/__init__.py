"""The quality gate: the rules that a candidate version must pass before consumers read it."""
