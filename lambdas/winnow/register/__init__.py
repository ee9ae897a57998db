"""The failure register: failures of all runs, by record."""
