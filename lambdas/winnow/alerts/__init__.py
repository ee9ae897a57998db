"""Alerts: their content, their words, and their delivery."""
