"""The only door to MLflow: its stores, what a study keeps in one, and the model registry."""

from fmnist_tuning.store import uris  # noqa: F401  sets what MLflow reads when it is imported
