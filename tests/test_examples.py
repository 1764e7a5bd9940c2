"""The figure of augmented images, from a run of a sweep to MLflow's page."""

import pytest
from conftest import TINY_RUN

from fmnist_tuning.store.study import Study

SWEEP = (
    "sweep: changes\ntitle: Changes\ngrid: {augmentation: [none, flip_shift, erase]}\n"
    "fixed: {shift_pixels: 1}\n"
)


@pytest.mark.slow
@pytest.mark.usefixtures("migrated")
def test_augmented_images_are_drawn(fmnist_here, sweep_file, tmp_path, monkeypatch):
    """A file and an artefact of the sweep's run; without the images, one line says so."""
    assert fmnist_here("run", sweep_file(SWEEP), *TINY_RUN).returncode == 0
    done = fmnist_here("plot", "changes")
    assert done.returncode == 0, done.stderr
    picture = tmp_path / "visualizations/changes_examples.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "changes_examples.png" in done.stdout
    study = Study.existing()
    run = study.sweep_run("changes")
    kept = {file.path for file in study.client.list_artifacts(run.info.run_id, "plots")}
    assert "plots/changes_examples.png" in kept
    picture.unlink()
    monkeypatch.setenv("FMNIST_DATA_DIR", str(tmp_path / "nowhere"))
    done = fmnist_here("plot", "changes")
    assert done.returncode == 0
    assert "changes: its augmented images are not drawn: the Fashion-MNIST images" in done.stderr
    assert not picture.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("migrated")
def test_a_training_that_ends_early_says_so(fmnist_here, sweep_file):
    """On its line, and in what it logs; the plan is done with it all the same."""
    text = (
        "sweep: early\ntitle: Early\ngrid: {early_stopping: [1]}\n"
        "fixed: {min_delta: 9.0, epochs: 7, label_smoothing: 0.1}\n"
    )
    options = [option for option in TINY_RUN if "epochs" not in option]
    done = fmnist_here("run", sweep_file(text), *options)
    assert done.returncode == 0, done.stderr
    assert (
        "early early_stopping=1 seed=0: finished early, after epoch 2, val accuracy" in done.stderr
    )
    assert fmnist_here("plot", "early").returncode == 0
