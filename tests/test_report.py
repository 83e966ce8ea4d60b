"""The report: one page that holds all it shows, says what is missing, and opens in a browser."""

from __future__ import annotations

import html
import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from results.__main__ import main
from results.heatmaps import Explained
from results.transport import save
from tests.records_support import CLASSES, make_record, write_run, write_sweep

CHROMIUM = shutil.which("chromium")
VOID = {"meta", "link", "img", "br", "hr", "input", "path", "use", "circle", "rect", "line"}


class Reader(html.parser.HTMLParser):
    """Collects tags and checks that they close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def write_heat_map(run: Path, name: str = "01-cat") -> None:
    """What `transport` leaves beside a run, from a made-up plan."""
    plan = np.random.default_rng(0).random((9, 4))
    plan /= plan.sum()
    picture = np.random.default_rng(1).random((48, 48, 3)).astype(np.float32)
    save(Explained(picture, plan, (3, 3), np.arange(8.0), CLASSES, 2, "cat.jpg"), plan, run / "transport" / name)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    output = write_sweep(tmp_path_factory.mktemp("sweep"), shots=(1, 4, 16))
    write_heat_map(output / "OP_N4/demo/PLOT/demo_16shots/nctx16_cscFalse_ctpend/seed1")
    assert main(["report", str(output), "--title", "Demo <world> & co"]) == 0
    return output / "report.html"


def test_page_is_whole_and_escaped(report):
    page = read(report)
    assert "Demo <world> & co" in page.text
    headings = re.findall(r'<h2 id="(\w+)"', report.read_text())
    assert headings == ["accuracy", "training", "transport", "classes", "cost", "setting"]
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == [f"#{heading}" for heading in headings]


def test_page_needs_no_network_and_no_script(report):
    page = read(report)
    assert not [tag for tag, _ in page.tags if tag in ("script", "iframe", "object", "embed")]
    for tag, attrs in page.tags:
        for key in ("src", "href", "xlink:href"):
            assert attrs.get(key, "#").startswith(("#", "data:")), (tag, attrs)
    assert "@import" not in report.read_text() and not re.search(r"url\((?!#)", report.read_text())


def test_every_picture_has_words(report):
    page = read(report)
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    figures = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert len(images) == 1 and len(figures) == 4
    assert "taken for class h, truly class c" in images[0]["alt"]
    assert all(attrs["role"] == "img" and len(attrs["aria-label"]) > 30 for attrs in figures)
    assert "PLOT N=4 from" in figures[0]["aria-label"]
    cosines = "1 shots: 0.900 → 0.655 (0.410 to 0.900); 4 shots: 0.900 →"  # of 50 epochs
    assert cosines in figures[3]["aria-label"] and cosines in page.text


def test_numbers_of_the_records_are_there(report):
    text = read(report).text
    accuracy = [make_record("PLOT", 16, seed)["accuracy"] for seed in (1, 2, 3)]
    assert f"{np.mean(accuracy):.2f} ± {np.std(accuracy):.2f} (3)" in text
    assert "0.230" in text  # distance from uniform: mean of 0.22, 0.23, 0.24
    assert "7.3" in text and "2.5e-04" in text and "100.0%" in text
    assert all(name in text for name in CLASSES)
    assert "812 MB" in text and "2.5.0" in text
    assert "fingerprints" in text and "Missing" not in text
    assert "python train.py --trainer PLOT" in text


def test_same_records_give_the_same_page(report):
    before = report.read_bytes()
    main(["report", str(report.parent), "--title", "Demo <world> & co"])
    assert report.read_bytes() == before


def test_missing_runs_are_listed(tmp_path):
    write_sweep(tmp_path, shots=(1, 4))
    broken = tmp_path / "demo/CoOp/demo_4shots/nctx16_cscFalse_ctpend/seed3"
    (broken / "result.json").write_text("{")
    assert main(["report", str(tmp_path)]) == 1
    text = read(tmp_path / "report.html").text
    assert "CoOp on Demo at 4 shots: 2 of 3 runs" in text
    assert "demo/CoOp/demo_4shots/nctx16_cscFalse_ctpend/seed3: result.json cannot be read" in text


def test_different_images_are_a_warning(tmp_path):
    write_run(tmp_path / "a", make_record("CoOp", 1, 1))
    write_run(tmp_path / "b", make_record("PLOT", 1, 1, data={"fingerprint": "other"}))
    main(["report", str(tmp_path)])
    assert "did not see the same images in: Demo, 1 shots, seed 1" in read(tmp_path / "report.html").text


def test_several_data_sets_and_strange_names(tmp_path):
    write_sweep(tmp_path / "a", shots=(1, 2), seeds=(1,))
    write_sweep(tmp_path / "b", shots=(1, 2), seeds=(1,), dataset='<b>"Pets" & co')
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "deep/page.html")]) == 0
    page = read(tmp_path / "deep/page.html")
    assert "Average over 2 data sets" in page.text and '<b>"Pets" & co' in page.text
    assert not [tag for tag, _ in page.tags if tag == "b"]
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_bare_records_make_a_page(tmp_path):
    """Only what identifies a run and its accuracy, as an older program might have written."""
    keys = ("schema", "complete", "trainer", "dataset", "shots", "seed", "accuracy")
    record = make_record("PLOT", 1, 1)
    write_run(tmp_path, {key: record[key] for key in keys})
    assert main(["report", str(tmp_path)]) == 0
    assert "PLOT" in read(tmp_path / "report.html").text


def test_torn_heat_map_data_do_not_stop_the_report(tmp_path):
    write_run(tmp_path, make_record("PLOT", 1, 1))
    write_heat_map(tmp_path)
    (tmp_path / "transport/01-cat.npz").write_bytes(b"PK torn")
    assert main(["report", str(tmp_path)]) == 0
    assert [attrs["alt"] for tag, attrs in read(tmp_path / "report.html").tags if tag == "img"] == [
        "Transport heat maps of 01-cat."
    ]


PROBE = """<!DOCTYPE html><title>not loaded</title>
<iframe width="{width}" height="900" srcdoc="{page}"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
    const page = frame.contentDocument, root = page.documentElement;
    document.title = JSON.stringify({{
        fits: root.scrollWidth <= frame.contentWindow.innerWidth,
        width: frame.contentWindow.innerWidth,
        curves: [...page.querySelectorAll("svg.figure")].every(one => one.getBoundingClientRect().height > 150),
        pictures: [...page.images].every(one => one.complete && one.naturalWidth > 300),
    }});
}};
</script>"""


@pytest.mark.skipif(not CHROMIUM, reason="needs chromium")
@pytest.mark.parametrize("width", [1280, 400])
def test_page_opens_in_a_browser(report, tmp_path, width):
    """Shown in a frame of the given width, of a page that writes into its title what the browser made of it."""
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(width=width, page=html.escape(report.read_text(), quote=True)))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--window-size=1400,1000"]
    done = subprocess.run(
        [str(CHROMIUM), *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", probe.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stderr[-2000:]
    seen = json.loads(html.unescape(title[1]))
    assert seen == {"fits": True, "width": width, "curves": True, "pictures": True}
