"""The words that settings of several choices admit."""

from typing import Final, Literal

# The names of torch.optim. They are written here because importing torch would slow down every
# command.
Optimizer = Literal["Adadelta", "Adagrad", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "SGD"]
Precision = Literal["float32", "tf32", "bf16"]
Schedule = Literal["constant", "step", "cosine", "linear", "one_cycle"]
Averaging = Literal["none", "ema", "swa"]
Initialization = Literal["default", "kaiming", "xavier", "orthogonal", "normal"]
# Every choice of four changes, in the order in which they are made.
Augmentation = Literal[
    "none",
    "flip",
    "shift",
    "rotate",
    "erase",
    "flip_shift",
    "flip_rotate",
    "flip_erase",
    "shift_rotate",
    "shift_erase",
    "rotate_erase",
    "flip_shift_rotate",
    "flip_shift_erase",
    "flip_rotate_erase",
    "shift_rotate_erase",
    "flip_shift_rotate_erase",
]

OPTIMIZERS_WITH_MOMENTUM: Final = ("RMSprop", "SGD")
