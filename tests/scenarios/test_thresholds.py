"""The grammar of thresholds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.record import ErrorKind
from scenarios.thresholds import (
    ERROR_KINDS,
    METRICS,
    SELECTABLE,
    SLO_METRICS,
    Threshold,
    ThresholdError,
    parse,
    parse_all,
    parse_line,
    parse_name,
    with_defaults,
)


@pytest.mark.parametrize(
    ("metric", "text", "agg", "p", "bound", "op", "limit"),
    [
        ("ttft", "p(95)<800ms", "p", 95.0, None, "<", 800.0),
        ("ttft", "p(99.9) <= 2s", "p", 99.9, None, "<=", 2000.0),
        ("itl", "med<500us", "med", None, None, "<", 0.5),
        ("e2e", " avg < 1m ", "avg", None, None, "<", 60_000.0),
        ("e2e_sched", "max<1h", "max", None, None, "<", 3_600_000.0),
        ("tpot", "p(100)<50", "p", 100.0, None, "<", 50.0),
        ("stall", "min>=.5", "min", None, None, ">=", 0.5),
        ("ttft", "count>=1000", "count", None, None, ">=", 1000.0),
        ("output_rate", "p(5)>30", "p", 5.0, None, ">", 30.0),
        ("output_throughput", "value>1e3", "value", None, None, ">", 1000.0),
        ("errors", "rate<1%", "rate", None, None, "<", 0.01),
        ("errors", "rate<0.01", "rate", None, None, "<", 0.01),
        ("errors", "count==0", "count", None, None, "==", 0.0),
        ("goodput", "rate>=95%", "rate", None, None, ">=", 0.95),
        ("expect", "lcb(rate)>90%", "rate", None, "lcb", ">", 0.9),
        ("cost", "value!=0", "value", None, None, "!=", 0.0),
        ("ttft", "ucb(p(95))<800ms", "p", 95.0, "ucb", "<", 800.0),
        ("ttft", "ucb( p( 95 ) ) < 800 MS", "p", 95.0, "ucb", "<", 800.0),
    ],
)
def test_what_is_read(
    metric: str, text: str, agg: str, p: float | None, bound: str | None, op: str, limit: float
) -> None:
    found = parse(metric, text)
    assert (found.metric, found.agg, found.p, found.bound, found.op) == (metric, agg, p, bound, op)
    assert found.limit == pytest.approx(limit, rel=1e-12)
    assert found.text == text.strip()
    assert found.selector == {}


@pytest.mark.parametrize(
    ("metric", "text", "said"),
    [
        ("tftt", "p(95)<1s", "no metric 'tftt'; did you mean ttft?"),
        ("zzz", "p(95)<1s", "There are ttft, ttft_sched"),
        ("ttft", "p(95)", "compares nothing; write AGGREGATION OPERATOR NUMBER, as in p(95)<800ms"),
        ("ttft", "", "compares nothing"),
        ("ttft", "<800ms", "no aggregation before the operator; of ttft there are p(N), med, avg"),
        ("ttft", "p95<800ms", "no aggregation 'p95'; of ttft there are p(N)"),
        ("ttft", "p<800ms", "no aggregation 'p'"),
        ("ttft", "rate<1%", "no aggregation 'rate'; of ttft there are p(N)"),
        ("errors", "p(95)<1%", "errors has no percentiles; there are rate, count"),
        ("output_throughput", "avg>5", "no aggregation 'avg'; of output_throughput there are value"),
        ("ttft", "p(0)<1s", "no percentile 0; above 0, up to 100"),
        ("ttft", "p(100.1)<1s", "no percentile 100.1"),
        ("ttft", "p(-1)<1s", "no aggregation 'p(-1)'"),
        ("ttft", "p(95)<", "has no number"),
        ("ttft", "p(95)<-5ms", "'-5ms' is not a number"),
        ("ttft", "p(95)<nan", "'nan' is not a number"),
        ("ttft", "p(95)<1s<2s", "'1s<2s' is not a number|'s<2s' is no unit"),
        ("ttft", "p(95)=<1s", "'=<1s'|has no aggregation|compares nothing|not a number"),
        ("ttft", "p(95)<5%", "'%' is no unit of it; write a number in ms, or with us, ms, s, m, h"),
        ("ttft", "count>5ms", "'ms' is no unit of it; write a plain number, without a unit"),
        ("errors", "rate<5ms", "'ms' is no unit of it; write a number in share, or with %"),
        ("ttft", "p(95)<1e400", "'1e400' is too large; write a limit that something can miss"),
        ("ttft", "p(95)<1e99999999999999999999s", "is too large"),
        ("ttft", "p(95)<1e308s", "'1e308s' is too large"),
        ("errors", "rate<5", "never above 1 (100 %); write 5% if that is meant"),
        ("output_rate", "med>5%", "write a number in tokens/s, without a unit"),
        (
            "ttft",
            "ucb(max)<1s",
            "max has no confidence interval; of ttft, only p(N), med, avg can stand inside ucb()",
        ),
        ("cost", "ucb(value)<1", "value has no confidence interval; nothing of cost has"),
        ("errors{}", "rate<1%", "selects nothing; write {KEY:VALUE}"),
        ("errors{kind}", "rate<1%", "selects nothing"),
        ("errors{kind:a,kind:b}", "rate<1%", "selects nothing"),
        ("errors{kind:a", "rate<1%", "is no metric"),
        ("", "rate<1%", "is no metric"),
        ("goodput{a:b}", "rate>1%", "goodput is of the whole run; selectors go with ttft, ttft_sched"),
        ("output_throughput{a:b}", "value>1", "is of the whole run"),
    ],
)
def test_what_is_refused(metric: str, text: str, said: str) -> None:
    with pytest.raises(ThresholdError) as caught:
        parse(metric, text)
    assert any(part in str(caught.value) for part in said.split("|")), str(caught.value)


def test_selectors() -> None:
    found = parse(" errors{kind: timeout , status:503} ", "rate<1%")
    assert found.selector == {"kind": "timeout", "status": "503"}
    assert found.name == "errors{kind:timeout,status:503}"


@pytest.mark.parametrize("line", ["ttft: p(95)<800ms", " ttft :p(95)<800ms", "ttft:p(95)<800ms"])
def test_one_line(line: str) -> None:
    assert parse_line(line) == parse("ttft", "p(95)<800ms")


def test_one_line_with_a_selector() -> None:
    assert parse_line("errors{kind:timeout}: rate<1%") == parse("errors{kind:timeout}", "rate<1%")


@pytest.mark.parametrize("line", ["", "p(95)<1s", ": p(95)<1s"])
def test_a_line_without_a_metric(line: str) -> None:
    with pytest.raises(ThresholdError, match="names no metric"):
        parse_line(line)


def test_errors_and_the_unserved_are_judged_where_nothing_is_said_of_them() -> None:
    defaults = ["errors: rate<1%", "unserved: rate<1%"]
    assert list(map(str, with_defaults({}))) == defaults
    assert list(map(str, with_defaults({"ttft": ["med<1s"]}))) == [*defaults, "ttft: med<1s"]
    # Of one kind is not of all.
    assert len(with_defaults({"errors{kind:timeout}": ["count==0"]})) == 3


def test_a_scenario_says_otherwise() -> None:
    own = {"errors": ["rate<5%"], "unserved": []}
    assert list(map(str, with_defaults(own))) == ["errors: rate<5%"]
    assert with_defaults({"errors": [], "unserved": []}) == []


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("errors{kind:tiemout}", "no kind of error 'tiemout'; did you mean timeout? There are connect, tls"),
        ("errors{turn:1,kind:x}", "no kind of error 'x'"),
        ("goodput{turn:1}", "goodput is of the whole run; selectors go with ttft"),
        ("cost{turn:1}", "cost is of the whole run"),
        ("unserved{turn:1}", "unserved is of the whole run"),
        ("output_throughput{turn:1}", "output_throughput is of the whole run"),
    ],
)
def test_selectors_that_nothing_could_ever_be_judged_by(metric: str, said: str) -> None:
    with pytest.raises(ThresholdError) as found:
        parse_name(metric)
    assert said in str(found.value)


def test_selectors_of_columns_and_tags_are_anybodys() -> None:
    assert parse_name("ttft{topic:math}") == ("ttft", {"topic": "math"})
    assert parse_name("expect{topic:math}")[0] == "expect"
    assert parse_name("errors{kind:timeout,turn:1}")[1] == {"kind": "timeout", "turn": "1"}


def test_the_kinds_of_errors_are_the_records() -> None:
    assert set(ERROR_KINDS) == {kind.value for kind in ErrorKind}
    assert len(ERROR_KINDS) == len(ErrorKind)


def test_a_text_in_place_of_a_list() -> None:
    with pytest.raises(ThresholdError, match=r"no list; write \[\"med<1s\"\]"):
        parse_all({"ttft": "med<1s"})


@given(
    metric=st.sampled_from(sorted(METRICS)),
    data=st.data(),
    number=st.floats(0, 1e6).map(lambda x: round(x, 3)),
)
def test_every_metric_takes_what_it_says_it_takes(metric: str, data: st.DataObject, number: float) -> None:
    agg = data.draw(st.sampled_from(METRICS[metric].aggregations))
    written = "p(50)" if agg == "p" else agg
    op = data.draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
    unit = "" if agg == "count" else data.draw(st.sampled_from(["", *METRICS[metric].units]))
    number = number if agg == "count" or METRICS[metric].kind != "share" else number / 1e6
    found = parse(metric, f"{written}{op}{number:f}{unit}")
    assert isinstance(found, Threshold)
    assert (found.metric, found.agg, found.op) == (metric, agg, op)
    assert parse_line(str(found)) == found


@given(tenths=st.integers(0, 1000))
def test_a_limit_is_what_is_written_to_the_last_digit(tenths: int) -> None:
    # 95 * 0.01 is more than 0.95, and 999 of 1,000 are 99.9 %: a share at its limit is not beside it.
    assert parse("expect", f"rate>={tenths // 10}.{tenths % 10}%").limit == tenths / 1000
    assert parse("ttft", f"med<{tenths}us").limit == tenths / 1000
    assert parse("ttft", f"med<{tenths / 1000:.3f}s").limit == tenths


keys = st.from_regex(r"[A-Za-z0-9_.-]{1,8}", fullmatch=True)
values = st.text(
    st.characters(exclude_characters="{},\n", exclude_categories=["Cs"]), min_size=1, max_size=12
)


@settings(deadline=None)
@given(
    metric=st.sampled_from(SELECTABLE),
    selector=st.dictionaries(keys, values.map(str.strip).filter(bool), max_size=3),
    bound=st.sampled_from(["{}", "ucb({})", "lcb( {} )"]),
    op=st.sampled_from(["<", " <= ", ">", ">=", "==", "!="]),
    limit=st.sampled_from(["0", "1", "0.5", ".25", "1e-3"]),
    around=st.sampled_from(["", " ", "  "]),
)
def test_a_threshold_printed_is_read_back_unchanged(
    metric: str, selector: dict[str, str], bound: str, op: str, limit: str, around: str
) -> None:
    inside = ",".join(f"{around}{key}{around}:{around}{value}{around}" for key, value in selector.items())
    name = f"{metric}{{{inside}}}" if selector else metric
    agg = "p(99.9)" if METRICS[metric].selectable else "rate"
    found = parse_line(f"{around}{name}{around}:{around}{bound.format(agg)}{op}{limit}{around}")
    assert found.selector == selector
    assert parse_line(str(found)) == found
    assert str(parse_line(str(found))) == str(found)


@given(metric=st.text(max_size=20), text=st.text(max_size=20))
def test_no_text_ends_otherwise_than_in_a_threshold_error(metric: str, text: str) -> None:
    for wanted in (metric, "ttft"):
        try:
            parse(wanted, text)
        except ThresholdError:
            continue


def test_what_an_slo_may_name_are_times_of_single_requests() -> None:
    assert all(METRICS[name].kind == "time" for name in SLO_METRICS)
    assert "itl" not in SLO_METRICS
