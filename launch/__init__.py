"""absl scripts: flags to config to one call into the library."""

import time

# By `time.perf_counter`, before anything large was imported.
STARTED = time.perf_counter()
