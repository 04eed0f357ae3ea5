from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.prices import Price, PriceError, Prices, cost_of, most_tokens, read_prices, worst_case

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


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({}, None),
        ({"max_tokens": 10}, 10),
        ({"max_completion_tokens": 20}, 20),
        ({"max_tokens": 10, "max_completion_tokens": 20}, 20),
        ({"max_tokens": 10, "n": 3}, 30),
        ({"max_tokens": 10, "n": 2, "best_of": 5}, 50),
        ({"max_tokens": 10, "prompt": ["a", "b"]}, 20),
        ({"max_tokens": 10, "prompt": [1, 2, 3]}, 10),
        ({"max_tokens": 10, "prompt": [[1], [2], [3]]}, 30),
        ({"max_tokens": "10"}, None),
        ({"max_tokens": True}, None),
    ],
)
def test_most_tokens(body: dict[str, Any], most: int | None) -> None:
    assert most_tokens(body) == most


def test_worst_case() -> None:
    assert worst_case({"max_tokens": 100}, 1000, PRICE) == pytest.approx((1000 * 2 + 100 * 8) / 1e6)
    assert worst_case({}, 1000, PRICE) is None
    dear = Price(input=1.0, output=1.0, cached_input=3.0)  # nobody's prices, and still the worst case
    assert worst_case({"max_tokens": 0}, 1_000_000, dear) == 3.0


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
