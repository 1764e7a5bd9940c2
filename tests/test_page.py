"""The journal as one HTML page: self-contained, and harmless whatever it holds."""

import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from fmnist_tuning.report.journal.page import render_page


class Elements(HTMLParser):
    """Every element with its attributes, and the text beside them."""

    def __init__(self, page):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def of(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


def test_markdown_becomes_a_page(tmp_path):
    """Headings, tables, code, notes; markers and comments are gone."""
    text = (
        "# The title & more\n\n<!-- fmnist:begin x -->\n| a | b |\n| - | - |\n| 1 | **2** |\n\n"
        "<sub>A note, of `code`.</sub>\n<!-- fmnist:end x -->\n\n```python\nx = 1 < 2\n```\n"
    )
    page = render_page(text, tmp_path)
    found = Elements(page)
    assert found.of("html") == [{"lang": "en"}]
    assert "<title>The title &amp; more</title>" in page
    assert len(found.of("td")) == 2
    assert {"class": "note"} in found.of("p")
    assert "{.note}" not in page
    assert "fmnist:" not in page
    assert "x = 1 < 2" in found.text


@pytest.mark.parametrize(
    "evil",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "![x](http://127.0.0.1:9/a.png)",
        "[x](file:///etc/passwd)",
        "<!-- --><iframe src=//127.0.0.1></iframe>",
        "`<script>alert(1)</script>`",
        "| <svg onload=alert(1)> |\n| - |\n| <a href=javascript:1>x</a> |",
        "# <script>alert(1)</script>",
    ],
)
def test_text_from_outside_is_text(tmp_path, evil):
    """No script, no handler, no frame, no address that the page would load or follow."""
    page = render_page(f"{evil}\n\nbeside {evil}\n", tmp_path)
    found = Elements(page)
    allowed = {"html", "head", "meta", "title", "style", "body", "p", "h1", "code", "div", "table"}
    allowed |= {"thead", "tbody", "tr", "th", "td"}
    assert {tag for tag, _ in found.found} <= allowed
    assert not [name for _, attrs in found.found for name in attrs if name.startswith("on")]


def test_links_to_the_web_stay(tmp_path):
    """And nothing else that is one."""
    found = Elements(render_page("[a](https://example.org) [b](#x) [c](../secret)", tmp_path))
    assert [link["href"] for link in found.of("a")] == ["https://example.org", "#x"]


def test_figures_are_embedded(tmp_path):
    """Those that the text names and the folder has, and none from outside of it."""
    (tmp_path / "journal").mkdir()
    for place in ("journal/figure.png", "outside.png"):
        Image.new("L", (3, 3)).save(tmp_path / place)
    (tmp_path / "journal/link.png").symlink_to(tmp_path / "outside.png")
    text = "`figure.png` `missing.png` `../outside.png` `link.png` ![f](figure.png) `a\\0.png`\n"
    found = Elements(render_page(text, tmp_path / "journal"))
    sources = [image["src"] for image in found.of("img")]
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert len(found.of("code")) == 5


def test_the_page_forbids_what_it_does_not_need(tmp_path):
    """A policy against scripts and requests."""
    metas = Elements(render_page("x", tmp_path)).of("meta")
    (policy,) = (meta["content"] for meta in metas if "http-equiv" in meta)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@pytest.mark.slow
def test_the_command(study_of_six, fmnist_here, tmp_path):
    """Beside the journal itself, with its figures."""
    assert study_of_six.exists()
    assert fmnist_here("plot").returncode == 0
    done = fmnist_here("journal", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["JOURNAL.md", "page.html"]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert len(re.findall(r'src="data:image/png', page)) == 7
    assert not re.findall(r'(?:src|href)="(?!data:|https?:|#)', page)
    both = fmnist_here("journal", "--html", "page.html", "--check")
    assert both.returncode == 2
    assert "--check and --html: found both" in both.stderr
