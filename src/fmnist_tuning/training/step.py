"""One step of gradient descent, run as it is or replayed as a CUDA graph."""

from collections import Counter
from contextlib import AbstractContextManager
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import clip_grad_norm_

from fmnist_tuning.data.images import Split
from fmnist_tuning.sweeps.choices import Precision
from fmnist_tuning.training.augmentation import Augmenter
from fmnist_tuning.training.model import FashionCNN

_EVALUATION_PIXELS: Final = 250 * 28 * 28  # the fastest on a CPU: more do not fit into its caches

# Libraries set things up when they are first used; a graph must not record that.
WARM_UP_STEPS: Final = 3


def evaluation_batch(images: Tensor) -> int:
    """How many of these images (N, C, S, S) are scored at a time: 250 of Fashion-MNIST's."""
    return max(_EVALUATION_PIXELS // (images.shape[-2] * images.shape[-1]), 1)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Arithmetic in bfloat16 if `precision` asks for it; weights and sums stay float32."""
    return torch.autocast(
        device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False
    )


class TrainingStep:
    """Trains on the next images of an epoch's order.

    Everything that changes between steps is a tensor that stays in its place on the device. So one
    recorded step can be replayed as the next, and the device waits for the host only once an epoch.

    `label_smoothing` moves that share of each target from its class to all classes alike (Szegedy
    et al. 2016). A gradient over all weights that is longer than `gradient_clip` is shortened to
    that length (Pascanu et al. 2013). The precision `tf32` is set outside, for the whole process.
    """

    def __init__(
        self,
        model: FashionCNN,
        split: Split,
        optimizer: torch.optim.Optimizer,
        *,
        augmenter: Augmenter | None = None,
        precision: Precision = "float32",
        label_smoothing: float = 0.0,
        gradient_clip: float | None = None,
    ) -> None:
        self.model = model
        self.split = split
        self.optimizer = optimizer
        self.augmenter = augmenter
        self.precision = precision
        self.label_smoothing = label_smoothing
        self.gradient_clip = gradient_clip
        self.device = split.labels.device
        self._order = torch.arange(len(split), device=self.device)  # (N,)
        self._chances: Tensor | None = None  # (N, 6) of the augmentation, in the epoch's order
        self._right = torch.zeros(len(split), dtype=torch.bool, device=self.device)  # (N,)
        self._done = torch.zeros((), dtype=torch.int64, device=self.device)
        self._loss = torch.zeros((), dtype=torch.float64, device=self.device)

    def begin_epoch(self, order: Tensor, chances: Tensor | None = None) -> None:
        """Use the images in this order (N,) from now on; with `chances` (N, 6), augmented."""
        self._order.copy_(order)
        if chances is not None and self._chances is None:
            self._chances = chances.to(self.device)
        elif chances is not None and self._chances is not None:
            self._chances.copy_(chances)
        self._done.zero_()
        self._loss.zero_()

    def __call__(self, size: int) -> None:
        """Train on the next `size` images."""
        places = self._done + torch.arange(size, device=self.device)
        images, labels = self._batch(places)  # (B, 1, 28, 28), (B,)
        with autocast(self.device, self.precision):
            logits = self.model(images)  # (B, 10)
            loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.gradient_clip is not None:
            clip_grad_norm_(self.model.parameters(), self.gradient_clip)
        self.optimizer.step()
        self._loss += loss.detach() * size
        self._right[places] = logits.detach().argmax(1) == labels
        self._done += size

    def set_learning_rate(self, rate: float) -> None:
        """Use this learning rate from now on, in a graph too."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _batch(self, places: Tensor) -> tuple[Tensor, Tensor]:
        rows = self._order[places]
        if self.augmenter is None or self._chances is None:
            return self.split.at(rows)
        pixels = self.split.images[rows].float()
        level = self.split.mean * 255
        return (
            self.split.normalised(self.augmenter(pixels, self._chances[places], level)),
            self.split.labels[rows],
        )

    def mean_loss(self) -> float:
        """The mean loss over the epoch's images so far."""
        return float(self._loss.item() / self._done.item())

    def right(self) -> Tensor:
        """Which images of the epoch's order were classified correctly: (N,) bool on the CPU."""
        return self._right.cpu()


class GraphedStep:
    """The same step as a CUDA graph: one launch instead of about fifty.

    On a GPU, small networks spend most of their time on launches. Each batch size has its own graph
    (an epoch's last batch may be smaller). Its first few steps run without a graph, and train like
    all others.
    """

    def __init__(self, step: TrainingStep, *, scheduled: bool = False) -> None:
        self._step = step
        if scheduled:  # a graph records a number as it is, and a tensor by its place
            for group in step.optimizer.param_groups:
                group["lr"] = torch.tensor(float(group["lr"]), device=step.device)
        self._stream = torch.cuda.Stream(step.device)  # type: ignore[no-untyped-call]
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._seen: Counter[int] = Counter()

    def __call__(self, size: int) -> None:
        """Train on the next `size` images."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            if self._seen[size] < WARM_UP_STEPS:
                self._step(size)
            else:
                if size not in self._graphs:
                    self._graphs[size] = self._recorded(size)
                self._graphs[size].replay()
        self._seen[size] += 1
        torch.cuda.current_stream().wait_stream(self._stream)

    def _recorded(self, size: int) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        generator = self._step.model.dropout.generator
        if generator is not None:  # its position must advance with every replay
            graph.register_generator_state(generator)
        # The recorded step allocates its gradients anew, in the graph's own memory.
        self._step.optimizer.zero_grad()
        with torch.cuda.graph(graph, stream=self._stream):
            self._step(size)
        return graph
