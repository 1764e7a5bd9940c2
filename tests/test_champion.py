"""The model that a person takes home: chosen, scored again, registered, asked about pictures."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from conftest import TEST_COUNT, TINY_RUN, tiny_images
from PIL import Image

from fmnist_tuning.errors import WeightsError
from fmnist_tuning.report.figures.garments import Scores
from fmnist_tuning.store.study import Study

SWEEP = "sweep: one\ntitle: One\ngrid: {dropout_rate: [0.0, 0.4]}\nseeds: [0, 1]\n"
COMBINED = "sweep: two\ntitle: Two\ncombine: {from: [one], top: 2}\nseeds: [1000, 1001]\n"

# MLflow 3.8 can only pickle.
EXPORTS = tuple(map(int, version("mlflow").split(".")[:2])) >= (3, 9)

# What anybody does with a registered model, without this project.
SCORE = """
import sys, warnings
warnings.filterwarnings("ignore")
import numpy as np, mlflow
model = mlflow.pyfunc.load_model("models:/fashion_mnist_cnn@champion")
images, labels = np.load("images.npy"), np.load("labels.npy")
hits = model.predict(images).argmax(1) == labels
ours = any(module.startswith("fmnist") for module in sys.modules)
print(hits.mean(), model.predict(images[:1]).shape, ours)
"""


@pytest.fixture(scope="session")
def crowned(made_once, call_in, blank_store):
    """A folder with a finished study whose champion is registered, and what that printed.

    Its runs as they were before are in `before.json`.
    """

    def make(folder: Path) -> None:
        shutil.copy(blank_store, folder / "mlflow.db")
        (folder / "one.yaml").write_text(SWEEP)
        (folder / "two.yaml").write_text(COMBINED)
        call_in(folder, "run", "one.yaml", "two.yaml", *TINY_RUN)
        (folder / "before.json").write_text(json.dumps(runs(folder)))
        (folder / "said").write_text(call_in(folder, "champion").stdout)

    folder = made_once("crowned", make)
    return folder, json.loads((folder / "before.json").read_text()), (folder / "said").read_text()


def runs(folder: Path) -> dict[str, list[str | int]]:
    from mlflow import MlflowClient

    found = MlflowClient(f"sqlite:///{folder}/mlflow.db").search_runs(["1"])
    return {run.info.run_id: [run.info.status, run.info.end_time] for run in found}


@pytest.fixture
def client(crowned):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{crowned[0]}/mlflow.db")


@pytest.fixture
def champion(client):
    """The champion's run."""
    return client.get_run(client.get_model_version_by_alias("fashion_mnist_cnn", "champion").run_id)


def test_every_training_leaves_its_network(crowned, client):
    """As an artefact, and nothing beside the store."""
    folder, before, _ = crowned
    kinds = {run_id: client.get_run(run_id).data.tags["fmnist.kind"] for run_id in before}
    for run_id, kind in kinds.items():
        kept = {artefact.path for artefact in client.list_artifacts(run_id)}
        assert ("weights.pt" in kept) == (kind == "run")
    assert [*folder.glob(".fmnist/*/*"), *folder.glob(".fmnist/*.pt")] == []


def test_the_champion_is_the_best_of_fresh_seeds_by_its_first(champion, client):
    """The best arm of the combination, and not the seed that came out best."""
    found = [
        run
        for run in client.search_runs(["1"], "tags.`fmnist.kind` = 'run'")
        if "two" in run.data.tags["fmnist.sweeps"]
    ]
    means = {
        rate: np.mean(
            [
                r.data.metrics["final_val_accuracy"]
                for r in found
                if r.data.params["dropout_rate"] == rate
            ]
        )
        for rate in ("0.0", "0.4")
    }
    assert champion.data.params["seed"] == "1000"
    assert means[champion.data.params["dropout_rate"]] == max(means.values())


def test_what_it_prints(crowned, champion):
    """Who it is, its accuracy scored again, where it is registered, and the figures."""
    folder, _, said = crowned
    accuracy = champion.data.metrics["final_val_accuracy"]
    first, second, third, *rest = said.splitlines()
    assert first.startswith("champion two, ")
    assert first.endswith("seed 1000")
    assert second == f"  {accuracy * 100:.2f} % scored again, as its run logged"
    assert third == "  models:/fashion_mnist_cnn@champion, version 1"
    figures = [line for line in rest if line.endswith(".png")]
    assert sorted(figures) == [
        f"visualizations/two_{name}_{what}.png"
        for name in "AB"
        for what in ("confusion", "mistakes")
    ]
    for figure in figures:
        with Image.open(folder / figure) as picture:
            assert np.asarray(picture.convert("L")).min() < 60


def test_the_runs_are_left_as_they_were(crowned, champion, client):
    """Still finished, at the same time; with the figures beside the weights."""
    folder, before, _ = crowned
    assert runs(folder) == before
    plots = [artefact.path for artefact in client.list_artifacts(champion.info.run_id, "plots")]
    assert [Path(plot).name.split("_", 2)[2] for plot in plots] == ["confusion.png", "mistakes.png"]


@pytest.mark.slow
def test_a_fresh_process_gets_the_logged_accuracy(crowned, champion):
    """With MLflow alone, on every test image: exactly."""
    images, labels = tiny_images(TEST_COUNT, 2)
    np.save("images.npy", images.astype(np.uint8))
    np.save("labels.npy", labels)
    done = subprocess.run(
        [sys.executable, "-c", SCORE],
        env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{crowned[0]}/mlflow.db"},
        capture_output=True,
        text=True,
        check=True,
    )
    accuracy, shape, ours = done.stdout.strip().replace(", ", ",").split()
    assert accuracy == str(champion.data.metrics["final_val_accuracy"])
    assert shape == "(1,10)"
    assert ours == str(not EXPORTS)


def test_the_model_says_what_it_takes_and_needs(crowned):
    """Signature, input example, requirements; no pickle where MLflow can do without."""
    folder, _, _ = crowned
    from mlflow.models import Model

    (described,) = folder.rglob("MLmodel")
    signature = Model.load(described).signature
    assert str(signature.inputs.inputs[0]) == "Tensor('uint8', (-1, 28, 28))"
    assert str(signature.outputs.inputs[0]) == "Tensor('float32', (-1, 10))"
    assert (described.parent / "input_example.json").is_file()
    needs = (described.parent / "requirements.txt").read_text()
    assert {line.partition("==")[0] for line in needs.split()} == {"mlflow", "torch", "numpy"}
    if EXPORTS:
        assert [path.suffix for path in (described.parent / "data").iterdir()] == [".pt2"]


def test_the_same_champion_is_registered_once(in_study, client):
    """However often it is asked for."""
    done = in_study("champion")
    assert "version 1" in done.stdout
    assert len(client.search_model_versions("name = 'fashion_mnist_cnn'")) == 1


@pytest.fixture
def in_study(crowned, fmnist_here, monkeypatch, tiny_data):
    """The command line in the study's folder."""
    monkeypatch.chdir(crowned[0])
    monkeypatch.setenv("FMNIST_DATA_DIR", str(tiny_data))
    return fmnist_here


@pytest.fixture
def imported(in_study, migrated, monkeypatch):
    """The command line beside the same study in another store, where no run has weights."""
    assert in_study("export", migrated.parent / "study.jsonl.gz").returncode == 0
    monkeypatch.chdir(migrated.parent)
    assert in_study("import", "study.jsonl.gz").returncode == 0
    return in_study


def weights_of(client, run) -> Path:
    return Path(client.download_artifacts(run.info.run_id, "weights.pt"))


@pytest.mark.slow
def test_an_imported_study_has_no_networks(imported, client, champion):
    """It says so and what to do; the champion's own file, shown to be that, will do."""
    done = imported("champion")
    assert done.returncode == 2
    assert "seed 1000 has no weights.pt: it was imported" in done.stderr
    assert "--weights" in done.stderr
    done = imported("champion", "--weights", weights_of(client, champion))
    assert done.returncode == 0, done.stderr
    assert "models:/fashion_mnist_cnn@champion, version 1" in done.stdout
    assert "its weights are not in this store: not scored, not drawn" in done.stdout
    assert imported("predict", "3").returncode == 0


def test_another_networks_weights(imported, client, champion, tmp_path):
    """Another seed's of the same arm, damaged ones, none: refused, and nothing is registered."""
    own = weights_of(client, champion)
    (sibling,) = client.search_runs(
        champion.info.experiment_id,
        f"params.seed = '1001' and params.dropout_rate = '{champion.data.params['dropout_rate']}'",
    )
    shutil.copy(weights_of(client, sibling), tmp_path / "sibling.pt")
    (tmp_path / "cut.pt").write_bytes(own.read_bytes()[:500])
    for name, message in {
        "sibling.pt": "sibling.pt: its SHA-256 must match the one recorded in the run of two, ",
        "cut.pt": "cut.pt: its SHA-256 must match the one recorded in the run of two, ",
        "none.pt": "none.pt: cannot be read: No such file",
    }.items():
        done = imported("champion", "--weights", name)
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert "no model is registered" in imported("predict", "0").stderr


@pytest.mark.slow
def test_the_network_of_a_run_that_recorded_no_digest(imported, client, champion):
    """As those of the first versions: the network that scores what was logged, and no other."""
    study = Study.existing()
    for run in study.client.search_runs([study.experiment_id], "params.seed = '1000'"):
        study.client.delete_tag(run.info.run_id, "fmnist.weights")
    (sibling,) = client.search_runs(
        champion.info.experiment_id,
        f"params.seed = '1001' and params.dropout_rate = '{champion.data.params['dropout_rate']}'",
    )
    done = imported("champion", "--weights", weights_of(client, sibling))
    assert done.returncode == 2
    assert "not the network of two, " in done.stderr
    done = imported("champion", "--weights", weights_of(client, champion))
    assert done.returncode == 0, done.stderr
    assert "scored again, as its run logged" in done.stdout


def test_weights_that_were_exchanged_in_the_store(imported, client, champion, tmp_path):
    """The tag tells, whoever can write to the artefacts."""
    from mlflow import MlflowClient

    (tmp_path / "weights.pt").write_bytes(weights_of(client, champion).read_bytes() + b"x")
    own = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    fingerprint = champion.data.tags["fmnist.fingerprint"]
    (copy,) = own.search_runs(["1"], f"tags.`fmnist.fingerprint` = '{fingerprint}'")
    own.log_artifact(copy.info.run_id, tmp_path / "weights.pt")
    done = imported("champion")
    assert done.returncode == 2
    assert "is not the file that its training wrote: the SHA-256 differs" in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("migrated")
def test_a_holdout_is_scored_on_the_test_set(fmnist_here, sweep_file, tiny_data):
    """The accuracy that nothing was chosen by, and one sweep's best arm alone."""
    sizes = ("--set=validation=holdout", "--set=holdout_size=80", "--set=val_size=50")
    small = [option for option in TINY_RUN if "val_size" not in option]
    file = sweep_file("sweep: one\ntitle: One\ngrid: {dropout_rate: [0.2]}\n")
    done = fmnist_here("run", file, "--data-dir", tiny_data, *small, *sizes, "--json")
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    done = fmnist_here("champion", "--data-dir", tiny_data)
    assert done.returncode == 0, done.stderr
    accuracy = record["metrics"]["test_accuracy"]
    assert f"  {accuracy * 100:.2f} % scored again, as its run logged" in done.stdout
    assert "visualizations/one_arm1_confusion.png" in done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("migrated")
def test_a_trial_replaces_nothing_of_the_default_study(fmnist_here, sweep_file, tmp_path):
    """Each study has its own pictures, journal and registered model."""
    file = sweep_file("sweep: one\ntitle: One\ngrid: {dropout_rate: [0.2]}\n")
    outputs = {}
    for seed, study in ((0, "fashion_mnist_cnn_tuning"), (1, "a trial/2")):
        ours = ("--study", study)
        assert fmnist_here("run", file, *TINY_RUN, "--seeds", f"{seed},", *ours).returncode == 0
        said = [fmnist_here(command, *ours).stdout for command in ("plot", "journal", "champion")]
        outputs[study] = "".join(said).splitlines()
        (answer,) = json.loads(fmnist_here("predict", "0", "--json", *ours).stdout)
        outputs[study].append(answer["probability"])
    default, trial = outputs.values()
    assert not set(default) & set(trial)
    assert "  models:/fashion_mnist_cnn@champion, version 1" in default
    assert "  models:/fashion_mnist_cnn-a_trial_2-b66157d3@champion, version 1" in trial
    journal = (tmp_path / "JOURNAL-a_trial_2-b66157d3.md").read_text()
    assert "`visualizations/a_trial_2-b66157d3/one.png`" in journal
    before = (tmp_path / "JOURNAL.md").read_bytes()
    done = fmnist_here("journal", "--study", "a trial/2", "--output", "JOURNAL.md")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: JOURNAL.md: it is the journal of the study fashion_mnist_cnn_tuning, not of a trial"
    )
    assert (tmp_path / "JOURNAL.md").read_bytes() == before


def test_weights_that_hold_code_are_not_run(tmp_path):
    """Only tensors are loaded."""
    from fmnist_tuning.training.classifier import unpack_weights

    marker = tmp_path / "ran"
    torch = pytest.importorskip("torch")

    class Hostile:
        def __reduce__(self):
            return (marker.touch, ())

    content = io.BytesIO()
    torch.save({"mean": Hostile()}, content)
    with pytest.raises(WeightsError, match="damaged"):
        unpack_weights(content.getvalue(), {})
    assert not marker.exists()


def test_test_images_by_number(in_study):
    """With what they are; the model, and only it, on stderr."""
    done = in_study("predict", "0", "7", "--json")
    answers = json.loads(done.stdout)
    assert [answer["image"] for answer in answers] == ["test image 0", "test image 7"]
    for answer in answers:
        assert answer["truth"] in answer["probabilities"]
        assert answer["probability"] == max(answer["probabilities"].values())
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    done = in_study("predict", "0")
    assert done.stderr.startswith("model")
    assert answers[0]["garment"] in done.stdout


@pytest.mark.parametrize("number", ["100", "99999999999999999999", "9" * 5000])
def test_a_number_that_no_test_image_has(in_study, number):
    """Said with the numbers that there are."""
    done = in_study("predict", number)
    assert done.returncode == 2
    assert "no test image and no file; test images are 0 to 99" in done.stderr
    assert len(done.stderr) < 200


@pytest.mark.parametrize("suffix", ["png", "jpeg"])
def test_a_file_is_seen_as_the_image_that_it_holds(in_study, tmp_path, suffix):
    """A test image written to a file gets the test image's answer."""
    images, _ = tiny_images(TEST_COUNT, 2)
    path = tmp_path / f"seven.{suffix}"
    Image.fromarray(images[7].astype(np.uint8)).save(path, quality=100)
    done = in_study("predict", "7", path, "--json")
    number, file = json.loads(done.stdout)
    assert file["garment"] == number["garment"]
    assert file["probability"] == pytest.approx(number["probability"], abs=0.02)
    assert file["truth"] is None


@pytest.mark.usefixtures("migrated")
def test_no_champion_yet(fmnist_here, tiny_data):
    """What is missing, and what makes it."""
    done = fmnist_here("predict", "0", "--data-dir", tiny_data)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no model is registered as fashion_mnist_cnn@champion in ")
    assert "`fmnist champion` registers the best of the study" in done.stderr


def test_names_from_a_store_that_others_write_to(in_study, champion, tmp_path, monkeypatch):
    """The terminal obeys nothing of them."""
    from mlflow import MlflowClient

    evil = "\x1b[31m[bold]\u202e\x07"
    shutil.copy("mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    own = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    own.update_run(champion.info.run_id, name=evil)
    own.set_tag(champion.info.run_id, "fmnist.sweeps", evil)
    for done in (in_study("predict", "0"), in_study("champion")):
        assert done.returncode == 0, done.stderr
        assert not re.search(
            "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", done.stdout + done.stderr
        )


def test_no_store_yet(fmnist_here, tmp_path, tiny_data):
    """The same, and no store is made for the asking."""
    done = fmnist_here("predict", "0", "--data-dir", tiny_data)
    assert done.returncode == 2
    assert "there is no store at" in done.stderr
    assert not (tmp_path / "mlflow.db").exists()


def hand_made() -> Scores:
    """Ten classes, five images: three right, one slightly and one utterly wrong."""
    labels = np.array([0, 1, 2, 3, 4])
    probabilities = np.full((5, 10), 0.01, np.float32)
    for image, (taken, chance) in enumerate([(0, 0.9), (1, 0.9), (2, 0.9), (9, 0.5), (8, 0.97)]):
        probabilities[image, taken] = chance
    probabilities[3, 3] = 0.4
    return Scores(np.zeros((5, 28, 28), np.uint8), labels, probabilities)


def test_scores():
    """Accuracy, confusions and the worst mistakes of known answers."""
    scores = hand_made()
    assert scores.accuracy == 0.6
    table = scores.confusion()
    assert table.sum() == 5
    assert table[3, 9] == table[4, 8] == table[0, 0] == 1
    assert list(scores.most_wrong(36)) == [4, 3]
    assert list(scores.most_wrong(1)) == [4]


def test_the_figures_say_what_is_taken_for_what():
    """Class names, counts, accuracies a class; truth and error above each mistake."""
    from matplotlib.text import Text

    from fmnist_tuning.report.figures.garments import draw_confusion, draw_mistakes
    from fmnist_tuning.sweeps.datasets import FASHION

    def texts(figure) -> list[str]:
        return [text.get_text() for text in figure.findobj(Text)]

    confusion = texts(draw_confusion(hand_made(), FASHION.classes, "Title", "Note"))
    assert {"Title", "Ankle boot", "100.0", "0.0", "true", "predicted"} <= set(confusion)
    assert confusion.count("100.0") + confusion.count("0.0") == 5  # classes without images: unknown
    assert any("60.00 % of the test set's 5 images are right." in text for text in confusion)
    mistakes = texts(draw_mistakes(hand_made(), FASHION.classes, "Title", "Note"))
    assert "Coat →\nBag\n97.0 %" in mistakes
    assert any(text.startswith("The 2 of 2 mistakes") for text in mistakes)


def test_one_bad_picture_among_others(in_study, tmp_path):
    """The others are named; the bad ones are reported, all of them, and the exit code is 1."""
    blank = tmp_path / "blank.png"
    Image.new("L", (50, 50), 200).save(blank)
    done = in_study("predict", "0", blank, "nowhere.png", "1", "--json")
    assert done.returncode == 1
    records = json.loads(done.stdout)
    assert ["garment" in record for record in records] == [True, False, False, True]
    assert records[1]["error"].endswith("shows nothing that differs from its border")
    done = in_study("predict", "0", blank, "nowhere.png")
    assert done.returncode == 1
    assert "test image 0" in done.stdout
    assert done.stderr.count("error: ") == 2
    done = in_study("predict", blank, "nowhere.png")
    assert done.returncode == 2
    assert "nowhere.png: cannot be read" in done.stderr
