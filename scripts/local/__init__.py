"""The emulator on this machine, and the app deployed to it."""
