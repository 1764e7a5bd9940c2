"""The journal: its blocks, a person's text around them, and what the template says."""

import re

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import six_experiments, sweep_of, write_study

from fmnist_tuning.errors import JournalError
from fmnist_tuning.report.journal.blocks import read_blocks, replace_blocks
from fmnist_tuning.report.journal.section import table
from fmnist_tuning.text import markdown

NAMES = ("one.results", "two", "three-4_x")
PROSE = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r"), max_size=60).filter(
    lambda text: "fmnist:" not in text
)


def block(name: str, content: str = "old\n") -> str:
    return f"<!-- fmnist:begin {name} -->\n{content}<!-- fmnist:end {name} -->\n"


@settings(deadline=None, max_examples=50)
@given(st.lists(PROSE, min_size=4, max_size=4), st.permutations(NAMES), st.lists(PROSE, min_size=3))
def test_human_text_survives(prose, order, contents):
    """Whatever a person writes, wherever and in whatever order of blocks: byte for byte."""
    human = [text + "\n" for text in prose]
    new = {name: f"{text}\n" for name, text in zip(NAMES, contents, strict=False)}
    text = human[0] + "".join(
        block(name) + after for name, after in zip(order, human[1:], strict=True)
    )
    written = replace_blocks(text, new)
    assert written == human[0] + "".join(
        block(name, new[name]) + after for name, after in zip(order, human[1:], strict=True)
    )
    assert replace_blocks(written, new) == written
    assert read_blocks(written) == new


def test_lines_end_as_the_file_has_them():
    """A file from Windows stays one."""
    text = block("two").replace("\n", "\r\n")
    assert replace_blocks(text, {"two": "a\nb\n"}) == block("two", "a\nb\n").replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing\n", "the markers of two are missing"),
        ("<!-- fmnist:begin two -->\n", "line 1: the marker `<!-- fmnist:begin two -->` has no"),
        ("x\n<!-- fmnist:end two -->\n", "line 2: the marker `<!-- fmnist:end two -->` has no"),
        (block("two") + block("two"), "line 4: the block two is there twice"),
        (block("two") + block("extra"), "there is no block extra"),
        (
            "<!-- fmnist:begin two -->\n<!-- fmnist:begin one -->\n<!-- fmnist:end one -->\n",
            "line 1: the marker `<!-- fmnist:begin two -->` has no",
        ),
        (block("two").replace("begin two -->", "begin two ->"), "line 1: found"),
        (block("two").replace("<!-- fmnist:end", "  <!-- fmnist:end"), "line 3: found"),
        (block("two").replace("end two", "end Two"), "line 3: found"),
    ],
)
def test_damaged_markers(text, message):
    """An error that names the line and the marker."""
    with pytest.raises(JournalError, match=re.escape(message)):
        replace_blocks(text, {"two": "new\n"})


@settings(deadline=None)
@given(st.text())
def test_foreign_text_cannot_leave_its_cell(text):
    """One line, no cell border, no tag, no comment, no marker."""
    shown = markdown(text)
    assert len(shown.splitlines()) <= 1
    assert "<" not in shown
    assert ">" not in shown
    assert not re.search(r"(?<!\\)(\\\\)*\|", shown)
    assert all(sign.isprintable() for sign in shown)


def test_a_table_reads_well_as_text_too():
    """Columns as wide as their widest cell."""
    assert table(["a", "long"], [["1", "2"], ["333333", "4"]]) == (
        "| a      | long |\n| ------ | ---- |\n| 1      | 2    |\n| 333333 | 4    |"
    )


def test_the_template_keeps_the_users_headings():
    """Every heading of the journal that the user gave, in order, and no bracket to fill in."""
    folder = ROOT / "src/fmnist_tuning/report/journal"
    template = re.sub(
        r'\{% include "(.*)" %\}',
        lambda found: (folder / found[1]).read_text(encoding="utf-8"),
        (folder / "six_experiments.md").read_text(encoding="utf-8"),
    )
    headings = re.findall(r"^##+ .*$", template, re.MULTILINE)
    positions = [headings.index(heading) for heading in HEADINGS]
    assert positions == sorted(positions)
    assert not re.search(r"\[[A-Z]", template)


def test_a_journal_keeps_its_chapters(fmnist_here, migrated):
    """One of a study of one's own is brought up to date, also after it got one of the six."""
    uri = f"sqlite:///{migrated}"
    own = sweep_of("sweep: own\ntitle: Own\ngrid: {dropout_rate: [0.1, 0.2]}\n", migrated.parent)
    write_study([own], uri, name="mine")
    done = fmnist_here("journal", "--study", "mine")
    assert done.returncode == 0, done.stderr
    path = migrated.parent / "JOURNAL-mine.md"
    assert "Experiment 1" not in path.read_text()
    write_study(six_experiments()[:1], uri, name="mine")
    done = fmnist_here("journal", "--study", "mine")
    assert done.returncode == 0, done.stderr
    assert "### Dropout Rate Exploration" in path.read_text()
    # A journal of before has all chapters, and keeps them.
    full = path.with_name("full.md")
    marker = "<!-- fmnist:study fashion_mnist_cnn_tuning -->"
    text = (ROOT / "JOURNAL.md").read_text(encoding="utf-8")
    full.write_text(text.replace(marker, marker.replace("fashion_mnist_cnn_tuning", "mine")))
    done = fmnist_here("journal", "--study", "mine", "--output", full)
    assert done.returncode == 0, done.stderr


HEADINGS = [
    "## Research Question",
    "## Hypothesis",
    "## Experiment 1: Dropout Rate Exploration",
    "## Experiment 2: Batch Normalization Impact",
    "## Experiment 3: Convolutional Depth",
    "## Experiment 4: Pooling Layer Impact",
    "## Experiment 5: Dropout × BatchNorm Interactions",
    "## Experiment 6: Combined Optimal Configuration",
    "## Overall Conclusions",
    "### Key Findings",
    "### Best Model Configuration",
    "### Lessons Learned",
    "### Future Directions",
    "## MLflow Tracking Notes",
    "### How to View Results",
    "### Metrics Tracked",
    "### Parameters Logged",
    "## Appendix: Technical Details",
    "### Environment",
    "### Dataset",
    "### Training Configuration",
    "### Architecture Notes",
]
