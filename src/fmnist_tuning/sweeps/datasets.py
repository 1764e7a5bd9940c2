"""What each data set holds: how many images, of which shape, of which classes."""

from dataclasses import dataclass
from typing import Final, Literal

DatasetName = Literal[
    "fashion_mnist", "mnist", "kmnist", "emnist_letters", "cifar10", "cifar100", "folder"
]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set that anybody can have; of `folder`, only its images tell."""

    title: str  # for people
    train_images: int
    test_images: int
    size: int  # of the square images, in pixels; 0 where it is not known yet
    channels: int  # 1 is grey, 3 is colour
    classes: tuple[str, ...]


_CIFAR100: Final = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""

DATASETS: Final[dict[DatasetName, Dataset]] = {
    "fashion_mnist": Dataset(
        "Fashion-MNIST",
        *(60_000, 10_000, 28, 1),
        (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
    ),
    "mnist": Dataset("MNIST", 60_000, 10_000, 28, 1, tuple("0123456789")),
    "kmnist": Dataset(
        "Kuzushiji-MNIST",
        *(60_000, 10_000, 28, 1),
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
    "emnist_letters": Dataset(
        "EMNIST letters", 124_800, 20_800, 28, 1, tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    ),
    "cifar10": Dataset(
        "CIFAR-10",
        *(50_000, 10_000, 32, 3),
        (
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
    ),
    "cifar100": Dataset(
        "CIFAR-100",
        *(50_000, 10_000, 32, 3),
        tuple(name.replace("_", " ") for name in _CIFAR100.split()),
    ),
    "folder": Dataset("your own images", 0, 0, 0, 0, ()),
}

FASHION: Final = DATASETS["fashion_mnist"]
MOST_IMAGES: Final = 10_000_000
"""No more are asked for; this only stops mistakes in typing."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a folder's images turned out to be."""

    train_images: int
    test_images: int
    size: int
    channels: int
    classes: int
