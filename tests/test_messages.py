"""The exact words of what a user is told: the place, the finding, and what is allowed or mends."""

import gzip
import hashlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import NAMES, ROOT, TRAIN_COUNT, idx, tiny_images, write_data

from fmnist_tuning import errors
from fmnist_tuning.errors import ConfigError, FmnistError, TrackingError
from fmnist_tuning.metrics import METRICS
from fmnist_tuning.report.figures.kinds import axes_by_kind
from fmnist_tuning.store.study import Study
from fmnist_tuning.store.tracker import Tracker
from fmnist_tuning.sweeps.reading import load_sweeps, parse_overrides, parse_seeds
from fmnist_tuning.sweeps.settings import RunConfig

HEAD = "sweep: one\ntitle: One\n"
GRID = f"{HEAD}grid: {{epochs: [1]}}\n"
SETTINGS = ", ".join(key for key in RunConfig.model_fields if key != "seed")
KEYS = "sweep, title, hypothesis, fixed, grid, arms, combine, seeds, claims, figure"
OPTIMIZERS = "Adadelta, Adagrad, Adam, AdamW, NAdam, RAdam, RMSprop, SGD"
FILE = "a plain file name that ends in .png, .svg or .pdf"
CLAIM = "that: t, arm: {epochs: %s}, versus: {epochs: 1}, expect: %s, margin: %s"

CONFIGS = {
    # keys
    f"{HEAD}grid: {{drop_out: [0]}}": [
        ":3: grid.drop_out: unknown key; did you mean dropout_rate?"
    ],
    f"{HEAD}grid: {{xyz: [0]}}": [f":3: grid.xyz: unknown key; allowed: {SETTINGS}"],
    f"{GRID}xyz: 1": [f":4: xyz: unknown key; allowed: {KEYS}"],
    f'{GRID}"\\e[31m": 1': [f":4: '\\x1b[31m': unknown key; allowed: {KEYS}"],
    f"{GRID}<<: {{a: 1}}": [f":4: '<<': unknown key; allowed: {KEYS}"],
    f"{HEAD}combine: {{sources: [a]}}": [
        ":3: combine.from: missing, and needed",
        ":3: combine.sources: unknown key; allowed: from, top, max_params",
    ],
    f"{GRID}fixed: {{seed: 1}}": [":4: fixed.seed: is not set here; list the seeds in `seeds`"],
    "title: One\ngrid: {epochs: [1]}": [": sweep: missing, and needed"],
    # kinds of values
    "[1]": [": found [1], allowed: a mapping that starts with `sweep:`"],
    "sweep: one\ntitle: 3\ngrid: {epochs: [1]}": [":2: title: found 3, allowed: a text"],
    f"{HEAD}grid: [1]": [":3: grid: found [1], allowed: a mapping"],
    f"{HEAD}grid: {{epochs: 1}}": [":3: grid.epochs: found 1, allowed: a list"],
    f"{HEAD}grid: {{epochs: []}}": [":3: grid.epochs: found [], allowed: at least one entry"],
    f"{GRID}fixed: 0": [":4: fixed: found 0, allowed: a mapping"],
    f"{HEAD}grid: {{use_pooling: [1]}}": [
        ":3: grid.use_pooling[0]: found 1, allowed: a valid boolean"
    ],
    f"{HEAD}grid: {{dropout_rate: ['0.1']}}": [
        ":3: grid.dropout_rate[0]: found '0.1', allowed: a valid number"
    ],
    f"{HEAD}grid: {{epochs: [1:30, 010, 0x10, 2001-01-01, yes, ~, 1.0]}}": [
        f":3: grid.epochs[{place}]: found {found}, allowed: a valid integer"
        for place, found in enumerate(
            ["'1:30'", "'010'", "'0x10'", "'2001-01-01'", "true", "null", "1.0"]
        )
    ],
    # bounds
    f"{HEAD}grid: {{learning_rate: [.nan, .inf, -1e999, 0]}}": [
        ":3: grid.learning_rate[0]: found NaN, allowed: a finite number",
        ":3: grid.learning_rate[1]: found Infinity, allowed: a finite number",
        ":3: grid.learning_rate[2]: found -Infinity, allowed: a finite number",
        ":3: grid.learning_rate[3]: found 0, allowed: greater than 0",
    ],
    f"{HEAD}grid: {{epochs: [{10**30}, 0]}}": [
        f":3: grid.epochs[0]: found {10**30}, allowed: less than or equal to 10000",
        ":3: grid.epochs[1]: found 0, allowed: greater than or equal to 1",
    ],
    f"{HEAD}grid: {{epochs: [{10**4000}]}}": [
        ": line 3: found a number of 4,001 characters, allowed: 100"
    ],
    f"{HEAD}grid: {{fc_units: [[1, 1, 1, 1, 1, 1, 1, 1, 1]]}}": [
        ":3: grid.fc_units[0]: found 9 entries, allowed: at most 8"
    ],
    f"{GRID}seeds: [-1]": [":4: seeds[0]: found -1, allowed: greater than or equal to 0"],
    f"{GRID}seeds: [1, 1]": [":4: seeds: found [1, 1], allowed: each seed once"],
    f"{HEAD}combine: {{from: [a], top: 0}}": [
        ":3: combine.top: found 0, allowed: greater than or equal to 1"
    ],
    # words
    f"{HEAD}grid: {{optimizer: [adam, x]}}": [
        ":3: grid.optimizer[0]: found 'adam'; did you mean Adam?",
        f":3: grid.optimizer[1]: found 'x'; allowed: {OPTIMIZERS}",
    ],
    **{
        f"sweep: {name}\ntitle: One\ngrid: {{epochs: [1]}}": [
            f":1: sweep: found {shown}, allowed: up to 64 letters, digits, _ and -"
        ]
        for name, shown in {
            "../x": "'../x'",
            "/x": "'/x'",
            "..": "'..'",
            "nul": "'nul'",
            "a\\b": "'a\\\\b'",
            '"\\u202ea"': "'\\u202ea'",
            "é": "'\\xe9'",
            "x" * 65: f"'{'x' * 65}'",
        }.items()
    },
    **{
        f"{GRID}figure: {{kind: ranking, file: '{name}'}}": [
            f":4: figure.file: found {name!a}, allowed: {FILE}"
        ]
        for name in ("../../x", "/x.png", "x", "a\\b.png", "CON.png", "x.gif", ".png")
    },
    'sweep: one\ntitle: "\\e[31m"\ngrid: {epochs: [1]}': [
        ":2: title: found '\\x1b[31m', allowed: a text without control characters"
    ],
    "sweep: one\ntitle: |\n  a\n  b\ngrid: {epochs: [1]}": [
        ":2: title: found 'a\\nb\\n', allowed: a text in one line"
    ],
    # combinations of settings
    f"{HEAD}grid: {{num_conv_layers: [5]}}": [
        ":3: grid: num_conv_layers=5: num_conv_layers: found 5, allowed: at most 4 with "
        "use_pooling, which halves the image each time (28 -> 14 -> 7 -> 3 -> 1 -> 0)"
    ],
    f"{HEAD}grid: {{conv_channels: [[8]]}}": [
        ":3: grid: conv_channels=[8]: conv_channels: found [8], allowed: exactly num_conv_layers = "
        "2 entries"
    ],
    f"{HEAD}grid: {{kernel_size: [4]}}": [
        ":3: grid: kernel_size=4: kernel_size: found 4, allowed: odd numbers, whose padding keeps "
        "the size"
    ],
    f"{GRID}fixed: {{train_size: 50}}": [
        ":3: grid: epochs=1: batch_size: found 64, allowed: at most train_size = 50"
    ],
    f"{GRID}fixed: {{val_size: 10001}}": [
        ":3: grid: epochs=1: val_size: found 10001, allowed: at most 10000 images"
    ],
    f"{GRID}fixed: {{momentum: 0.9}}": [
        ":3: grid: epochs=1: momentum: found 0.9, allowed: 0 with Adam (RMSprop and SGD take a "
        "momentum)"
    ],
    f"{GRID}fixed: {{holdout_size: 5}}": [
        ":3: grid: epochs=1: holdout_size: has no effect without `validation: holdout`"
    ],
    # arms
    HEAD: [": found none of them, allowed: one of grid, arms and combine"],
    f"{GRID}arms: [{{name: a}}]": [
        ": found grid and arms, allowed: one of grid, arms and combine"
    ],
    f"{HEAD}grid: {{epochs: [1, 1]}}": [":3: grid: epochs=1 repeats epochs=1"],
    f"{GRID}fixed: {{epochs: 2}}": [":4: fixed.epochs: is also swept; keep it in one place"],
    f"{HEAD}arms: [{{epochs: 1}}, {{name: b, predicted: x}}]": [
        ":3: arms[0].name: found null, allowed: a text of 1 to 60 printable characters",
        ":3: arms[1].predicted: found 'x', allowed: a number, which a combination predicted",
    ],
    f"{HEAD}arms: [{{name: a}}, {{name: a, epochs: 1}}, {{name: c}}]": [
        ":3: arms[1]: the name a is already taken",
        ":3: arms[2]: c repeats a",
    ],
    # claims and figures
    f"{GRID}claims: [{{{CLAIM % (1, 'higer', -1)}, metric: x}}]": [
        f":4: claims[0].metric: found 'x', allowed: {', '.join(METRICS)}",
        ":4: claims[0].expect: found 'higer'; did you mean higher?",
        ":4: claims[0].margin: found -1, allowed: greater than or equal to 0",
    ],
    f"{GRID}claims: [{{{CLAIM % (7, 'higher', 0)}}}]": [
        ':4: claims[0].arm: found {"epochs": 7}, which is no arm of this sweep; allowed: epochs=1'
    ],
    f"{GRID}figure: {{kind: trend, x: seed, y: epochs, file: a.png}}": [
        ":4: figure.x: found 'seed', allowed with trend: one of epochs",
        ":4: figure.y: found 'epochs', allowed with trend: none; remove it",
    ],
    f"{GRID}figure: {{kind: heatmap, x: epochs, y: epochs, file: a.png}}": [
        ":4: figure.kind: a heatmap has room for two settings, x and y; this sweep varies epochs"
    ],
    # YAML
    f"{GRID}grid: {{epochs: [2]}}": [": line 4: grid is there already (line 3)"],
    f"{GRID}? [1]\n: 1": [": line 4: a key must be a plain word"],
    f"{GRID}\tx: 1": [
        ": line 4: not valid YAML: found character '\\t' that cannot start any token"
    ],
    f"{GRID}---\n": [
        ": line 4: not valid YAML: expected a single document in the stream, but found another "
        "document"
    ],
    f'{GRID}hypothesis: "\\uD800"': [
        ": line 4: found half of a surrogate pair (\\uD800 to \\uDFFF), allowed: whole characters"
    ],
    f"{HEAD}grid: !!python/object/apply:os.system [x]": [
        ": line 3: tags (!) are not supported; quote a text that begins with one"
    ],
    f"{HEAD}grid: {{epochs: [&a 1]}}": [
        ": line 3: anchors and aliases (&, *) are not supported"
    ],
    f"{HEAD}grid: {'[' * 21}{']' * 21}": [": line 3: nested deeper than 20 levels"],
    f"{HEAD}grid: {{epochs: [{'1,' * 5_000}]}}": [
        ": line 3: more than 5,000 values; a sweep fits into a page"
    ],
}  # fmt: skip


@pytest.mark.parametrize(("text", "lines"), CONFIGS.items(), ids=map(str, range(len(CONFIGS))))
def test_a_sweep_file(sweep_file, text, lines):
    path = sweep_file(text)
    with pytest.raises(ConfigError) as caught:
        load_sweeps([path], figures=axes_by_kind())
    assert caught.value.problems == [f"{path}{line}" for line in lines]


OVERRIDES = {
    "epochs": "--set 'epochs': allowed: key=value",
    "epoch=1": "--set epoch: unknown key; did you mean epochs?",
    "\x1b=1": f"--set '\\x1b': unknown key; allowed: {SETTINGS}",
    "seed=1": "--set seed: is not set here; give `--seeds 1,`",
    "epochs=!x": (
        "--set epochs: found '!x': line 1: tags (!) are not supported; quote a text that begins "
        "with one"
    ),
    "optimizer=\udcff": (
        "--set optimizer: found '\\udcff': line 1: found the character #xdcff, allowed: printable "
        "characters"
    ),
}


@pytest.mark.parametrize(("text", "line"), OVERRIDES.items(), ids=map(ascii, OVERRIDES))
def test_an_override(text, line):
    with pytest.raises(ConfigError) as caught:
        parse_overrides([text])
    assert caught.value.problems == [line]


def test_an_override_in_its_file(sweep_file):
    """Twice, of a swept setting, and with values that are none."""
    with pytest.raises(ConfigError, match="--set epochs: given twice"):
        parse_overrides(["epochs=1", "epochs=2"])
    path = sweep_file(GRID)
    for options, line in (
        (({"epochs": 1},), f"{path}: --set epochs: this sweep varies it; edit the file instead"),
        (({"batch_size": "x"},), "--set batch_size: found 'x', allowed: a valid integer"),
        ((None, range(1_001)), f"{path}: --seeds: found 1,001 entries, allowed: at most 1,000"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_sweeps([path], *options)
        assert caught.value.problems == [line]


@pytest.mark.parametrize("text", ["", " ", "x", "0", "1001", "1,1", "4294967296,", "\x1b", "²"])
def test_seeds(text):
    with pytest.raises(ConfigError) as caught:
        parse_seeds(text)
    assert caught.value.problems == [
        f"--seeds: found {text!a}, allowed: how many seeds, from 1 to 1000 (3 is 0,1,2), or a list "
        "of different seeds, such as 0,5,7; one seed is named with a comma: 7,"
    ]


def test_how_many_problems_there_are():
    """All of them are counted; fifty are told."""
    assert str(ConfigError(["a: b"])) == "1 problem, nothing was trained:\na: b"
    many = str(ConfigError([f"line {n}" for n in range(1_060)])).splitlines()
    assert many[0] == "1,060 problems, nothing was trained:"
    assert many[50:] == ["line 49", "and 1,010 more"]


def test_every_kind_of_error_has_its_exit_code():
    """2 for what a user can mend beforehand, 1 for a run that failed."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.__name__: kind.exit_code for kind in kinds if issubclass(kind, FmnistError)}
    assert codes == {
        **dict.fromkeys(["FmnistError", "ConfigError", "DataError", "MissingDataError"], 2),
        **dict.fromkeys(["TrackingError", "JournalError", "ExchangeError"], 2),
        **dict.fromkeys(["WeightsError", "PictureError"], 2),
        **dict.fromkeys(["TrainingError", "DivergedError", "CheckpointError"], 1),
    }
    assert str(errors.DivergedError(3, 10.0)) == (
        "the loss is not a finite number in epoch 3; the likeliest cause is a learning rate that "
        "is too high (10): try a tenth of it"
    )


RUN, EXPERIMENT = ("run", "one.yaml"), "--experiment: found"
USAGE = {
    ("run",): "Missing argument 'CONFIG...'.",
    ("run", "--nope"): "No such option: --nope",
    ("data", "--data-dir"): "Option '--data-dir' requires an argument.",
    ("\x1b[31m",): r"No such command '\x1b[31m'.",
    (*RUN, "--device", "\x1b[31m"): "Invalid value for '--device'",
    ("plot", "--format", "gif"): "Invalid value for '--format'",
    ("results", "--json", "--csv"): "error: --json and --csv: found both, allowed: one of them",
    ("run", "\x1b.yaml"): r"\x1b.yaml: no such file; did you mean one.yaml?",
    ("run", "\udcff"): r"\udcff: no such file; allowed: one.yaml",
    (*RUN, "--seeds", ""): "--seeds: found '', allowed: how many seeds, from 1 to 1000",
    (*RUN, "--set", "\x1b=1"): r"--set '\x1b': unknown key; allowed: num_conv_layers",
    (*RUN, "--jobs", "9" * 5_000): f"--jobs: found '{'9' * 80}', allowed: auto, or a number from 1",
    (*RUN, EXPERIMENT[:12], ""): f"{EXPERIMENT} '', allowed: 1 to 200 printable characters",
    (
        *RUN,
        EXPERIMENT[:12],
        "\x1b",
    ): rf"{EXPERIMENT} '\x1b', allowed: 1 to 200 printable characters",
    (
        "results",
        EXPERIMENT[:12],
        "x" * 10_000,
    ): f"{EXPERIMENT} 10,000 characters, allowed: 1 to 200",
    (*RUN, "--tracking-uri", ""): "(or MLFLOW_TRACKING_URI): found '', allowed: a folder",
    ("results", "--tracking-uri", "ftp://x"): "(or MLFLOW_TRACKING_URI): found 'ftp://x', allowed",
    ("plot", "--tracking-uri", "x" * 5_000): "failed: [Errno 36] File name too long",
    ("results", "--tracking-uri", "http://a b"): "no MLflow server answers at http://a b (",
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
    assert message in " ".join(done.stderr.split())
    assert done.stderr.count("error:") + done.stderr.count("Error") == 1
    assert "\x1b" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["one.yaml"]


# --- the images -----------------------------------------------------------------------------------

AGAIN = "delete it, and `fmnist data --fetch` gets it again"


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


WRITE = "write it with `sha256sum *-ubyte > SHA256SUMS`"
NO_LIST = "/SHA256SUMS does not list the SHA-256 of each uncompressed file: found "
IMAGES, LABELS = (f"/{name}" for name in NAMES[:2])
DAMAGES = {
    "cut by a byte": (
        swap(0, lambda content: content[:-1]),
        f"{IMAGES} is damaged: 235,215 bytes where its header announces 235,216; {AGAIN}",
    ),
    "a byte too many": (
        swap(1, lambda content: content + b"\0"),
        f"{LABELS} is damaged: 309 bytes where its header announces 308; {AGAIN}",
    ),
    "empty": (
        swap(0, lambda _: b""),
        f"{IMAGES} is not an IDX file of 3-dimensional bytes; {AGAIN}",
    ),
    "a label of 10": (
        swap(1, lambda content: content[:-1] + b"\x0a"),
        f"{LABELS} holds the label 10; allowed: 0 to 9",
    ),
    "fewer labels": (
        swap(1, lambda _: idx(tiny_images(TRAIN_COUNT - 1, 1)[1])),
        ": found 300 train images but 299 labels, allowed: as many of one as of the other",
    ),
    "another size": (
        swap(0, lambda _: idx(np.zeros((TRAIN_COUNT, 32, 32)))),
        f"{IMAGES} holds images of 32x32 pixels; allowed: 28x28 pixels",
    ),
    "rubbish behind": (
        gzipped(NAMES[0], lambda content: content + b"rubbish"),
        f"{IMAGES}.gz cannot be read (Not a gzipped file (b'ru')); {AGAIN}",
    ),
    "a cut archive": (
        gzipped(NAMES[0], lambda content: content[:-20]),
        f"{IMAGES}.gz cannot be read (Compressed file ended before the end-of-stream marker was "
        f"reached); {AGAIN}",
    ),
    "no archive": (
        gzipped(NAMES[0], lambda _: b"x" * 99),
        f"{IMAGES}.gz cannot be read (Not a gzipped file (b'xx')); {AGAIN}",
    ),
    "a folder": (folder_instead, f"{IMAGES} is not a file; put the file of that name there"),
    "unreadable": (
        unreadable,
        f"{IMAGES} cannot be read ([Errno 5] Input/output error); {AGAIN}",
    ),
    "missing": (
        lambda folder: (folder / NAMES[0]).unlink(),
        f"{IMAGES}(.gz) is missing, though others of the four files are there; `fmnist data "
        "--fetch` gets them all",
    ),
    "a changed byte": (
        lambda folder: (folder / NAMES[1]).write_bytes(idx(np.zeros(TRAIN_COUNT))),
        f"{LABELS} is damaged: its contents are not those that SHA256SUMS lists; put back the "
        "right ones, or list these with `sha256sum *-ubyte > SHA256SUMS`",
    ),
    "nothing published": (
        lambda folder: (folder / "SHA256SUMS").unlink(),
        f"{IMAGES} is damaged: its contents are not those that were published (SHA-256 differs); "
        f"{AGAIN}",
    ),
    "a list of nothing": (listing(b""), f"{NO_LIST}nothing about '{NAMES[0]}'; {WRITE}"),
    "a list of words": (
        listing(b"rubbish\n"),
        f"{NO_LIST}lines without a checksum and a name; {WRITE}",
    ),
    "a list of bytes": (listing(b"\xff" * 99), f"{NO_LIST}not a text in UTF-8; {WRITE}"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_images(fmnist_here, tmp_path, damage, message):
    """One line and exit code 2, from the command itself."""
    folder = write_data(tmp_path / "images")
    damage(folder)
    done = fmnist_here("data", "--data-dir", folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {folder}{message}\n"


def test_no_images_at_all(fmnist_here, tmp_path):
    folder = write_data(tmp_path / "images")
    for position, name in enumerate(NAMES[:2]):
        shape = (0, 28, 28) if position == 0 else (0,)
        swap(position, lambda _, shape=shape: idx(np.zeros(shape)))(folder)
        assert (folder / name).exists()
    done = fmnist_here("data", "--data-dir", folder)
    assert done.stderr == f"error: {folder}: found no train images, allowed: at least one\n"


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
    assert done.stderr == f"error: {path} holds too much; allowed: at most 134,217,728 bytes\n"


# --- stores and studies ---------------------------------------------------------------------------

STORES = (
    "allowed: a folder, sqlite:///FILE, http://HOST:PORT, or a database that MLflow knows, such as "
    "postgresql://USER@HOST/NAME"
)


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
        assert str(caught.value) == (
            f"--tracking-uri (or MLFLOW_TRACKING_URI): found {uri!a}, {STORES}"
        )
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_store_in_the_environment(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://x")
    with pytest.raises(TrackingError, match=r"\(or MLFLOW_TRACKING_URI\): found 'ftp://x', "):
        Study.open("study")


OTHER = "(choose another with --tracking-uri)"
CLOSED = {
    "sqlite:////nowhere/x.db": (
        "the tracking store sqlite:////nowhere/x.db: the folder /nowhere does not exist; make it, "
        "or name another store with --tracking-uri"
    ),
    "sqlite:////proc/x.db": (
        f"the tracking store sqlite:////proc/x.db failed: unable to open database file {OTHER}"
    ),
    "sqlite:////tmp": (
        f"the tracking store sqlite:////tmp failed: unable to open database file {OTHER}"
    ),
    "sqlite:////etc/passwd": (
        f"the tracking store sqlite:////etc/passwd failed: file is not a database {OTHER}"
    ),
    "/proc/x": (
        "the tracking store file:///proc/x failed: [Errno 2] No such file or directory: '/proc/x' "
        f"{OTHER}"
    ),
    "/dev/null": (
        "the tracking store file:///dev/null failed: [Errno 20] Not a directory: "
        f"'/dev/null/.trash' {OTHER}"
    ),
    **{
        address: (
            f"no MLflow server answers at {address} ({reason}); start it with `mlflow server`, or "
            "name another store with --tracking-uri"
        )
        for address, reason in {
            "http://127.0.0.1:9": "[Errno 111] Connection refused",
            "http://": "no host given",
            "http://[": "Invalid IPv6 URL",
            "http://127.0.0.1:x": "nonnumeric port: 'x'",
        }.items()
    },
}


@pytest.mark.parametrize(("uri", "message"), CLOSED.items(), ids=CLOSED)
def test_a_store_that_is_closed(uri, message):
    """Said at once; MLflow would try some of them for two minutes."""
    with pytest.raises(TrackingError) as caught:
        Study.open("study", uri)
    assert str(caught.value) == message


def test_a_database_without_its_driver():
    """What is missing is the name of a Python package."""
    pytest.importorskip("sqlalchemy")
    with pytest.raises(TrackingError, match=r"^the tracking store postgresql\+none://x:\*\*\*@h"):
        Study.open("study", "postgresql+none://x:secret@h/d")


def test_a_password_is_not_shown(tmp_path):
    """Neither in an error nor in what `run` says of its store."""
    with pytest.raises(TrackingError) as caught:
        Study.open("study", "http://me:secret@127.0.0.1:9")
    assert "answers at http://me:***@127.0.0.1:9 ([Errno 111]" in str(caught.value)
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
        assert str(caught.value) == (
            f"--experiment: found {found}, allowed: 1 to 200 printable characters without spaces "
            "around them"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a/b", "../../x", "/etc", "[red]", "\U0001f4a5", "x" * 200])
def test_a_strange_study_keeps_to_its_folder(tmp_path, migrated, name):
    """Every kind of store takes it, and its files stay beside the store."""
    (tmp_path / "f").write_text("f")
    for store in (f"sqlite:///{migrated}", "file:./runs"):
        study = Study.open(name, store)
        tracker = Tracker(study)
        run = tracker.start_run("r", sweeps=["s"], fingerprint="f", params={}, tags={})
        tracker.log_files(run, "plots", [tmp_path / "f"])
        assert Study.find(name, store).name == name
    found = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("plots/f")}
    assert found == {"mlruns", "runs"}
    assert not (ROOT / "x").exists()
