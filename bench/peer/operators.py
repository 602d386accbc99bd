"""PyTorch at the shapes of bench/gpu-operators.ts: prints a JSON list of {name, milliseconds}.

    python3 bench/peer/operators.py TOKENS WIDTH HEADS PRECISION RUNS
"""

import json
import statistics
import sys

import torch
import torch.nn.functional as F

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


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

    def draw(*shape):
        return torch.rand(shape, device="cuda", dtype=torch.float32).sub_(0.5).to(TYPES[sys.argv[4]])

    results = []

    def measure(name, run):
        results.append({"name": name, "milliseconds": milliseconds(run, runs)})

    for name, rows, columns in (
        ("linear width width", width, width),
        ("linear width 4*width", width, 4 * width),
        ("linear 4*width width", 4 * width, width),
    ):
        x, weight = draw(tokens, rows), draw(columns, rows)
        measure(name, lambda: F.linear(x, weight))

    # [batch, heads, tokens, head] as PyTorch wants it, over the memory of [batch, tokens, heads, head], as in a model.
    q, k, v, gradient = (draw(1, tokens, heads, width // heads).transpose(1, 2) for _ in range(4))
    measure("attention forward", lambda: F.scaled_dot_product_attention(q, k, v))
    for tensor in (q, k, v):
        tensor.requires_grad_(True)
    o = F.scaled_dot_product_attention(q, k, v)
    measure("attention backward", lambda: torch.autograd.grad(o, (q, k, v), gradient, retain_graph=True))
    json.dump({"torch": torch.__version__, "timings": results}, sys.stdout)


main()
