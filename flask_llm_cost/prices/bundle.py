"""What prices come with a release? ``python -m flask_llm_cost.prices.bundle`` makes them.

It reads stored copies of LiteLLM's and genai-prices' files, plain or gzipped, and writes
``bundled.json``. The same input gives the same bytes.
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
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from .layers import BUNDLED
from .sources import genai_prices
from .sources import litellm
from .sources import Sheet

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

FEES: t.Final[dict[str, Rates]] = {
    "anthropic/*": {
        "web_search": Decimal("0.01"),
        "_notes": "https://platform.claude.com/docs/en/about-claude/pricing",
    },
    "azure/*": {
        "file_search": Decimal("0.0025"),
        "_notes": "https://azure.microsoft.com/pricing/details/cognitive-services/openai-service/",
    },
    "openai/*": {
        "file_search": Decimal("0.0025"),
        "_notes": "https://platform.openai.com/docs/pricing",
    },
    "xai/*": {
        "web_search": Decimal("0.005"),
        "x_search": Decimal("0.005"),
        "_notes": "https://docs.x.ai/docs/models",
    },
}
"""Fees of tools that are the same for all models, and in neither source or not in full.

They are those of the makers' published price lists, which ``_notes`` name. No source is
there to check them against: whoever makes the bundled prices anew should look there.
"""

_LISTED: t.Final = frozenset(
    ("openai", "anthropic", "gemini", "deepseek", "xai", "mistral")
)
"""Makers of models whose list prices both sources follow: where they differ, the price
moved in between. Elsewhere they mean different regions or currencies."""


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
    """Join what holds now with history and retired models.

    :return: Prices by name, and other names of models.
    """
    models = {
        name: [_filled(each, _snapshot(name, each, current)) for each in prices]
        for name, prices in past.models.items()
    }
    for name, prices in current.models.items():
        known = past.models.get(past.also.get(name, name))
        if known is None:
            models[name] = prices
        else:
            same = name in past.models
            models[name] = _dated(
                name, prices[0], known, current_date, past_date, same=same
            )
    also = {
        other: name
        for other, name in past.also.items()
        if other not in models and name in models
    }
    return models, also


def _snapshot(name: str, rates: Rates, current: Sheet) -> Rates:
    """The newest dated snapshot of a retired model that has the same text rates."""
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
    """A model's prices by date; the newest are those that hold now."""
    before = [each for each in known if _since(each) <= past_date.isoformat()]
    announced = [each for each in known if _since(each) > past_date.isoformat()]
    if not before:
        return [rates]
    held = before.pop()
    if not same:
        # A name that history only groups with another: take its dates, not its rates.
        return [*before, _from(rates, held.get("valid_from"))] if before else [rates]
    done = [each for each in announced if _since(each) <= current_date.isoformat()]
    coming = [each for each in announced if _since(each) > current_date.isoformat()]
    for each in done:
        if _agree(rates, each):
            return [*before, held, _from(_filled(rates, each), each["valid_from"])]
    if _agree(rates, held):
        return [*before, _from(_filled(rates, held), held.get("valid_from")), *coming]
    if name.partition("/")[0] in _LISTED and "windows" not in held:
        return [*before, held, _from(rates, past_date.isoformat())]
    return [rates]


def _since(rates: Rates) -> str:
    return str(rates.get("valid_from", ""))


def _agree(one: Rates, other: Rates) -> bool:
    shared = [key for key in ("input", "output") if key in one and key in other]
    return all(one[key] == other[key] for key in shared)


def _filled(rates: Rates, other: Rates) -> Rates:
    """With the meters that only the other source knows."""
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
    also: Mapping[str, str],
    sources: Sequence[Source],
) -> bytes:
    """The file: sorted, one model a line, every rate as text."""
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
    lines.append(f'"also":{_json(dict(sorted(also.items())))}}}')
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
    raise TypeError(f"{value!r} has no place in a price file")


def read_source(path: Path) -> tuple[t.Any, str]:
    """A stored copy's JSON, plain or gzipped, and the sha256 of its content."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    return json.loads(data, parse_float=Decimal), hashlib.sha256(data).hexdigest()


def recorded(path: Path = BUNDLED) -> dict[str, Source]:
    """What copies the present file was made of."""
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
    before = recorded().get(name)
    if before is not None and before.sha256 == sha256:
        version, date = version or before.version, date or before.date
    if version is None or date is None:
        option = name.partition("-")[0]
        raise SystemExit(
            f"This copy of {name} is a new one: say --{option}-version and --{option}-date."
        )
    return Source(name, version, date, sha256)


def build(options: argparse.Namespace) -> tuple[bytes, Sheet, Sheet, int]:
    """Make the file's bytes from the stored copies."""
    current_json, current_sha = read_source(options.litellm)
    past_json, past_sha = read_source(options.genai)
    sources = (
        _source(
            litellm.NAME, current_sha, options.litellm_version, options.litellm_date
        ),
        _source(genai_prices.NAME, past_sha, options.genai_version, options.genai_date),
    )
    current, past = litellm.read(current_json), genai_prices.read(past_json)
    models, also = merge(
        current, past, current_date=sources[0].date, past_date=sources[1].date
    )
    fees = {name: [rates] for name, rates in FEES.items()}
    return render({**models, **fees}, also, sources), current, past, len(models)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flask_llm_cost.prices.bundle", description=__doc__
    )
    parser.add_argument("--litellm", type=Path, required=True, metavar="FILE")
    parser.add_argument("--genai", type=Path, required=True, metavar="FILE")
    for name in ("litellm", "genai"):
        parser.add_argument(f"--{name}-version", metavar="TEXT")
        parser.add_argument(
            f"--{name}-date", type=dt.date.fromisoformat, metavar="YYYY-MM-DD"
        )
    parser.add_argument("--output", type=Path, default=BUNDLED, metavar="FILE")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file, and say what it holds and what it does not."""
    options = _parser().parse_args(arguments)
    data, current, past, count = build(options)
    options.output.write_bytes(data)
    _say(f"{options.output}: {count} models, {len(data):,} bytes.")
    for name, sheet in (("LiteLLM", current), ("genai-prices", past)):
        left = sum(sheet.unread.values())
        if sheet.read:
            share = Decimal(sheet.read * 100) / (sheet.read + left)
            _say(f"{name}: {sheet.read:,} values read, {share:.1f} %; {left} not:")
        _list(sheet.unread.items())
        _list(sheet.refused.items())
    return 0


def _list(pairs: Iterable[tuple[str, object]]) -> None:
    for name, value in sorted(pairs):
        _say(f"  {name}: {value}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
