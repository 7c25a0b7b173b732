"""What does a price file look like before anything is in it? It explains itself."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

_NOTES: t.Final = (
    "Rates are USD per 1M tokens, and USD each for what is counted by the piece.",
    "A key is provider/model, or a model alone, which serves any provider.",
    "A new rate is a new entry with a later valid_from; the old one stays.",
    "_source: manual keeps an entry from being touched by `prices sync`.",
    "`prices sync --add 'openai/gpt-4o*'` fills this in from LiteLLM and OpenRouter.",
    "`prices check` in CI says when it is out of date.",
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


def starter(path: Path) -> str:
    """The text of a new price file, in the form that its name asks for."""
    if path.suffix.lower() in (".yaml", ".yml"):
        notes = "".join(f"# {note}\n" for note in _NOTES)
        examples = "".join(
            f"#  {key}: {json.dumps(value)}\n" for key, value in _EXAMPLES.items()
        )
        return f"{notes}\nmetadata: {{}}\n\n# For example:\n{examples}\nmodels: {{}}\n"
    metadata = {"_notes": list(_NOTES), "_examples": _EXAMPLES}
    return json.dumps({"metadata": metadata, "models": {}}, indent=2) + "\n"
