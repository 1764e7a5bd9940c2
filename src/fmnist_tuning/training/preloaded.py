"""What workers are forked with: imported once, by the server that they are forked from.

torch's optimizers load `torch._dynamo` in their first step, whether or not anything is compiled.
"""

import atexit
import os

import torch._dynamo

import fmnist_tuning.data.images
import fmnist_tuning.training

__all__ = ["fmnist_tuning", "torch"]


def _leave(server: int) -> None:
    # Python would take two seconds to tear all of it down, with the command's output held open.
    if os.getpid() == server:
        os._exit(0)


atexit.register(_leave, os.getpid())
