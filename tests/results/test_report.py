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
from results.figures.claims import draw_claims
from results.figures.style import drawing, save_figure
from results.inspection.transport import save
from results.numbers.plans import Explained, ShownClass
from results.report.page import CSS
from tests.results.test_ablation import ablation
from tests.support.records import CLASSES, make_record, write_run, write_sweep

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


def write_heat_map(run: Path, name: str = "01-cat", truth: int = 2) -> None:
    """What `transport` leaves beside a run, from made-up plans."""
    rng = np.random.default_rng(0)
    shown = []
    for label in dict.fromkeys((7, truth)):
        plan = rng.random((9, 4))
        shown.append(ShownClass(label, plan / plan.sum(), plan))
    picture = rng.random((48, 48, 3)).astype(np.float32)
    explained = Explained(picture, (3, 3), np.arange(8.0), CLASSES, tuple(shown), truth, "cat.jpg")
    meta = save(explained, run / "transport" / name, ["png"])
    (run / "transport/index.json").write_text(json.dumps({"pictures": [meta]}))


def write_claims(run: Path) -> None:
    """What `claims` leaves beside a run."""
    claimed = [{"path": "a.jpg", "true": "class b", "predicted": "class c", "value": 0.1}]
    prompts = [{"prompt": n + 1, "mean": 0.0, "foremost": 3, "claimed": claimed} for n in range(2)]
    record = {"definition": "D", "of": "true", "classes": [], "images": 7, "prompts": prompts}
    (run / "transport").mkdir(exist_ok=True)
    (run / "transport/claims.json").write_text(json.dumps(record | {"files": {"png": "claims.png"}}))
    with drawing():
        figure = draw_claims(record, [[np.ones(4)]] * 2, (2, 2), [[np.zeros((8, 8, 3))]] * 2)
        save_figure(figure, run / "transport/claims.png")


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    output = write_sweep(tmp_path_factory.mktemp("sweep"), shots=(1, 4, 16))
    run = output / "OP_N4/demo/PLOT/demo_16shots/nctx16_cscFalse_ctpend/seed1"
    write_heat_map(run)
    write_claims(run)
    assert main(["report", str(output), "--title", "Demo <world> & co"]) == 0
    return output / "report.html"


def test_page_is_whole_and_escaped(report):
    page = read(report)
    assert "Demo <world> & co" in page.text
    assert page.text.count("Behind the numbers: seeds 1-3;") == 1
    headings = re.findall(r'<h2 id="(\w+)-title"', report.read_text())
    assert headings == [
        "accuracy", "training", "transport", "gains", "confusions", "classes", "differences", "cost", "setting"
    ]  # fmt: skip
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == [f"#{heading}" for heading in headings]
    ids = [attrs["id"] for tag, attrs in page.tags if tag == "div" and "id" in attrs]
    assert ids == headings  # within what unfolds
    assert re.findall(r"<section [^>]*>\n<details( open)?>", report.read_text()) == [" open"] + [""] * (len(ids) - 1)


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
    assert len(images) == 2 and len(figures) == 5
    assert "taken for class h, truly class c" in images[0]["alt"]
    assert "class h: plan 0." in images[0]["alt"] and "class c: plan 0." in images[0]["alt"]
    assert images[1]["alt"] == (
        "What each prompt claims most, of 7 test images: prompt 1 class b; prompt 2 class b."
    )
    assert all(attrs["role"] == "img" and len(attrs["aria-label"]) > 30 for attrs in figures)
    assert "PLOT N=4 from" in figures[0]["aria-label"]
    cosines = "1 shot: 0.900 → 0.655 (0.410 to 0.900); 4 shots: 0.900 →"  # of 50 epochs
    assert cosines in figures[3]["aria-label"] and cosines in page.text
    assert "Gain over zero-shot by class, Demo, points" in figures[4]["aria-label"]


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
    assert "did not see the same images in: Demo, 1 shot, seed 1" in read(tmp_path / "report.html").text


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


def test_torn_lists_of_pictures_do_not_stop_the_report(tmp_path):
    write_run(tmp_path, make_record("PLOT", 1, 1))
    write_heat_map(tmp_path, truth=7)
    write_claims(tmp_path)
    (tmp_path / "transport/claims.json").write_text('{"files"')
    assert main(["report", str(tmp_path)]) == 0
    alts = [attrs["alt"] for tag, attrs in read(tmp_path / "report.html").tags if tag == "img"]
    assert len(alts) == 1 and "cat.jpg: taken for class h." in alts[0] and "truly" not in alts[0]
    (tmp_path / "transport/index.json").write_text("[]")
    (tmp_path / "transport/claims.json").write_text("")
    assert main(["report", str(tmp_path)]) == 0
    assert not [tag for tag, _ in read(tmp_path / "report.html").tags if tag == "img"]


def test_pictures_of_an_earlier_call_and_deleted_ones_are_not_shown(tmp_path):
    write_run(tmp_path, make_record("PLOT", 1, 1))
    write_heat_map(tmp_path, "01-old")
    write_heat_map(tmp_path, "01-new")
    (tmp_path / "transport/01-new.png").unlink()
    assert main(["report", str(tmp_path)]) == 0
    assert "Transport heat maps" not in (tmp_path / "report.html").read_text()


# --- in a browser ----------------------------------------------------------------------------------------


def test_text_stands_out_from_its_ground_in_light_and_dark():
    """Contrast of WCAG 2.1: 4.5 for text."""
    css = CSS.read_text(encoding="utf-8")
    for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL):
        colors = dict(re.findall(r"--([\w-]+): (#\w{6})", block))
        pairs = [(text, ground) for text in ("ink", "soft", "accent", "warn") for ground in ("page", "card")]
        for text, ground in [*pairs, ("warn", "warn-page")]:
            light, dark = sorted(map(luminance, (colors[text], colors[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


def luminance(color: str) -> float:
    channels = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


PROBE = """<!DOCTYPE html><meta name="color-scheme" content="light dark"><title>not loaded</title>
<iframe width="{width}" height="900" srcdoc="{page}"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
    const page = frame.contentDocument, root = page.documentElement, view = frame.contentWindow;
    page.querySelectorAll("details").forEach(one => one.open = true);
    const all = selector => [...page.querySelectorAll(selector)], box = one => one.getBoundingClientRect();
    const name = one => one.tagName + " " + (one.getAttribute("class") || one.textContent.trim().slice(0, 40));
    const framed = one => one.closest(".scroll, nav, svg *");
    const wide = all("body *").filter(one => box(one).right > view.innerWidth + 1 && !framed(one));
    const tops = all("section").map(one => box(one).top), ends = all("section").map(one => box(one).bottom);
    const scrolls = all(".scroll").filter(one => one.scrollWidth > one.clientWidth);
    const hiding = scrolls.flatMap(frame => [...frame.querySelectorAll("tbody th")].filter(
        one => box(one).width > 0.75 * box(frame).width));
    const overlaps = [], small = [], cut = [];
    for (const svg of all("svg.figure")) {{
        const texts = [...svg.querySelectorAll("text")];
        for (const text of texts) {{
            const {{a, b}} = text.getScreenCTM();
            const size = parseFloat(view.getComputedStyle(text).fontSize) * Math.hypot(a, b);
            if (size < 7.5) small.push(text.textContent + " " + size);
            const [at, of] = [box(text), box(svg)];
            if (at.left < of.left - 1 || at.right > of.right + 1) cut.push(text.textContent);
        }}
        const boxes = texts.map(box);
        boxes.forEach((a, i) => boxes.slice(0, i).forEach((b, j) => {{
            const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            if (across > 1 && down > 0.3 * a.height) overlaps.push(texts[i].textContent + " | " + texts[j].textContent);
        }}));
    }}
    view.scrollTo({{top: 3000, behavior: "instant"}});
    document.title = JSON.stringify({{
        width: view.innerWidth, scheme: view.getComputedStyle(page.body).backgroundColor,
        fits: root.scrollWidth <= view.innerWidth, wide: wide.map(name), overlaps, small, cut,
        hiding: hiding.map(name),
        laid_out: tops.every((top, i) => ends[i] - top > 60 && (i == 0 || top >= ends[i - 1])),
        links: all("nav a").every(one => page.querySelector(one.getAttribute("href"))),
        nav_stays: Math.abs(box(page.querySelector("nav")).top) < 1,
        curves: all("svg.figure").every(one => box(one).height > 150),
        shaded: scrolls.filter(one => !one.closest(".map")).every(
            one => view.getComputedStyle(one).backgroundImage.split("gradient").length == 3),
        pictures: [...page.images].every(one => one.complete && one.naturalWidth > 300),
    }});
}};
</script>"""
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=4000 --window-size=1400,1000 "
    "--enable-logging=stderr"
).split()
GROUND = {"light": "rgb(251, 251, 250)", "dark": "rgb(20, 23, 26)"}


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """Four data sets, six methods with long names, a missing run, class names of one long word."""
    output = tmp_path_factory.mktemp("large")
    for dataset in ("Demo", "OxfordFlowers", "DescribableTextures", "StanfordCars"):
        write_sweep(output / dataset, shots=(1, 16), seeds=(1, 2), dataset=dataset)
    for matching in ("uniform", "max"):
        settings = {"TRAINER.PLOT.MATCHING": matching, "TRAINER.PLOT.CTX_INIT": "a photo of a"}
        record = make_record("PLOT", 16, 1, config=settings)
        for row in record["per_class"]:
            row["name"] = "Rhabarberbarbarabarbarbarenbartbarbier_" + row["name"]
        write_run(output / matching, record)
    run = output / "Demo/OP_N4/demo/PLOT/demo_16shots/nctx16_cscFalse_ctpend/seed1"
    settings = [("ot", eps, 400, 9, 3) for eps in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)]
    found = ablation(*settings, *((name, None, 390, 5, 3) for name in ("uniform", "max", "global")))
    (run / "ablation.json").write_text(json.dumps({"schema": 1, **found.as_json()}))
    (output / "Demo/demo/CoOp/demo_1shots/nctx16_cscFalse_ctpend/seed1/result.json").unlink()
    assert main(["report", str(output)]) == 1
    return output / "report.html"


@pytest.mark.skipif(not CHROMIUM, reason="needs chromium")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.parametrize("pages", ["report", "large"])
def test_page_opens_in_a_browser(request, tmp_path, pages, width, scheme):
    """Shown in a frame of the given width, of a page that writes into its title what the browser made of it."""
    page = request.getfixturevalue(pages).read_text()
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(width=width, page=html.escape(page, quote=True)))
    flags = [*FLAGS, f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"]
    done = subprocess.run(
        [str(CHROMIUM), *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", probe.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stderr[-2000:]
    seen = json.loads(html.unescape(title[1]))
    right = ("fits", "laid_out", "links", "nav_stays", "curves", "pictures", "shaded")
    empty = {"wide": [], "overlaps": [], "small": [], "cut": [], "hiding": []}
    assert seen == {"width": width, "scheme": GROUND[scheme], **empty, **dict.fromkeys(right, True)}
