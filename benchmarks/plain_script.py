"""A study as people write it: one plain PyTorch script, trainings one after the other.

What `fmnist run` is measured against, see benchmarks/compare.py. Reads a JSON object from its
first argument: `root` (torchvision's data folder), `arms` (a list of settings), `epochs`,
`train_size`, `val_size`, `tracking_uri`. Prints a JSON object: training images a second.
"""

import json
import sys
import time

import mlflow
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms


class Net(nn.Module):
    """The study's network: blocks of Conv2d, BatchNorm2d, ReLU, MaxPool2d, then linear layers."""

    def __init__(
        self,
        num_conv_layers: int = 2,
        use_batch_norm: bool = True,
        use_pooling: bool = True,
        dropout_rate: float = 0.5,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        channels = 1
        for block in range(num_conv_layers):
            self.layers.append(nn.Conv2d(channels, 32 * 2**block, 3, padding=1))
            channels = 32 * 2**block
            if use_batch_norm:
                self.layers.append(nn.BatchNorm2d(channels))
            self.layers.append(nn.ReLU())
            if use_pooling:
                self.layers.append(nn.MaxPool2d(2))
        size = 28 >> num_conv_layers if use_pooling else 28
        self.fc1 = nn.Linear(channels * size * size, 128)
        self.dropout = nn.Dropout(dropout_rate)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (N, 1, 28, 28) to logits (N, 10)."""
        for layer in self.layers:
            x = layer(x)
        return self.fc2(self.dropout(torch.relu(self.fc1(x.flatten(1)))))


def loaders(root: str, train_size: int, val_size: int) -> tuple[DataLoader, DataLoader]:
    """The images by torchvision, through DataLoaders."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
    train = Subset(datasets.FashionMNIST(root, train=True, transform=transform), range(train_size))
    val = Subset(datasets.FashionMNIST(root, train=False, transform=transform), range(val_size))
    return DataLoader(train, batch_size=64, shuffle=True), DataLoader(val, batch_size=64)


def epoch(model: nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer | None) -> float:
    """Train, or without an optimizer validate; logs nothing, returns the accuracy."""
    model.train(optimizer is not None)
    loss_sum, correct, seen = 0.0, 0, 0
    with torch.set_grad_enabled(optimizer is not None):
        for images, labels in loader:
            outputs = model(images)
            loss = nn.functional.cross_entropy(outputs, labels)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            loss_sum += loss.item() * len(labels)
            correct += (outputs.argmax(1) == labels).sum().item()
            seen += len(labels)
    name = "train" if optimizer is not None else "val"
    mlflow.log_metric(f"{name}_loss", loss_sum / seen)
    mlflow.log_metric(f"{name}_accuracy", correct / seen)
    return correct / seen


def main() -> None:
    """Train every arm."""
    task = json.loads(sys.argv[1])
    mlflow.set_tracking_uri(task["tracking_uri"])
    mlflow.set_experiment("plain")
    seconds, images = 0.0, 0
    for arm in task["arms"]:
        torch.manual_seed(0)
        train, val = loaders(task["root"], task["train_size"], task["val_size"])
        model = Net(**arm)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
        with mlflow.start_run():
            mlflow.log_params(arm)
            for _ in range(task["epochs"]):
                started = time.perf_counter()
                epoch(model, train, optimizer)
                seconds += time.perf_counter() - started
                images += task["train_size"]
                epoch(model, val, None)
    print(json.dumps({"images_per_second": images / seconds}))


if __name__ == "__main__":
    main()
