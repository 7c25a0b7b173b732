"""Build ``flask_llm_cost/prices/bundled.json``, the prices that ship with a release.

Reads stored copies of LiteLLM's and genai-prices' files, plain or gzipped. The same input
gives the same bytes. What the sources contradict each other on, and what cannot be true, is
decided by the rules in ``conflicts.py`` and listed in ``price_conflicts.json``.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gzip
import hashlib
import json
import re
import sys
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from flask_llm_cost.prices.layers import BUNDLED
from flask_llm_cost.prices.meters import LIMITS
from flask_llm_cost.prices.meters import parse_key
from flask_llm_cost.prices.names import spelling
from flask_llm_cost.prices.sources import genai_prices
from flask_llm_cost.prices.sources import litellm
from flask_llm_cost.prices.sources import Sheet
from flask_llm_cost.prices.sources.bedrock_regions import price_regionally

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.conflicts import compare
from tools.conflicts import Conflict
from tools.conflicts import contradicted
from tools.conflicts import correct
from tools.conflicts import CORRECTIONS
from tools.conflicts import Corrections
from tools.conflicts import Outdated
from tools.conflicts import rates_of
from tools.conflicts import read_report
from tools.conflicts import render as render_report
from tools.conflicts import REPORT
from tools.conflicts import settle
from tools.twins import in_yuan
from tools.twins import outdated
from tools.twins import regional

Rates: t.TypeAlias = dict[str, t.Any]

NOTICES: t.Final = {
    "litellm": (
        "https://github.com/BerriAI/litellm",
        "MIT License, Copyright (c) 2023 Berri AI",
    ),
    "genai-prices": (
        "https://github.com/pydantic/genai-prices",
        "MIT License, Copyright (c) Pydantic Services Inc. 2025 to present",
    ),
}

_LISTED: t.Final = frozenset(
    ("openai", "anthropic", "gemini", "deepseek", "xai", "mistral")
)
"""Providers whose list prices both sources follow: if the sources differ, the price has
changed in between. For others, they mean different regions or currencies."""


@dataclass(frozen=True, slots=True)
class Source:
    """One stored copy."""

    name: str
    version: str
    date: dt.date
    sha256: str


@dataclass(slots=True)
class Bundle:
    """What becomes the file, and what was decided on the way."""

    models: dict[str, list[Rates]]
    aliases: dict[str, str]
    conflicts: list[Conflict] = field(default_factory=list)


def combine(
    current: Sheet,
    past: Sheet,
    corrections: Corrections,
    *,
    current_date: dt.date,
    past_date: dt.date,
) -> Bundle:
    """Combine the sources, and decide where they contradict each other or reason.

    :raises Outdated: If a correction does not fit the sources.
    """
    spellings = fold_spellings(current, past)
    conflicts = [*_rejected(current), *outdated(current, corrections)]
    conflicts += [*regional(current.replaced), *in_yuan(current.models)]
    conflicts += settle(current.models, corrections)
    retired = settle(past.models, corrections)
    conflicts += [each for each in retired if each.model not in current.models]
    models, aliases = merge(
        current, past, current_date=current_date, past_date=past_date
    )
    conflicts += withdraw(models, current, past, past_date, current_date)
    in_force = {
        name: [each for each in prices if _since(each) <= past_date.isoformat()]
        for name, prices in past.models.items()
    }
    known = {
        name: prices
        for name, prices in in_force.items()
        if prices and name not in corrections.prices
    }
    conflicts += compare(current.models, known, models)
    conflicts += contradicted(current.contradicted, models)
    conflicts += correct(models, corrections)
    conflicts += settle(models, corrections)
    for name in current.models.keys() & models.keys():
        # They have not changed with the price, as far as is known.
        limits = {k: v for k, v in current.models[name][0].items() if k in LIMITS}
        models[name] = [{**limits, **price} for price in models[name]]
    aliases = {
        alias: name
        for alias, name in {**aliases, **spellings}.items()
        if name in models and alias not in models
    }
    # What both sources have, or what is settled again, is the same conflict.
    unique = {each.identity: each for each in reversed(conflicts)}
    return Bundle(models, aliases, [*unique.values()])


def fold_spellings(current: Sheet, past: Sheet) -> dict[str, str]:
    """Give a model one name in both sources: the current one's.

    :return: The other names.
    """
    names: dict[str, str] = {}
    others: dict[str, str] = {}
    for name in sorted(current.models):
        first = names.setdefault(spelling(name), name)
        if first != name:
            others[name] = first
            one, other = current.models[first][0], current.models.pop(name)[0]
            current.models[first] = [{**other, **one}]
    undated: dict[str, set[str]] = {}
    for spelled, name in names.items():
        undated.setdefault(_DATE.sub("", spelled), set()).add(name)
    for name in sorted(past.models):
        if name in current.models:
            continue
        known = names.get(spelling(name))
        candidates = undated.get(spelling(name), set())
        if known is None and name.startswith("bedrock/") and len(candidates) == 1:
            (known,) = candidates
        if known is not None:
            others[name] = known
            past.models.setdefault(known, past.models.pop(name))
    past.aliases = {k: others.get(name, name) for k, name in past.aliases.items()}
    return others


_DATE: t.Final = re.compile(r"-\d{8}\Z")


def _rejected(current: Sheet) -> Iterator[Conflict]:
    for name, reason in current.rejected.items():
        yield Conflict(name, "", "unusable", "", None, "dropped", reason)
    for name, currency in current.currencies.items():
        why = f"its price list is in {currency}"
        yield Conflict(name, "", "currency", "", None, "dropped", why)


def withdraw(
    models: dict[str, list[Rates]],
    current: Sheet,
    past: Sheet,
    past_date: dt.date,
    current_date: dt.date,
) -> Iterator[Conflict]:
    """Drop prices that were announced and taken back.

    History is a few months old. What it announced has come true if the current source has
    it, for the model or for the same model at its maker.
    """
    for name, prices in past.models.items():
        sheet = current.models.get(name) or current.models.get(_passed_on(name))
        announced = [
            each
            for each in prices
            if past_date.isoformat() < _since(each) <= current_date.isoformat()
        ]
        if sheet is None or not announced or _agree(sheet[0], announced[-1]):
            continue
        if name not in current.models:
            models[name] = [each for each in models[name] if each not in announced]
        used = models[name][-1]
        for key, rate in rates_of(announced[-1]).items():
            why = f"announced for {_since(announced[-1])} and taken back"
            found, kept = f"{rate:f}", used.get(str(key))
            if rate == kept:
                continue
            yield Conflict(name, str(key), "announced", found, str(kept), "chosen", why)


def _passed_on(name: str) -> str:
    """Return the maker's name of a model of OpenRouter, which charges the maker's price."""
    _, _, model = name.partition("/")
    return re.sub(r"(?<=\d)\.(?=\d)", "-", model)


def merge(
    current: Sheet, past: Sheet, *, current_date: dt.date, past_date: dt.date
) -> tuple[dict[str, list[Rates]], dict[str, str]]:
    """Merge current prices with history and retired models.

    :return: Prices by name, and other names of models.
    """
    models = {
        name: [_fill_gaps(each, _snapshot(name, each, current)) for each in prices]
        for name, prices in past.models.items()
    }
    for name, prices in current.models.items():
        known = past.models.get(past.aliases.get(name, name))
        if known is None:
            models[name] = [dict(prices[0])]
        else:
            same = name in past.models
            models[name] = _dated(
                name, prices[0], known, current_date, past_date, same=same
            )
    return models, past.aliases


def _snapshot(name: str, rates: Rates, current: Sheet) -> Rates:
    """Return the newest dated snapshot of a retired model with the same text rates."""
    if name in current.models:
        return {}
    dated = re.compile(re.escape(name) + r"-\d{4}-\d{2}-\d{2}\Z")
    for other in sorted(filter(dated.match, current.models), reverse=True):
        if _agree(rates, current.models[other][0]):
            return current.models[other][0]
    return {}


def _dated(
    name: str,
    rates: Rates,
    known: list[Rates],
    current_date: dt.date,
    past_date: dt.date,
    *,
    same: bool,
) -> list[Rates]:
    """Return a model's prices by date, of which the newest is the current one."""
    before = [each for each in known if _since(each) <= past_date.isoformat()]
    announced = [each for each in known if _since(each) > past_date.isoformat()]
    if not before:
        return [rates]
    last = before.pop()
    if not same:
        # History only groups this name with another: use its dates, not its rates.
        return [*before, _from(rates, last.get("valid_from"))] if before else [rates]
    done = [each for each in announced if _since(each) <= current_date.isoformat()]
    coming = [each for each in announced if _since(each) > current_date.isoformat()]
    for each in done:
        if _agree(rates, each):
            return [*before, last, _from(_fill_gaps(rates, each), each["valid_from"])]
    if _agree(rates, last):
        filled = _fill_gaps(rates, last)
        return [*before, _from(filled, last.get("valid_from")), *coming]
    if name.partition("/")[0] in _LISTED and "windows" not in last:
        return [*before, last, _from(rates, past_date.isoformat())]
    return [rates]


def _since(rates: Rates) -> str:
    return str(rates.get("valid_from", ""))


def _agree(one: Rates, other: Rates) -> bool:
    shared = [key for key in ("input", "output") if key in one and key in other]
    return all(one[key] == other[key] for key in shared)


def _fill_gaps(rates: Rates, other: Rates) -> Rates:
    """Add the meters that only the other source knows."""
    gaps = {
        key: value
        for key, value in other.items()
        if key not in rates
        and key not in ("input", "output", "reasoning", "valid_from", "windows")
        and "_above_" not in key
    }
    return {**rates, **gaps}


def _from(rates: Rates, date: object) -> Rates:
    return dict(rates) if date is None else {"valid_from": str(date), **rates}


def render(
    models: Mapping[str, list[Rates]],
    aliases: Mapping[str, str],
    sources: Sequence[Source],
) -> bytes:
    """Write the file: sorted, one model a line, every rate as text."""
    metadata = {
        "updated_at": max(source.date for source in sources).isoformat(),
        "currency": "USD",
        "sources": {
            source.name: {
                "url": NOTICES[source.name][0],
                "version": source.version,
                "date": source.date.isoformat(),
                "sha256": source.sha256,
                "notice": NOTICES[source.name][1],
            }
            for source in sources
        },
    }
    lines = [f'{{"metadata":{_json(metadata)},', '"models":{']
    lines.append(
        ",\n".join(
            f"{_json(name)}:{_json(prices[0] if len(prices) == 1 else prices)}"
            for name, prices in sorted(models.items())
        )
    )
    lines.append("},")
    lines.append(f'"also":{_json(dict(sorted(aliases.items())))}}}')
    return ("\n".join(lines) + "\n").encode()


def _json(value: object) -> str:
    return json.dumps(
        value,
        default=_as_text,
        separators=(",", ":"),
        ensure_ascii=False,
        sort_keys=True,
    )


def _as_text(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    raise TypeError(f"{value!r} cannot be written to a price file")


def read_copy(path: Path) -> tuple[t.Any, str]:
    """Return a stored copy's JSON, and the sha256 of its unpacked content."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    return json.loads(data, parse_float=Decimal), hashlib.sha256(data).hexdigest()


def recorded_sources(path: Path = BUNDLED) -> dict[str, Source]:
    """Return the copies that the existing file was made from."""
    if not path.exists():
        return {}
    found = json.loads(path.read_bytes())["metadata"].get("sources", {})
    return {
        name: Source(
            name, each["version"], dt.date.fromisoformat(each["date"]), each["sha256"]
        )
        for name, each in found.items()
    }


def _source(
    name: str, sha256: str, version: str | None, date: dt.date | None, *, checking: bool
) -> Source:
    before = recorded_sources().get(name)
    if before is not None and before.sha256 == sha256:
        version, date = version or before.version, date or before.date
    if checking:
        version, date = version or "", date or dt.datetime.now(dt.UTC).date()
    if version is None or date is None:
        option = name.partition("-")[0]
        raise SystemExit(
            f"This copy of {name} is new; give --{option}-version and --{option}-date."
        )
    return Source(name, version, date, sha256)


def build(options: argparse.Namespace) -> tuple[Bundle, Sequence[Source], list[Sheet]]:
    """Combine the stored copies.

    :raises Outdated: If a correction does not fit them.
    """
    current_json, current_sha = read_copy(options.litellm)
    past_json, past_sha = read_copy(options.genai)
    checking = options.check
    sources = (
        _source(
            litellm.NAME,
            current_sha,
            options.litellm_version,
            options.litellm_date,
            checking=checking,
        ),
        _source(
            genai_prices.NAME,
            past_sha,
            options.genai_version,
            options.genai_date,
            checking=checking,
        ),
    )
    sheets = [litellm.read(current_json), genai_prices.read(past_json)]
    bundle = combine(
        sheets[0],
        sheets[1],
        Corrections.read(),
        current_date=sources[0].date,
        past_date=sources[1].date,
    )
    return bundle, sources, sheets


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/bundle_prices.py",
        description=__doc__,
        epilog="The version and date of a copy are needed when it is a new one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, source in (("litellm", "LiteLLM"), ("genai", "genai-prices")):
        parser.add_argument(
            f"--{name}",
            type=Path,
            metavar="FILE",
            help=f"stored copy of {source}'s prices",
        )
        parser.add_argument(
            f"--{name}-version", metavar="TEXT", help="version to record for that copy"
        )
        parser.add_argument(
            f"--{name}-date",
            type=dt.date.fromisoformat,
            metavar="YYYY-MM-DD",
            help="date of that copy",
        )
    parser.add_argument(
        "--output",
        type=Path,
        default=BUNDLED,
        metavar="FILE",
        help="file to write instead of the package's own",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="report of conflicts to write, or to check against",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit with status 1 on prices that cannot be true and are not"
        " in the report. Without copies, check the file that was built.",
    )
    return parser


def check(options: argparse.Namespace) -> int:
    """Compare the conflicts with those in the report."""
    known = read_report(options.report)
    if options.litellm is None:
        found = conflicts_in(options.output)
        # What was dropped or replaced must not be back.
        known &= {each.identity for each in found if each.how == "kept"}
    else:
        found = build(options)[0].conflicts
    new = [each for each in found if each.identity not in known]
    for each in sorted(new, key=lambda each: each.identity):
        print(f"{each.model}: {each.rate} {each.found}: {each.rule}, {each.why}")
    print(f"{len(found)} conflicts, {len(new)} of them not in {options.report.name}.")
    return 1 if new else 0


def conflicts_in(path: Path) -> list[Conflict]:
    """Return the conflicts in a file that was built."""
    document, _ = read_copy(path)
    models = _exact(
        {k: v if isinstance(v, list) else [v] for k, v in document["models"].items()}
    )
    # Whoever corrects a price may slip, too.
    corrections = replace(Corrections.read(), prices={})
    found = [*settle(models, corrections), *regional(price_regionally(models))]
    return [*found, *in_yuan(models)]


def _exact(models: t.Any) -> t.Any:
    """Return prices with rates as numbers, as the sources have them."""
    return {
        name: [
            {k: v if parse_key(k) is None else Decimal(v) for k, v in each.items()}
            for each in prices
        ]
        for name, prices in models.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file and the report of conflicts, and say what was not read."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.litellm is None) != (options.genai is None) or (
        options.litellm is None and not options.check
    ):
        parser.error("give copies of both sources: --litellm FILE --genai FILE")
    if options.report is None:
        own = options.check or options.output == BUNDLED
        options.report = REPORT if own else options.output.with_name(REPORT.name)
    try:
        return check(options) if options.check else write(options)
    except Outdated as error:
        print(f"{CORRECTIONS.name}: {error}; look it up again.", file=sys.stderr)
        return 1


def write(options: argparse.Namespace) -> int:
    """Write the file and the report."""
    bundle, sources, sheets = build(options)
    data = render(bundle.models, bundle.aliases, sources)
    options.output.write_bytes(data)
    options.report.write_bytes(render_report(bundle.conflicts))
    print(f"{options.output}: {len(bundle.models)} models, {len(data):,} bytes.")
    print(f"{options.report}: {len(bundle.conflicts)} conflicts.")
    for name, sheet in zip(("LiteLLM", "genai-prices"), sheets, strict=True):
        unread = sum(sheet.unread.values())
        if sheet.read:
            share = Decimal(sheet.read * 100) / (sheet.read + unread)
            print(f"{name}: {sheet.read:,} values read ({share:.1f} %), {unread} not:")
        details: dict[str, object] = {
            **sheet.unread,
            **sheet.rejected,
            **sheet.currencies,
        }
        for detail, value in sorted(details.items()):
            print(f"  {detail}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
