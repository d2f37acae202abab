"""Write golden.json: python -m tests.compiled.record [part of a title]; about 8 minutes.

With a part of a title, only the programs that have it; the others are kept.
"""

import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tests.compiled import checks
from tests.compiled.cases import GOLDEN, Case, cases, golden, missing, versions


def measured(case: Case) -> dict[str, float]:
    """Compile a program and return its numbers, rounded."""
    start = time.perf_counter()
    program, compiled, _ = case.compiled()
    found = checks.per_item(program, compiled)
    print(f"{time.perf_counter() - start:6.1f} s  {case.title}  {found}", flush=True)
    return {key: float(f"{value:.6g}") for key, value in found.items()}


def main() -> None:
    """Compile with two processes, and write the numbers."""
    if missing():
        sys.exit(missing())
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    every = list(cases())
    chosen = [case for case in every if part in case.title]
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        found = dict(zip((case.title for case in chosen), pool.map(measured, chosen), strict=True))
    kept = golden()["programs"] if part else {}
    both = {**kept, **found}
    ordered = {case.title: both[case.title] for case in every if case.title in both}
    text = json.dumps({"versions": versions(), "programs": ordered}, indent=1, ensure_ascii=False)
    GOLDEN.write_text(text + "\n")


if __name__ == "__main__":
    main()
