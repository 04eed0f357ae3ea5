"""Imports point upstream: scenarios <- runner <- reports. Read from the source, so that none can hide."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("scenarios", "runner", "reports")
HEAVY = ("aiohttp", "uvloop", "jinja2", "pandas", "scipy", "plotly", "numpy", "ray")
# `scenarios.units` reads durations, `scenarios.expect` a column, and nothing else.
REPORTS_MAY = {"runner.record", "runner.store", "scenarios.expect", "scenarios.thresholds", "scenarios.units"}


def files(*places: str) -> list[Path]:
    found = [path for place in places for path in sorted((ROOT / place).rglob("*.py"))]
    assert found
    return found


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def called(node: ast.Call) -> str:
    """The last name of what is called."""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


class Import:
    """One name that a module imports."""

    def __init__(self, module: str, place: str, when: str) -> None:
        self.module = module
        self.place = place
        self.when = when  # "load", "call", "types"

    def __str__(self) -> str:
        return f"{self.place} imports {self.module}"

    def within(self, *modules: str) -> bool:
        return any(self.module == name or self.module.startswith(name + ".") for name in modules)


@cache  # the tests ask of the same files again and again
def imports(path: Path) -> tuple[Import, ...]:
    """Every import of a file, those inside functions and of types included."""

    def walk(node: ast.AST, when: str) -> Iterator[Import]:
        place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, place, when)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place}: relative import"
            assert node.module is not None
            for alias in node.names:
                # `from runner import store` is an import of runner.store where that is a module.
                inner = ROOT / Path(*node.module.split("."), alias.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").exists()
                yield Import(f"{node.module}.{alias.name}" if is_module else node.module, place, when)
        elif isinstance(node, ast.Call) and called(node) in {"import_module", "__import__"}:
            text = node.args[0]
            if isinstance(text, ast.Constant):
                yield Import(str(text.value), place, when)
            elif isinstance(text, ast.JoinedStr):
                yield Import(ast.unparse(text)[2:].partition(".{")[0], place, when)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            when = "call"
        for child in ast.iter_child_nodes(node):
            inner_when = "types" if is_type_checking(node) and child in getattr(node, "body", []) else when
            yield from walk(child, inner_when)

    return tuple(walk(ast.parse(path.read_text(encoding="utf-8")), "load"))


def wrong(paths: list[Path], allowed: Callable[[Import], bool]) -> list[str]:
    """Imports of ours that are not allowed."""
    ours = (found for path in paths for found in imports(path) if found.within(*PACKAGES, "streamgauge"))
    return [str(found) for found in ours if not allowed(found)]


def test_scenarios_know_nobody() -> None:
    assert wrong(files("scenarios"), lambda i: i.within("scenarios")) == []


def test_the_mock_knows_nobody() -> None:
    assert wrong(files("runner/mock"), lambda i: i.within("runner.mock")) == []


def test_the_runner_knows_scenarios() -> None:
    door = {ROOT / "runner" / "cli.py", *files("runner/commands")}
    inside = [path for path in files("runner") if path not in door]
    assert wrong(inside, lambda i: i.within("runner", "scenarios")) == []


def test_the_runner_does_not_know_its_commands() -> None:
    door = {ROOT / "runner" / "cli.py", *files("runner/commands")}
    inside = [path for path in files("runner") if path not in door]
    assert wrong(inside, lambda i: not i.within("runner.cli", "runner.commands")) == []


def test_the_engine_does_not_know_the_mock() -> None:
    door = {ROOT / "runner" / "commands" / "mock.py", *files("runner/mock")}
    # What measures this machine does so against the mock, and nobody but the commands knows what measures.
    ruler = {ROOT / "runner" / f"{name}.py" for name in ("accuracy", "calibrate", "ruler")}
    engine = [path for path in files("runner") if path not in door | ruler]
    assert wrong(engine, lambda i: not i.within("runner.mock")) == []
    rulers = ("runner.accuracy", "runner.calibrate", "runner.ruler")
    others = [path for path in engine if path.parent.name != "commands"]
    assert wrong(others, lambda i: not i.within(*rulers)) == []


def test_reports_know_records_and_thresholds() -> None:
    assert wrong(files("reports"), lambda i: i.within("reports") or i.module in REPORTS_MAY) == []


def test_only_commands_and_the_public_module_know_reports() -> None:
    door = {ROOT / "runner" / "cli.py", *files("runner/commands")}
    others = [path for path in files("scenarios", "runner") if path not in door]
    assert wrong(others, lambda i: not i.within("reports")) == []


def test_commands_import_reports_when_they_are_called() -> None:
    doors = [ROOT / "runner" / "cli.py", *files("runner/commands")]
    assert wrong(doors, lambda i: not i.within("reports") or i.when != "load") == []


def test_nobody_imports_the_public_module() -> None:
    assert wrong(files(*PACKAGES), lambda i: not i.within("streamgauge")) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_package_files_stay_empty(package: str) -> None:
    found = [path for path in files(package) if path.name == "__init__.py"]
    assert [str(path) for path in found if path.read_bytes()] == []


def test_an_arrow_that_points_the_wrong_way_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test itself, tested."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    for package in PACKAGES:
        (tmp_path / package).mkdir()
    (tmp_path / "runner" / "engine.py").touch()
    (tmp_path / "scenarios" / "bad.py").write_text(
        "import os, runner.engine\n"
        "from runner import engine as e\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from reports.text import render\n"
        "def f():\n    import streamgauge\n    importlib.import_module('runner')\n"
        "    importlib.import_module(f'reports.{x}')\n"
    )
    assert [(i.module, i.when) for i in imports(tmp_path / "scenarios" / "bad.py")] == [
        ("os", "load"),
        ("runner.engine", "load"),
        ("runner.engine", "load"),
        ("typing", "load"),
        ("reports.text", "types"),
        ("streamgauge", "call"),
        ("runner", "call"),
        ("reports", "call"),
    ]
    assert wrong(files("scenarios"), lambda i: i.within("scenarios")) == [
        "scenarios/bad.py:1 imports runner.engine",
        "scenarios/bad.py:2 imports runner.engine",
        "scenarios/bad.py:5 imports reports.text",
        "scenarios/bad.py:7 imports streamgauge",
        "scenarios/bad.py:8 imports runner",
        "scenarios/bad.py:9 imports reports",
    ]


def loaded(*arguments: str) -> set[str]:
    """Heavy modules (and all of ours) that are there after this command line."""
    code = (
        "import sys; from runner.cli import main\n"
        f"sys.argv = ['streamgauge', *{list(arguments)!r}]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return {*HEAVY, *PACKAGES, "asyncio", "msgspec", "tqdm"} & set(result.stderr.split())


def test_help_imports_nothing_heavy() -> None:
    assert loaded("--help") == {"runner"}
    assert loaded("--version") == {"runner"}


@pytest.mark.parametrize(
    "command",
    ["run", "export", "report", "check", "status", "compare", "ab", "sweep", "probe", "scenarios", "mock"],
)
def test_help_of_a_command_imports_nothing_heavy(command: str) -> None:
    assert loaded(command, "--help") == {"runner"}
