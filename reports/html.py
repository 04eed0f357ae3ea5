"""A run as one HTML file; several side by side, and never pooled."""

from __future__ import annotations

from pathlib import Path

from reports import bench_tables
from reports.answers import request_parts
from reports.bench_tables import compared, headline
from reports.cells import duration, several
from reports.columns import Columns, observe
from reports.curves import overlay
from reports.figures import charts
from reports.html_tables import grid, latency_table, second_reading, threshold_table, tiles
from reports.layout import names
from reports.notes import next_steps, notes, verdict, wall_s
from reports.page import (
    Absent,
    Bullets,
    Cell,
    Chart,
    Column,
    Facts,
    Mark,
    Page,
    Paragraph,
    Part,
    Section,
    Table,
    Tiles,
    Tone,
    Verdict,
)
from reports.page import render as render_page
from reports.summary import Summary
from reports.tables import absent, endpoints, origin, outcome, sessions, side_by_side

Observed = tuple[Summary, Columns]

# Heading, key, charts.
_CHARTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Latency", "latency-charts", ("percentiles", "ecdf", "latency")),
    ("Load and throughput", "load", ("in_flight", "throughput")),
    ("Where the time goes", "time", ("prompt_length", "slowest")),
    ("What went wrong", "wrong", ("errors",)),
    ("The client and the server", "machines", ("late_sends", "loop_lag", "server")),
)


def render(summaries: list[Summary]) -> str:
    """The page of one run, or of several side by side. Reads their journals again, for the charts.

    Raises:
        StoreError: a run cannot be read.
    """
    return page_of([observe(summary.path) for summary in summaries])


def page_of(observed: list[Observed]) -> str:
    """The page of runs that were read already."""
    if not observed:
        return render_page(Page("Streamgauge report", Verdict("No runs", "No run was named.", "neutral")))
    return render_page(_one(*observed[0]) if len(observed) == 1 else _several(observed))


def _one(summary: Summary, columns: Columns) -> Page:
    return Page(
        title=f"Streamgauge report: {_name(summary)}",
        verdict=judged(summary),
        beside_verdict=_beside(summary),
        facts=_facts(summary, columns),
        sections=[_numbers(summary), *_chart_sections(summary, columns), *_rest(summary, columns)],
    )


def _name(summary: Summary) -> str:
    return Path(summary.path).resolve().name


def judged(summary: Summary) -> Verdict:
    """Whether the run is fit to be quoted, in a word and a sentence."""
    if summary.bench is None:
        return _dataset_verdict(summary)
    line, reasons = headline(summary)
    level = summary.bench.validity.level
    found = [one.verdict for one in summary.bench.verdicts]
    labels = [f"{label.name}: {label.words}" for label in summary.bench.labels]
    tone: Tone
    unstable = any(label.name == "UNSTABLE" for label in summary.bench.labels)
    sentence = f"{line[0].upper()}{line[1:]}. {_capital(verdict(summary))}."
    if level == "INVALID":
        word, tone = "INVALID: not to be quoted", "bad"
    elif "FAIL" in found:
        word, tone = f"FAIL: {found.count('FAIL')} of {several(len(found), 'threshold')} broken", "bad"
    elif unstable:
        word, tone = "UNSTABLE: not to be quoted", "warn"
    elif "INCONCLUSIVE" in found:
        undecided = f"{found.count('INCONCLUSIVE')} of {several(len(found), 'threshold')}"
        word, tone = f"INCONCLUSIVE: {undecided} not decided", "warn"
    elif level == "WARN":
        word, tone = "WARN: to be quoted with care", "warn"
    else:
        word, tone = "OK: fit to be quoted", "good"
    return Verdict(word, sentence, tone, [*reasons, *labels])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _dataset_verdict(summary: Summary) -> Verdict:
    requests = summary.requests
    due = requests.expected if requests.expected is not None else requests.total
    tone: Tone
    if not summary.journal.ids:
        word, tone = "No records yet", "warn"
    elif not requests.answered:
        word, tone = "Nothing was answered", "bad"
    elif requests.answered < due:
        word, tone = f"{due - requests.answered:,} of {several(due, 'request')} without an answer", "warn"
    else:
        word, tone = "Complete: every request was answered", "good"
    reasons = [_capital(step) for step in next_steps(summary)]
    if summary.journal.ids:
        reasons.append(
            "Times are those of a dataset run: nothing was judged about the client. Quote times of a `bench`."
        )
    return Verdict(word, f"{_capital(verdict(summary))}.", tone, reasons)


def _beside(summary: Summary) -> list[Part]:
    bench = summary.bench
    if bench is None or not bench.verdicts:
        return []
    beside = [f"{one.threshold}: {warning}" for one in bench.verdicts for warning in one.warnings]
    return [threshold_table(bench.verdicts), *([Bullets(beside)] if beside else [])]


def _facts(summary: Summary, columns: Columns) -> list[tuple[str, str]]:
    out, known = origin(summary), columns.manifest.sessions
    if known:
        took = wall_s(summary)
        how = f"{known[0].started}" + (f", for {duration(took)}" if took is not None else "")
        out.append(("when", how + (f", in {len(known)} sessions" if len(known) > 1 else "")))
        versions = {f"{name} {version}" for one in known for name, version in one.versions.items()}
        if versions:
            out.append(("versions", ", ".join(sorted(versions))))
        out.append(("host", ", ".join(sorted({one.host for one in known}))))
    if columns.manifest.seed is not None:
        out.append(("seed", str(columns.manifest.seed)))
    return out


def _numbers(summary: Summary) -> Section:
    parts: list[Part] = []
    if shown := tiles(summary):
        parts.append(Tiles(shown))
    times = latency_table(summary)
    if times.rows:
        parts.append(times)
        if (second := second_reading(summary)) is not None:
            parts.append(second)
        if missing := absent(summary):
            parts.append(Paragraph(f"No values: {', '.join(missing)}.", soft=True))
    else:
        parts.append(Paragraph("No streamed answer came to its end, so there are no times."))
    if summary.journal.ids:
        parts.append(Facts(_spaced(outcome(summary)), "Requests"))
    for section in bench_tables.below(summary):
        for table, text_columns in section.tables:
            parts.append(grid(section.title, table, text_columns=text_columns))
        if section.facts:
            parts.append(Facts(_spaced(section.facts), "" if section.tables else section.title))
        if section.bullets:
            parts.append(Bullets(section.bullets, section.title))
    if (by_endpoint := endpoints(summary)).rows:
        parts.append(grid("Endpoints", by_endpoint))
    if summary.sessions and (summary.bench is None or len(summary.sessions) > 1):
        parts.append(grid("Sessions", sessions(summary), text_columns=2))
    return Section("The numbers", "numbers", parts)


def _spaced(facts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """A terminal's two blanks, as a browser shows them."""
    return [(name, value.replace("  (", " (").replace("  ", " · ")) for name, value in facts]


def _chart_sections(summary: Summary, columns: Columns) -> list[Section]:
    if not len(columns):
        return []
    drawn, out = charts(summary, columns), []
    for heading, key, wanted in _CHARTS:
        found = [drawn[name] for name in wanted]
        parts: list[Part] = [part for part in found if isinstance(part, Chart)]
        why = [f"{part.title}: {part.why}" for part in found if isinstance(part, Absent)]
        parts += [Bullets(why)] if why else []
        out.append(Section(heading, key, parts))
    return out


def _rest(summary: Summary, columns: Columns) -> list[Section]:
    out = [Section("The slowest and the failed requests", "requests", request_parts(summary, columns))]
    if not len(columns):
        out = []
    told = [*notes(summary), *(next_steps(summary) if summary.bench is not None else [])]
    if told:
        out.append(Section("Notes", "notes", [Bullets(told)]))
    return out


def _several(observed: list[Observed]) -> Page:
    summaries = [summary for summary, _ in observed]
    labels = names(summaries)
    verdicts = [judged(summary) for summary in summaries]
    runs = [(label, *one) for label, one in zip(labels, observed, strict=True)]
    overlays = [overlay(name, runs) for name in ("ttft", "ttft_sched", "itl", "e2e")]
    drawn: list[Part] = [part for part in overlays if isinstance(part, Chart)]
    why = [f"{part.title}: {part.why}" for part in overlays if isinstance(part, Absent)]
    tables = [
        grid(caption, table)
        for caption, table in (
            ("What runs are compared by", compared(summaries)),
            ("Counts and times", side_by_side(summaries)),
        )
        if table.rows
    ]
    noted = [f"{label}: {note}" for label, one in zip(labels, summaries, strict=True) for note in notes(one)]
    return Page(
        title=f"Streamgauge report: {several(len(observed), 'run')} side by side",
        verdict=Verdict(
            "Side by side, not compared",
            "Nothing is pooled, and no difference is judged: `streamgauge compare` does that.",
            "neutral",
        ),
        sections=[
            Section("The runs", "runs", [_verdict_table(labels, verdicts)]),
            Section("The numbers", "numbers", list(tables)),
            Section("Latency", "latency-charts", [*drawn, *([Bullets(why)] if why else [])]),
            *([Section("Notes", "notes", [Bullets(noted)])] if noted else []),
        ],
    )


def _verdict_table(labels: list[str], verdicts: list[Verdict]) -> Table:
    rows: list[list[Cell]] = [
        [label, Mark(one.word, one.tone), one.sentence] for label, one in zip(labels, verdicts, strict=True)
    ]
    columns = [
        Column("run", align="left"),
        Column("verdict", align="left"),
        Column("in a line", align="long"),
    ]
    return Table("Each run by itself", columns, rows)
