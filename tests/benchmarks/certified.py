"""What a certificate costs: milliseconds per noisy picture, by draws and by the bound of memory, interleaved.

python tests/benchmarks/certified.py MODEL MANIFEST [--pictures 96]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from pathlib import Path

from workbench.audit.certified import certified_row
from workbench.audit.config import AuditConfig
from workbench.audit.preparation import open_bench
from workbench.schema.config import load_config
from workbench.schema.specs import SmoothingSpec

ROUNDS = 5
CASES = [(draws, memory) for draws in (1, 30) for memory in (64, 512)]


def main() -> None:
    """Print one line per number of draws and bound of memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--pictures", type=int, default=96)
    asked = parser.parse_args()
    given = [f"model={asked.model}", f"data.manifest={asked.manifest}", "data.limit=1", "stresses=[]"]
    bench = open_bench(load_config(AuditConfig, None, given))[0]
    exam, spec = bench.exams.batch([0]), SmoothingSpec(sigma=0.1, first=8, samples=asked.pictures - 8)
    taken: dict[tuple[int, int], list[float]] = {case: [] for case in CASES}
    for _ in range(ROUNDS + 1):
        for draws, memory in CASES:
            start = time.perf_counter()
            certified_row(
                bench.predictor,
                exam.x,
                exam.present,
                spec,
                bench.policy,
                draws=draws,
                threshold=bench.threshold,
                seed=0,
                memory_mib=memory,
            )
            taken[draws, memory].append(1000 * (time.perf_counter() - start) / asked.pictures)
    for (draws, memory), times in taken.items():
        print(f"{draws:3} draws, {memory:4} MiB: {statistics.median(times[1:]):.2f} ms a picture")
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB, {bench.predictor.how}")


if __name__ == "__main__":
    main()
