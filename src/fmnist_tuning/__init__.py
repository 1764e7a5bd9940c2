"""fmnist: how a CNN's hyperparameters affect Fashion-MNIST, one YAML file per experiment."""
