from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.prices import (
    Price,
    PriceError,
    Prices,
    UnboundedError,
    WorstCases,
    amount,
    bound_of,
    cost_of,
    read_prices,
    worst_case,
)

PRICE = Price(input=2.0, output=8.0, cached_input=0.5)


@pytest.mark.parametrize(
    ("usage", "price", "told"),
    [
        (None, PRICE, (None, "none")),
        ({}, PRICE, (None, "none")),
        ({"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000}, PRICE, (10.0, "prices")),
        ({"prompt_tokens": 10, "completion_tokens": 5}, None, (None, "none")),
        ({"prompt_tokens": 10}, PRICE, (None, "none")),
        ({"prompt_tokens": "10", "completion_tokens": 5}, PRICE, (None, "none")),
        ({"prompt_tokens": 0, "completion_tokens": 0}, PRICE, (0.0, "prices")),
        # cached tokens, under either name, never more than there are
        (
            {
                "prompt_tokens": 1_000_000,
                "completion_tokens": 0,
                "prompt_tokens_details": {"cached_tokens": 400_000},
            },
            PRICE,
            (1.4, "prices"),
        ),
        (
            {"prompt_tokens": 1_000_000, "completion_tokens": 0, "prompt_cache_hit_tokens": 400_000},
            PRICE,
            (1.4, "prices"),
        ),
        (
            {"prompt_tokens": 1_000_000, "completion_tokens": 0, "prompt_cache_hit_tokens": 9_000_000},
            PRICE,
            (0.5, "prices"),
        ),
        (
            {"prompt_tokens": 1_000_000, "completion_tokens": 0, "prompt_cache_hit_tokens": 400_000},
            Price(input=2.0, output=8.0),
            (2.0, "prices"),
        ),
        # thinking counted in the completion, and beside it
        (
            {
                "prompt_tokens": 0,
                "completion_tokens": 1_000_000,
                "total_tokens": 1_000_000,
                "completion_tokens_details": {"reasoning_tokens": 900_000},
            },
            PRICE,
            (8.0, "prices"),
        ),
        (
            {
                "prompt_tokens": 0,
                "completion_tokens": 100_000,
                "total_tokens": 1_000_000,
                "completion_tokens_details": {"reasoning_tokens": 900_000},
            },
            PRICE,
            (8.0, "prices"),
        ),
        # the provider's own number comes first
        ({"prompt_tokens": 9, "completion_tokens": 9, "cost": 0.25}, PRICE, (0.25, "provider")),
        ({"cost": 0.25}, None, (0.25, "provider")),
        ({"cost": 0}, None, (0.0, "provider")),
        ({"cost": {"total_cost": 0.5, "input_cost": 0.1}}, None, (0.5, "provider")),
        ({"cost": "0.25"}, None, (None, "none")),
        ({"cost": True}, None, (None, "none")),
        ({"cost": -1}, None, (None, "none")),
        ({"cost": float("nan")}, None, (None, "none")),
        ({"cost": None, "prompt_tokens": 0, "completion_tokens": 1_000_000}, PRICE, (8.0, "prices")),
    ],
)
def test_cost(usage: Any, price: Price | None, told: tuple[float | None, str]) -> None:
    assert cost_of(usage, price) == (pytest.approx(told[0]) if told[0] is not None else None, told[1])


def test_worst_case() -> None:
    assert worst_case({"max_tokens": 100}, 1000, PRICE) == pytest.approx((1000 * 2 + 100 * 8) / 1e6)
    assert worst_case({}, 1000, PRICE) is None
    dear = Price(input=1.0, output=1.0, cached_input=3.0)  # nobody's prices, and still the worst case
    assert worst_case({"max_tokens": 1}, 1_000_000, dear) == pytest.approx(3.000001)


@pytest.mark.parametrize("value", [1000.0, -1, 0, "8", True, None])
def test_a_worst_case_that_cannot_be_told_is_never_0(value: Any) -> None:
    body = {"model": "m", "max_tokens": value}
    assert worst_case(body, 10, PRICE) is None
    with pytest.raises(UnboundedError, match=r"max_tokens is|there is no limit of tokens"):
        bound_of(body, 10, Prices({"*": PRICE}))


def test_a_model_without_a_price_has_no_worst_case() -> None:
    with pytest.raises(UnboundedError, match="no price for the model 'other'"):
        bound_of({"model": "other", "max_tokens": 1}, 10, Prices({"m": PRICE}))


def test_the_worst_cases_of_a_plan() -> None:
    worst = WorstCases(Prices({"m": Price(1e6, 1e6)}), {"stream": True})
    assert worst.why_not({"model": "m", "max_tokens": 100}) is None
    assert worst.why_not({"model": "m", "max_tokens": 5}) is None
    assert worst.why_not({"model": "m"}) == "there is no limit of tokens"
    assert worst.why_not({"model": "n", "max_tokens": 1}) == "there is no price for the model 'n'"
    assert worst.least == len('{"model":"m","max_tokens":5,"stream":true}') + 5


def test_prices_on_the_command_line() -> None:
    assert read_prices("input=0.15, cached_input=0.075,output=0.6") == Prices({"*": Price(0.15, 0.6, 0.075)})
    assert read_prices("input=1,output=0").of("anything") == Price(1.0, 0.0)


def test_prices_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(
        '["gpt-4o"]\ninput = 2.5\noutput = 10\n'
        '["gpt-4o*"]\ninput = 0.1\noutput = 0.2\n'
        '["gpt-*"]\ninput = 1\noutput = 2\ncached_input = 0.5\n'
    )
    prices = read_prices(str(file))
    assert prices.of("gpt-4o") == Price(2.5, 10)
    assert prices.of("gpt-4o-mini") == Price(0.1, 0.2)
    assert prices.of("gpt-5") == Price(1, 2, 0.5)
    assert prices.of("claude") is None
    assert prices.of(None) is None
    file.write_text("input = 1\noutput = 2\n")
    assert read_prices(str(file)).of(None) == Price(1, 2)


def test_the_most_exact_name_wins() -> None:
    one, two, three = (Price(float(n), float(n)) for n in (1, 2, 3))
    prices = Prices({"*": one, "gpt-*": two, "gpt-4*": three})
    assert [prices.of(name) for name in ("o1", "gpt-5", "gpt-4.1")] == [one, two, three]
    backwards = Prices(dict(reversed(prices.models.items())))
    assert [backwards.of(name) for name in ("o1", "gpt-5", "gpt-4.1")] == [one, two, three]
    assert Prices({"m*": one, "*-turbo": two}).of("my-turbo") == two  # the longer, wherever its star stands
    # A name is a name before it is a pattern, and before any longer pattern.
    assert Prices({"gpt-4": one, "gpt-[4]*": two}).of("gpt-4") == one
    assert Prices({"m[1]": one}).of("m[1]") == one
    # Names differ in case; a pattern is matched as a whole.
    assert Prices({"gpt-*": two}).of("GPT-4") is None
    assert Prices({"gpt-?": two}).of("gpt-4o") is None
    assert Prices({"gpt": two}).of("my-gpt") is None


def test_no_model_is_any_model_and_no_other() -> None:
    assert Prices({"*": PRICE}).of(None) == PRICE
    assert Prices({"None": PRICE, "?*": PRICE}).of(None) is None


def test_a_file_with_an_equals_sign_in_its_name(tmp_path: Path) -> None:
    file = tmp_path / "input=1.toml"
    file.write_text("input = 3\noutput = 2\n")
    assert read_prices(str(file)).of("m") == Price(3, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("input=1", "output is missing"),
        ("output=1", "input is missing"),
        ("input=1,output=x", "output is 'x', not a price"),
        ("input=1,output=-1", "output is -1.0"),
        ("input=1,output=nan", "output is nan"),
        ("input=1,output=inf", "output is inf"),
        ("input=1,output=2,cache=3", "unknown key 'cache'; there are input, cached_input, output"),
        ("nowhere.toml", "nowhere.toml: cannot be read"),
        ("5", "5: cannot be read"),
    ],
)
def test_bad_prices(text: str, said: str) -> None:
    with pytest.raises(PriceError, match=said):
        read_prices(text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "names no model"),
        ("[m", "is not TOML"),
        ("[m]\ninput = 1\n", r"\[m\]: output is missing"),
        ("[m]\ninput = true\noutput = 1\n", "input is True"),
        ('[m]\ninput = "1"\noutput = 1\n', "input is '1'"),
        ("m = 1\n[n]\ninput = 1\noutput = 1\n", r"\[m\]: a table of"),
    ],
)
def test_bad_price_files(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "p.toml").write_text(content)
    with pytest.raises(PriceError, match=said):
        read_prices(str(tmp_path / "p.toml"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (0.00001, "0.00001"),
        (1e-9, "0.000000001"),
        (0.1 + 0.2, "0.3"),
        (4000.0, "4000"),
        (1234567.891, "1234570"),
        (-0.5, "-0.5"),
    ],
)
def test_money_is_never_in_powers_of_ten(value: float, shown: str) -> None:
    assert amount(value) == shown
