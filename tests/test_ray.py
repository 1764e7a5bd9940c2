"""A Ray cluster: the same numbers as with local processes, whatever happens to its nodes."""

import json
import signal
from contextlib import contextmanager

import pytest
from conftest import TINY, lacking

from fmnist_tuning.errors import FmnistError
from fmnist_tuning.options import cluster as cluster_options
from fmnist_tuning.running import cluster
from fmnist_tuning.running.cluster import Node
from fmnist_tuning.store.study import Study

pytest.importorskip("ray")

SWEEP = "sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0, 0.2, 0.5]}\n"
DECISIVE = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
CLAIM = (
    "claims: [{that: c, arm: {dropout_rate: 0.0}, versus: {dropout_rate: 0.5}, "
    "metric: late_val_accuracy, expect: higher, margin: 0.05}]\n"
)


def settings(epochs=2):
    """The options of a tiny training."""
    return [f"--set={key}={value}" for key, value in (TINY | {"epochs": epochs}).items()]


@contextmanager
def ray_cluster(*nodes):
    """A head without a CPU, and nodes on this machine, each by its arguments."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        for node in nodes:
            made.add_node(**node)
        yield made
    finally:
        made.shutdown()


@pytest.fixture(scope="module", autouse=True)
def _ray_of_this_machine():
    """Ray keeps to 127.0.0.1, without a token: nobody else can reach it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        yield


def measured(folder):
    """Every value of every epoch that decides a result, by arm and seed; each is there once."""
    study = Study.existing(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    runs = study.finished_runs()
    values = {}
    for fingerprint, run in runs.items():
        for metric in DECISIVE:
            history = study.client.get_metric_history(run.run_id, metric)
            assert len({point.step for point in history}) == len(history)
            values |= {(fingerprint, metric, p.step): p.value for p in history}
    return values


def another_torch(folder):
    """A folder that makes Python believe in another version of torch."""
    listing = folder / "other/torch-0.1.dist-info/METADATA"
    listing.parent.mkdir(parents=True)
    listing.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.1\n")
    return listing.parent.parent


def until(process, text, count=1):
    """Read what a command says on stderr until a text came that often; gives all of it."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        if sum(text in said for said in lines) == count:
            return "".join(lines)
    raise AssertionError(f"{text!r} never came:\n{''.join(lines)}")


@pytest.mark.long
@pytest.mark.slow
def test_a_node_is_lost(tmp_path, fmnist, start_fmnist, sweep_file):
    """A run goes on elsewhere from its last epoch; every metric is that of local processes."""
    path = sweep_file(SWEEP)
    options = [*settings(epochs=40), "--json"]
    (tmp_path / "here").mkdir()
    alone = fmnist("run", path, *options, "--jobs=2", cwd=tmp_path / "here")
    assert alone.returncode == 0, alone.stderr
    with ray_cluster({"num_cpus": 1}) as made:
        second = made.add_node(num_cpus=1)
        ray = ["--executor=ray", f"--address={made.address}"]
        process = start_fmnist("run", path, *options, *ray)
        said = until(process, "epoch 3/", 2)
        made.remove_node(second, allow_graceful=False)
        out, err = process.communicate(timeout=240)
    said += err
    assert process.returncode == 0, said
    assert lacking(said, "2 workers … is gone; another worker continues it … continues after") == ""
    assert [run["metrics"].keys() for run in json.loads(out)] == [
        run["metrics"].keys() for run in json.loads(alone.stdout)
    ]
    here, there = measured(tmp_path / "here"), measured(tmp_path)
    assert len(here) == 3 * 40 * len(DECISIVE)
    assert there == here
    study = Study.existing(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert study.unfinished_runs() == []
    assert list(study.state_folder.glob("*.pt")) == []


@pytest.mark.long
@pytest.mark.slow
def test_nodes_that_join_later(tmp_path, start_fmnist, sweep_file):
    """They train too; one with another torch, or without the package, is refused."""
    other = another_torch(tmp_path)
    bare = tmp_path / "bare/fmnist_tuning"
    bare.mkdir(parents=True)
    (bare / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'fmnist_tuning'\")"
    )
    path = sweep_file(SWEEP)
    with ray_cluster({"num_cpus": 1}) as made:
        ray = ["--executor=ray", f"--address={made.address}"]
        process = start_fmnist("run", path, *settings(epochs=400), *ray)
        said = until(process, "epoch 1/")
        assert "1 worker," in said
        made.add_node(num_cpus=1)
        until(process, ": 1 worker (")  # the first node's own line comes first
        made.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(other)})
        said = until(process, "is not used")
        assert lacking(said.splitlines()[-1], "torch 0.1 there and … allowed: the same") == ""
        made.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(bare.parent)})
        said = until(process, "is not used")
        told = said.splitlines()[-1]
        assert lacking(told, "Python finds no fmnist_tuning there; install fmnist with it") == ""
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.endswith("interrupted; run the same command again to continue\n")


@pytest.mark.long
@pytest.mark.slow
def test_a_cluster_that_cannot_train(tmp_path, fmnist, sweep_file):
    """One message and exit code 2; no run is begun."""
    path = sweep_file(SWEEP)
    other = another_torch(tmp_path)
    with ray_cluster() as made:
        ray = ["--executor=ray", f"--address={made.address}"]
        for option, expected in (
            ("--device=cuda", "--device cuda: no node of the cluster has a GPU; --device cpu"),
            ("--device=cpu", "no node of the cluster has room … add one with `ray start"),
        ):
            done = fmnist("run", path, *settings(), *ray, option)
            assert done.returncode == 2
            assert lacking(done.stderr, f"error: {expected}") == ""
            assert "Traceback" not in done.stderr
        made.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(other)})
        done = fmnist("run", path, *settings(), *ray)
        assert done.returncode == 2
        assert lacking(done.stderr, "error: node … found torch 0.1 there and … the same") == ""
    study = Study.existing(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert [run.kind for run in study.unfinished_runs()] == []


@pytest.mark.slow
def test_ray_on_this_machine_alone(fmnist, sweep_file):
    """Without an address Ray starts here and ends with the command, looks of --decide included."""
    done = fmnist(
        *("run", sweep_file(SWEEP + CLAIM), *settings(), "--executor=ray", "--jobs=2"),
        *("--decide", "--max-seeds=5"),
    )
    assert done.returncode == 0, done.stderr
    assert "2 workers" in done.stderr
    assert not [line for line in done.stderr.splitlines() if "ray::" in line or "raylet" in line]


def test_nobody_answers(tmp_path, fmnist, sweep_file):
    """The command ends at once, before it makes a store."""
    done = fmnist("run", sweep_file(SWEEP), "--executor=ray", "--address=127.0.0.1:1")
    assert done.returncode == 2
    assert lacking(done.stderr, "--address 127.0.0.1:1: nobody answers there … ray start") == ""
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("ray://127.0.0.1:10001", "Ray's address for clients; allowed: HOST:PORT"),
        ("127.0.0.1", "found '127.0.0.1', allowed: HOST:PORT, or auto"),
        ("host:99999999", "allowed: HOST:PORT, or auto"),
        (":6379", "allowed: HOST:PORT, or auto"),
    ],
)
def test_addresses(address, found):
    with pytest.raises(FmnistError, match="--address") as failure:
        cluster.begin(address)
    assert found in str(failure.value)


def test_without_ray(monkeypatch):
    """Most people have no need of it, so it is not installed with the program."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(FmnistError, match=r"install fmnist with it, `pip install -e '\.\[ray\]'`"):
        cluster.begin(None)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("local", "a:1", None), "--address: has an effect with --executor ray only"),
        (("local", None, 0.5), "--gpus-per-run: has an effect with --executor ray only"),
        (("ray", None, 0.0), "--gpus-per-run: found 0, allowed: above 0, and 1 at most"),
        (("ray", None, 1.5), "--gpus-per-run: found 1.5, allowed"),
        (("ray", None, float("nan")), "--gpus-per-run: found nan, allowed"),
    ],
)
def test_options_of_a_cluster(arguments, found):
    with pytest.raises(FmnistError) as failure:
        cluster_options(*arguments)
    assert found in str(failure.value)


def test_how_many_workers_a_node_has():
    """One for each CPU that has memory, or as many as a GPU is divided into."""
    node = Node("id", "name", cpus=8, gpus=2.0, memory_bytes=5 << 30)
    assert node.slots("cpu", 1.0) == 5
    # A worker is on one GPU, so two of them hold twice what one holds.
    parts = (1.0, 0.6, 0.5, 0.4, 0.3, 0.1)
    assert [node.slots("cuda", part) for part in parts] == [2, 2, 4, 4, 6, 20]


@pytest.mark.gpu
def test_runs_that_share_a_gpu(fmnist, sweep_file):
    """Two runs at a time on one GPU, each with a half of it."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    done = fmnist(
        *("run", sweep_file(SWEEP), *settings(), "--executor=ray", "--device=cuda"),
        *("--gpus-per-run=0.5", "--jobs=2"),
    )
    assert done.returncode == 0, done.stderr
    assert lacking(done.stderr, "device  cuda … 2 workers, torch") == ""
