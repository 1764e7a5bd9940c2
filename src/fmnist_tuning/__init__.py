"""fmnist: how a CNN's hyperparameters affect Fashion-MNIST, one YAML file per experiment."""

DEFAULT_STUDY = "fashion_mnist_cnn_tuning"
"""The name of the MLflow experiment that the user's own commands have."""
