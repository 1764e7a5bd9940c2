"""The network under study: convolution blocks in a ModuleList, then linear layers with dropout."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the name that every PyTorch reader knows


class ConvBlock(nn.Module):
    """Conv2d (padding keeps the size) → BatchNorm2d (optional) → ReLU → MaxPool2d (optional).

    The edge of the square kernel is an odd number of pixels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        use_batch_norm: bool,
        use_pooling: bool,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.norm = nn.BatchNorm2d(out_channels) if use_batch_norm else nn.Identity()
        self.pool = nn.MaxPool2d(2) if use_pooling else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) → (N, out_channels, H, W), or half of H and W with pooling."""
        # ReLU is monotone, so it may come after the maximum: the result is the same, and ReLU has
        # only a quarter of the pixels to compute.
        return F.relu(self.pool(self.norm(self._convolved(x))), inplace=True)

    def _convolved(self, x: Tensor) -> Tensor:
        bias = self.conv.bias
        assert bias is not None  # noqa: S101  Conv2d has one unless told otherwise
        # Batch norm subtracts each channel's mean, and with it the bias. So the bias's gradient is
        # zero, and computing it would be a needless pass over the output's gradient.
        normalised = isinstance(self.norm, nn.BatchNorm2d)
        bias = bias.detach() if normalised else bias
        return F.conv2d(x, self.conv.weight, bias, padding=self.conv.padding)


class SeededDropout(nn.Dropout):
    """Dropout that draws from a generator of its own instead of PyTorch's global one.

    Two trainings in one process then cannot disturb each other, and a checkpoint can hold the
    generator's state. The generator is on the device of the units.
    """

    def __init__(self, p: float, generator: torch.Generator | None = None) -> None:
        super().__init__(p)
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """(N, units) → (N, units)."""
        if not self.training or self.p == 0:
            return x
        keep = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator)
        return x * keep.div_(1 - self.p)


def _channels_last(images: Tensor) -> Tensor:
    return images.to(memory_format=torch.channels_last)


class FashionCNN(nn.Module):
    """A small CNN for square images: by default 28x28 grey ones in ten classes.

    `conv_channels` has the output channels of each convolution block, `fc_units` the width of each
    hidden linear layer. Dropout follows each hidden linear layer.
    """

    def __init__(
        self,
        *,
        conv_channels: Sequence[int] = (32, 64),
        kernel_size: int = 3,
        use_pooling: bool = True,
        use_batch_norm: bool = True,
        dropout_rate: float = 0.5,
        fc_units: Sequence[int] = (128,),
        image_size: int = 28,
        image_channels: int = 1,
        classes: int = 10,
        dropout_generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        channels = (image_channels, *conv_channels)
        self.blocks = nn.ModuleList(
            ConvBlock(
                before,
                after,
                kernel_size=kernel_size,
                use_batch_norm=use_batch_norm,
                use_pooling=use_pooling,
            )
            for before, after in zip(channels, conv_channels, strict=False)
        )
        size = image_size >> (len(conv_channels) if use_pooling else 0)
        widths = (channels[-1] * size**2, *fc_units)
        self.hidden = nn.ModuleList(
            nn.Linear(before, after) for before, after in zip(widths, fc_units, strict=False)
        )
        self.dropout = SeededDropout(dropout_rate, dropout_generator)
        self.output = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, S, S) normalised images → (N, classes) logits."""
        x = images
        for block in self.blocks:
            x = block(x)
        if x.requires_grad:
            # The linear layer returns its gradient in another layout than the blocks use, and
            # kernels with inputs in two layouts are 8 to 16 times slower.
            x.register_hook(_channels_last)  # type: ignore[no-untyped-call]
        x = x.flatten(1)  # (N, channels * size * size)
        for layer in self.hidden:
            x = self.dropout(F.relu(layer(x)))
        logits: Tensor = self.output(x)
        return logits
