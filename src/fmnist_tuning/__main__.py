"""`python -m fmnist_tuning` is `fmnist`."""

from fmnist_tuning.cli import main

if __name__ == "__main__":  # worker processes import this file again
    main()
