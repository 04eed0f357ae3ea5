"""What every command that judges does with its verdicts: files for CI systems, annotations."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runner.commands.options import say, stop

if TYPE_CHECKING:
    from reports.compare import Compared
    from reports.comparison import Comparison
    from reports.verdicts import Sheet
    from runner.store import Manifest

F = TypeVar("F", bound=Callable[..., Any])


def verdict_files(command: F) -> F:
    """Add `--junit` and `--markdown`."""
    for option in reversed(
        [
            click.option(
                "--junit",
                type=click.Path(path_type=Path, dir_okay=False),
                metavar="FILE",
                help="Write the verdicts as JUnit XML as well.",
            ),
            click.option(
                "--markdown",
                type=click.Path(path_type=Path, dir_okay=False),
                metavar="FILE",
                help="Write them as Markdown as well, for a comment or a step summary.",
            ),
        ]
    ):
        command = option(command)
    return command


def inconclusive(what: str) -> Callable[[F], F]:
    """Add `--on-inconclusive`."""
    return click.option(
        "--on-inconclusive",
        type=click.Choice(["fail", "pass"]),
        help=f"What {what} counts as, where it shall not have an exit code of its own (98).",
    )


def check_files(given: dict[str, Any]) -> None:
    """Usage error for files that could not be written once there are verdicts; found before the work.

    Raises:
        StoreError: one of them is part of a run.
    """
    from reports.files import refuse_own

    for name in ("junit", "markdown", "html"):
        path = given.get(name)
        if not isinstance(path, Path):  # not given; of some commands, --html is a flag
            continue
        refuse_own(path)
        folder = Path(os.path.realpath(path)).parent
        if not folder.is_dir():
            raise click.UsageError(f"--{name} {path}: there is no folder {folder}: make it, or name another")
        if not os.access(folder, os.W_OK):
            raise click.UsageError(f"--{name} {path}: the folder {folder} cannot be written in: name another")


def write_files(sheets: list[Sheet], given: dict[str, Any], *, below: str = "") -> None:
    """Write the files that were asked for, and annotations where this runs in a GitHub workflow.

    Args:
        sheets: the verdicts.
        given: the command's options: junit, markdown, on_inconclusive.
        below: further Markdown, under the verdicts.
    """
    from reports.verdicts import to_markdown

    try:
        put_files(sheets, to_markdown(sheets) + (f"\n{below}" if below else ""), given)
    except OSError as exc:
        stop(f"cannot write {exc.filename}: {exc.strerror or exc}", 1)


def put_comparison(found: Comparison, command: str, given: dict[str, Any]) -> None:
    """The same of a comparison.

    Args:
        found: what was found.
        command: that found it, for titles.
        given: the command's options: junit, markdown, on_inconclusive.

    Raises:
        OSError: a file cannot be written; it is named.
    """
    from reports.comparison_formats import RENDERERS
    from reports.comparison_sheet import sheet_of

    put_files([sheet_of(found, command)], RENDERERS["markdown"](found), given)


def put_page(found: Compared, command: str, path: Path) -> None:
    """A comparison as a page; where it is, is said.

    Args:
        found: what was compared.
        command: that compared it, for the title.
        path: of the file.

    Raises:
        OSError: it cannot be written; it is named.
    """
    from reports.comparison_html import to_html
    from runner.commands.report import write_file

    try:
        write_file(path, to_html(found, command))
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror or str(exc), str(path)) from None
    say(f"page: {path}")


def put_files(sheets: list[Sheet], markdown: str, given: dict[str, Any]) -> None:
    """Files that were asked for, and annotations; `markdown` is the text of one of them.

    Raises:
        OSError: a file cannot be written; it is named.
    """
    from reports.annotations import to_annotations, wanted
    from reports.junit import to_junit
    from runner.commands.report import write_file

    on_inconclusive = given["on_inconclusive"]
    if wanted(os.environ):
        # Runners read both streams; results that are piped somewhere stay what they are.
        for line in to_annotations(sheets, on_inconclusive):
            say(line)
    for name, text in (("junit", to_junit(sheets, on_inconclusive)), ("markdown", markdown)):
        if given[name] is not None:
            try:
                write_file(given[name], text)
            except OSError as exc:
                raise OSError(exc.errno, exc.strerror or str(exc), str(given[name])) from None


def expects_something(manifest: Manifest) -> bool:
    """Whether rows of the run's prompt file say what they expect of their answers."""
    return manifest.prompts is not None and manifest.prompts.expects > 0
