"""What workers are forked with: imported once, by the server that they are forked from.

torch's optimizers load `torch._dynamo` in their first step, whether or not anything is compiled.
"""

import ctypes
import signal
import sys

if sys.platform == "linux":
    # The server ends with the command: else it would go on loading, and then take two seconds to
    # tear all of it down, with the command's output held open.
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)

import torch._dynamo

import fmnist_tuning.data.images
import fmnist_tuning.training

__all__ = ["fmnist_tuning", "torch"]
