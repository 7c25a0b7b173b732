"""The words that pages use for the values of a call."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from collections.abc import Mapping

from ..call import Call
from ..call import OUTCOME_LABELS
from ..call import SILENT_OUTCOMES
from ..call import USAGE_SOURCE_LABELS

METERS: t.Final = {
    "input": "Uncached input",
    "input_audio": "Audio input",
    "input_image": "Image input",
    "cache_read": "Cache reads",
    "cache_write": "Cache writes",
    "cache_write_1h": "Cache writes, 1 hour",
    "output_audio": "Audio output",
    "output_image": "Image output",
    "reported": "Reported by the provider",
    "units": "Tools and other units",
}

PRICE_SOURCES: t.Final = {
    "provider": "Reported by the provider",
    "bill": "A bill",
    "override": "Price overrides",
    "file": "Price file",
    "bundled": "Bundled prices",
}

FLAGS: t.Final = {
    "unpriced": "No price was found",
    "borrowed_price": "Priced like another provider's model of the same name",
    "derived": "A missing rate was derived from another rate",
    "modality_fallback": "Audio or images were priced at the text rate",
    "cache_fallback": "Cached input was priced at the input rate, which is the most",
    "cache_write_fallback": "Cache writes were priced at the input rate",
    "mode_fallback": "The mode has no price; priced as standard",
    "prepaid": "Reserved capacity, billed separately",
    "unknown_tier": "Unknown service tier; priced as standard",
    "unconfirmed_tier": "The response does not confirm the requested service tier",
    "unstated_cache": "Cached input is not reported; all priced at the input rate",
    "model_fallback": "The served model has no price; priced as the requested one",
    "other_model": "A fallback model answered instead of the requested one",
    "condition_fallback": "No price for this size, quality, resolution or search context",
    "fallback_credit": "A credit for a fallback was redeemed; its amount is unknown",
    "unread_usage": "The response has usage that could not be read",
    "session_fee": "A fee over time may be billed, such as for storage or a session",
    "cut": "The stream was cut before its final usage",
    "usage_conflict": "Token counts are contradictory or incomplete",
    "no_usage": "The response reported no usage",
    "estimated": "Usage was estimated",
    "client_estimate": "Usage as the client counted it, over all of its attempts",
    "results_dropped": "Too many or too long batch results; some were not recorded",
    "repeated": "A repeated poll of a response that may already be counted",
    "unknown_provider": "The stream's provider is unknown; it was read as OpenAI's",
    "unlisted_host": "The host is unlisted; recorded under its own name",
    "broken_frames": "Parts of the stream could not be parsed",
    "unreadable_encoding": "The response's content encoding could not be decoded",
    "unreadable_event": "A stream event could not be parsed",
    "reader_error": "The response could not be parsed",
    "tags_dropped": "Some tags were invalid or too many, and were dropped",
    "tag_error": "A tag provider raised an exception",
    "no_context": "Sent outside of the app's context, so tag providers had no request",
    "truncated_text": "A value was too long and was truncated",
}
"""The meaning of each flag."""

FLAG_FIXES: t.Final = {
    "unpriced": "Add a price in LLM_COST_PRICE_OVERRIDES (0 for a free model).",
    "borrowed_price": "If the price differs, add one for this provider.",
    "derived": "If you pay a different rate, add it to your price file.",
    "modality_fallback": "Add a rate such as input_audio to your price file.",
    "cache_fallback": "Add a rate cache_read to your price file.",
    "cache_write_fallback": "Add a rate cache_write to your price file.",
    "mode_fallback": "Add a rate such as batch_input to your price file.",
    "prepaid": "To give these calls a cost, add a rate for the deployment.",
    "unknown_tier": "If the tier has another price, add an alias or a price for it.",
    "unconfirmed_tier": "Compare a few of these calls with the provider's bill.",
    "unstated_cache": "Send perf_metrics_in_response to Fireworks.",
    "model_fallback": "Add a price or an alias for the model that answered.",
    "other_model": "Nothing to do: the call is priced as the model that answered.",
    "condition_fallback": "If your price differs, add it to your price file.",
    "fallback_credit": "Compare these calls with the provider's bill.",
    "unread_usage": "If this persists, upgrade Flask-LLM-Cost.",
    "session_fee": "Compare these days with the provider's bill.",
    "cut": "Read streams to the end, or stop them less often.",
    "usage_conflict": "Compare a few of these calls with the provider's bill.",
    "no_usage": "Request usage: stream_options or LLM_COST_INJECT_STREAM_USAGE.",
    "estimated": "Request usage from the provider: LLM_COST_INJECT_STREAM_USAGE.",
    "client_estimate": "Nothing to do. Compare these calls with the bill.",
    "results_dropped": "Read batch results in smaller parts, or track them manually.",
    "repeated": "Check whether another call has the same response ID.",
    "unknown_provider": "Use a known provider's name, or LLM_COST_PROVIDER_HOSTS.",
    "unlisted_host": "Add it to LLM_COST_PROVIDER_HOSTS.",
    "broken_frames": "If this persists, check whether a proxy modifies responses.",
    "unreadable_encoding": "Install brotli or zstandard, or do not accept this encoding.",
    "unreadable_event": "If this persists, upgrade Flask-LLM-Cost.",
    "reader_error": "This is a bug in Flask-LLM-Cost. Please report the logged traceback.",
    "tags_dropped": "Send fewer or shorter tags (LLM_COST_MAX_TAGS), with valid keys.",
    "tag_error": "The app's log names the tag provider and the exception.",
    "no_context": "Use llm_cost.bind() for threads, app.app_context() in tasks.",
    "truncated_text": "If it matters, shorten the value at its source.",
}
"""What to do about a flag."""

COVERAGE: t.Final = {
    "cost": ("Cost", "See the unpriced models and the calls without usage below."),
    "usage": ("Usage", "See the calls without usage below."),
    "stream_usage": (
        "Usage of streams",
        "Request it with include_usage, and read streams to the end.",
    ),
    "tags": ("Tags", "Add a tag provider, or set LLM_COST_DEFAULT_TAGS."),
    "latency": ("Latency", "Pass latency_ms when you track calls manually."),
    "response_id": (
        "Response ID",
        "Used to find duplicates. Not every API returns one.",
    ),
}
"""What a call should have, and what to do where it is missing."""

COVERAGE_FILTERS: t.Final[Mapping[str, Mapping[str, str]]] = {
    "cost": {"sort": "unknown_pricing"},
    "usage": {"usage_source": "unknown"},
    "stream_usage": {"usage_source": "unknown", "stream": "yes"},
}
"""The filters that find the calls where it is missing."""

FLAG_FILTERS: t.Final[Mapping[str, Mapping[str, str]]] = {
    "unpriced": {"sort": "unknown_pricing"},
    "no_usage": {"usage_source": "unknown"},
    "estimated": {"usage_source": "estimated"},
}
"""The filters that find the calls with a flag, where there are any."""


def words(name: str) -> str:
    """``cache_read_audio`` as ``cache read audio``."""
    return name.replace("_", " ")


def meter(name: str) -> str:
    """The name of a meter: ``Cache reads``, ``Web search``."""
    return METERS.get(name) or words(name).capitalize()


def tone(meter: str) -> str:
    """The CSS class of a meter's color, which is that of its token type."""
    for side in ("cache_read", "cache_write", "input", "output"):
        if meter == side or meter.startswith(f"{side}_"):
            return f"t-{side.replace('_', '-')}"
    return "t-output" if meter == "reasoning" else "t-units"


def per(rate: str) -> str:
    """What a rate applies to: a million tokens, or one unit."""
    tokens = any(side in rate for side in ("input", "output", "cache_", "reasoning"))
    return "per 1M" if tokens else f"per {words(rate)}"


def outcome(name: str, status: int | None = None) -> tuple[str, str]:
    """An outcome's label and tone: ``("HTTP error 429", "bad")``."""
    label = OUTCOME_LABELS.get(name, words(name))
    if name == "http_error" and status is not None:
        label = f"{label} {status}"
    bad = name in ("http_error", "failed", "no_response")
    return label, "good" if name == "ok" else "bad" if bad else "warn"


def usage_source(name: str) -> str:
    """A usage source's label."""
    return USAGE_SOURCE_LABELS.get(name, words(name))


def failure(reason: str) -> tuple[str, str]:
    """The label and outcome of failed attempts, given an HTTP status or an outcome."""
    if reason.isdigit():
        return outcome("http_error", int(reason))[0], "http_error"
    return outcome(reason)[0], reason


def flag(name: str) -> tuple[str, str]:
    """A flag's meaning and tone."""
    if "." in name:
        return "A condition that may affect the price", ""
    return FLAGS.get(name, ""), "warn"


def free(call: Call) -> bool:
    """Whether a call ended before it could cost anything."""
    return call.usage is None and call.outcome in SILENT_OUTCOMES


def sentence(parts: Iterable[str]) -> str:
    """Reasons as one sentence."""
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def why_unpriced(call: Call) -> str:
    """Why a call has no cost."""
    if free(call):
        return "The attempt got an HTTP error or no response, so nothing was used."
    if call.usage is None:
        return "The response reported no usage, so the cost is unknown."
    return "No price was found for this model."
