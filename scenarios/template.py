"""Prompts rendered from columns: Jinja, strict about names, nothing escaped.

text = load_template("prompt.j2")                  # or "Translate: {{ text }}", or "@prompt.j2"
render = compile_template(text)
render({"text": "good morning"})                   # RowError names a column that is missing
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scenarios.formats import RowError
from scenarios.source import PromptError

Render = Callable[[Mapping[str, Any]], str]

_MARKS = ("{{", "{%", "{#")
_UNDEFINED = re.compile(r"'(?P<name>.+)' is undefined")


def load_template(text_or_path: str) -> str:
    """Return a template's text: what is given, where it holds a Jinja mark, else the file of that name.

    `@path` is always a file. The template is compiled once, so that a mistake in it shows here.
    """
    inline = not text_or_path.startswith("@") and any(mark in text_or_path for mark in _MARKS)
    name = None if inline else text_or_path.removeprefix("@")
    text = text_or_path if name is None else _read(name)
    compile_template(text, name or "template")
    return text


def compile_template(text: str, name: str = "template") -> Render:
    """Return a function from a row's columns to its prompt."""
    import jinja2  # only a run with a template pays for it

    environment = jinja2.Environment(
        autoescape=False,  # noqa: S701 (a prompt is no HTML page: `<` has to stay `<`)
        undefined=jinja2.StrictUndefined,
    )
    # Jinja's own tojson escapes for HTML, which would change the prompt.
    environment.filters["tojson"] = _to_json
    try:
        template = environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        raise PromptError(
            f"the template does not compile: {error.message}", file=name, line=error.lineno, hint="mend it"
        ) from error

    def render(columns: Mapping[str, Any]) -> str:
        try:
            return template.render(columns)
        except jinja2.UndefinedError as error:
            raise _missing(str(error), columns) from error
        except Exception as error:  # a template is code: it can raise anything
            raise RowError(f"the template fails: {type(error).__name__}: {error}") from error

    return render


def _read(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PromptError(
            f"the template file cannot be read: {error.strerror or error}",
            file=name,
            hint="give the path of a file, or the template itself, which has {{ }} in it",
        ) from error
    except UnicodeDecodeError as error:
        raise PromptError("the template is not UTF-8", file=name, hint="save it as UTF-8") from error


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _missing(message: str, columns: Mapping[str, Any]) -> RowError:
    match = _UNDEFINED.fullmatch(message)
    if match is None:  # a part of a column: {{ meta.author }}
        return RowError(f"the template fails: {message}")
    name = match["name"]
    return RowError(f"column {name!r} is missing (the row has {list_names(columns)})", missing=name)


def list_names(columns: Mapping[str, Any], most: int = 12) -> str:
    """Return column names for a message, cut where there are many."""
    names = list(columns)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + rest) or "no columns"
