"""One case of the benchmark in PyTorch. Speaks the protocol of bench/worker.ts on stdin and stdout.

    python3 bench/peer/worker.py CASE-AS-JSON
"""

import json
import resource
import statistics
import sys
import time

import torch

from dit import denoising_step, training_step
from operators import operators


def prepare(case):
    compiled = case["peer"] == "compile"
    if case["suite"] == "train":
        return training_step(case, compiled)
    if case["suite"] == "sample":
        return denoising_step(case, compiled)
    found = operators(case["tokens"], case["width"], case["heads"], case["precision"], "cpu")
    return found[case["operator"]]()


TURN = 0.1  # seconds, as in bench/worker.ts


def turn(run):
    """Milliseconds of a run: the median of those that fit a turn."""
    times = []
    begun = time.perf_counter()
    while not times or time.perf_counter() - begun < TURN:
        started = time.perf_counter()
        run()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def say(**facts):
    print(json.dumps(facts), flush=True)


def main():
    case = json.loads(sys.argv[1])
    torch.manual_seed(0)
    torch.set_num_threads(case["threads"])
    device = case.get("device", "cpu")
    torch.set_default_device(device)
    run = prepare(case)
    for _ in range(case["warmup"]):
        run()
    say(about=f"PyTorch {torch.__version__}, {case['peer']}")
    for line in sys.stdin:
        say(ms=turn(run))
    if device == "cuda":
        say(peakMib=torch.cuda.max_memory_allocated() / 2**20)
    else:
        say(peakMib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


main()
