"""What every worker needs: imported once, by the server that workers are forked from.

Only that server may import this, because the importing process is killed when its parent ends.
torch's optimizers load `torch._dynamo` in their first step, even if nothing is compiled.
"""

import contextlib
import ctypes
import signal

_PR_SET_PDEATHSIG = 1

# Without this, the server would go on loading after the command has ended, and then need two
# seconds to end itself, while it keeps the command's output open.
ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

with contextlib.suppress(Exception):  # the workers get the same error, and can report it
    import torch._dynamo  # noqa: F401

    import fmnist_tuning.data.images
    import fmnist_tuning.training.building
    import fmnist_tuning.training.checkpoint
    import fmnist_tuning.training.classifier
    import fmnist_tuning.training.loop  # noqa: F401
