"""The commands, one module each: its docstring is its help, `FLAGS` what it takes, `main` runs it.

The other modules are what commands share: how one starts (`command`), flags, help, configs, the run
that a config describes (`inputs`), and several processes.
"""

import time

# By `time.perf_counter`, before anything large was imported.
STARTED = time.perf_counter()
