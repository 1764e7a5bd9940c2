"""Whatever comes in: a plan, or one error that a user can act on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmnist_tuning.errors import ConfigError, DataError, FmnistError
from fmnist_tuning.report.figures.kinds import axes_by_kind
from fmnist_tuning.sweeps.plan import Plan, make_plan
from fmnist_tuning.sweeps.reading import load_sweeps, parse_overrides, parse_seeds
from fmnist_tuning.sweeps.settings import RunConfig

# Examples are drawn anew by every developer; a slow machine fails none of them.
FUZZED = settings(
    max_examples=75,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def planned(
    path: Path, assignments: tuple[str, ...] = (), seeds: str | None = None
) -> Plan | FmnistError:
    """What comes of a file, as in the command line."""
    try:
        own = None if seeds is None else parse_seeds(seeds)
        sweeps = load_sweeps([path], parse_overrides(assignments), own, figures=axes_by_kind())
        return make_plan(sweeps, "digest", finished={}, stored={})
    except FmnistError as error:
        return error


def is_sound(result: Plan | FmnistError) -> bool:
    """A message that can be read, or runs that can be: their settings survive MLflow's texts."""
    if isinstance(result, FmnistError):
        first = str(result).splitlines()[0]
        return first.endswith("nothing was started:") and len(str(result)) < 50_000
    configs = [row.run.config for row in result.rows[:20]]
    return all(RunConfig.from_params(config.params()) == config for config in configs)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-5, 70_000),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        [
            *RunConfig.model_fields,
            "Adam",
            "holdout",
            "name",
            "predicted",
            "<<",
            "../../x.png",
            "1:30",
        ]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SCALARS, inner, max_size=4),
    max_leaves=12,
)
SWEEP = {
    "sweep": "one",
    "title": "One",
    "hypothesis": "None.",
    "fixed": {"epochs": 2, "fc_units": [16]},
    "grid": {"dropout_rate": [0.1, 0.3], "use_pooling": [True, False]},
    "seeds": [0, 1],
    "claims": [
        {
            "that": "t",
            "arm": {"dropout_rate": 0.1},
            "versus": {"dropout_rate": 0.3},
            "expect": "higher",
            "margin": 0.01,
        }
    ],
    "figure": {"kind": "heatmap", "x": "dropout_rate", "y": "use_pooling", "file": "a.png"},
}
PATHS = [
    (),
    *((key,) for key in SWEEP),
    ("fixed", "epochs"),
    ("grid", "dropout_rate"),
    ("grid", "dropout_rate", 0),
    ("seeds", 0),
    ("claims", 0),
    *(("claims", 0, key) for key in ("that", "arm", "versus", "expect", "margin")),
    *(("figure", key) for key in ("kind", "x", "y", "file")),
]


def mutated(path: tuple[str | int, ...], value: object, key: object) -> object:
    """The sweep with one of its parts replaced, and another key beside it."""
    sweep = json.loads(json.dumps(SWEEP))
    if not path:
        return {**sweep, key: value}
    *outer, last = path
    part = sweep
    for step in outer:
        part = part[step]
    part[last] = value
    return sweep


@FUZZED
@given(st.sampled_from(PATHS), VALUES, SCALARS)
def test_a_sweep_with_anything_in_it(tmp_path, path, value, key):
    """Wherever it stands: in place of the whole, of a list, of a number."""
    file = tmp_path / "sweep.yaml"
    # Halves of surrogate pairs cannot be written; that they are refused is told below.
    text = yaml.safe_dump(mutated(path, value, key), allow_unicode=True, sort_keys=False)
    file.write_text(text, encoding="utf-8", errors="replace")
    assert is_sound(planned(file))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sweep.yaml"]


@FUZZED
@given(
    st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "ignore"))
)
def test_any_bytes_for_a_file(tmp_path, content):
    """A text, or none."""
    file = tmp_path / "sweep.yaml"
    file.write_bytes(content)
    result = planned(file)
    assert isinstance(result, FmnistError)
    assert is_sound(result)


# Everything that means something in YAML, and the words that PyYAML's constructors stumble over.
YAML_SIGNS = st.lists(
    st.sampled_from(
        [*"ab1:- \n\t{}[],&*!|>'\"%@`?<=#~.\\", "&a ", "*a", "<<", "---\n", "\ufeff", "\x85", "1e9"]
        + [f"!!{kind} " for kind in ("int", "float", "bool", "null", "timestamp", "set", "binary")]
        + ["''", "0x", "0b1", "9" * 4_400, "0x" + "f" * 4_400, "1:30", "2001-99-99", '"\\uD800"']
    ),
    max_size=20,
).map("".join)


@FUZZED
@given(YAML_SIGNS, st.sampled_from(["", "grid: ", "fixed: ", "title: ", "? "]))
def test_any_syntax_within_a_file(tmp_path, noise, key):
    """Everything that means something in YAML, behind a beginning that is right."""
    file = tmp_path / "sweep.yaml"
    file.write_text(f"sweep: one\ntitle: One\ngrid: {{epochs: [1]}}\n{key}{noise}")
    assert is_sound(planned(file))


KEYS = st.sampled_from([*RunConfig.model_fields, "x", ""]) | st.text(max_size=9)
ASSIGNMENTS = st.tuples(KEYS, YAML_SIGNS | VALUES.map(str)).map("=".join)


@FUZZED
@given(st.lists(ASSIGNMENTS | st.text(max_size=30), max_size=3))
def test_any_override(tmp_path, assignments):
    """`--set` with anything."""
    file = tmp_path / "sweep.yaml"
    file.write_text("sweep: one\ntitle: One\ngrid: {dropout_rate: [0.1]}\n")
    assert is_sound(planned(file, tuple(assignments)))


@FUZZED
@given(
    st.text(max_size=30) | st.lists(st.integers(-1, 2**33), max_size=4).map(lambda n: str(n)[1:-1])
)
def test_any_seeds(tmp_path, text):
    """`--seeds` with anything."""
    file = tmp_path / "sweep.yaml"
    file.write_text("sweep: one\ntitle: One\ngrid: {dropout_rate: [0.1]}\n")
    result = planned(file, seeds=text)
    assert isinstance(result, FmnistError) or 1 <= len(result.rows) <= 1_000


# --- what must hold for ever, in one process whose memory and time are measured -------------------

SIZE = 248_000
HEAD = "sweep: one\ntitle: One\n"
GRID = f"{HEAD}grid: {{epochs: [1]}}\n"
MANY = ", ".join(map(str, range(1, 1_001)))
RATES = ", ".join(str(rate / 1e5) for rate in range(1, 1_001))
CLAIM = "{that: t, arm: {learning_rate: 0.01}, versus: {learning_rate: 0.009}, expect: higher, margin: 0.01}"  # noqa: E501
LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)
BOMBS = {
    "a billion laughs": LAUGHS,
    "a merge of laughs": LAUGHS.replace("[", "{<<: [").replace("]", "]}"),
    "digits": f"{HEAD}grid: {{epochs: [{'7' * SIZE}]}}",
    "digits of a fraction": f"{HEAD}grid: {{epochs: [{'7' * 99_999}.{'7' * 99_999}x]}}",
    "digits with underscores": f"{HEAD}grid: {{epochs: [{'7_' * 99_999}x]}}",
    "hexadecimal digits": f"{HEAD}grid: {{epochs: [0x{'f' * SIZE}]}}",
    "octal digits": f"{HEAD}grid: {{epochs: [0{'7' * SIZE}]}}",
    "sexagesimal digits": f"{HEAD}grid: {{epochs: [1{':59' * 80_000}]}}",
    "10**9 arms": f"{HEAD}grid: {{epochs: [{MANY}], batch_size: [{MANY}], seed: [{MANY}]}}",
    "10**6 runs": f"{HEAD}grid: {{learning_rate: [{RATES}]}}\nseeds: [{MANY}]",
    "90 claims on 1,000 arms": (
        f"{HEAD}grid: {{learning_rate: [{RATES}]}}\nclaims: [{', '.join([CLAIM] * 90)}]"
    ),
    "empty claims": f"{GRID}claims: [{', '.join(['{}'] * 4_900)}]",
    "unknown keys": f"{GRID}fixed: {{{', '.join(f'learning_rat{n}: 1' for n in range(2_400))}}}",
    "a long list": f"{HEAD}grid: {{conv_channels: [[{', '.join(['1'] * 4_900)}]]}}",
    "a longer list": f"{HEAD}grid: {{epochs: [{'1,' * 120_000}]}}",
    "one key again and again": "{" + "a," * 120_000 + "}",
    "question marks": "?\n" * 120_000,
    "lists in lists": f"{HEAD}grid: {'[' * 100_000}",
    "mappings in mappings": "{a: " * 60_000,
    "blocks in blocks": "- " * 100_000,
    "empty lines": "\n" * SIZE,
    "tags": "!" * SIZE,
    "quotes": "'" * SIZE,
    "a megabyte": "x" * 1_000_000,
    "a long title": f"sweep: one\ntitle: {'x' * SIZE}\ngrid: {{epochs: [1]}}",
}  # fmt: skip

MEASURE = """
import json, resource, sys, time
from pathlib import Path
from fmnist_tuning.errors import FmnistError
from fmnist_tuning.sweeps.plan import make_plan
from fmnist_tuning.sweeps.reading import load_sweeps
usage = lambda: resource.getrusage(resource.RUSAGE_SELF)
found, before = {}, usage().ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    begun = time.process_time()
    try:
        made = len(make_plan(load_sweeps([path]), "digest", finished={}, stored={}).rows)
    except FmnistError as error:
        made = str(error)
    found[path.name] = made, time.process_time() - begun
print(json.dumps([found, (usage().ru_maxrss - before) / 1024]))
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bombs")
    for name, text in BOMBS.items():
        (folder / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder)],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_no_file_explodes(measured):
    """Seconds of processor time at most, where it could be hours; and 200 MB for all together."""
    found, megabytes = measured
    assert megabytes < 200
    assert len(found) == len(BOMBS)
    slow = {name: seconds for name, (_, seconds) in found.items() if seconds > 5}
    assert not slow


def test_what_a_bomb_is_told(measured):
    """The first line of each, less the file: no echo of a megabyte."""
    told = {name: made for name, (made, _) in measured[0].items()}
    assert told.pop("90 claims on 1,000 arms") == 1_000
    lines = {name: text.splitlines()[1].split("/")[-1] for name, text in told.items()}
    assert all(len(line) < 330 for line in lines.values())
    assert lines["a billion laughs"] == (
        "a billion laughs:1: anchors and aliases (&, *) are not supported"
    )
    assert lines["10**6 runs"] == (
        "10**6 runs:4: seeds: found 1,000 for each of 1,000 arms, allowed: at most 100,000 runs a "
        "sweep"
    )
    assert lines["10**9 arms"] == (
        "10**9 arms:3: grid: found 1,000,000,000 arms, allowed: at most 100,000"
    )
    assert lines["digits"] == ("digits:3: found a number of 248,000 characters, allowed: 100")
    assert lines["a long title"] == (
        "a long title:2: title: found 248,000 characters, allowed: at most 200"
    )
    assert told["unknown keys"].splitlines()[-1] == "and 2,350 more"


# --- things that are no files, names that are no names --------------------------------------------


def told(*paths: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_sweeps([Path(str(path)) for path in paths])
    return caught.value.problems


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/tty", "/dev/stdin"])
def test_a_device(device):
    """One of them never ends, and another waits for ever."""
    if not Path(device).exists():
        pytest.skip(f"there is no {device} here")
    (line,) = told(device)
    assert line.startswith(f"{device}: ")


def test_a_pipe_that_nobody_writes_to(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    expected = f"{tmp_path}/pipe.yaml: not a file; allowed: files, and folders of them"
    assert told(tmp_path / "pipe.yaml") == [expected]
    assert told(tmp_path) == [expected]


def test_links(tmp_path):
    """One to a file is a file; one to itself, or to nothing, is none."""
    (tmp_path / "real").write_text(GRID)
    (tmp_path / "link.yaml").symlink_to("real")
    assert load_sweeps([tmp_path / "link.yaml"])[0].id == "one"
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nowhere")
    assert told(tmp_path / "gone") == [f"{tmp_path}/gone: no such file; allowed: link.yaml"]
    assert told(tmp_path / "loop") == [f"{tmp_path}/loop: no such file; allowed: link.yaml"]


def test_a_folder_in_the_place_of_a_file(tmp_path):
    (tmp_path / "x.yaml").mkdir()
    line = f"{tmp_path}/x.yaml: not a file; allowed: files, and folders of them"
    assert told(tmp_path) == [line]
    assert told(tmp_path / "x.yaml") == [f"{tmp_path}/x.yaml: this folder has no .yaml file"]


def test_a_name_that_no_file_can_have():
    assert told("x" * 5_000) == [f"'{'x' * 76}...: cannot be read: File name too long"]


def test_an_unreadable_file():
    """Root reads everything but this."""
    assert told("/proc/self/mem") == ["/proc/self/mem: cannot be read: Input/output error"]


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_texts_of_every_editor(tmp_path, codec, line_end):
    """With a byte-order mark and without, whatever ends a line."""
    (tmp_path / "s.yaml").write_bytes(GRID.replace("\n", line_end).encode(codec))
    assert load_sweeps([tmp_path / "s.yaml"])[0].id == "one"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (GRID.encode("utf-16"), ": not UTF-8 text; save it as UTF-8"),
        (GRID.encode("utf-32"), ": not UTF-8 text; save it as UTF-8"),
        (
            GRID.encode("utf-16-le"),
            ":1: found the character #x0000, allowed: printable characters",
        ),
        (bytes(range(256)), ": not UTF-8 text; save it as UTF-8"),
        (b"", ": found null, allowed: a mapping that starts with `sweep:`"),
        (b"x" * 250_001, ": longer than 250,000 bytes; a sweep fits into a page"),
        (b"a: 1\nb: \x1b", ":2: found the character #x001b, allowed: printable characters"),
    ],
    ids=["UTF-16", "UTF-32", "UTF-16 bare", "bytes", "nothing", "too long", "escape"],
)
def test_files_that_are_no_text(tmp_path, content, reason):
    (tmp_path / "s.yaml").write_bytes(content)
    assert told(tmp_path / "s.yaml") == [f"{tmp_path}/s.yaml{reason}"]


def test_a_data_folder_that_no_folder_can_be():
    from fmnist_tuning.data.files import find

    with pytest.raises(DataError, match="cannot be read: File name too long"):
        find(Path("x" * 5_000))
