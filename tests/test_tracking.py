import json
import re
import shutil
import sys
import urllib.request
from pathlib import Path

import pytest
from conftest import TINY_RUN
from servers import mlflow_server
from studies import six_experiments, write_study

from fmnist_tuning.errors import TrackingError
from fmnist_tuning.metrics import EpochMetrics, RunOutcome
from fmnist_tuning.store.registry import Registry
from fmnist_tuning.store.study import Study
from fmnist_tuning.store.tracker import Tracker
from fmnist_tuning.sweeps.sweep import Sweep

TWO_ARMS = "sweep: two\ntitle: Two arms\nhypothesis: None.\ngrid: {dropout_rate: [0.0, 0.5]}\n"

EPOCH = EpochMetrics(1, 0.5, 0.8, 0.4, 0.85, 1.5, 1000.0)
OUTCOME = RunOutcome(0.3, 0.9, 0.4, 0.85, 0.85, 1, 421_834, 1.5)


@pytest.fixture(
    params=["default", "file", "sqlite", pytest.param("server", marks=pytest.mark.slow)]
)
def store(request, tmp_path, blank_store):
    """The `--tracking-uri` of each kind of store; None is MLflow's own default."""
    match request.param:
        case "default":
            shutil.copy(blank_store, tmp_path / "mlflow.db")
            return None
        case "file":
            return "file:./mlruns"
        case "sqlite":
            return f"sqlite:///{shutil.copy(blank_store, tmp_path / 'other.db')}"
        case "server":
            return request.getfixturevalue("server")


def client_of(study: Study):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=study.uri)


def write_run(study: Study, name: str = "dropout_rate=0.3 seed=0", fingerprint: str = "f") -> str:
    tracker = Tracker(study)
    run_id = tracker.start_run(
        name, sweeps={"one": ""}, fingerprint=fingerprint, params={"epochs": "1"}, tags={}
    )
    tracker.log_epoch(run_id, EPOCH)
    tracker.finish_run(run_id, OUTCOME.metrics())
    return run_id


def test_a_model_is_registered_in_every_store(store, tmp_path):
    """Once, with the alias; its network comes back as it was kept, and nothing else would."""
    import numpy as np

    from fmnist_tuning.training.classifier import Classifier, classify, pack_weights, unpack_weights
    from fmnist_tuning.training.model import FashionCNN

    architecture = {"conv_channels": (4,), "fc_units": (8,)}
    classifier = Classifier(FashionCNN(**architecture), 0.3, 0.4).eval()
    weights = tmp_path / "weights.pt"
    weights.write_bytes(pack_weights(classifier))
    study = Study.open("models", store)
    tracker = Tracker(study)
    run_id = tracker.start_run("r", sweeps={"one": ""}, fingerprint="m", params={"a": "1"}, tags={})
    tracker.keep_network(run_id, weights)
    tracker.finish_run(run_id, OUTCOME.metrics())
    run = study.finished_run("m")
    registry = Registry(study.uri)
    images = np.random.default_rng(0).integers(0, 255, (3, 28, 28), np.uint8)
    answers = classify(classifier, images)
    version = registry.register(study, run, classifier, images, answers, about="It is good.")
    assert registry.register(study, run, classifier, images, answers, about="") == version
    champion = Registry.existing(store).champion(study.name)
    assert (champion.version, champion.run.run_id) == (version, run_id)
    again = unpack_weights(champion.weights, architecture)
    np.testing.assert_allclose(classify(again, images), answers, atol=1e-6)
    assert client_of(study).get_run(run_id).info.end_time == run.ended * 1000


def test_a_run_is_written_and_read_in_every_store(store):
    """Params, a curve with the epoch as step, the outcome, tags, status: in each kind of store."""
    study = Study.open("study", store)
    run_id = write_run(study)
    run = client_of(study).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "dropout_rate=0.3 seed=0"
    assert run.data.params == {"epochs": "1"}
    history = client_of(study).get_metric_history(run_id, "val_accuracy")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.85)]
    assert run.data.metrics["total_params"] == 421_834
    assert run.data.tags["mlflow.user"]
    # And the same through another door, as the next command will see it.
    found = Study.find("study", store).finished_runs()
    assert found["f"].run_id == run_id
    assert found["f"].sweeps == ("one",)
    assert found["f"].metrics["final_val_accuracy"] == 0.85


def test_a_sweeps_definition_is_kept(store):
    """As tags, however long it is, and as sweep.yaml for people; a second time in the same run."""
    study = Study.open("definitions", store)
    short = Sweep(sweep="one", title="One", grid={"epochs": [1]})
    long = short.model_copy(
        update={"hypothesis": "é" * 2_000, "seeds": tuple(range(10**6, 10**6 + 999))}
    )
    for sweep in (short, long, long):
        run_id = Tracker(study).begin_sweep(sweep, "d")
        Tracker(study).end_run(run_id, "FINISHED")
        assert study.definitions(["one"]) == {"one": sweep}
    client = client_of(study)
    assert len(client.search_runs([study.experiment_id])) == 1
    assert [file.path for file in client.list_artifacts(run_id)] == ["sweep.yaml"]
    assert study.definitions(["other"]) == {}


def test_the_newest_of_two_runs_of_a_sweep_counts(migrated):
    """Two commands could make two; reading and writing agree which it is."""
    study = Study.open("study", f"sqlite:///{migrated}")
    sweep = Sweep(sweep="one", title="One", grid={"epochs": [1]})
    first = Tracker(study).begin_sweep(sweep, "d")
    client_of(study).update_run(first, name="hidden")
    second = Tracker(study).begin_sweep(sweep.model_copy(update={"seeds": (0, 1)}), "d")
    client_of(study).update_run(first, name="one")
    assert [found.run_id for found in study.sweeps()] == [second]
    assert study.definitions(["one"])["one"].seeds == (0, 1)
    assert Tracker(study).begin_sweep(sweep, "d") == second


def test_the_latest_of_equal_runs_counts(migrated):
    """After --force there are two."""
    study = Study.open("study", f"sqlite:///{migrated}")
    write_run(study)
    second = write_run(study)
    assert study.finished_runs()["f"].run_id == second


def test_only_finished_runs_are_reused(migrated):
    """A failed one has no result, and says why it failed."""
    study = Study.open("study", f"sqlite:///{migrated}")
    tracker = Tracker(study)
    run_id = tracker.start_run("x", sweeps={"one": ""}, fingerprint="f", params={}, tags={})
    tracker.end_run(run_id, "FAILED", "the loss is not a finite number")
    assert study.finished_runs() == {}
    run = client_of(study).get_run(run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["fmnist.reason"] == "the loss is not a finite number"
    assert "not a finite number" in run.data.tags["mlflow.note.content"]


def test_more_runs_than_one_page(migrated, monkeypatch):
    """MLflow stops at a page without a word."""
    monkeypatch.setattr("fmnist_tuning.store.bulk._PAGE", 3)
    study = Study.open("study", f"sqlite:///{migrated}")
    for number in range(8):
        write_run(study, fingerprint=str(number))
    assert len(study.finished_runs()) == 8


def test_a_sweep_is_added_once(migrated):
    """A reused run carries every sweep that uses it."""
    study = Study.open("study", f"sqlite:///{migrated}")
    write_run(study)
    for _ in range(2):
        Tracker(study).add_sweeps(study.finished_runs()["f"], {"two": "", "one": ""})
    assert study.finished_runs()["f"].sweeps == ("one", "two")


def test_looking_creates_nothing(tmp_path, blank_store):
    """`fmnist plan` in an empty folder leaves it empty."""
    assert Study.find("study") is None
    assert list(tmp_path.iterdir()) == []
    shutil.copy(blank_store, "mlflow.db")
    Study.open("study")
    assert Study.find("another") is None


def test_a_server_that_does_not_answer():
    """One line at once, instead of minutes of retries."""
    with pytest.raises(TrackingError, match=r"no MLflow server answers at http://127\.0\.0\.1:9"):
        Study.open("study", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:////nowhere/at/all/x.db", "the folder /nowhere/at/all does not exist"),
        (
            "sqlite:///notes.txt",
            "/notes.txt failed: file is not a database (choose another with --tracking-uri)",
        ),
        ("quatsch://x", "found 'quatsch://x', allowed: a folder, sqlite:///FILE, http://HOST:PORT"),
    ],
)
def test_a_store_that_cannot_be_opened(tmp_path, uri, message):
    """The store is named, and the option that names another."""
    (tmp_path / "notes.txt").write_text("This is no database, but a text of some length.\n" * 99)
    with pytest.raises(TrackingError, match=re.escape(message)):
        Study.open("study", uri)


def test_a_deleted_study_is_not_written_to(migrated):
    """MLflow would refuse each run with a riddle."""
    study = Study.open("study", f"sqlite:///{migrated}")
    client_of(study).delete_experiment(study.experiment_id)
    with pytest.raises(TrackingError, match=r"was deleted .* mlflow experiments restore"):
        Study.open("study", study.uri)


def test_names_that_would_climb_out_of_their_folder(migrated):
    """A study's name is no path."""
    study = Study.open("../../x", f"sqlite:///{migrated}")
    place = client_of(study).get_experiment(study.experiment_id).artifact_location
    assert place == (migrated.parent / "mlruns/______x").as_uri()


def test_the_store_by_environment_and_by_option(tmp_path, monkeypatch, blank_store):
    """The option, then the environment, then MLflow's default."""
    for name in ("env.db", "opt.db", "mlflow.db"):
        shutil.copy(blank_store, name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/env.db")
    assert Study.open("study").uri.endswith("env.db")
    assert Study.open("study", f"sqlite:///{tmp_path}/opt.db").uri.endswith("opt.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert Study.open("study").uri.endswith("/mlflow.db")


@pytest.mark.usefixtures("migrated")
def test_where_to_look(tmp_path, monkeypatch):
    """The very command, or the address, that shows this store."""
    shutil.copy("mlflow.db", "o.db")
    folder = Path(sys.executable).parent
    monkeypatch.setenv("PATH", "/nowhere")
    assert Study.open("s").browse_hint().startswith(f"{folder}/mlflow ui   then open ")
    monkeypatch.setenv("PATH", str(folder))
    page = (
        "#/experiments/1/runs?compareRunsMode=CHART&viewStateShareKey=fmnist"
        "&workflowType=machine_learning"
    )
    assert Study.open("s").browse_hint() == f"mlflow ui   then open http://127.0.0.1:5000/{page}"
    other = Study.open("s", f"sqlite:///{tmp_path}/o.db").browse_hint()
    assert other.startswith(f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/o.db   then")
    elsewhere = Study.open("s", "file:./other runs").browse_hint()
    assert elsewhere.startswith(
        f"MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri file://{tmp_path}/other%20runs"
    )
    # A file store in ./mlruns is what MLflow itself takes for its default from then on.
    default = Study.open("s", "file:./mlruns").browse_hint()
    assert default.startswith("MLFLOW_ALLOW_FILE_STORE=true mlflow ui   then open")
    assert Study("c", "http://h:1/", "s", "7").browse_hint().startswith("open http://h:1/#/exper")


@pytest.mark.slow
def test_fmnist_run_on_every_store(fmnist, fmnist_here, sweep_file, store):
    """The whole command on each kind of store; the second time it trains nothing."""
    sweep = sweep_file(TWO_ARMS)
    options = ["--tracking-uri", store] if store else []
    # MLflow's start-up speaks once a process: where it makes a database, and of its file store.
    run = fmnist if store in (None, "file:./mlruns") else fmnist_here
    if store is None:
        Path("mlflow.db").unlink()
    first = run("run", sweep, *TINY_RUN, *options)
    assert first.returncode == 0, first.stderr
    second = fmnist_here("run", sweep, *TINY_RUN, *options)
    assert second.returncode == 0, second.stderr
    assert second.stderr.count("reused") == 2
    assert "started" not in second.stderr
    study = Study.find("fashion_mnist_cnn_tuning", store)
    runs = study.finished_runs()
    assert sorted(found.name for found in runs.values()) == [
        "two 0.0 #0",
        "two 0.5 #0",
    ]
    for found in runs.values():
        history = client_of(study).get_metric_history(found.run_id, "val_loss")
        assert [metric.step for metric in history] == [1, 2]
    # Nothing of MLflow's own start-up reaches the user.
    for text in (first.stderr, first.stdout):
        assert "alembic" not in text
        assert "Warning" not in text
        assert "INFO" not in text


@pytest.mark.slow
@pytest.mark.usefixtures("migrated")
def test_a_bare_mlflow_ui_shows_the_study(fmnist_here, sweep_file, tmp_path):
    """`mlflow ui` without an argument, in the folder where `fmnist run` was run."""
    fmnist_here("run", sweep_file(TWO_ARMS), *TINY_RUN)
    with mlflow_server(tmp_path, command="ui") as address:

        def ask(path: str, body: dict) -> dict:
            request = urllib.request.Request(  # noqa: S310
                f"{address}/api/2.0/mlflow/{path}",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request) as answer:  # noqa: S310
                return json.load(answer)

        studies = ask("experiments/search", {"max_results": 10})["experiments"]
        study = next(s for s in studies if s["name"] == "fashion_mnist_cnn_tuning")
        runs = ask("runs/search", {"experiment_ids": [study["experiment_id"]]})["runs"]
        assert {run["info"]["run_name"] for run in runs} == {
            "two", "two 0.0 #0", "two 0.5 #0",
        }  # fmt: skip


@pytest.mark.usefixtures("migrated")
def test_a_server_started_first_does_not_get_in_the_way(fmnist_here, sweep_file, tmp_path):
    """`mlflow ui` in an empty folder makes a store whose artefacts only it could write."""
    from mlflow import MlflowClient

    MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").create_experiment(
        "other", artifact_location="mlflow-artifacts:/1"
    )
    assert fmnist_here("run", sweep_file(TWO_ARMS), *TINY_RUN).returncode == 0


@pytest.mark.usefixtures("migrated")
def test_what_mlflows_page_shows_first(tmp_path):
    """Short names, the data set, a tag a sweep to group by, and a view that the address names."""
    sweep, other = (six_experiments()[place] for place in (1, 4))
    write_study([sweep, other], f"sqlite:///{tmp_path}/mlflow.db")
    study = Study.existing()
    found = study.finished_runs().values()
    assert {run.name for run in found} >= {"exp2 BN #0", "exp2 no BN #0", "exp5 0.3 no BN #0"}
    client = client_of(study)
    for run in found:
        (used,) = client.get_run(run.run_id).inputs.dataset_inputs
        assert used.dataset.digest == run.tags["fmnist.data"]
        if run.name == "exp2 BN #0":
            assert run.tags["sweep.exp2_batch_norm"] == "use_batch_norm=True"
    tags = client.get_experiment(study.experiment_id).tags
    (view,) = (value for key, value in tags.items() if key == "mlflow.sharedViewState.fmnist")
    assert len(view) < 5000  # what MLflow keeps
    assert json.loads(view).items() >= json.loads(json.loads(view)["state"]).items()
    assert "viewStateShareKey=fmnist&" in study.browse_hint()


@pytest.mark.usefixtures("migrated")
def test_a_study_of_an_older_version_gets_the_view():
    """When it is next opened to write; a view that a person changed stays."""
    study = Study.open("s")
    client = client_of(study)
    key = "mlflow.sharedViewState.fmnist"
    client.delete_experiment_tag(study.experiment_id, key)
    Study.open("s")
    assert key in client.get_experiment(study.experiment_id).tags
    client.set_experiment_tag(study.experiment_id, key, "mine")
    Study.open("s")
    assert client.get_experiment(study.experiment_id).tags[key] == "mine"
