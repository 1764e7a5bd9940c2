"""A study's file: what it keeps, and files that lie."""

import gzip
import io
import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import lacking
from exchanges import exported, lines_of, packed
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import DIGEST, START, outcome_of

from fmnist_tuning.errors import ExchangeError
from fmnist_tuning.sweeps.runs import fingerprint
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.sweeps.sweep import Sweep
from fmnist_tuning.transfer.entries import Logged, RunEntry, SweepEntry
from fmnist_tuning.transfer.study_file import pack_study, unpack_study


def changed(place: tuple[Any, ...], value: Any, line: int = 7) -> Callable[[list[Any]], bytes]:
    """Makes a file in which one value of one line is another."""

    def change(lines: list[Any]) -> bytes:
        part = lines[line]
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = value
        return packed(lines)

    return change


def cut(share: float) -> Callable[[list[Any]], bytes]:
    return lambda lines: packed(lines)[: int(len(packed(lines)) * share)]


def damaged(lines: list[Any]) -> bytes:
    content = bytearray(packed(lines))
    content[-6] ^= 1
    return bytes(content)


def without(*numbers: int) -> Callable[[list[Any]], bytes]:
    return lambda lines: packed([line for i, line in enumerate(lines) if i not in numbers])


def bomb(lines: list[Any]) -> bytes:
    """A gigabyte of blanks in a megabyte."""
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", compresslevel=1) as file:
        file.write(json.dumps(lines[0]).encode() + b"\n")
        for _ in range(1_000):
            file.write(b" " * 1_000_000)
    return content.getvalue()


def twice(lines: list[Any]) -> bytes:
    """The same metric at the same step, logged at two times."""
    lines[7]["history"].append({**lines[7]["history"][0], "at": 5})
    return packed(lines)


DAMAGED = "damaged"
FOREIGN = "line 1: … `fmnist export`"

HOSTILE = {
    "empty": (lambda _: b"", FOREIGN),
    "cut in the header": (cut(0.001), DAMAGED),
    "cut early": (cut(0.1), DAMAGED),
    "cut in the middle": (cut(0.5), DAMAGED),
    "cut at the end": (cut(0.999), DAMAGED),
    "a bit flipped": (damaged, DAMAGED),
    "a line lost": (
        without(7),
        "6 sweeps and 25 runs … 6 and 26",
    ),
    "a line too many": (
        lambda lines: packed([*lines, lines[7]]),
        "line 34: … 32",
    ),
    "a run twice": (
        lambda lines: packed([*lines[:8], *lines[7:-1]]),
        "line 9: … 650d8c302f56e827 … line 8",
    ),
    "a sweep twice": (
        lambda lines: packed([*lines[:2], *lines[1:-1]]),
        "line 3: … exp1_dropout … line 2",
    ),
    "not gzip": (lambda _: b"sweep: exp1\n", "gzip … `fmnist export`"),
    "rubbish after it": (lambda lines: packed(lines) + b"x", DAMAGED),
    "a bomb": (bomb, "16 MB"),
    "foreign JSON": (lambda _: packed([{"runs": []}]), FOREIGN),
    "no JSON": (lambda _: packed(["<html>"]), FOREIGN),
    "not UTF-8": (lambda _: gzip.compress(b"\xff\xfe{}\n"), FOREIGN),
    "a list": (lambda lines: packed([lines[0], []]), "line 2: … sweep"),
    "nested": (lambda lines: packed([lines[0], "[" * 200_000]), "line 2: … JSON"),
    "a newer version": (
        changed(("version",), 2, 0),
        "line 1: … version 2 … 1",
    ),
    "another semantics": (
        changed(("semantics",), 0, 0),
        "line 1: … semantics 0 … 1",
    ),
    "a million runs": (
        changed(("runs",), 10**6, 0),
        "line 1: runs: … 1000000 … at most 100,000",
    ),
    "a forged fingerprint": (
        changed(("fingerprint",), "0" * 16),
        "line 8: fingerprint: … 0000000000000000 … 650d8c302f56e827",
    ),
    "forged settings": (
        changed(("config", "dropout_rate"), 0.21),
        "line 8: fingerprint: … 650d8c302f56e827",
    ),
    "forged data": (
        changed(("data",), "ff"),
        "line 8: fingerprint: … 650d8c302f56e827",
    ),
    "an unknown key": (changed(("run_id",), "x"), "line 8: run_id: … unknown"),
    "an unknown setting": (
        changed(("config", "dropout"), 1),
        "line 8: config.dropout: … dropout_rate",
    ),
    "a setting that is no number": (
        changed(("config", "learning_rate"), math.nan),
        "line 8: … NaN … JSON",
    ),
    "a setting that is text": (
        changed(("config", "learning_rate"), "NaN"),
        "line 8: config.learning_rate: … 'NaN' … number",
    ),
    "an infinite setting": (
        lambda lines: packed([*lines[:7], json.dumps(lines[7]).replace("0.001", "1e999")]),
        "line 8: config.learning_rate: … Infinity … finite",
    ),
    "an impossible network": (
        changed(("config", "num_conv_layers"), 8),
        "line 8: config.conv_channels: … [32, 64] … num_conv_layers = 8",
    ),
    "a key twice": (
        lambda lines: packed(
            [*lines[:7], json.dumps(lines[7]).replace('"name"', '"name": "x", "name"'), *lines[8:]]
        ),
        "line 8: … twice",
    ),
    "a tag that leaves its folder": (
        changed(("tags", "fmnist./../../x"), "x"),
        "line 8: tags: … 'fmnist./../../x' … fmnist.*",
    ),
    "a tag that is the program's": (
        changed(("tags", "fmnist.kind"), "sweep"),
        "line 8: tags: … 'fmnist.kind' … fmnist.*",
    ),
    "a tag of another kind": (
        changed(("tags", "mlflow.parentRunId"), "x"),
        "line 8: tags: … 'mlflow.parentRunId' … fmnist.*",
    ),
    "a tag without end": (
        changed(("tags", "fmnist.python"), "x" * 8_001),
        "line 8: tags.'fmnist.python': … 8,001 … 8,000",
    ),
    "a metric that leaves its folder": (
        changed(("history", 0, "values", "../../x"), 1.0),
        "line 8: history[0].values: … '../../x' … plain word",
    ),
    "a metric that passes for a setting": (
        changed(("history", 0, "values", "seed"), 1.0),
        "line 8: history[0].values: … 'seed' … setting",
    ),
    "an accuracy beyond all numbers": (
        changed(("history", 0, "values", "final_val_accuracy"), "Infinity"),
        "line 8: history[0].values.final_val_accuracy: … 'Infinity' … 1e+100",
    ),
    "a loss beyond all numbers": (
        changed(("history", 0, "values", "final_val_loss"), 1e308),
        "line 8: history[0].values.final_val_loss: … 1e+308 … 1e+100",
    ),
    "a metric twice": (
        twice,
        "line 8: history[4].values.best_epoch: … step 0",
    ),
    "a step below zero": (
        changed(("history", 0, "step"), -1),
        "line 8: history[0].step: … -1 … 0",
    ),
    "no outcome": (
        changed(("history",), []),
        "line 8: history: … step 0 … final_train_loss, … total_params, train_seconds",
    ),
    "the year 10000": (
        changed(("started",), 10**15),
        "line 8: started: … 1000000000000000 … 253,402,300,800,000",
    ),
    "a name that paints the terminal": (
        changed(("name",), "\x1b[31m"),
        r"line 8: name: … '\x1b[31m'",
    ),
    "a name of two lines": (
        changed(("name",), "a\nb"),
        r"line 8: name: … 'a\nb' … one line",
    ),
    "a title that paints the terminal": (
        changed(("definition", "title"), "\x9b31m", 1),
        r"line 2: definition.title: … '\x9b31m' … control",
    ),
    "a sweep that leaves its folder": (
        changed(("definition", "sweep"), "../../x", 1),
        "line 2: definition.sweep: … '../../x' … 64 letters",
    ),
    "a figure that leaves its folder": (
        changed(("definition", "figure", "file"), "../x.png", 1),
        "line 2: definition.figure.file: … '../x.png' … plain file name",
    ),
    "an unknown key of a sweep": (
        changed(("definition", "seed"), [0], 1),
        "line 2: definition.seed: … seeds",
    ),
    "a prediction that is text": (
        changed(("definition", "arms", 0, "predicted"), "<b>", 6),
        "line 7: definition.arms[0].predicted: … '<b>' … number",
    ),
    "a prediction beyond all numbers": (
        changed(("definition", "arms", 0, "predicted"), 10**400, 6),
        "line 7: definition.arms[0].predicted: … 1000000000",
    ),
    "a key that paints the terminal": (
        changed(("\x1b[31m" + "x" * 900,), 1),
        r"line 8: '\x1b[31mxxxxx",
    ),
    "a combination without arms": (
        changed(("definition", "arms"), [], 6),
        "line 7: definition.arms: … required",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_that_lies(fmnist_here, original, migrated, case):
    """One line with the place, what was found and what is allowed; the store is not touched."""
    forge, message = HOSTILE[case]
    original.write_bytes(forge(lines_of(original)))
    before = migrated.read_bytes()
    done = fmnist_here("import", original.name)
    assert done.returncode == 2
    assert done.stderr.startswith("error: study.jsonl.gz: ")
    assert not lacking(done.stderr, f"{message} … nothing was imported\n")
    assert len(done.stderr) < 800
    assert done.stderr.isascii()
    assert done.stdout == ""
    assert migrated.read_bytes() == before


@pytest.mark.parametrize("markup", ["<script>", "[red]x[/red]", "| **x**", "{{ x }}"])
def test_markup_is_only_text(fmnist_here, original, migrated, markup):
    """In names and titles it is kept as it is, and nothing that shows it takes it for its own."""
    lines = lines_of(original)
    lines[7]["name"] = markup
    lines[1]["definition"]["title"] = markup
    original.write_bytes(packed(lines))
    assert fmnist_here("import", original).returncode == 0
    assert f"exp1_dropout: {markup}" in fmnist_here("results", "exp1_dropout").stdout
    assert exported(fmnist_here, f"sqlite:///{migrated}") != original.read_bytes()
    assert lines_of(Path("again.jsonl.gz"))[1:] == sorted(
        lines[1:], key=lambda line: (line["kind"] == "run", line.get("name", ""))
    )


@pytest.mark.parametrize(
    ("name", "reason"), [("nowhere", "No such file or directory"), (".", "Is a directory")]
)
def test_a_file_that_cannot_be_read(fmnist_here, tmp_path, name, reason):
    """One line; no store is made."""
    done = fmnist_here("import", name)
    assert (done.returncode, done.stderr) == (2, f"error: {name}: cannot be read: {reason}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_bomb_costs_no_memory(original):
    """A gigabyte unpacks to one line at most."""
    content = io.BytesIO(bomb(lines_of(original)))
    tracemalloc.start()
    with pytest.raises(ExchangeError, match="longer than 16 MB"):
        unpack_study(content, "bomb")
    assert tracemalloc.get_traced_memory()[1] < 64e6
    tracemalloc.stop()


@pytest.mark.usefixtures("migrated")
@pytest.mark.parametrize("store", ["sqlite:///mlflow.db", "file:./runs"])
def test_values_that_are_no_numbers(fmnist_here, original, store):
    """NaN and infinity pass every store: what a database makes of infinity is read as that."""
    lines = lines_of(original)
    odd = {"train_loss": "NaN", "val_loss": "Infinity", "a": "-Infinity", "b": 5e-324}
    lines[7]["history"][1]["values"] |= odd
    lines[7]["history"][1]["values"] = dict(sorted(lines[7]["history"][1]["values"].items()))
    original.write_bytes(packed(lines))
    assert fmnist_here("import", original, "--tracking-uri", store).returncode == 0
    exported(fmnist_here, store)
    assert lines_of(Path("again.jsonl.gz")) == lines


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,20}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=50)
TIMES = st.integers(1, int(START * 1000) + 100 * 86_400_000)
TAGS = st.dictionaries(st.sampled_from(["fmnist.device", "fmnist.x", "mlflow.user"]), TEXTS)
OUTCOME = outcome_of(RunConfig(), 0.9).metrics()


@st.composite
def run_entries(draw) -> RunEntry:
    config = RunConfig(
        dropout_rate=draw(st.floats(0, 0.99)),
        learning_rate=draw(st.floats(1e-300, 1e300)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
    values = st.dictionaries(NAMES, st.floats(), min_size=1, max_size=5)
    steps = draw(st.dictionaries(st.integers(1, 1_000_000), st.tuples(TIMES, values), max_size=5))
    history = [Logged(step=step, at=at, values=found) for step, (at, found) in steps.items()]
    return RunEntry(
        name=draw(TEXTS.filter(str.strip)),
        fingerprint=fingerprint(config, DIGEST),
        sweeps=tuple(draw(st.lists(st.sampled_from(["one", "two"]), unique=True))),
        config=config,
        data=DIGEST,
        tags=draw(TAGS),
        started=draw(TIMES),
        ended=draw(TIMES),
        history=(Logged(step=0, at=draw(TIMES), values=OUTCOME), *history),
    )


@st.composite
def sweep_entries(draw) -> SweepEntry:
    definition = Sweep(
        sweep=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True)),
        title=draw(TEXTS),
        grid={"weight_decay": draw(st.lists(st.floats(0, 9), min_size=1, max_size=3, unique=True))},
        seeds=tuple(draw(st.lists(st.integers(0, 99), min_size=1, unique=True))),
    )
    return SweepEntry(
        definition=definition,
        data=DIGEST,
        tags=draw(TAGS),
        started=draw(TIMES),
        ended=draw(TIMES),
        status=draw(st.sampled_from(["FINISHED", "FAILED", "KILLED"])),
    )


@settings(deadline=None, max_examples=60)
@given(
    st.lists(run_entries(), max_size=4, unique_by=lambda run: run.fingerprint),
    st.lists(sweep_entries(), max_size=3, unique_by=lambda sweep: sweep.definition.id),
    st.randoms(use_true_random=False),
)
def test_the_format_loses_nothing(runs, found_sweeps, random):
    """Bytes to entries to the same bytes, in whatever order the entries come."""
    entries = [*found_sweeps, *runs]
    first = pack_study(entries)
    read = unpack_study(io.BytesIO(first), "file")
    random.shuffle(read)
    assert pack_study(read) == first
    values = {
        (run.fingerprint, logged.step, metric): repr(value)
        for run in runs
        for logged in run.history
        for metric, value in logged.values.items()
    }
    again = {
        (run.fingerprint, logged.step, metric): repr(value)
        for run in read
        if isinstance(run, RunEntry)
        for logged in run.history
        for metric, value in logged.values.items()
    }
    assert values == again
    assert {e.definition.id: e for e in read if isinstance(e, SweepEntry)} == {
        entry.definition.id: entry for entry in found_sweeps
    }


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_one_error(content, zipped):
    """Never a traceback of another kind."""
    with pytest.raises(ExchangeError, match="nothing was imported"):
        unpack_study(io.BytesIO(gzip.compress(content) if zipped else content), "file")
