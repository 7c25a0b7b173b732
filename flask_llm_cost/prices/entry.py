"""Read a price file's entry: the rates of one model, each set with its date."""

from __future__ import annotations

import datetime as dt
import re
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from decimal import Decimal

from .meters import aware
from .meters import LIMITS
from .meters import Malformed
from .meters import METADATA
from .meters import MIN_TIME
from .meters import parse_key
from .meters import parse_limit
from .meters import parse_rate
from .meters import parse_time
from .meters import RateKey
from .meters import spellings
from .meters import TOKENS
from .price import DailyWindow
from .price import Price
from .statement import refuse_statements

Warn: t.TypeAlias = Callable[[str], None]
"""Called with a message for each key that is ignored."""


def ignore(message: str) -> None:
    """Drop a warning: for entries that we wrote ourselves, whose keys tests check."""


class Entry:
    """What a book stores for one key: its prices, earliest first."""

    __slots__ = ("_prices", "_raw", "key")

    def __init__(
        self, key: str, prices: tuple[Price, ...] | None = None, *, raw: object = None
    ) -> None:
        """Create an entry.

        :param raw: Passed to :func:`read_prices` on first use, instead of ``prices``.
        """
        self.key = key
        self._prices = prices
        self._raw = raw

    @property
    def empty(self) -> bool:
        """Whether it has no rate at any time. Such an entry must not hide another one."""
        return all(price.empty for price in self.prices)

    @property
    def prices(self) -> tuple[Price, ...]:
        """Every price of this model, by date; the first may have none."""
        if self._prices is None:
            self._prices = read_prices(self.key, self._raw, ignore)
            self._raw = None
        return self._prices

    def at(self, moment: dt.datetime | None) -> Price | None:
        """Return the price in force at a time (now if ``None``), if any."""
        prices = self._prices or self.prices
        first = prices[0]
        if len(prices) == 1 and first.valid_from is None:
            return first
        moment = aware(moment)
        current = None
        for price in prices:
            if price.valid_from is not None and price.valid_from > moment:
                break
            current = price
        return current


def read_entry(key: str, value: object, warn: Warn) -> Entry:
    """Read an entry: a mapping of rates, or a list of mappings with ``valid_from``.

    :raises Malformed: If it is invalid.
    """
    prices = read_prices(key, value, warn)
    for price in prices:
        if not price.empty:
            continue
        if price != Price({}):
            raise Malformed(
                f"{key} has no rates; give it input and output in USD per 1M tokens,"
                " or 0 if it is free, or remove it"
            )
        warn(
            f"{key} has no rates, so it is ignored; give it input and output in USD per 1M"
            " tokens, or remove it"
        )
    return Entry(key, prices)


def read_prices(key: str, value: object, warn: Warn) -> tuple[Price, ...]:
    """Read the prices of an entry, earliest first.

    :raises Malformed: If it is invalid.
    """
    dated = value if isinstance(value, (list, tuple)) else [value]
    if not dated:
        raise Malformed(f"{key} must have rates, not an empty list")
    prices = sorted(
        (read_price(key, each, warn) for each in dated),
        key=lambda price: price.valid_from or MIN_TIME,
    )
    for earlier, later in zip(prices, prices[1:], strict=False):
        if earlier.valid_from == later.valid_from:
            date = later.valid_from
            since = "without valid_from" if date is None else f"valid from {date}"
            raise Malformed(
                f"{key} has two prices {since}; give each its own valid_from"
            )
    return tuple(prices)


_SETTINGS: t.Final = frozenset(
    ("valid_from", "multiplier", "multipliers", "windows", "variants", "units", *LIMITS)
)


def read_price(key: str, value: object, warn: Warn) -> Price:
    """Read one mapping of rates.

    :raises Malformed: If it is invalid.
    """
    if not isinstance(value, Mapping):
        raise Malformed(f"{key} must be a mapping of rates, not {value!r}")
    rates, plain = _rates(key, value, warn)
    units = _numbers(key, "units", plain, "names to USD each")
    rates |= {RateKey(None, k, 0): rate for k, rate in units if k not in TOKENS}
    windows = _windows(key, plain.pop("windows", ()), warn)
    variants = _variants(key, plain.pop("variants", {}), warn)
    since, factor = plain.pop("valid_from", None), plain.pop("multiplier", None)
    if factor is not None and not key.endswith("/*"):
        raise Malformed(
            f"{key}: multiplier applies to all models of a provider;"
            f" set it on {key.partition('/')[0]}/*"
        )
    max_input, max_output = (_limit(key, name, plain) for name in LIMITS)
    others = [window.rates for window in windows] + [*variants.values()]
    known = [*rates, *(k for each in others for k in each)]
    return Price(
        rates,
        valid_from=None if since is None else parse_time(since, f"{key}: valid_from"),
        multipliers=dict(_numbers(key, "multipliers", plain, _FACTORS)),
        multiplier=None if factor is None else parse_rate(factor, f"{key}: multiplier"),
        windows=windows,
        variants=variants,
        metadata=plain,
        thresholds=tuple(sorted({k.above for k in known if k.above})),
        max_input_tokens=max_input,
        max_output_tokens=max_output,
    )


def _rates(
    key: str, value: Mapping[t.Any, t.Any], warn: Warn
) -> tuple[dict[RateKey, Decimal], dict[str, t.Any]]:
    """Split an entry into its rates and its other known keys."""
    rates: dict[RateKey, Decimal] = {}
    plain: dict[str, t.Any] = {}
    spelled = spellings(map(str, value))
    for name, given in value.items():
        rate_key = parse_key(str(name))
        if rate_key is not None:
            rate = parse_rate(given, f"{key}: {name}")
            chosen = spelled[rate_key]
            if chosen == str(name):
                rates[rate_key] = rate
            elif rate != parse_rate(value[chosen], f"{key}: {chosen}"):
                warn(
                    f"{key}: {name} and {chosen} set the same rate to different values;"
                    f" {chosen} is used"
                )
        elif name in _SETTINGS or name in METADATA:
            plain[name] = given
        else:
            refuse_statements({name: given}, f"{key}: ")
            warn(f"{key}: {name!r} is not a known rate and is ignored")
    return rates, plain


_FACTORS: t.Final = "conditions such as region.us to factors"


def _limit(key: str, name: str, plain: dict[str, t.Any]) -> int | None:
    return parse_limit(plain.pop(name), f"{key}: {name}") if name in plain else None


def _numbers(
    key: str, name: str, plain: dict[str, t.Any], meaning: str
) -> Iterator[tuple[str, Decimal]]:
    value = plain.pop(name, {})
    if not isinstance(value, Mapping):
        raise Malformed(f"{key}: {name} must map {meaning}, not {value!r}")
    for each, number in value.items():
        yield str(each), parse_rate(number, f"{key}: {name}.{each}")


def _windows(key: str, value: object, warn: Warn) -> tuple[DailyWindow, ...]:
    if not isinstance(value, (list, tuple)):
        raise Malformed(f"{key}: windows must be a list, not {value!r}")
    return tuple(_window(f"{key}: windows", each, warn) for each in value)


def _window(key: str, value: object, warn: Warn) -> DailyWindow:
    if not isinstance(value, Mapping) or "hours" not in value:
        raise Malformed(
            f'{key}: a window must be a mapping with hours, e.g. "16:30-00:30", and'
            f" rates, not {value!r}"
        )
    hours = value["hours"]
    spans = [hours] if isinstance(hours, str) else hours
    days = value.get("weekdays", ())
    rates = {k: v for k, v in value.items() if k not in ("hours", "weekdays")}
    try:
        return DailyWindow(
            tuple(_span(key, span) for span in spans),
            frozenset(_weekday(key, day) for day in days),
            read_price(key, rates, warn).rates,
        )
    except TypeError:
        raise Malformed(f"{key}: hours and weekdays must be lists") from None


def _variants(
    key: str, value: object, warn: Warn
) -> dict[frozenset[str], dict[RateKey, Decimal]]:
    if not isinstance(value, Mapping):
        raise Malformed(
            f"{key}: variants must map conditions such as size.1024x1024 to rates,"
            f" not {value!r}"
        )
    found: dict[frozenset[str], dict[RateKey, Decimal]] = {}
    for name, rates in value.items():
        terms = str(name).split()
        if not terms or not all(all(term.partition(".")) for term in terms):
            raise Malformed(
                f"{key}: {name!r} must name conditions, separated by spaces, such as"
                ' "quality.hd size.1024x1024"'
            )
        if not isinstance(rates, Mapping):
            raise Malformed(f"{key}: variants.{name} must map to rates, not {rates!r}")
        found[frozenset(terms)], plain = _rates(f"{key}: variants.{name}", rates, warn)
        for other in plain:
            warn(f"{key}: variants.{name}: {other!r} is not a rate and is ignored")
    return found


def adjustments(price: Price) -> dict[str, Decimal]:
    """Return what adjusts a price's rates, by name: multipliers, windows and variants."""
    found = {f"multipliers.{name}": by for name, by in price.multipliers.items()}
    for window in price.windows:
        entry = window_entry(window)
        when = " ".join(entry["hours"])
        days = ",".join(map(str, entry.get("weekdays", ())))
        for key, rate in window.rates.items():
            found[f"{key} at {when}{days and f' on {days}'}"] = rate
    for name, rates in variant_entries(price).items():
        found |= {f"{key} if {name}": rate for key, rate in rates.items()}
    return found


def variant_entries(price: Price) -> dict[str, dict[str, Decimal]]:
    """Return the variants of a price in the form of a price file."""
    return {
        " ".join(sorted(terms)): {str(key): rate for key, rate in rates.items()}
        for terms, rates in price.variants.items()
    }


def window_entry(window: DailyWindow) -> dict[str, t.Any]:
    """Return a window in the form of a price file."""
    days = {"weekdays": sorted(window.weekdays)} if window.weekdays else {}
    rates = {str(key): rate for key, rate in window.rates.items()}
    hours = [f"{_clock(start)}-{_clock(end)}" for start, end in window.spans]
    return {"hours": hours, **days, **rates}


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _weekday(key: str, value: object) -> int:
    day = str(value)
    if day not in "1234567" or len(day) != 1:
        raise Malformed(f"{key}: weekdays must be 1 (Monday) to 7, not {value!r}")
    return int(day)


_SPAN: t.Final = re.compile(r"(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)\Z")


def _span(key: str, value: object) -> tuple[int, int]:
    found = _SPAN.match(str(value))
    if found is None:
        raise Malformed(f"{key}: hours must look like 16:30-00:30, not {value!r}")
    start, end = (int(found[n]) * 60 + int(found[n + 1]) for n in (1, 3))
    if max(start, end) > 1440 or max(found[2], found[4]) > "59":
        raise Malformed(f"{key}: hours must be between 00:00 and 24:00, not {value!r}")
    return start, end
