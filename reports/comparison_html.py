"""compare.html: a comparison as one page. The verdict, why it can be believed, and then the pictures."""

from __future__ import annotations

from collections.abc import Iterator

from reports.cells import NONE, count, number, several, share
from reports.compare import Compared
from reports.comparison import Comparison, MetricVerdict, Shift, Side
from reports.comparison_charts import distribution, effects, run_by_run
from reports.comparison_formats import (
    judged_apart,
    noise_table,
    shown_change,
    shown_changes,
    shown_dropped,
    shown_interval,
    shown_method,
    shown_side,
    shown_value,
)
from reports.expect_changes import Change
from reports.html_tables import grid
from reports.layout import cut
from reports.metric_verdicts import amount_of
from reports.page import (
    Bullets,
    Cell,
    Column,
    Disclosure,
    Facts,
    Mark,
    Page,
    Paragraph,
    Part,
    Section,
    Table,
    Tone,
    Verdict,
    render,
)

FILE = "compare.html"
_SUMMARY = 70  # characters of why an answer does not hold, while it is folded up
_TONES: dict[str, Tone] = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "warn", "INVALID": "bad"}


def to_html(compared: Compared, name: str = "compare") -> str:
    """The page.

    Args:
        compared: what was found, and the runs it was found in.
        name: of the command, for the title.
    """
    return render(page_of(compared, name))


def page_of(compared: Compared, name: str = "compare") -> Page:
    """The page, not written out yet."""
    found = compared.comparison
    sections = [
        _compared(found),
        _by_metric(found),
        _run_by_run(compared),
        _distributions(compared),
        _endings(found),
        _answers(found),
    ]
    return Page(
        title=_title(found, name),
        verdict=_verdict(found),
        beside_verdict=_cautions(found),
        sections=[section for section in sections if section.parts],
    )


def _title(found: Comparison, name: str) -> str:
    """NEW against BASE: by their models, where those differ, else by their first runs."""
    model = next((one for one in found.fingerprints if one.field == "target.model"), None)
    if model is not None:
        base, new = model.base, model.new
    else:
        base, new = (_named(side) for side in (found.base, found.new))
    return f"{name}: {new} (NEW) against {base} (BASE)"


def _named(side: Side) -> str:
    if not side.runs:
        return "no run"
    return side.runs[0] + (f" and {len(side.runs) - 1:,} more" if len(side.runs) > 1 else "")


def _verdict(found: Comparison) -> Verdict:
    if found.unfit is not None:
        return Verdict("INVALID", _sentence(found.unfit), "bad")
    judged = found.verdicts if judged_apart(found) else []
    reasons = [f"{one.metric}: {one.words}." for one in judged if one.verdict == found.verdict]
    return Verdict(found.verdict, _sentence(found.words), _TONES[found.verdict], reasons)


def _sentence(words: str) -> str:
    return words.rstrip(".") + "."


def _cautions(found: Comparison) -> list[Part]:
    parts: list[Part] = [*_differences(found, declared=False)]
    if found.dropped:
        left_out = Paragraph("Left out, because the client was not fit to measure:")
        parts += [left_out, Bullets(shown_dropped(found))]
    if found.warnings:
        parts += [Paragraph("To keep in mind:"), Bullets(found.warnings)]
    return parts


def _differences(found: Comparison, *, declared: bool) -> Iterator[Table]:
    rows: list[list[Cell]] = [
        [one.field, one.part, one.base, one.new] for one in found.fingerprints if one.declared is declared
    ]
    if rows:
        caption = "Under test: what the sides differ in" if declared else "Differs, and nobody declared it"
        columns = [
            Column("field", align="left"),
            Column("part", align="left"),
            Column("BASE", align="long"),
            Column("NEW", align="long"),
        ]
        yield Table(caption, columns, rows)


def _compared(found: Comparison) -> Section:
    facts = [
        ("BASE", shown_side(found.base)),
        ("NEW", shown_side(found.new)),
        ("method", shown_method(found)),
    ]
    return Section("What was compared", "compared", [Facts(facts), *_differences(found, declared=True)])


def _by_metric(found: Comparison) -> Section:
    if not found.verdicts:
        return Section("By metric", "metrics", [])
    # What decided stands with the verdict already.
    others = [one for one in found.verdicts if one.verdict != found.verdict] if judged_apart(found) else []
    words = [f"{one.metric}: {one.words}." for one in others]
    words += [f"{name} is not judged: {why}." for name, why in found.not_measured.items()]
    parts: list[Part] = [_verdicts(found), *([Bullets(words)] if words else []), effects(found.verdicts)]
    title, noise = noise_table(found)
    return Section("By metric", "metrics", [*parts, *([grid(title, noise)] if noise.rows else [])])


def _verdicts(found: Comparison) -> Table:
    unit = "pairs" if found.paired else "runs"
    columns = [
        Column("metric", align="left"),
        Column("verdict", align="left"),
        Column("BASE"),
        Column("NEW"),
        Column("change"),
        Column("worse by"),
        Column("allowed"),
        Column(unit),
        Column("more"),
    ]
    rows = [_verdict_row(one) for one in found.verdicts]
    note = (
        "A run's p50 (or share) is one observation. Worse by runs from the one-sided 97.5 % lower to the "
        f"one-sided 95 % upper bound; + is worse. More: {unit} that would settle it."
    )
    return Table("Verdict by metric", columns, rows, note)


def _verdict_row(one: MetricVerdict) -> list[Cell]:
    measured = f"{one.pairs:,}" if one.pairs is not None else _of_both(one.base_runs, one.new_runs)
    return [
        one.metric,
        Mark(one.verdict, _TONES[one.verdict]),
        shown_value(one, one.base),
        shown_value(one, one.new),
        shown_change(one),
        _interval(one),
        amount_of(one.scale, one.limit, sign=False),
        measured,
        NONE if one.more is None else f"about {one.more:,}",
    ]


def _interval(one: MetricVerdict) -> str:
    """The interval, its unit once."""
    low, _, high = shown_interval(one).partition(" to ")
    unit = high.partition(" ")[2]
    return f"{low.removesuffix(unit).rstrip()} to {high}" if unit else low


def _of_both(base: int, new: int) -> str:
    return f"{base:,} + {new:,}"


def _run_by_run(compared: Compared) -> Section:
    return Section("Run by run", "runs", [*run_by_run(compared)])


def _distributions(compared: Compared) -> Section:
    found = compared.comparison
    drawn = [distribution(compared, shift) for shift in found.shifts if shift.unit == "ms"]
    tables = [_shift(shift) for shift in found.shifts]
    if not tables:
        return Section("Whole distributions", "distributions", [])
    said = Paragraph(
        "Of all requests, shown and not judged: a tail that grew, or a second hump, is seen here."
    )
    return Section("Whole distributions", "distributions", [said, *drawn, *tables])


def _shift(shift: Shift) -> Table:
    columns = [Column("side", align="left"), *(Column(f"p{p}") for p in shift.percentiles)]
    rows: list[list[Cell]] = [
        ["BASE", *map(number, shift.base)],
        ["NEW", *map(number, shift.new)],
        ["change", *shown_changes(shift)],
    ]
    caption = f"{shift.metric} in {shift.unit}, by decile (n = {shift.base_n:,} and {shift.new_n:,})"
    return Table(caption, columns, rows)


def _endings(found: Comparison) -> Section:
    sides = (found.base, found.new)
    reasons = dict.fromkeys(reason for side in sides for reason in side.finish_reasons)
    columns = [Column("", align="left"), Column("BASE"), Column("NEW")]
    rows: list[list[Cell]] = [["requests", *(count(side.requests) for side in sides)]]
    for reason in reasons:
        counts = (side.finish_reasons.get(reason, 0) for side in sides)
        rows.append(
            [
                f"ended by {reason}",
                *(_counted(n, side.requests) for n, side in zip(counts, sides, strict=True)),
            ]
        )
    open_ends = [side.requests - sum(side.finish_reasons.values()) for side in sides]
    if any(open_ends):
        cells = (_counted(n, side.requests) for n, side in zip(open_ends, sides, strict=True))
        rows.append(["no end told, or failed", *cells])
    means = [side.output_tokens_mean for side in sides]
    rows.append(["output tokens, mean", *(NONE if mean is None else f"{mean:.1f}" for mean in means)])
    return Section(
        "How answers ended",
        "endings",
        [Table("Answers: how they ended, and how long they were", columns, rows)],
    )


def _counted(n: int, of: int) -> str:
    return f"{n:,} ({share(n / of)})" if of else count(n)


def _answers(found: Comparison) -> Section:
    changes = found.answers
    heading = "Answers that changed"
    if changes is None or not changes.both:
        return Section(heading, "answers", [])
    told = (
        f"Of {several(changes.both, 'prompt')} judged on both sides (last run of each), {changes.broke:,} "
        f"had the expected answer before and have not now, and {changes.mended:,} the other way round. "
        "Shown, not judged."
    )
    parts: list[Part] = [Paragraph(told), *(_change(one, n) for n, one in enumerate(changes.shown))]
    if len(changes.shown) < changes.broke:
        parts.append(Paragraph(f"The first {len(changes.shown)} of {changes.broke:,} are shown.", soft=True))
    return Section(heading, "answers", parts)


def _change(one: Change, n: int) -> Disclosure:
    why = "; ".join(one.failures.values())
    texts = [
        (side, "(not kept)" if said is None else said)
        for side, said in (("BASE", one.before), ("NEW", one.now))
    ]
    facts = [
        ("does not hold", why),
        ("answers that held", f"BASE {one.before_n} of {one.before_n} · NEW {one.now_passed} of {one.now_n}"),
    ]
    return Disclosure(
        f"answer-{n}", f"row {one.index}: {cut(why, _SUMMARY)}", facts, texts, side_by_side=True
    )
