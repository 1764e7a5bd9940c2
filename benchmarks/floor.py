"""What one thread can do at best: prints GFLOP/s multiplying matrices and GB/s copying memory.

A process of its own: the kernel counts a parent's memory to its children's peak.
"""

import json
import time

import torch


def main() -> None:
    """Measure both."""
    torch.set_num_threads(1)
    square, block = torch.randn(1024, 1024), torch.zeros(64 * 2**20)
    target = torch.empty_like(block)
    rates = []
    for action, amount in (
        (lambda: square @ square, 2 * 1024**3),
        (lambda: target.copy_(block), 8 * block.numel()),  # a new block would cost page faults
    ):
        action()
        started = time.perf_counter()
        for _ in range(5):
            action()
        rates.append(5 * amount / (time.perf_counter() - started) / 1e9)
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
