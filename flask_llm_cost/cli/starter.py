"""The text of a new price file, with comments that explain it."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

_NOTES: t.Final = (
    "Rates are in USD per 1M tokens, or in USD each for units.",
    "A key is provider/model, or a model alone, which applies to any provider.",
    "A new rate is a new entry with a later valid_from; the old entry stays.",
    "_source: manual keeps `prices sync` from changing an entry.",
    "`prices sync --add 'openai/gpt-4o*'` adds models from LiteLLM and OpenRouter.",
    "`prices check` in CI fails when this file is out of date.",
)
_EXAMPLES: t.Final[dict[str, t.Any]] = {
    "openai/my-fine-tune": {
        "input": 3,
        "cache_read": 1.5,
        "output": 12,
        "batch_input": 1.5,
        "batch_output": 6,
        "_source": "manual",
    },
    "anthropic/a-model": [
        {"input": 2, "output": 10},
        {"valid_from": "2026-09-01", "input": 3, "output": 15, "input_above_200k": 6},
    ],
    "openai/*": {"multiplier": 0.93, "file_search": 0.0025},
}


def new_price_file(path: Path) -> str:
    """Return the text of a new price file: YAML or JSON, depending on its suffix."""
    if path.suffix.lower() in (".yaml", ".yml"):
        notes = "".join(f"# {note}\n" for note in _NOTES)
        examples = "".join(
            f"#  {key}: {json.dumps(value)}\n" for key, value in _EXAMPLES.items()
        )
        return f"{notes}\nmetadata: {{}}\n\n# For example:\n{examples}\nmodels: {{}}\n"
    metadata = {"_notes": list(_NOTES), "_examples": _EXAMPLES}
    return json.dumps({"metadata": metadata, "models": {}}, indent=2) + "\n"
