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
import sys
import typing as t
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from flask_llm_cost.prices.layers import BUNDLED
from flask_llm_cost.prices.meters import parse_key
from flask_llm_cost.prices.sources import genai_prices
from flask_llm_cost.prices.sources import litellm
from flask_llm_cost.prices.sources import Sheet
from flask_llm_cost.prices.sources.bedrock_regions import price_regionally

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.combine import Bundle
from tools.combine import combine
from tools.combine import Rates
from tools.conflicts import Conflict
from tools.conflicts import CORRECTIONS
from tools.conflicts import Corrections
from tools.conflicts import Outdated
from tools.conflicts import read_report
from tools.conflicts import render as render_report
from tools.conflicts import REPORT
from tools.conflicts import settle
from tools.twins import in_yuan
from tools.twins import regional

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


@dataclass(frozen=True, slots=True)
class Source:
    """One stored copy."""

    name: str
    version: str
    date: dt.date
    sha256: str


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
