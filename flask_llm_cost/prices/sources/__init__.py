"""Price sources, one file each: from a source's JSON to entries of a price file."""

from __future__ import annotations

import contextlib
import itertools
import re
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal

from ...money import context
from ...money import in_bounds
from ...money import own_context
from ..meters import Malformed
from ..names import spelling

UNEXPECTED_SHAPE: t.Final = (ValueError, KeyError, TypeError, AttributeError) + (
    IndexError,
    ArithmeticError,
)
"""What reading JSON of an unexpected shape may raise."""


YUAN: t.Final = re.compile(
    r"https?://(?:[^/]+\.cn|(?:[^/]+\.)?volcengine\.com|cloud\.tencent\.com"
    r"|(?:help|www)\.aliyun\.com)(?:/|\Z)"
)
"""Pages with price lists in yuan, which sources convert at a rate that they do not name."""


@dataclass(slots=True)
class Sheet:
    """What a source lists, in the terms of a price file."""

    models: dict[str, list[dict[str, t.Any]]] = field(default_factory=dict)
    """``provider/model`` to its prices, earliest first; rates are ``Decimal``."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Other names of models, to the names above."""
    unread: dict[str, int] = field(default_factory=dict)
    """Price fields that a price file cannot express, and how often they occur."""
    read: int = 0
    """How many price values were read."""
    rejected: dict[str, str] = field(default_factory=dict)
    """Models whose prices are not usable, and why."""
    currencies: dict[str, str] = field(default_factory=dict)
    """Models whose prices are not in USD, and in which currency."""
    zeros: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Rates listed as 0 where 0 may mean unknown."""
    pages: dict[str, str] = field(default_factory=dict)
    """Models to the page that the source cites for them."""
    contradicted: dict[str, list[dict[str, t.Any]]] = field(default_factory=dict)
    """Models that the source lists twice, and the prices that were not chosen."""

    replaced: list[tuple[str, str, Decimal, Decimal]] = field(default_factory=list)
    """Rates that are wrong by a known rule: the model, the rate, the source's and ours."""
    _spelled: dict[str, list[str]] | None = field(default=None, repr=False)

    def listed_as(self, model: str) -> str | None:
        """Return what the source calls a model: the same, or else another spelling.

        Nothing if it has two other spellings with different prices.
        """
        listed = (self.models, self.zeros, self.rejected, self.currencies)
        if any(model in names for names in listed):
            return model
        if self._spelled is None:
            self._spelled = {}
            for name in dict.fromkeys(itertools.chain(*listed)):
                self._spelled.setdefault(spelling(name), []).append(name)
        names = self._spelled.get(spelling(model), [])
        prices = [self.models.get(name) for name in names]
        return names[0] if names and prices.count(prices[0]) == len(prices) else None

    def skip(self, name: str) -> None:
        """Count a value that a price file cannot express."""
        self.unread[name] = self.unread.get(name, 0) + 1

    @contextlib.contextmanager
    def rejecting(self, *names: str) -> Iterator[None]:
        """Reject these models if reading their entry fails."""
        reason = None
        try:
            yield
        except Malformed as error:
            reason = str(error)
        except UNEXPECTED_SHAPE as error:
            reason = f"its entry cannot be read: {error!r}"
        if reason is not None:
            self.rejected.update(dict.fromkeys(names, reason))


def amount(value: object) -> Decimal | None:
    """Read a price exactly as the source's JSON writes it; ``None`` if it is not a number.

    Parse the JSON with ``parse_float=Decimal``: a ``float`` is not exact, and rejected.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, Decimal)):
        number = Decimal(value)
    elif isinstance(value, str):
        try:
            number = Decimal(value)
        except ArithmeticError:
            return None
    else:
        return None
    return number if in_bounds(number) else None


@own_context
def tidy(number: Decimal) -> Decimal:
    """Remove float noise (0.8900000000000001) and exponents from a price."""
    number = _NOISE_FREE.plus(number).normalize()
    return number.quantize(Decimal(1)) if number == number.to_integral() else number


_NOISE_FREE: t.Final = context(12)


def check_price(name: str, value: object) -> None:
    """Check that a value in place of a price can be one, or is missing.

    :raises Malformed: If it cannot.
    """
    if value is None or isinstance(value, (Mapping, list)):
        return
    number = amount(value)
    if number is None or number < 0:
        raise Malformed(f"{name} is {value}, which is not a valid price")
