"""The rates of one price for one mode and tier, with fallbacks resolved."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from decimal import Decimal

from ..money import context
from ..money import PICO_PER_USD
from ..money import WIDE
from .meters import CORE
from .meters import RateKey
from .meters import TOKENS
from .meters import TOOL_FEES

_RATIO: t.Final = context(28)
"""For a rate derived from a ratio, which may not terminate."""
_TOKEN_SCALE: t.Final = PICO_PER_USD // 10**6

CORE_METERS: t.Final = tuple(CORE)


class Rate(t.NamedTuple):
    """A rate compiled to integers: ``quantity * top / bottom`` is pico-USD."""

    meter: str
    usd: Decimal
    top: int
    bottom: int
    flag: str | None = None
    """Set if the rate is not the meter's own."""


def make_rate(meter: str, usd: Decimal, flag: str | None = None) -> Rate:
    """Compile a rate. One per 1M tokens with up to 6 decimals needs no division."""
    top, bottom = usd.as_integer_ratio()
    top *= _TOKEN_SCALE if meter in TOKENS else PICO_PER_USD
    if top % bottom == 0:
        return Rate(meter, usd, top // bottom, 1, flag)
    return Rate(meter, usd, top, bottom, flag)


class RateTable(t.NamedTuple):
    """Every rate of one price for one mode and tier."""

    core: tuple[Rate | None, ...]
    """In the order of :data:`CORE_METERS`."""
    reasoning: Rate | None
    rest: Mapping[str, Rate]
    request: Rate | None
    tier: str | None
    mode: str | None
    special: bool
    """Whether reasoning or a fee per request is priced separately."""


def compile_table(
    rates: Mapping[RateKey, Decimal],
    *,
    mode: str | None,
    above: int,
    factor: Decimal | None,
    fee_factor: Decimal | None,
    claude: bool,
    seen_as_text: bool = False,
) -> RateTable:
    """Resolve every meter's rate.

    :param above: The threshold of the tier; 0 for the base rates.
    :param factor: A multiplier of all other rates than the fees of tools.
    :param fee_factor: A multiplier of the fees of tools.
    :param claude: Whether Anthropic's rules for cache prices apply.
    :param seen_as_text: Whether what the model sees has the rate of text.
    """
    factors = (factor, fee_factor)
    resolver = _Resolver(rates, mode, above, factors, claude, seen_as_text)
    others = {key.meter for key in rates if key.meter not in TOKENS}
    others |= TOKENS - CORE.keys() - {"reasoning"}
    resolved = {name: resolver.resolve(name) for name in sorted(others)}
    reasoning, request = resolver.reasoning(), resolved.get("request")
    return RateTable(
        core=tuple(resolver.resolve(name) for name in CORE_METERS),
        reasoning=reasoning,
        rest={name: rate for name, rate in resolved.items() if rate is not None},
        request=request,
        tier=f"above_{above // 1000}k" if above else None,
        mode=mode,
        special=reasoning is not None or request is not None,
    )


class _Match(t.NamedTuple):
    usd: Decimal
    own_mode: bool
    above: int
    flag: str | None = None

    @property
    def closeness(self) -> tuple[bool, int, bool]:
        """Orders matches by how close they are to the requested mode and tier."""
        return self.own_mode, self.above, self.flag is None


_CLAUDE_CACHES: t.Final = {
    "cache_read": Decimal("0.1"),
    "cache_write": Decimal("1.25"),
    "cache_write_1h": Decimal(2),
}
"""https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching#pricing: multiples of
the input rate."""

_SEEN: t.Final = frozenset(
    f"{side}_{kind}"
    for side in ("input", "cache_read")
    for kind in ("image", "video", "document")
)

_MODALITIES: t.Final = ("_audio", "_image", "_video", "_document", "_citation")


class _Resolver:
    """Finds the rates of one mode and tier, and fallbacks for missing ones."""

    def __init__(
        self,
        rates: Mapping[RateKey, Decimal],
        mode: str | None,
        above: int,
        factors: tuple[Decimal | None, Decimal | None],
        claude: bool,
        seen_as_text: bool,
    ) -> None:
        self._rates = rates
        self._mode = mode
        self._factors = factors
        self._claude = claude
        self._seen_as_text = seen_as_text
        known = {key.above for key in rates if key.above <= above}
        self._tiers = sorted(known | {0}, reverse=True)

    def _find(self, meter: str) -> _Match | None:
        """Find the meter's own rate, preferring the mode's to the standard one."""
        standard = self._of_mode(None, meter)
        if self._mode is None:
            return standard
        own = self._of_mode(self._mode, meter)
        if own is None or standard is None or own.above >= standard.above:
            return own or standard
        return self._raised(meter, own, standard)

    def _of_mode(self, mode: str | None, meter: str) -> _Match | None:
        for above in self._tiers:
            usd = self._rates.get(RateKey(mode, meter, above))
            if usd is not None:
                return _Match(usd, mode == self._mode, above)
        return None

    def _raised(self, meter: str, own: _Match, standard: _Match) -> _Match:
        """Raise a mode's rate from a lower tier as the standard rate rises.

        The whole request is in one tier in any mode, and a discount applies in each tier.
        """
        lower = self._rates.get(RateKey(None, meter, own.above))
        if not lower:
            return standard
        raised = _RATIO.divide(WIDE.multiply(own.usd, standard.usd), lower)
        return _Match(raised, True, standard.above, "derived")

    def _make(
        self,
        meter: str,
        match: _Match,
        flag: str | None = None,
        times: Decimal | None = None,
    ) -> Rate:
        usd = match.usd
        if times is not None:
            usd = WIDE.multiply(usd, times)
        factor = self._factors[meter in TOOL_FEES]
        if factor is not None:
            usd = WIDE.multiply(usd, factor)
        flag = flag or match.flag
        if flag is None and not match.own_mode and meter in TOKENS:
            flag = "mode_fallback"
        return make_rate(meter, usd, flag)

    def resolve(self, meter: str) -> Rate | None:
        """Return the meter's rate or a flagged fallback; ``None`` if there is neither."""
        match = self._find(meter)
        if match is not None:
            return self._closer(meter, match) or self._make(meter, match)
        if meter not in TOKENS:
            return None
        for modality in _MODALITIES:
            if meter.endswith(modality):
                text = self.resolve(meter.removesuffix(modality))
                if self._seen_as_text and text is not None and meter in _SEEN:
                    return text._replace(meter=meter)
                return _relabel(text, meter, "modality_fallback")
        return self._fallback(meter)

    def _closer(self, meter: str, match: _Match) -> Rate | None:
        """Derive a Claude cache rate if the one that is known is of another mode or tier.

        Claude's cache reads and writes are a multiple of the input rate of the same mode
        and tier. Other meters have no such rule, so the standard rate is the closest.
        """
        if not self._claude or meter not in _CLAUDE_CACHES:
            return None
        base = self._find("input")
        if base is None or base.closeness <= match.closeness:
            return None
        return self._make(meter, base, "derived", _CLAUDE_CACHES[meter])

    def _fallback(self, meter: str) -> Rate | None:
        if meter == "cache_write_30m":
            return _relabel(self.resolve("cache_write"), meter, "derived")
        base = self._find("input")
        if base is None:
            return None
        if self._claude and meter in _CLAUDE_CACHES:
            return self._make(meter, base, "derived", _CLAUDE_CACHES[meter])
        if meter in ("cache_read", "cache_write"):
            return self._make(meter, base, self._cache_flag(meter, base))
        return None

    def _cache_flag(self, meter: str, base: _Match) -> str:
        """Return how sure it is that a cache costs what other input costs.

        Of free input it does. If a price has a rate only for reads, writes have no
        separate rate. Otherwise the price says nothing about the cache.
        """
        if not base.usd or (meter == "cache_write" and self._find("cache_read")):
            return "derived"
        return "cache_fallback" if meter == "cache_read" else "cache_write_fallback"

    def reasoning(self) -> Rate | None:
        """Return the rate for reasoning, if it is as close a match as that of output.

        A standard reasoning rate does not apply to a mode or tier with an output rate of
        its own.
        """
        match, output = self._find("reasoning"), self._find("output")
        if match is None:
            return None
        if output is not None and match.closeness != output.closeness:
            return None
        return self._make("reasoning", match)


def _relabel(rate: Rate | None, meter: str, flag: str) -> Rate | None:
    return None if rate is None else rate._replace(meter=meter, flag=flag)
