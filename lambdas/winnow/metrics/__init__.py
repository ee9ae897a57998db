"""Logs and metrics of Winnow's own functions."""
