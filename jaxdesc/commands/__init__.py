"""The commands, one module each: its docstring is its help, `FLAGS` its flags, `main` runs it.

The commands share `cli` (how one starts), `flags`, `configs`, `inputs` (the run that a config
describes) and `processes`.
"""

import time

# By `time.perf_counter`, before anything large was imported.
STARTED = time.perf_counter()
