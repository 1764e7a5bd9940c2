"""What a user is told: the place, the finding, and what is allowed or mends, in whatever words."""

import gzip
import hashlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import NAMES, ROOT, TRAIN_COUNT, idx, lacking, tiny_images, write_data

from fmnist_tuning import errors
from fmnist_tuning.errors import ConfigError, FmnistError, TrackingError
from fmnist_tuning.metrics import METRICS
from fmnist_tuning.report.figures.kinds import axes_by_kind
from fmnist_tuning.store.study import Study
from fmnist_tuning.store.tracker import Tracker
from fmnist_tuning.sweeps.reading import load_sweeps, parse_overrides, parse_seeds

HEAD = "sweep: one\ntitle: One\n"
GRID = f"{HEAD}grid: {{epochs: [1]}}\n"
CLAIM = "that: t, arm: {epochs: %s}, versus: {epochs: 1}, expect: %s, margin: %s"


# Of each problem: its place, what was found there, and what is allowed or mends it.
CONFIGS = {
    # keys
    f"{HEAD}grid: {{drop_out: [0]}}": [":3: grid.drop_out: … dropout_rate"],
    f"{HEAD}grid: {{xyz: [0]}}": [":3: grid.xyz: there is no such setting; … CONTRIBUTING.md"],
    f"{HEAD}grid: {{seed: [1]}}": [":3: grid.seed: … `seeds`"],
    f"{HEAD}fixd: {{}}\ngrid: {{epochs: [1]}}": [":3: fixd: … fixed"],
    f"{GRID}fixed: {{learnig_rate: 0.1}}": [":4: fixed.learnig_rate: … learning_rate"],
    f"{GRID}claims: [{{{CLAIM.replace('expect', 'expects') % (1, 'higher', 0)}}}]": [
        ":4: claims[0].expects: … did you mean expect?"
    ],
    f"{GRID}xyz: 1": [":4: xyz: … sweep, title, … claims, figure"],
    f'{GRID}"\\e[31m": 1': [":4: '\\x1b[31m': … sweep, title"],
    f"{GRID}<<: {{a: 1}}": [":4: '<<': … sweep, title"],
    f"{HEAD}combine: {{sources: [a]}}": [
        ":3: combine.from: … required",
        ":3: combine.sources: … from, top, max_params",
    ],
    f"{HEAD}combine: {{from: [a]}}\nfigure: {{kind: rankng, file: a.png}}": [
        ":4: figure.kind: … rankng … ranking"
    ],
    f"{GRID}figure: {{kind: rankng, file: a.png}}": [":4: figure.kind: … rankng … ranking"],
    f"{GRID}fixed: {{seed: 1}}": [":4: fixed.seed: … `seeds`"],
    "title: One\ngrid: {epochs: [1]}": [": sweep: … required"],
    # kinds of values
    "[1]": [": … [1] … `sweep:`"],
    "sweep: one\ntitle: 3\ngrid: {epochs: [1]}": [":2: title: … 3 … text"],
    f"{HEAD}grid: [1]": [":3: grid: … [1] … mapping"],
    f"{HEAD}grid: {{epochs: 1}}": [":3: grid.epochs: … 1 … list"],
    f"{HEAD}grid: {{epochs: []}}": [":3: grid.epochs: … [] … at least one"],
    f"{GRID}fixed: 0": [":4: fixed: … 0 … mapping"],
    f"{GRID}fixed: {{fc_units: 64}}": [":4: fixed.fc_units: … 64 … a list, such as [64]"],
    f"{HEAD}seeds: 3\ngrid: {{epochs: [1]}}": [":3: seeds: … 3 … a list, such as [0, 1, 2]"],
    f"{HEAD}grid: {{epochs: ['5']}}": [":3: grid.epochs[0]: … '5' … an integer; remove the quotes"],
    f"{HEAD}grid: {{use_pooling: [1]}}": [":3: grid.use_pooling[0]: … 1 … true or false"],
    f"{HEAD}grid: {{dropout_rate: ['0.1']}}": [
        ":3: grid.dropout_rate[0]: … '0.1' … a number; remove the quotes"
    ],
    f"{HEAD}grid: {{epochs: [1:30, 010, 0x10, 2001-01-01, yes, ~, 1.0, ten]}}": [
        f":3: grid.epochs[{place}]: … {found} … an integer"
        for place, found in enumerate(
            ["'1:30'", "'010'", "'0x10'", "'2001-01-01'", "true", "null", "1.0", "'ten'"]
        )
    ],
    # bounds
    f"{HEAD}grid: {{dropout_rate: [0.1, 1.5]}}": [
        ":3: grid.dropout_rate[1]: … 1.5 … at least 0 and less than 1"
    ],
    f"{HEAD}grid: {{learning_rate: [.nan, .inf, -1e999, 0]}}": [
        ":3: grid.learning_rate[0]: … NaN … finite",
        ":3: grid.learning_rate[1]: … Infinity … finite",
        ":3: grid.learning_rate[2]: … -Infinity … finite",
        ":3: grid.learning_rate[3]: … 0 … greater than 0",
    ],
    f"{HEAD}grid: {{epochs: [{10**30}, 0]}}": [
        f":3: grid.epochs[0]: … {10**30} … at least 1 and at most 10,000",
        ":3: grid.epochs[1]: … 0 … at least 1 and at most 10,000",
    ],
    f"{HEAD}grid: {{epochs: [{10**4000}]}}": [":3: … 4,001 … 100"],
    f"{HEAD}grid: {{fc_units: [[1, 1, 1, 1, 1, 1, 1, 1, 1]]}}": [":3: grid.fc_units[0]: … 9 … 8"],
    f"{GRID}seeds: [-1]": [":4: seeds[0]: … -1 … 0"],
    f"{GRID}seeds: [1, 1]": [":4: seeds: … [1, 1] … once"],
    f"{HEAD}combine: {{from: [a], top: 0}}": [":3: combine.top: … 0 … 1"],
    # words
    f"{HEAD}grid: {{optimizer: [adam, x]}}": [
        ":3: grid.optimizer[0]: … 'adam' … Adam",
        ":3: grid.optimizer[1]: … 'x' … Adadelta, Adagrad, Adam, AdamW, NAdam, RAdam, RMSprop, SGD",
    ],
    **{
        f"sweep: {name}\ntitle: One\ngrid: {{epochs: [1]}}": [
            f":1: sweep: … {shown} … 64 letters, digits, _ and -"
        ]
        for name, shown in {
            "../x": "'../x'",
            "/x": "'/x'",
            "..": "'..'",
            "a b": "'a b'",
            "nul": "'nul'",
            "a\\b": "'a\\\\b'",
            '"\\u202ea"': "'\\u202ea'",
            "é": "'\\xe9'",
            "x" * 65: f"'{'x' * 65}'",
        }.items()
    },
    **{
        f"{GRID}figure: {{kind: ranking, file: '{name}'}}": [
            f":4: figure.file: … {name!a} … .png, .svg or .pdf"
        ]
        for name in ("../../x", "/x.png", "x", "a\\b.png", "CON.png", "x.gif", ".png")
    },
    'sweep: one\ntitle: "\\e[31m"\ngrid: {epochs: [1]}': [":2: title: … '\\x1b[31m' … control"],
    "sweep: one\ntitle: |\n  a\n  b\ngrid: {epochs: [1]}": [":2: title: … 'a\\nb\\n' … one line"],
    # combinations of settings
    f"{HEAD}grid: {{num_conv_layers: [5]}}": [
        ":3: grid: num_conv_layers=5: … 5 … 4 … use_pooling … 28 -> 14 -> 7 -> 3 -> 1 -> 0"
    ],
    f"{HEAD}grid: {{conv_channels: [[8]]}}": [
        ":3: grid: conv_channels=[8]: … [8] … num_conv_layers = 2"
    ],
    f"{HEAD}grid: {{kernel_size: [4]}}": [":3: grid: kernel_size=4: … 4 … odd"],
    f"{GRID}fixed: {{kernel_size: 4}}": [":4: fixed.kernel_size: … 4 … odd"],
    f"{HEAD}grid: {{num_conv_layers: [2, 5], dropout_rate: [0.1, 0.2, 0.3]}}": [
        ":3: grid: num_conv_layers=5 dropout_rate=0.1 (and 2 further arms): … 5 … 4"
    ],
    f"{GRID}fixed: {{train_size: 50, batch_size: 60}}": [
        ":4: fixed.batch_size: … 60 … train_size = 50"
    ],
    f"{GRID}fixed: {{train_size: 50}}": [":4: fixed.train_size: … 50 … at least batch_size = 64"],
    f"{GRID}fixed: {{val_size: 10001}}": [":4: fixed.val_size: … 10001 … 10000"],
    f"{GRID}fixed: {{momentum: 0.9}}": [
        ":4: fixed.momentum: has no effect without `optimizer: RMSprop` (or SGD)"
    ],
    f"{GRID}fixed: {{holdout_size: 5}}": [
        ":4: fixed.holdout_size: … `validation: holdout`"
    ],
    # arms
    HEAD: [": … none … grid, arms, combine and search"],
    f"{GRID}arms: [{{name: a}}]": [": … grid and arms … one of grid, arms, combine and search"],
    f"{HEAD}grid: {{epochs: [1, 1]}}": [":3: grid: … epochs=1"],
    f"{GRID}fixed: {{epochs: 2}}": [":4: fixed.epochs: … varies … keep one"],
    f"{HEAD}arms: [{{epochs: 1}}, {{name: b, predicted: x}}]": [
        ":3: arms[0].name: … null … 1 to 60",
        ":3: arms[1].predicted: … 'x' … number",
    ],
    f"{HEAD}arms: [{{name: a}}, {{name: a, epochs: 1}}, {{name: c}}]": [
        ":3: arms[1]: … a … taken",
        ":3: arms[2]: c … a",
    ],
    # claims and figures
    f"{GRID}claims: [{{{CLAIM % (1, 'higer', -1)}, metric: x}}]": [
        f":4: claims[0].metric: … 'x' … {', '.join(METRICS)}",
        ":4: claims[0].expect: … 'higer' … higher",
        ":4: claims[0].margin: … -1 … 0",
    ],
    f"{GRID}claims: [{{{CLAIM % (7, 'higher', 0)}}}]": [
        ':4: claims[0].arm: … {"epochs": 7} … epochs=1'
    ],
    f"{GRID}figure: {{kind: trend, x: seed, y: epochs, file: a.png}}": [
        ":4: figure.x: … 'seed' … trend … epochs",
        ":4: figure.y: … 'epochs' … trend … none",
    ],
    f"{GRID}figure: {{kind: heatmap, x: epochs, y: epochs, file: a.png}}": [
        ":4: figure.kind: … heatmap … two settings, x and y … epochs"
    ],
    # YAML
    f"{GRID}grid: {{epochs: [2]}}": [":4: grid … line 3"],
    f"{GRID}? [1]\n: 1": [":4: … key … plain word"],
    f"{GRID}\tx: 1": [":4: not valid YAML: … '\\t'"],
    f"{HEAD}grid: {{epochs: [1}}": [":3: not valid YAML:"],
    f"{GRID}---\n": [":4: not valid YAML: … single document"],
    f'{GRID}hypothesis: "\\uD800"': [":4: … \\uD800 to \\uDFFF … whole characters"],
    f"{HEAD}grid: !!python/object/apply:os.system [x]": [":3: tags (!) … quote"],
    f"{HEAD}grid: {{epochs: [&a 1]}}": [":3: anchors and aliases (&, *)"],
    f"{HEAD}grid: {'[' * 21}{']' * 21}": [":3: … 20 levels"],
    f"{HEAD}grid: {{epochs: [{'1,' * 5_000}]}}": [":3: … 5,000 values"],
}  # fmt: skip


@pytest.mark.parametrize(("text", "lines"), CONFIGS.items(), ids=map(str, range(len(CONFIGS))))
def test_a_sweep_file(sweep_file, text, lines):
    """A line a problem, all at once: file, line and key; what was found; what is allowed."""
    path = sweep_file(text)
    with pytest.raises(ConfigError) as caught:
        load_sweeps([path], figures=axes_by_kind())
    problems = [problem.removeprefix(str(path)) for problem in caught.value.problems]
    for problem, line in zip(problems, lines, strict=True):
        assert problem.startswith(line.partition(" … ")[0])
        assert not lacking(problem, line)


OVERRIDES = {
    "epochs": "--set 'epochs': … key=value",
    "epoch=1": "--set epoch: … epochs",
    "\x1b=1": "--set '\\x1b': … docs/sweep-files.md",
    "seed=1": "--set seed: … `--seeds 1,`",
    "epochs=!x": "--set epochs: … '!x' … tags (!)",
    "epochs=[": "--set epochs: … '['",
    "optimizer=\udcff": "--set optimizer: … '\\udcff' … #xdcff … printable",
}


@pytest.mark.parametrize(("text", "line"), OVERRIDES.items(), ids=map(ascii, OVERRIDES))
def test_an_override(text, line):
    """The option stands where a file's place would."""
    with pytest.raises(ConfigError) as caught:
        parse_overrides([text])
    (problem,) = caught.value.problems
    assert not lacking(problem, line)


def test_an_override_in_its_file(sweep_file):
    """Twice, of a swept setting, and with values that are none: told at the option."""
    with pytest.raises(ConfigError, match=r"--set epochs: .*twice"):
        parse_overrides(["epochs=1", "epochs=2"])
    path = sweep_file(GRID)
    for options, line in (
        (({"epochs": 1},), f"{path}: --set epochs: … varies"),
        (({"batch_size": "x"},), "--set batch_size: … 'x' … integer"),
        ((None, range(1_001)), f"{path}: --seeds: … 1,001 … 1,000"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_sweeps([path], *options)
        (problem,) = caught.value.problems
        assert problem.startswith(line.partition(" … ")[0])
        assert not lacking(problem, line)


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", "0", "-1", "1001", "1,1", "1,,2", "1.5", "4294967296,", "9" * 30, "\x1b", "²"],
)
def test_seeds(text):
    """What they may be, and how one seed is named."""
    with pytest.raises(ConfigError) as caught:
        parse_seeds(text)
    (problem,) = caught.value.problems
    assert not lacking(problem, f"--seeds: … {text!a} … 1 to 1000 … 0,5,7 … 7,")


def test_how_many_problems_there_are():
    """All of them are counted; fifty are told."""
    assert not lacking(str(ConfigError(["a: b"])), "1 problem … nothing was started:\na: b")
    many = str(ConfigError([f"line {n}" for n in range(1_060)])).splitlines()
    assert many[0].startswith("1,060 problems")
    assert many[50] == "line 49"
    assert "1,010" in many[51]
    assert len(many) == 52


def test_every_kind_of_error_has_its_exit_code():
    """2 for what a user can mend beforehand, 1 for a run that failed."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.__name__: kind.exit_code for kind in kinds if issubclass(kind, FmnistError)}
    assert codes == {
        **dict.fromkeys(["FmnistError", "ConfigError", "DataError", "MissingDataError"], 2),
        **dict.fromkeys(["TrackingError", "JournalError", "ExchangeError"], 2),
        **dict.fromkeys(["WeightsError", "PictureError", "NoFinalistsError"], 2),
        **dict.fromkeys(["TrainingError", "DivergedError", "CheckpointError"], 1),
    }
    assert not lacking(str(errors.DivergedError(3, 10.0)), "epoch 3 … learning rate … 10 … tenth")


RUN = ("run", "one.yaml")
USAGE = {
    ("run",): "Missing argument 'CONFIG...'.",
    ("run", "--nope"): "No such option: --nope",
    ("data", "--data-dir"): "Option '--data-dir' requires an argument.",
    ("\x1b[31m",): r"No such command '\x1b[31m'.",
    (*RUN, "--device", "\x1b[31m"): "Invalid value for '--device'",
    ("plot", "--format", "gif"): "Invalid value for '--format'",
    ("results", "--json", "--csv"): "--json and --csv: … both … one",
    ("run", "\x1b.yaml"): r"\x1b.yaml: … one.yaml",
    ("run", "\udcff"): r"\udcff: … one.yaml",
    (*RUN, "--seeds", ""): "--seeds: … '' … 1 to 1000",
    (*RUN, "--set", "\x1b=1"): r"--set '\x1b': … docs/sweep-files.md",
    (*RUN, "--jobs", "9" * 5_000): f"--jobs: … '{'9' * 80}' … auto … 1",
    (*RUN, "--experiment", ""): "--experiment: … '' … 1 to 200",
    (*RUN, "--experiment", "\x1b"): r"--experiment: … '\x1b' … 1 to 200",
    ("results", "--experiment", "x" * 10_000): "--experiment: … 10,000 characters … 1 to 200",
    (*RUN, "--tracking-uri", ""): "(or MLFLOW_TRACKING_URI): … '' … folder",
    ("results", "--tracking-uri", "ftp://x"): "(or MLFLOW_TRACKING_URI): … 'ftp://x'",
    ("plot", "--tracking-uri", "x" * 5_000): "[Errno 36] File name too long",
    ("results", "--tracking-uri", "http://a b"): "MLflow server … http://a b (",
}


@pytest.fixture
def _one_sweep(sweep_file, tiny_data, monkeypatch):
    monkeypatch.setenv("FMNIST_DATA_DIR", str(tiny_data))
    sweep_file(GRID, "one.yaml")


@pytest.mark.usefixtures("_one_sweep")
@pytest.mark.parametrize(("arguments", "message"), USAGE.items(), ids=map(str, range(len(USAGE))))
def test_bad_usage(fmnist_here, tmp_path, arguments, message):
    """Exit code 2, one message on stderr that no terminal obeys, and no store."""
    done = fmnist_here(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert not lacking(" ".join(done.stderr.split()), message)
    assert done.stderr.count("error:") + done.stderr.count("Error") == 1
    assert "\x1b" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["one.yaml"]


# --- the images -----------------------------------------------------------------------------------

AGAIN = "`fmnist data --fetch`"


def swap(position: int, change):
    def damage(folder: Path) -> None:
        path = folder / NAMES[position]
        path.write_bytes(change(path.read_bytes()))
        lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}" for n in NAMES]
        (folder / "SHA256SUMS").write_text("\n".join(lines))

    return damage


def listing(content: bytes):
    return lambda folder: (folder / "SHA256SUMS").write_bytes(content)


def gzipped(name: str, change):
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / f"{name}.gz").write_bytes(change(gzip.compress(content)))

    return damage


def folder_instead(folder: Path) -> None:
    (folder / NAMES[0]).unlink()
    (folder / NAMES[0]).mkdir()


def unreadable(folder: Path) -> None:
    (folder / NAMES[0]).unlink()
    (folder / NAMES[0]).symlink_to("/proc/self/mem")  # which root cannot read either


LIST = "`sha256sum *ubyte > SHA256SUMS`"
IMAGES, LABELS = (f"/{name}" for name in NAMES[:2])
DAMAGES = {
    "cut by a byte": (
        swap(0, lambda content: content[:-1]),
        f"{IMAGES} … 235,215 … 235,216 … {AGAIN}",
    ),
    "a byte too many": (
        swap(1, lambda content: content + b"\0"),
        f"{LABELS} … 309 … 308 … {AGAIN}",
    ),
    "empty": (swap(0, lambda _: b""), f"{IMAGES} … IDX … {AGAIN}"),
    "a label of 10": (swap(1, lambda content: content[:-1] + b"\x0a"), f"{LABELS} … 10 … 0 to 9"),
    "fewer labels": (
        swap(1, lambda _: idx(tiny_images(TRAIN_COUNT - 1, 1)[1])),
        ": … 300 train images … 299 labels",
    ),
    "another size": (
        swap(0, lambda _: idx(np.zeros((TRAIN_COUNT, 32, 32)))),
        f"{IMAGES} … 32x32 … 28x28",
    ),
    "rubbish behind": (
        gzipped(NAMES[0], lambda content: content + b"rubbish"),
        f"{IMAGES}.gz … Not a gzipped file (b'ru') … {AGAIN}",
    ),
    "a cut archive": (
        gzipped(NAMES[0], lambda content: content[:-20]),
        f"{IMAGES}.gz … Compressed file ended … {AGAIN}",
    ),
    "no archive": (
        gzipped(NAMES[0], lambda _: b"x" * 99),
        f"{IMAGES}.gz … Not a gzipped file (b'xx') … {AGAIN}",
    ),
    "a folder": (folder_instead, f"{IMAGES} … not a file"),
    "unreadable": (unreadable, f"{IMAGES} … [Errno 5] Input/output error … {AGAIN}"),
    "missing": (lambda folder: (folder / NAMES[0]).unlink(), f"{IMAGES}(.gz) … missing … {AGAIN}"),
    "a changed byte": (
        lambda folder: (folder / NAMES[1]).write_bytes(idx(np.zeros(TRAIN_COUNT))),
        f"{LABELS} … SHA256SUMS … {LIST}",
    ),
    "nothing published": (
        lambda folder: (folder / "SHA256SUMS").unlink(),
        f"{IMAGES} … SHA-256 … {AGAIN}",
    ),
    "a list of nothing": (listing(b""), f"/SHA256SUMS … '{NAMES[0]}' … {LIST}"),
    "a list of words": (listing(b"rubbish\n"), f"/SHA256SUMS … checksum … {LIST}"),
    "a list of bytes": (listing(b"\xff" * 99), f"/SHA256SUMS … UTF-8 … {LIST}"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_images(fmnist_here, tmp_path, damage, message):
    """One line and exit code 2, from the command itself."""
    folder = write_data(tmp_path / "images")
    damage(folder)
    done = fmnist_here("data", "--data-dir", folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert not lacking(done.stderr, f"error: {folder}{message}")


def test_no_images_at_all(fmnist_here, tmp_path):
    """Files that are right and empty."""
    folder = write_data(tmp_path / "images")
    for position, name in enumerate(NAMES[:2]):
        shape = (0, 28, 28) if position == 0 else (0,)
        swap(position, lambda _, shape=shape: idx(np.zeros(shape)))(folder)
        assert (folder / name).exists()
    done = fmnist_here("data", "--data-dir", folder)
    assert not lacking(done.stderr, f"error: {folder}: … found 0 train images … from 1 to 60,000")


def test_an_archive_that_unfolds_without_end(tmp_path):
    """Four gigabytes in four megabytes: refused within half a gigabyte of memory."""
    folder = write_data(tmp_path / "images")
    (folder / NAMES[0]).unlink()
    path = folder / f"{NAMES[0]}.gz"
    member = gzip.compress(bytes(1 << 26), 1)
    path.write_bytes(member * 64)
    code = (
        "import sys; from fmnist_tuning.cli import main\n"
        f"sys.argv = ['fmnist', 'data', '--data-dir', {str(folder)!r}]\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert not lacking(done.stderr, f"error: {path} … 134,217,728 bytes")


# --- stores and studies ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    ["", " ", "ftp://x", "s3://b", "sqlite:", "sqlite://", "sqlite:///", "sqlite:///:memory:",
     "javascript:x", "runs:/x", "\x1b[31m", "a\nb", "\udcff"],
)  # fmt: skip
def test_what_is_no_store(uri, tmp_path):
    """It would pass for the name of a folder, or be tried for minutes."""
    for door in (Study.open, Study.find):
        with pytest.raises(TrackingError) as caught:
            door("study", uri)
        place = f"--tracking-uri (or MLFLOW_TRACKING_URI): … {uri!a}"
        allowed = "sqlite:///FILE, http://HOST:PORT … postgresql://USER@HOST/NAME"
        assert not lacking(str(caught.value), f"{place} … {allowed}")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_store_in_the_environment(monkeypatch):
    """The same, and the variable is named."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://x")
    with pytest.raises(TrackingError, match=r"\(or MLFLOW_TRACKING_URI\): .*'ftp://x'"):
        Study.open("study")


CLOSED = {
    "sqlite:////nowhere/x.db": "folder /nowhere",
    "sqlite:////proc/x.db": "its folder cannot be written",
    "sqlite:////tmp": "unable to open database file",
    "sqlite:////etc/passwd": "file is not a database",
    "/proc/x": "[Errno 2] No such file or directory: '/proc/x'",
    "/dev/null": "[Errno 20] Not a directory: '/dev/null/.trash'",
    "http://127.0.0.1:9": "[Errno 111] Connection refused … `mlflow server`",
    "http://": "no host given … `mlflow server`",
    "http://[": "Invalid IPv6 URL … `mlflow server`",
    "http://127.0.0.1:x": "nonnumeric port: 'x' … `mlflow server`",
}


@pytest.mark.parametrize(("uri", "message"), CLOSED.items(), ids=CLOSED)
def test_a_store_that_is_closed(uri, message):
    """Said at once, with the option that names another; MLflow would try some for two minutes."""
    with pytest.raises(TrackingError) as caught:
        Study.open("study", uri)
    assert not lacking(str(caught.value), f"{uri} … {message} … --tracking-uri")


def test_a_database_without_its_driver():
    """What is missing is the name of a Python package."""
    pytest.importorskip("sqlalchemy")
    with pytest.raises(TrackingError, match=r"^the tracking store postgresql\+none://x:\*\*\*@h"):
        Study.open("study", "postgresql+none://x:secret@h/d")


def test_a_password_is_not_shown(tmp_path):
    """Neither in an error nor in what `run` says of its store."""
    with pytest.raises(TrackingError) as caught:
        Study.open("study", "http://me:secret@127.0.0.1:9")
    assert not lacking(str(caught.value), "http://me:***@127.0.0.1:9 … [Errno 111]")
    assert "secret" not in str(caught.value)
    study = Study(None, "http://me:secret@h:1/", "s", "7")
    assert "secret" not in study.place + study.browse_hint()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["", " ", "\t", " x", "a\nb", "\x1b[31m", "\u202ex", "\udcff", "\0", "x" * 201]
)
@pytest.mark.parametrize("store", ["file:./runs", "sqlite:///s.db"])
def test_what_is_no_study(tmp_path, name, store):
    """Said before a store is made for it."""
    found = ascii(name) if len(name) < 200 else "201 characters"
    for door in (Study.open, Study.find):
        with pytest.raises(TrackingError) as caught:
            door(name, store)
        assert not lacking(str(caught.value), f"--experiment: … {found} … 1 to 200 printable")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a/b", "../../x", "/etc", "[red]", "\U0001f4a5", "x" * 200])
def test_a_strange_study_keeps_to_its_folder(tmp_path, migrated, name):
    """Every kind of store takes it, and its files stay beside the store."""
    (tmp_path / "f").write_text("f")
    for store in (f"sqlite:///{migrated}", "file:./runs"):
        study = Study.open(name, store)
        tracker = Tracker(study)
        run = tracker.start_run("r", sweeps={"s": ""}, fingerprint="f", params={}, tags={})
        tracker.log_files(run, "plots", [tmp_path / "f"])
        assert Study.find(name, store).name == name
    found = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("plots/f")}
    assert found == {"mlruns", "runs"}
    assert not (ROOT / "x").exists()
