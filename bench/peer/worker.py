"""One case of the benchmark in PyTorch. Speaks the protocol of bench/protocol.ts on stdin and stdout.

    python3 bench/peer/worker.py CASE-AS-JSON
"""

import json
import resource
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


def say(**facts):
    print(json.dumps(facts), flush=True)


def main():
    case = json.loads(sys.argv[1])
    torch.manual_seed(0)
    torch.set_num_threads(case["threads"])
    run = prepare(case)
    for _ in range(case["warmup"]):
        run()
    say(about=f"PyTorch {torch.__version__}, {case['peer']}")
    for line in sys.stdin:
        started = time.perf_counter()
        run()
        say(ms=(time.perf_counter() - started) * 1000)
    say(peakMib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


main()
