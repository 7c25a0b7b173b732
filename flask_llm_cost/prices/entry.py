"""How is a price file's entry read? Rates of a model, each list of them with a date."""

from __future__ import annotations

import datetime as dt
import re
import typing as t
from collections.abc import Mapping
from decimal import Decimal

from .meters import aware
from .meters import decimal_rate
from .meters import instant
from .meters import IS_TOKENS
from .meters import Malformed
from .meters import METADATA
from .meters import parse_key
from .meters import RateKey
from .meters import spellings
from .price import Price
from .price import Window


class Entry:
    """What a book holds for one key: prices, the earliest first."""

    __slots__ = ("_prices", "_raw", "key")

    def __init__(
        self, key: str, prices: tuple[Price, ...] | None = None, *, raw: object = None
    ) -> None:
        """Make an entry.

        :param raw: What :func:`read_entry` would read, when it is first asked for.
        """
        self.key = key
        self._prices = prices
        self._raw = raw

    @property
    def prices(self) -> tuple[Price, ...]:
        """Every price of this model, by date; the first may have none."""
        if self._prices is None:
            self._prices = read_prices(self.key, self._raw, _ignore)
            self._raw = None
        return self._prices

    def at(self, moment: dt.datetime | None) -> Price | None:
        """The price that holds at a time, now if left out; ``None`` before the first."""
        prices = self._prices or self.prices
        first = prices[0]
        if len(prices) == 1 and first.valid_from is None:
            return first
        moment = aware(moment)
        held = None
        for price in prices:
            if price.valid_from is not None and price.valid_from > moment:
                break
            held = price
        return held


def read_entry(key: str, value: object, warn: t.Callable[[str], None]) -> Entry:
    """Read a book entry: a mapping of rates, or a list of such with ``valid_from``.

    :param warn: Told of each key that is not known.
    :raises Malformed: If it is wrong.
    """
    prices = read_prices(key, value, warn)
    for price in prices:
        if price.rates or price.windows or price.multiplier is not None:
            continue
        if price.metadata or price.multipliers or price.valid_from is not None:
            raise Malformed(
                f"{key} has no rates: give it input and output in USD per 1M tokens,"
                " 0 if it is free, or leave it out"
            )
        warn(
            f"{key} has no rates, so that its calls have no cost: give it input and"
            " output in USD per 1M tokens, or leave it out"
        )
    return Entry(key, prices)


def _ignore(note: str) -> None:
    """For the bundled entries, which a test has read."""


def read_prices(
    key: str, value: object, warn: t.Callable[[str], None]
) -> tuple[Price, ...]:
    """The prices of an entry, the earliest first.

    :raises Malformed: If it is wrong.
    """
    dated = value if isinstance(value, (list, tuple)) else [value]
    if not dated:
        raise Malformed(f"{key} must have rates, not an empty list")
    prices = sorted(
        (read_price(key, each, warn) for each in dated),
        key=lambda price: price.valid_from or _EVER,
    )
    for earlier, later in zip(prices, prices[1:], strict=False):
        if earlier.valid_from == later.valid_from:
            raise Malformed(
                f"{key} has two prices from"
                f" {'the beginning' if later.valid_from is None else later.valid_from}:"
                " give each its own valid_from"
            )
    return tuple(prices)


_EVER: t.Final = dt.datetime.min.replace(tzinfo=dt.UTC)


def read_price(key: str, value: object, warn: t.Callable[[str], None]) -> Price:
    """Read one mapping of rates.

    :raises Malformed: If it is wrong.
    """
    if not isinstance(value, Mapping):
        raise Malformed(f"{key} must be a mapping of rates, not {value!r}")
    rates: dict[RateKey, Decimal] = {}
    plain: dict[str, t.Any] = {}
    spelled = spellings(map(str, value))
    for name, given in value.items():
        rate_key = parse_key(str(name))
        if rate_key is not None:
            rate = decimal_rate(given, f"{key}: {name}")
            chosen = spelled[rate_key]
            if chosen == str(name):
                rates[rate_key] = rate
            elif rate != decimal_rate(value[chosen], f"{key}: {chosen}"):
                warn(
                    f"{key}: {name} and {chosen} are the same rate and differ;"
                    f" {chosen} holds"
                )
        elif name in _PLAIN or name in METADATA:
            plain[name] = given
        else:
            warn(f"{key}: {name!r} is no rate and is ignored")
    rates.update(_custom_units(key, plain.pop("units", {})))
    windows = _windows(key, plain.pop("windows", ()), warn)
    from_, factor = plain.pop("valid_from", None), plain.pop("multiplier", None)
    if factor is not None and not key.endswith("/*"):
        raise Malformed(
            f"{key}: multiplier is for all models of a provider:"
            f" write it at {key.partition('/')[0]}/*"
        )
    known = [*rates, *(k for window in windows for k in window.rates)]
    return Price(
        rates,
        valid_from=None if from_ is None else instant(from_, f"{key}: valid_from"),
        multipliers=_factors(key, plain.pop("multipliers", {})),
        multiplier=None
        if factor is None
        else decimal_rate(factor, f"{key}: multiplier"),
        windows=windows,
        metadata=plain,
        thresholds=tuple(sorted({k.above for k in known if k.above})),
    )


_PLAIN: t.Final = frozenset(
    ("valid_from", "multiplier", "multipliers", "windows", "units")
)


def _custom_units(key: str, value: object) -> dict[RateKey, Decimal]:
    if not isinstance(value, Mapping):
        raise Malformed(f"{key}: units must map names to USD each, not {value!r}")
    return {
        RateKey(None, str(name), 0): decimal_rate(rate, f"{key}: units.{name}")
        for name, rate in value.items()
        if str(name) not in IS_TOKENS
    }


def _factors(key: str, value: object) -> dict[str, Decimal]:
    if not isinstance(value, Mapping):
        raise Malformed(
            f"{key}: multipliers must map conditions such as region.us to factors,"
            f" not {value!r}"
        )
    return {
        str(name): decimal_rate(factor, f"{key}: multipliers.{name}")
        for name, factor in value.items()
    }


def _windows(
    key: str, value: object, warn: t.Callable[[str], None]
) -> tuple[Window, ...]:
    if not isinstance(value, (list, tuple)):
        raise Malformed(f"{key}: windows must be a list, not {value!r}")
    return tuple(_window(f"{key}: windows", each, warn) for each in value)


def _window(key: str, value: object, warn: t.Callable[[str], None]) -> Window:
    if not isinstance(value, Mapping) or "hours" not in value:
        raise Malformed(
            f'{key}: a window is a mapping with hours: "16:30-00:30" and rates,'
            f" not {value!r}"
        )
    hours = value["hours"]
    spans = [hours] if isinstance(hours, str) else hours
    days = value.get("weekdays", ())
    rates = {k: v for k, v in value.items() if k not in ("hours", "weekdays")}
    try:
        return Window(
            tuple(_span(span) for span in spans),
            frozenset(_weekday(day) for day in days),
            read_price(key, rates, warn).rates,
        )
    except TypeError:
        raise Malformed(f"{key}: hours and weekdays must be lists") from None
    except ValueError as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed(f"{key}: {error}") from None


def beside(price: Price) -> dict[str, Decimal]:
    """What changes the rates of a price: multipliers and rates of windows, by names."""
    found = {f"multipliers.{name}": by for name, by in price.multipliers.items()}
    for window in price.windows:
        as_written = written(window)
        when = " ".join(as_written["hours"])
        days = ",".join(map(str, as_written.get("weekdays", ())))
        for key, rate in window.rates.items():
            found[f"{key} at {when}{days and f' on {days}'}"] = rate
    return found


def written(window: Window) -> dict[str, t.Any]:
    """A window as a price file has it."""
    days = {"weekdays": sorted(window.weekdays)} if window.weekdays else {}
    rates = {str(key): rate for key, rate in window.rates.items()}
    hours = [f"{_clock(start)}-{_clock(end)}" for start, end in window.spans]
    return {"hours": hours, **days, **rates}


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _weekday(value: object) -> int:
    day = str(value)
    if day not in "1234567" or len(day) != 1:
        raise ValueError(f"weekdays count from 1, Monday, to 7, not {value!r}")
    return int(day)


_SPAN: t.Final = re.compile(r"(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)\Z")


def _span(value: object) -> tuple[int, int]:
    found = _SPAN.match(str(value))
    if found is None:
        raise ValueError(f"hours must look like 16:30-00:30, not {value!r}")
    start, end = (
        int(found[1]) * 60 + int(found[2]),
        int(found[3]) * 60 + int(found[4]),
    )
    if max(start, end) > 1440 or max(found[2], found[4]) > "59":
        raise ValueError(f"hours must lie between 00:00 and 24:00, not {value!r}")
    return start, end
