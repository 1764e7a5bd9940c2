"""What workers are forked with: imported once, by the server that they are forked from.

For that server alone: whatever else imports this is killed when its parent ends, too. torch's
optimizers load `torch._dynamo` in their first step, whether or not anything is compiled.
"""

import contextlib
import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1

# Else the server would go on loading when the command has ended already, and then take two seconds
# to tear all of it down, with the command's output held open.
ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
# It starts as `python -c`, for which the user's folder comes before the standard library.
sys.path[:] = [entry for entry in sys.path if entry]

with contextlib.suppress(Exception):  # the workers meet it again, and can say so
    import torch._dynamo  # noqa: F401

    import fmnist_tuning.data.images
    import fmnist_tuning.training.building
    import fmnist_tuning.training.checkpoint
    import fmnist_tuning.training.classifier
    import fmnist_tuning.training.loop  # noqa: F401
