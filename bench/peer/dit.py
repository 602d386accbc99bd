"""The DiT of models/dit.sora.ts in PyTorch, for timing: the same layers, loss and optimizer, with SDPA and fused Adam."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


class Attention(nn.Module):
    def __init__(self, width, heads, read):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_out = nn.Linear(width, width), nn.Linear(width, width)
        self.to_k, self.to_v = nn.Linear(read, width), nn.Linear(read, width)

    def forward(self, x, read):
        split = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        o = F.scaled_dot_product_attention(split(self.to_q(x)), split(self.to_k(read)), split(self.to_v(read)))
        return self.to_out(o.transpose(1, 2).flatten(2))


def modulate(x, shift, scale):
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class Block(nn.Module):
    def __init__(self, width, heads, read):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention = Attention(width, heads, read or width)
        self.crosses = read is not None
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x, condition, text):
        a, b, c, d, e, f = self.modulation(F.silu(condition)).chunk(6, dim=-1)
        h = modulate(self.norm(x), a, b)
        x = x + c.unsqueeze(1) * self.attention(h, text if self.crosses else h)
        h = self.fc2(F.gelu(self.fc1(modulate(self.norm(x), d, e)), approximate="tanh"))
        return x + f.unsqueeze(1) * h


class DiT(nn.Module):
    """Conditioning `adaln` (pooled text) or `cross-attn` (attention to text tokens alone)."""

    def __init__(self, conditioning, width, depth, heads, tokens, patch=2, channels=4, text=512, checkpoints=False):
        super().__init__()
        self.checkpoints = checkpoints
        self.pooled = conditioning == "adaln"
        self.embed = nn.Linear(channels * patch * patch, width)
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.text = nn.Linear(text, width) if self.pooled else None
        self.blocks = nn.ModuleList(Block(width, heads, None if self.pooled else text) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, 2 * channels * patch * patch)
        self.register_buffer("positions", torch.randn(tokens, width))
        self.register_buffer("frequencies", torch.exp(-math.log(10000) * torch.arange(128) / 128))

    def forward(self, x, t, text):
        angles = t[:, None].float() * self.frequencies
        condition = self.time(torch.cat([angles.cos(), angles.sin()], -1))
        if self.pooled:
            condition = condition + self.text(text)
        h = self.embed(x.flatten(2)) + self.positions
        for block in self.blocks:
            if self.checkpoints:
                h = checkpoint(block, h, condition, text, use_reentrant=False)
            else:
                h = block(h, condition, text)
        shift, scale = self.modulation(F.silu(condition)).chunk(2, dim=-1)
        out = self.out(modulate(self.norm(h), shift, scale))
        b, s = x.shape[:2]
        return out.view(b, s, 2 * x.shape[2], *x.shape[3:]).chunk(2, dim=2)


class Diffusion:
    """Linear betas over 1000 steps; noise loss and the variational bound of a learned range, as published."""

    def __init__(self):
        betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        product = torch.cumprod(1 - betas, 0)
        before = torch.cat([torch.ones(1, dtype=torch.float64), product[:-1]])
        variance = betas * (1 - before) / (1 - product)
        table = lambda v: v.float()
        self.signal, self.noise = table(product.sqrt()), table((1 - product).sqrt())
        self.from_x, self.from_e = table((1 / product).sqrt()), table((1 / product - 1).sqrt())
        self.of_start = table(betas * before.sqrt() / (1 - product))
        self.of_x = table((1 - before) * (1 - betas).sqrt() / (1 - product))
        self.least, self.most = table(torch.cat([variance[1:2], variance[1:]]).log()), table(betas.log())

    def loss(self, model, x, text):
        t = torch.randint(0, 1000, (x.shape[0],))
        at = lambda table: table[t].view(-1, 1, 1, 1, 1)
        noise = torch.randn_like(x)
        noisy = at(self.signal) * x + at(self.noise) * noise
        found, fraction = model(noisy, t, text)
        found, fraction = found.float(), (fraction.float() + 1) / 2
        log_variance = fraction * at(self.most) + (1 - fraction) * at(self.least)
        start = at(self.from_x) * noisy - at(self.from_e) * found.detach()
        mean = at(self.of_start) * start + at(self.of_x) * noisy
        true_mean, true_log = at(self.of_start) * x + at(self.of_x) * noisy, at(self.least)
        difference = log_variance - true_log
        bound = 0.5 * (difference - 1 + torch.exp(-difference) + (true_mean - mean) ** 2 * torch.exp(-log_variance))
        return ((found - noise) ** 2).mean() + bound.mean() / math.log(2)


def training_step(case, compiled):
    """A function that takes one step on the default device: forward, backward, Adam, moving average of the weights."""
    tokens, device = case["tokens"], case["device"]
    sizes = (case["width"], case["depth"], case["heads"], tokens)
    model = DiT(case["conditioning"], *sizes, checkpoints=case["checkpoints"])
    average = copy.deepcopy(model)
    for parameter in average.parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    diffusion = Diffusion()
    x = torch.randn(1, tokens, 4, 2, 2)
    text = torch.randn(1, 512) if case["conditioning"] == "adaln" else torch.randn(1, case["textTokens"], 512)
    run = torch.compile(model) if compiled else model
    narrow = case["precision"] == "bf16"

    def step():
        with torch.autocast(device, torch.bfloat16, enabled=narrow):
            loss = diffusion.loss(run, x, text)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1e-4)
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def denoising_step(case, compiled):
    """A function that predicts noise and variance with guidance: twice the batch, no gradients."""
    tokens = case["tokens"]
    model = DiT(case["conditioning"], case["width"], case["depth"], case["heads"], tokens).eval()
    x = torch.randn(1, tokens, 4, 2, 2)
    text = torch.randn(2, 512) if case["conditioning"] == "adaln" else torch.randn(2, case["textTokens"], 512)
    run = torch.compile(model) if compiled else model
    narrow = case["precision"] == "bf16"

    def step():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            run(torch.cat([x, x]), torch.full((2,), 500), text)

    return step
