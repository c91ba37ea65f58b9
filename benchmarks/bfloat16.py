"""Rates of forward and backward passes of 128-channel convolutions, float32 against bfloat16."""

import time

import torch
from torch import nn

for dtype in (torch.float32, torch.bfloat16):
    for memory in (torch.contiguous_format, torch.channels_last):
        layers = [m for _ in range(6) for m in (nn.ReLU(), nn.Conv2d(128, 128, 3, padding=1))]
        net = nn.Sequential(*layers).to(memory_format=memory)
        x = torch.randn(8, 128, 32, 32).to(memory_format=memory).requires_grad_()
        seconds = []
        for _ in range(8):
            began = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                y = net(x)
            y.float().square().mean().backward()
            seconds.append(time.perf_counter() - began)
        rate = 6 * 6 * 9 * 128**2 * 8 * 32**2 / sorted(seconds)[4] / 1e9
        print(f"{dtype} {memory}: {rate:.0f} GFLOP/s")
