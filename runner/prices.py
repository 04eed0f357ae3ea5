"""What an answer cost: the provider's own number, else prices times usage, else unknown. Never made up.

Amounts are in the currency of the prices (or of the provider's number), prices are per million tokens.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from runner.record import CostSource, tokens
from scenarios.answer_limit import most_tokens, why_unlimited

_MILLION = 1_000_000
_KEYS = ("input", "cached_input", "output")


def amount(value: float) -> str:
    """Money as people write it: at most six digits that matter, never as 1e-05."""
    rounded = float(f"{value:.6g}")
    text = f"{rounded:.12f}" if abs(rounded) < 1 else f"{rounded:.6f}"
    return text.rstrip("0").rstrip(".")


class PriceError(ValueError):
    """Prices that cannot be used. The text says where, why and what is allowed."""


class UnboundedError(ValueError):
    """A request of which nobody can say what it costs at most. The text says why."""


class Price(msgspec.Struct, frozen=True):
    """Of one model, per million tokens."""

    input: float
    output: float
    cached_input: float | None = None  # `None`: as `input`, the most it can be


class Prices(msgspec.Struct, frozen=True):
    """Prices by model: a name, or a pattern like `gpt-4o*`. `*` is any model."""

    models: dict[str, Price]

    def of(self, model: str | None) -> Price | None:
        """The price of a model: by its name, else by the longest pattern that fits."""
        name = model or ""
        if name in self.models:
            return self.models[name]
        fitting = [pattern for pattern in self.models if fnmatchcase(name, pattern)]
        return self.models[max(fitting, key=len)] if fitting else None


def read_prices(text: str) -> Prices:
    """Prices as given on the command line: `input=0.15,cached_input=0.075,output=0.6`, or a TOML file.

    Raises:
        PriceError: it is neither.
    """
    if "=" in text and not text.endswith(".toml"):
        pairs = [part.partition("=") for part in text.split(",")]
        table = {key.strip(): _number(value.strip()) for key, _, value in pairs}
        return Prices({"*": price_of(table, f"--price {text}")})
    try:
        data = tomllib.loads(Path(text).read_text(encoding="utf-8"))
    except OSError as exc:
        raise PriceError(
            f"--price {text}: cannot be read ({exc.strerror}). Give input=..,output=.. per million tokens, "
            "or a TOML file with a table a model."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise PriceError(f"--price {text} is not TOML: {exc}") from None
    if not data:
        raise PriceError(f'--price {text} names no model: it needs a table a model, as in ["gpt-4o*"]')
    if all(not isinstance(value, dict) for value in data.values()):
        return Prices({"*": price_of(data, text)})  # no tables: one price for all
    return Prices({model: price_of(table, f"{text}, [{model}]") for model, table in data.items()})


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def price_of(table: Any, where: str) -> Price:
    """The price in a table of TOML; `where` it stands is for messages.

    Raises:
        PriceError: it is none.
    """
    if not isinstance(table, dict):
        raise PriceError(f"{where}: a table of {', '.join(_KEYS)} is needed, not {table!r}")
    unknown = [key for key in table if key not in _KEYS]
    if unknown:
        raise PriceError(f"{where}: unknown key {unknown[0]!r}; there are {', '.join(_KEYS)}")
    for key, value in table.items():
        if type(value) not in {int, float} or not 0 <= value < math.inf:
            raise PriceError(f"{where}: {key} is {value!r}, not a price per million tokens")
    if "input" not in table or "output" not in table:
        missing = "input" if "input" not in table else "output"
        raise PriceError(f"{where}: {missing} is missing (0 where it costs nothing)")
    return Price(**table)


def cost_of(usage: Mapping[str, Any] | None, price: Price | None) -> tuple[float | None, CostSource]:
    """What an attempt cost, and on whose word.

    Args:
        usage: the last usage object as the server sent it.
        price: of the model that was asked; `None` where none was given.
    """
    if not usage:
        return None, "none"
    own = _own(usage)
    if own is not None:
        return own, "provider"
    if price is None:
        return None, "none"
    count = tokens(dict(usage))
    if count.prompt is None or count.completion is None:
        return None, "none"
    output = count.completion
    if count.reasoning and count.total == count.prompt + count.completion + count.reasoning:
        output += count.reasoning  # some providers count thinking beside the completion, not in it
    cached = min(count.cached or 0, count.prompt)
    cached_price = price.input if price.cached_input is None else price.cached_input
    amount = (count.prompt - cached) * price.input + cached * cached_price + output * price.output
    return amount / _MILLION, "prices"


def _own(usage: Mapping[str, Any]) -> float | None:
    """The provider's own number: `cost`, as a number or as an object with its total."""
    cost: Any = usage.get("cost")
    if isinstance(cost, dict):
        cost = cost.get("total_cost")
    if type(cost) in {int, float} and 0 <= cost < math.inf:
        return float(cost)
    return None


def worst_case(body: Mapping[str, Any], size: int, price: Price) -> float | None:
    """The most a request can cost: every byte of its body a token in, every token it may make out.

    Args:
        body: the request's body.
        size: its length in UTF-8 bytes.
        price: of its model.

    Returns:
        The amount; `None` where the body has no limit of tokens.
    """
    most = most_tokens(body)
    if most is None:
        return None
    dearest_input = max(price.input, price.cached_input or 0.0)
    return (size * dearest_input + most * price.output) / _MILLION


def bound_of(body: Mapping[str, Any], size: int, prices: Prices) -> float:
    """The same, for whoever cannot do without it.

    Raises:
        UnboundedError: the body has no limit of tokens, or its model no price.
    """
    price = prices.of(body.get("model"))
    if price is None:
        raise UnboundedError(f"there is no price for the model {body.get('model')!r}")
    worst = worst_case(body, size, price)
    if worst is None:
        raise UnboundedError(why_unlimited(body) or "it has no limit of tokens")
    return worst


class WorstCases:
    """Of every body of a plan, under `--max-cost`: whether it has a worst case, and the least of them.

    Args:
        prices: of the models.
        add: what goes over the wire beside a body's own fields.
    """

    def __init__(self, prices: Prices, add: Mapping[str, Any]) -> None:
        self.least = math.inf
        self._prices = prices
        self._add = add

    def why_not(self, body: Mapping[str, Any]) -> str | None:
        """Why nobody can say what the body costs at most; `None` where it is known."""
        size = len(msgspec.json.encode({**body, **self._add}))
        try:
            self.least = min(self.least, bound_of(body, size, self._prices))
        except UnboundedError as exc:
            return str(exc)
        return None
