"""The documentation: its length, its links, its command lines, and the pages that are made from the code."""

import argparse
import re
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from dassl.config import get_cfg_default
from plot.__main__ import PROGRAMS as plot_programs
from runs.keys import flatten
from scripts.write_docs import PROGRAMS
from tests.support import warm
from tests.support.programs import REPOSITORY

NAMES = ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY")
DOCUMENTS = [*(REPOSITORY / f"{name}.md" for name in NAMES), *sorted((REPOSITORY / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
LANGUAGES = {"sh", "python", "text", "yaml", "bibtex", "csv", "json"}
FOLDERS = "benchmarks clip configs dassl datasets demo docs predict results runs scripts study tests trainers".split()
PATH = re.compile(rf"(?:{'|'.join(FOLDERS)})/[\w./-]+")
UNCHECKED = {".", "cd", "mkdir", "cp", "git", "ls", "export", "pre-commit"}  # programs of the shell and of others


def documents(test):
    """Run a test on every document."""
    return pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)(test)


def prose(text: str) -> str:
    """Without blocks of code, and without lines of tables that say what has moved."""
    return FENCE.sub("", re.sub(r"^\| before \| now \|\n(\|.*\n)+", "", text, flags=re.MULTILINE))


def code_spans(document: Path) -> list[str]:
    return re.findall(r"`([^`]+)`", prose(document.read_text()))


# --- length, links, paths --------------------------------------------------------------------------------


def test_the_readme_is_a_door():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 150


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text()), re.MULTILINE)
    slugs: set[str] = set()
    for heading in headings:
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = next(n for n in range(len(headings)) if (f"{slug}-{n}" if n else slug) not in slugs)
        slugs.add(f"{slug}-{number}" if number else slug)
    return slugs


def broken_links(document: Path, text: str) -> list[str]:
    broken = []
    for target in LINK.findall(prose(text)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        page = (document.parent / name).resolve() if name else document
        if not page.exists() or (anchor and anchor not in anchors(page)):
            broken.append(target)
    return broken


@documents
def test_links_lead_somewhere(document):
    assert broken_links(document, document.read_text()) == []


def test_broken_links_are_noticed():
    text = "[a](docs/no.md) [b](docs/speed.md#nowhere) [c](docs/speed.md#measured) ![d](docs/map.png)"
    assert broken_links(REPOSITORY / "README.md", text) == ["docs/no.md", "docs/speed.md#nowhere"]


@documents
def test_files_that_are_named_exist(document):
    named = [span for span in code_spans(document) if PATH.fullmatch(span)]
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


# --- command lines ---------------------------------------------------------------------------------------


@cache
def known_keys() -> frozenset[str]:
    from runs.config import extend_cfg

    cfg = get_cfg_default()
    extend_cfg(cfg)
    return frozenset(flatten(cfg))


def check_keys(words: list[str], plugins: bool) -> None:
    """KEY VALUE or KEY=VALUE pairs; a plugin's trainer has keys that are not known here."""
    keys = words if all("=" in word for word in words) else words[::2]
    unknown = {key.partition("=")[0] for key in keys} - known_keys()
    unknown = {key for key in unknown if not (plugins and key.startswith("TRAINER."))}
    assert not unknown, f"no such keys: {', '.join(sorted(unknown))}"


def check_command(words: list[str], monkeypatch) -> None:
    """Raise AssertionError or SystemExit for words that a program of ours, make or pip would refuse."""
    while words and re.match(r"[A-Z]\w*=", words[0]):
        variable, _, value = words.pop(0).partition("=")
        monkeypatch.setenv(variable, value)
    if not words or words[0] in UNCHECKED:
        return
    words[0] = words[0].removeprefix(".venv/bin/")
    if words[0] == "torchrun" and "train.py" in words:
        words = ["python", *words[words.index("train.py"):]]
    if words[0] == "plot":
        words = without_plot(words[1:])
    if words[:3] == ["python", "-m", "results"] and words[3:4] == ["sweep"]:
        words = ["python", "scripts/sweep.py", *words[4:]]
    plugins = "--plugin" in words or "PLOT_PLUGINS" in " ".join(words)
    if words[0] == "make":
        rules = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(rules), words
    elif words[0] == "pip":
        extras = re.findall(r'^        "(\w+)": \[', (REPOSITORY / "setup.py").read_text(), re.MULTILINE)
        wanted = re.findall(r"\[(\w+)\]", " ".join(words))
        assert words[1] == "install" and set(wanted) <= set(extras), words
    elif words[:3] == ["python", "-m", "venv"]:
        assert len(words) == 4
    elif words[0] == "python" and words[1:3] in (["-m", "pytest"], ["-m", "tests.conformance"]):
        assert all((REPOSITORY / word).exists() for word in words[3:] if not word.startswith("-")), words
    elif words[0] == "bash" or words[:2] == ["python", "scripts/experiments.py"]:
        check_script(words[1 if words[0] == "bash" else 2:], plugins)
    elif words[:2] == ["python", "scripts/write_docs.py"]:
        import_module("scripts.write_docs").build_parser().parse_args(words[2:])
    else:
        check_program(words, plugins)


def without_plot(words: list[str]) -> list[str]:
    """The command that `plot ...` is another name for."""
    module = plot_programs.get(words[0])
    if module is None:
        return ["python", "-m", "results", *words]
    sweeps = {f"runs.sweeps.{name}": f"scripts/{name}.py" for name in ("sweep", "experiments")}
    files = {"train": "train.py"} | sweeps
    if module in (clip_commands := {f"clip.{name}_command": name for name in ("weights", "cache")}):
        return ["python", "-m", "clip", clip_commands[module], *words[1:]]
    program = [files[module]] if module in files else ["-m", module.removesuffix(".__main__")]
    return ["python", *program, *words[1:]]


def check_script(words: list[str], plugins: bool) -> None:
    from runs.sweeps.experiments import EXPERIMENTS, parse_args
    from runs.sweeps.flags import split_options

    script = REPOSITORY / words[0] if words[0].startswith("scripts/") else REPOSITORY / f"scripts/{words[0]}.sh"
    name = str(script.relative_to(REPOSITORY / "scripts").with_suffix(""))
    assert script.exists() and name in EXPERIMENTS, words
    words, options = split_options(words[1:], ())
    parse_args(name, words, options)
    check_keys(options, plugins)


def check_program(words: list[str], plugins: bool) -> None:
    program = max((p for p in PROGRAMS if words[: len(p.split())] == p.split()), key=len, default="")
    assert program, f"no such program: {' '.join(words)}"
    parser: argparse.ArgumentParser = import_module(PROGRAMS[program]).build_parser()
    arguments = words[len(program.split()):]
    options: list[str] = []
    if program.endswith("sweep.py"):
        from runs.sweeps.flags import split_options
        from runs.sweeps.sweep import ONE_VALUE

        arguments, options = split_options(arguments, ONE_VALUE)
    args = parser.parse_args(arguments)
    check_keys(getattr(args, "opts", None) or options, plugins)
    for path in (getattr(args, "config_file", ""), getattr(args, "dataset_config_file", "")):
        assert plugins or not path or (REPOSITORY / path).exists(), f"no such file: {path}"


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command in shell code: lines joined where they go on, comments left out."""
    for line in text.replace("\\\n", " ").splitlines():
        command: list[str] = []
        for word in shlex.split(line, comments=True):
            if word in ("&&", "|", ";"):
                yield command
                command = []
            else:
                command.append(word)
        if command:
            yield command


@documents
def test_code_has_a_language(document):
    assert {language for language, _ in FENCE.findall(document.read_text())} <= LANGUAGES


@documents
def test_command_lines_parse(document, monkeypatch, capsys):
    for language, code in FENCE.findall(document.read_text()):
        for words in commands(code) if language == "sh" else ():
            with monkeypatch.context() as patch:
                try:
                    check_command(list(words), patch)
                except SystemExit:
                    pytest.fail(f"{' '.join(words)}\n{capsys.readouterr().err}")


@documents
def test_programs_that_the_text_names_exist(document):
    page = (REPOSITORY / "docs" / "commands.md").read_text()
    for span in code_spans(document):
        words = span.split()
        if words[:2] in (["python", "-m"], ["python", "train.py"], ["python", "scripts/sweep.py"]):
            if words[2:3] == ["tests.conformance"]:
                continue
            program = next((p for p in PROGRAMS if words[: len(p.split())] == p.split()), "")
            assert program, span
            if program == "python -m results" and words[3:] and words[3] != "COMMAND":
                assert words[3] == "sweep" or f"\n### {program} {words[3]}\n" in page, span


@pytest.mark.parametrize("line", [
    "plot tabel output",
    "python -m results tabel output", "python -m results table output --formt csv", "python -m nothing", "make nothing",
    "python train.py --trainer PLOT TRAINER.PLOT.NN 4", "python train.py --config-file configs/trainers/PLOT/no.yaml",
    "bash scripts/plot/main.sh caltech101", "bash scripts/plot/no.sh caltech101 4", "pip install -e '.[nothing]'",
    "SEEDS=x bash scripts/plot/main.sh caltech101 4", "python scripts/sweep.py --root data",
    "python -m pytest tests/no.py",
])  # fmt: skip
def test_wrong_command_lines_are_noticed(line, monkeypatch):
    with pytest.raises((AssertionError, SystemExit)):
        check_command(next(commands(line)), monkeypatch)


@documents
def test_python_compiles(document):
    for language, code in FENCE.findall(document.read_text()):
        if language == "python":
            compile(code, document.name, "exec")


# --- pages that are made from the code --------------------------------------------------------------------


def test_pages_are_current():
    """In a process of its own: other tests register trainers, whose keys are no part of the page."""
    command = [sys.executable, "scripts/write_docs.py", "--check"]
    ran = warm.run(command, cwd=REPOSITORY)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_page_of_settings_has_every_key_of_the_engine():
    page = (REPOSITORY / "docs" / "settings.md").read_text()
    keys = flatten(get_cfg_default())
    assert [key for key in keys if f"`{key}`" not in page and f"`{key.rpartition('.')[0]}`" not in page] == []
