"""The images: where they are, whether they are the right ones, and as tensors in batches."""
