"""What a data set holds."""

from typing import Final

TRAIN_IMAGES: Final = 60_000
TEST_IMAGES: Final = 10_000
IMAGE_SIZE: Final = 28
CLASSES: Final = 10
