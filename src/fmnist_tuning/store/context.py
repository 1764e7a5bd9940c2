"""Who started a run, and from which state of their files: MLflow's own tags."""

import getpass
import subprocess
from functools import cache


@cache
def context_tags() -> dict[str, str]:
    """The program, and the git commit of the current folder, in MLflow's own tags.

    MLflow itself looks at the repository of the program, and an installed program has none. The
    user's files decide a study.
    """
    tags = {"mlflow.source.name": "fmnist run", "mlflow.source.type": "LOCAL"}
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["mlflow.source.git.dirty"] = str(bool(_git("status", "--porcelain"))).lower()
    return tags


@cache
def user() -> str:
    """The name of whoever runs the program."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        return "unknown"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
