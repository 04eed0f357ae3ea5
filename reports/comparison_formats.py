"""A comparison -> str, the verdict first, in every format."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from reports import markdown, text
from reports.bench_tables import Section
from reports.cells import NONE, count, counts, number, several, share
from reports.comparison import Comparison, MetricVerdict, Shift, Side
from reports.layout import Fact, Table
from reports.metric_verdicts import amount_of

_UNITS = {"currency": "", "share": ""}


def headline(comparison: Comparison) -> str:
    """The verdict, and why, in a line."""
    if comparison.unfit is not None:
        return f"INVALID: {comparison.unfit}"
    return f"{comparison.verdict}: {comparison.words}"


def shown_value(verdict: MetricVerdict, value: float | None) -> str:
    """A run's value with its unit."""
    if value is None:
        return NONE
    if verdict.scale == "share":
        return share(value)
    return f"{number(value)} {_UNITS.get(verdict.unit, verdict.unit)}".rstrip()


def shown_change(verdict: MetricVerdict) -> str:
    """How NEW differs from BASE."""
    return NONE if verdict.change is None else amount_of(verdict.scale, verdict.change)


def shown_interval(verdict: MetricVerdict) -> str:
    """How much worse NEW is: from the lower to the upper bound."""
    if verdict.low is None or verdict.high is None:
        return NONE
    return f"{amount_of(verdict.scale, verdict.low)} to {amount_of(verdict.scale, verdict.high)}"


def judged_apart(comparison: Comparison) -> bool:
    """Whether each metric has a verdict, and words, of its own."""
    return comparison.unfit is None and all(one.declared for one in comparison.fingerprints)


def shown_dropped(comparison: Comparison) -> list[str]:
    """Which runs are in no verdict, and why."""
    return [
        f"{one.run}{f' (and with it pair {one.pair})' if one.pair else ''} is INVALID: {one.words}"
        for one in comparison.dropped
    ]


def shown_changes(shift: Shift) -> list[str]:
    """How NEW differs from BASE, percentile by percentile."""
    return [
        NONE if not b or n is None else amount_of("ratio", n / b - 1)
        for b, n in zip(shift.base, shift.new, strict=True)
    ]


def noise_table(comparison: Comparison) -> tuple[str, Table]:
    """Its title, and how far each metric goes from run to run; without rows where that is not known."""
    rows = [
        [
            name,
            count(found.runs),
            amount_of(found.scale, found.spread, sign=False),
            NONE if found.least is None else amount_of(found.scale, found.least, sign=False),
        ]
        for name, found in comparison.noise.items()
    ]
    more = f" and {several(len(comparison.noise_runs), 'stored run')}" if comparison.noise_runs else ""
    title = f"Noise from run to run, of BASE{more}"
    return title, Table(["metric", "runs", "spread", "six pairs show from"], rows)


def _table(comparison: Comparison) -> Table:
    rows = [
        [
            one.metric,
            one.verdict,
            shown_value(one, one.base),
            shown_value(one, one.new),
            shown_change(one),
            shown_interval(one),
            amount_of(one.scale, one.limit, sign=False),
        ]
        for one in comparison.verdicts
    ]
    return Table(["metric", "verdict", "BASE", "NEW", "change", "worse by", "allowed"], rows)


def _verdicts(comparison: Comparison) -> Section:
    judged = comparison.verdicts if judged_apart(comparison) else []  # else all the same, and said above
    words = [f"{one.metric}: {one.words}." for one in judged]
    words += [f"{name} is not judged: {why}." for name, why in comparison.not_measured.items()]
    return Section("Verdicts", tables=[(_table(comparison), 2)], bullets=words)


def shown_side(side: Side) -> str:
    """A side in a line: runs, requests, lengths, how answers ended."""
    tokens = "" if side.output_tokens_mean is None else f" · {side.output_tokens_mean:.1f} output tokens each"
    first, last = (side.runs[0], side.runs[-1]) if side.runs else ("none", "none")
    named = first if len(side.runs) < 2 else f"{first} ... {last}"
    reasons = f" · {counts(side.finish_reasons)}" if side.finish_reasons else ""
    return f"{several(len(side.runs), 'run')}: {named} · {several(side.requests, 'request')}{tokens}{reasons}"


def shown_method(comparison: Comparison) -> str:
    """What one observation is, and by which statistics they were judged."""
    methods = sorted({one.method for one in comparison.verdicts if one.method is not None})
    how = (
        f"{several(len(comparison.pairs), 'pair')} of runs" if comparison.paired else "runs that are no pairs"
    )
    return ", ".join([how, *methods, "a run's p50 (or share) is one observation"])


def _compared(comparison: Comparison) -> Section:
    facts: list[Fact] = [("BASE", shown_side(comparison.base)), ("NEW", shown_side(comparison.new))]
    facts.append(("method", shown_method(comparison)))
    if comparison.verdicts and any(one.low is not None for one in comparison.verdicts):
        facts.append(
            ("worse by", "from the one-sided 97.5 % lower to the one-sided 95 % upper bound; + is worse")
        )
    return Section("Compared", facts)


def _differences(comparison: Comparison) -> list[Section]:
    out = []
    for title, declared in (("Differs, and nobody declared it", False), ("Under test", True)):
        found = [one for one in comparison.fingerprints if one.declared is declared]
        if found:
            rows = [[one.field, one.part, one.base, one.new] for one in found]
            out.append(Section(title, tables=[(Table(["field", "part", "BASE", "NEW"], rows), 4)]))
    return out


def _dropped(comparison: Comparison) -> list[Section]:
    steps = dict.fromkeys(step for one in comparison.dropped for step in one.next_steps)
    bullets = [*shown_dropped(comparison), *steps]
    return [Section("Left out", bullets=bullets)] if comparison.dropped else []


def _noise(comparison: Comparison) -> list[Section]:
    title, table = noise_table(comparison)
    return [Section(title, tables=[(table, 1)])] if table.rows else []


def _shift(shift: Shift) -> list[list[str]]:
    return [
        [shift.metric, "BASE", *map(number, shift.base)],
        ["", "NEW", *map(number, shift.new)],
        ["", "change", *(change.replace(" ", "") for change in shown_changes(shift))],
    ]


def _shifts(comparison: Comparison) -> list[Section]:
    if not comparison.shifts:
        return []
    header = ["", "", *(f"p{p}" for p in comparison.shifts[0].percentiles)]
    rows = [row for shift in comparison.shifts for row in _shift(shift)]
    return [
        Section("The whole distribution (ms, tokens; shown, not judged)", tables=[(Table(header, rows), 2)])
    ]


_ANSWERS_SHOWN = 5


def _answers(comparison: Comparison) -> list[Section]:
    """Prompts whose answers held before and do not now, both answers side by side."""
    changes = comparison.answers
    if changes is None or not changes.both:
        return []
    facts = [
        ("judged", f"{several(changes.both, 'prompt')} on both sides (last run of each)"),
        ("broke", f"{changes.broke:,} held before and do not now"),
        ("mended", f"{changes.mended:,} did not hold before and do now"),
    ]
    bullets = []
    for one in changes.shown[:_ANSWERS_SHOWN]:
        why = "; ".join(one.failures.values())
        before, now = ("not kept" if said is None else repr(said) for said in (one.before, one.now))
        bullets.append(f"row {one.index}: {why}. Before: {before}. Now: {now}.")
    return [Section("Answers (shown, not judged)", facts, bullets=bullets)]


def _cautions(comparison: Comparison) -> list[Section]:
    return [Section("Warnings", bullets=comparison.warnings)] if comparison.warnings else []


def _sections(comparison: Comparison) -> list[Section]:
    return [
        _verdicts(comparison),
        *_differences(comparison),
        *_dropped(comparison),
        *_answers(comparison),
        *_cautions(comparison),
        _compared(comparison),
        *_noise(comparison),
        *_shifts(comparison),
    ]


def to_text(comparison: Comparison) -> str:
    """For a terminal."""
    lines = text.paragraph(headline(comparison))
    return "\n".join([*lines, "", *text.section_lines(_sections(comparison))]).rstrip() + "\n"


def to_markdown(comparison: Comparison) -> str:
    """GitHub-flavoured Markdown: fits a step summary, or a comment."""
    lines = markdown.section_lines(_sections(comparison))
    return "\n".join([f"## {markdown.escape(headline(comparison))}", "", *lines]).rstrip() + "\n"


def to_json(comparison: Comparison) -> str:
    """All of it."""
    text = msgspec.json.format(msgspec.json.encode(comparison), indent=2).decode() + "\n"
    # The same to who decodes it; in a CI system's log, `##[error]` of an answer would be a command.
    return text.replace("##", "#\\u0023")


RENDERERS: dict[str, Callable[[Comparison], str]] = {
    "text": to_text,
    "json": to_json,
    "markdown": to_markdown,
}
