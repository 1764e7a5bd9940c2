"""The same trainings with Lightning and its MLFlowLogger; arguments as of plain_script.py."""

import json
import logging
import sys
import time
import warnings

import lightning
import torch
from lightning.pytorch.loggers import MLFlowLogger
from plain_script import Net, loaders
from torch.nn import functional as F  # noqa: N812


class Module(lightning.LightningModule):
    """The plain script's network, as Lightning wants it."""

    def __init__(self, arm: dict[str, object]) -> None:
        super().__init__()
        self.net = Net(**arm)
        self.seconds = 0.0

    def _step(self, batch: list[torch.Tensor], name: str) -> torch.Tensor:
        images, labels = batch
        outputs = self.net(images)
        loss = F.cross_entropy(outputs, labels)
        accuracy = (outputs.argmax(1) == labels).float().mean()
        self.log_dict(
            {f"{name}_loss": loss, f"{name}_accuracy": accuracy}, on_step=False, on_epoch=True
        )
        return loss

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        """One step."""
        return self._step(batch, "train")

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        """One batch of validation."""
        self._step(batch, "val")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, as everywhere."""
        return torch.optim.Adam(self.parameters(), lr=0.001)


def main() -> None:
    """Train every arm."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    task = json.loads(sys.argv[1])
    seconds, images = 0.0, 0
    for arm in task["arms"]:
        torch.manual_seed(0)
        train, val = loaders(task["root"], task["train_size"], task["val_size"])
        trainer = lightning.Trainer(
            max_epochs=task["epochs"],
            accelerator="auto",
            logger=MLFlowLogger("lightning", tracking_uri=task["tracking_uri"]),
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            num_sanity_val_steps=0,
        )
        started = time.perf_counter()
        trainer.fit(Module(arm), train, val)
        seconds += time.perf_counter() - started
        images += task["train_size"] * task["epochs"]
    print(json.dumps({"images_per_second": images / seconds}))


if __name__ == "__main__":
    main()
