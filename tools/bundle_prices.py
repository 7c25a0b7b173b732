"""Build ``flask_llm_cost/prices/bundled.json``, the prices that ship with a release.

Reads stored copies of LiteLLM's and genai-prices' files, plain or gzipped. The same input
gives the same bytes.
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
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from flask_llm_cost.prices.layers import BUNDLED
from flask_llm_cost.prices.sources import genai_prices
from flask_llm_cost.prices.sources import litellm
from flask_llm_cost.prices.sources import Sheet

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

CORRECTIONS: t.Final = Path(__file__).with_name("price_corrections.json")
"""Prices that both sources lack or have wrong, each with where it is published.

Nothing checks them: look at the providers' price lists before building a new bundle.
"""

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
            models[name] = prices
        else:
            same = name in past.models
            models[name] = _dated(
                name, prices[0], known, current_date, past_date, same=same
            )
    aliases = {
        alias: name
        for alias, name in past.aliases.items()
        if alias not in models and name in models
    }
    return models, aliases


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
    name: str, sha256: str, version: str | None, date: dt.date | None
) -> Source:
    before = recorded_sources().get(name)
    if before is not None and before.sha256 == sha256:
        version, date = version or before.version, date or before.date
    if version is None or date is None:
        option = name.partition("-")[0]
        raise SystemExit(
            f"This copy of {name} is new; give --{option}-version and --{option}-date."
        )
    return Source(name, version, date, sha256)


def build(options: argparse.Namespace) -> tuple[bytes, Sheet, Sheet, int]:
    """Build the file's bytes from the stored copies."""
    current_json, current_sha = read_copy(options.litellm)
    past_json, past_sha = read_copy(options.genai)
    sources = (
        _source(
            litellm.NAME, current_sha, options.litellm_version, options.litellm_date
        ),
        _source(genai_prices.NAME, past_sha, options.genai_version, options.genai_date),
    )
    current, past = litellm.read(current_json), genai_prices.read(past_json)
    models, aliases = merge(
        current, past, current_date=sources[0].date, past_date=sources[1].date
    )
    models.update(read_corrections())
    return render(models, aliases, sources), current, past, len(models)


def read_corrections(path: Path = CORRECTIONS) -> dict[str, list[Rates]]:
    """Return the entries of the file of corrections, by name."""
    document, _ = read_copy(path)
    return {
        name: [{**each["rates"], "_notes": each["published"]}]
        for name, each in document.items()
    }


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
            required=True,
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
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file, and report what was read from the sources and what was not."""
    options = _parser().parse_args(arguments)
    data, current, past, count = build(options)
    options.output.write_bytes(data)
    print(f"{options.output}: {count} models, {len(data):,} bytes.")
    for name, sheet in (("LiteLLM", current), ("genai-prices", past)):
        unread = sum(sheet.unread.values())
        if sheet.read:
            share = Decimal(sheet.read * 100) / (sheet.read + unread)
            print(f"{name}: {sheet.read:,} values read ({share:.1f} %), {unread} not:")
        details: dict[str, object] = {**sheet.unread, **sheet.rejected}
        for detail, value in sorted(details.items()):
            print(f"  {detail}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
