"""The only room that uses MLflow: its stores, what a study keeps in one, the model registry."""

from fmnist_tuning.store import uris  # noqa: F401  sets the variables that MLflow reads on import
