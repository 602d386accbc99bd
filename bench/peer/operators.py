"""Products and attention of a DiT in PyTorch, under the names of bench/operators.ts."""

import torch
import torch.nn.functional as F

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def operators(tokens, width, heads, precision, device):
    """Functions by name; each makes its inputs when it is asked for, and returns what is to be timed."""

    def draw(*shape):
        return torch.rand(shape, device=device, dtype=torch.float32).sub_(0.5).to(TYPES[precision])

    def product(rows, columns):
        x, weight = draw(tokens, rows), draw(columns, rows)
        return lambda: F.linear(x, weight)

    def input_gradient(rows, columns):
        gradient, weight = draw(tokens, columns), draw(columns, rows)
        return lambda: gradient @ weight

    def weight_gradient(rows, columns):
        gradient, x = draw(tokens, columns), draw(tokens, rows)
        return lambda: gradient.t() @ x

    def sides():
        # [batch, heads, tokens, head] as PyTorch wants it, over the memory of [batch, tokens, heads, head], as in a model.
        return [draw(1, tokens, heads, width // heads).transpose(1, 2) for _ in range(4)]

    def forward():
        q, k, v, _ = sides()
        return lambda: F.scaled_dot_product_attention(q, k, v)

    def backward():
        q, k, v, gradient = sides()
        for tensor in (q, k, v):
            tensor.requires_grad_(True)
        o = F.scaled_dot_product_attention(q, k, v)
        return lambda: torch.autograd.grad(o, (q, k, v), gradient, retain_graph=True)

    found = {"attention forward": forward, "attention backward": backward}
    for name, rows, columns in (
        ("linear width width", width, width),
        ("linear width 4*width", width, 4 * width),
        ("linear 4*width width", 4 * width, width),
    ):
        found[name] = lambda rows=rows, columns=columns: product(rows, columns)
        found[f"{name}, dx"] = lambda rows=rows, columns=columns: input_gradient(rows, columns)
        found[f"{name}, dw"] = lambda rows=rows, columns=columns: weight_gradient(rows, columns)
    return found
