"""Behind the launchers: runs a module as a command that Ctrl-C ends in one line, even while its imports load.

python -m scripts.terminal MODULE [ARGUMENT]...
"""

import runpy
import sys

from scripts.terminal.interrupts import leave_at_once

leave_at_once()
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
