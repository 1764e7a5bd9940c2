"""What a person sees in a browser."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from servers import mlflow_server
from studies import six_experiments, write_study

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

# As root in a container there is no sandbox to be had; and nothing is to be asked of the internet.
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--window-size=1600,2000", "--virtual-time-budget=60000"),
]


def page(address: str, profile: Path) -> str:
    """The page's elements once its scripts have come to rest."""
    done = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=150,
        check=True,
    )
    return done.stdout


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
@pytest.mark.usefixtures("migrated")
def test_mlflow_ui_shows_the_runs_and_their_curves(tmp_path):
    """`mlflow ui` in the project's folder, and the page that `fmnist run` tells to open."""
    from fmnist_tuning.store.study import Study

    sweep = six_experiments()[0]
    write_study([sweep], f"sqlite:///{tmp_path}/mlflow.db")
    hint = Study.existing().browse_hint()
    with mlflow_server(tmp_path, command="ui") as address:
        shown = page(address + hint.partition("http://127.0.0.1:5000")[2], tmp_path / "profile")
    for arm in sweep.arms:
        assert f"exp1 {arm.short_label} #0" in shown
    for metric in ("val_accuracy", "train_loss", "final_val_accuracy"):
        assert metric in shown
    lines = re.findall(r'<path class="js-line" d="(M[^"]*)"', shown)
    curves = [line for line in lines if "L" in line]  # from a point to another
    assert len(curves) >= len(sweep.arms)
