"""A trained network as others use it: from the bytes of images to probabilities of classes."""

import io
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fmnist_tuning.errors import WeightsError
from fmnist_tuning.sweeps.choices import Precision
from fmnist_tuning.training.model import FashionCNN
from fmnist_tuning.training.step import autocast, evaluation_batch


class Classifier(nn.Module):
    """The normalisation that a network was trained with, then the network, then a softmax.

    Mean and standard deviation are those of the training set's pixels, on the scale from 0 to 1.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: FashionCNN, mean: float = 0.0, deviation: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("deviation", torch.tensor(deviation))

    def forward(self, images: Tensor) -> Tensor:
        """(N, S, S) uint8, bright on black, or (N, 3, S, S) → (N, classes) that sum to 1."""
        images = images.unsqueeze(1) if images.dim() == 3 else images  # noqa: PLR2004
        pixels = images.float().div(255).sub(self.mean).div(self.deviation)
        return torch.softmax(self.network(pixels).float(), dim=1)


def pack_weights(classifier: Classifier) -> bytes:
    """What `unpack_weights` needs: a `state_dict` as `torch.save` writes it."""
    content = io.BytesIO()
    torch.save({name: value.cpu() for name, value in classifier.state_dict().items()}, content)
    return content.getvalue()


def unpack_weights(content: bytes, architecture: Mapping[str, object]) -> Classifier:
    """A classifier from a run's `weights.pt`, on the CPU and in evaluation mode.

    Only tensors are loaded, so nothing in the file can run. `architecture` are arguments of
    `FashionCNN`.

    Raises:
        WeightsError: When the bytes are damaged, or another network's.
    """
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        # On "meta", the network takes no memory: wrong settings cannot ask for more than the
        # file has.
        with torch.device("meta"):
            classifier = Classifier(FashionCNN(**architecture))  # type: ignore[arg-type]
        classifier.load_state_dict(state, assign=True)
        if not all(value.float().isfinite().all() for value in classifier.state_dict().values()):
            raise ValueError("not all of them are finite numbers")
    except Exception as error:  # noqa: BLE001  bytes that are no weights can raise anything
        reason = " ".join(str(error).split()) or repr(error)
        raise WeightsError(
            f"the weights are damaged or another network's ({reason[:200]})"
        ) from None
    # As in training, so that the same kernels compute the same numbers.
    return classifier.float().to(memory_format=torch.channels_last).eval()


@torch.inference_mode()
def classify(
    classifier: Classifier, images: NDArray[np.uint8], precision: Precision = "float32"
) -> NDArray[np.float32]:
    """Images as `Classifier` takes them → (N, classes) probabilities, on the CPU."""
    batches = []
    pixels = torch.from_numpy(images)
    for batch in torch.split(pixels, evaluation_batch(pixels)):
        with autocast(batch.device, precision):
            batches.append(classifier(batch))
    probabilities: NDArray[np.float32] = torch.cat(batches).numpy()
    return probabilities
