"""PyTorch's time of every operator of bench/operators.ts on a GPU: prints a JSON object with a list of {name, milliseconds}.

    python3 bench/peer/gpu.py TOKENS WIDTH HEADS PRECISION RUNS
"""

import json
import statistics
import sys

import torch

from operators import operators


def milliseconds(run, runs):
    """The median of `runs` timed calls after five that warm up."""
    for _ in range(5):
        run()
    times = []
    for _ in range(runs):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def main():
    tokens, width, heads, runs = (int(sys.argv[i]) for i in (1, 2, 3, 5))
    if not torch.cuda.is_available():
        sys.exit("this PyTorch sees no GPU")
    torch.manual_seed(0)
    found = operators(tokens, width, heads, sys.argv[4], "cuda")
    timings = [{"name": name, "milliseconds": milliseconds(prepare(), runs)} for name, prepare in found.items()]
    json.dump({"torch": torch.__version__, "timings": timings}, sys.stdout)


main()
