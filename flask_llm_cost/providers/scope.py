"""Reads the scope of a call: the ids and the API key that its headers show."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from urllib.parse import parse_qs
from urllib.parse import urlsplit

from .. import scope

Headers: t.TypeAlias = Mapping[t.Any, t.Any] | Iterable[tuple[t.Any, t.Any]]

ANSWER_IDS: t.Final[Mapping[str, str]] = {
    # https://platform.openai.com/docs/api-reference/debugging-requests
    "openai-organization": "organization",
    "openai-project": "project",
    # https://docs.anthropic.com/en/api/overview#response-headers
    "anthropic-organization-id": "organization",
    "anthropic-workspace-id": "workspace",
    # https://docs.databricks.com/api: the workspace that answered
    "x-databricks-org-id": "workspace",
}
"""Ids by headers of an answer."""

_REQUEST_IDS: t.Final[Mapping[str, str]] = {
    **ANSWER_IDS,
    # https://cloud.google.com/apis/docs/system-parameters
    "x-goog-user-project": "project",
    # huggingface_hub.InferenceClient(bill_to=...)
    "x-hf-bill-to": "organization",
    # dashscope.Generation.call(workspace=...)
    "x-dashscope-workspace": "workspace",
}

_KEYS: t.Final = (
    "x-api-key",  # Anthropic
    "x-goog-api-key",
    "api-key",  # Azure
    "xi-api-key",  # ElevenLabs
    "ocp-apim-subscription-key",
    "authorization",
)
"""Headers with a key, the most telling first."""

_READ: t.Final[frozenset[str | bytes]] = frozenset(
    (*_REQUEST_IDS, *_KEYS, *(name.encode() for name in (*_REQUEST_IDS, *_KEYS)))
)
"""The names of headers to read, as text and as bytes."""

_SCHEME: t.Final = re.compile(r"(?:bearer|token|key|basic)\s+", re.IGNORECASE)
_SIGNED: t.Final = re.compile(r"AWS4-HMAC-SHA256\s.*?Credential=(\w+)/")
_BRIEF: t.Final = ("eyJ", "ya29.", "ASIA")
"""How tokens begin that are replaced every hour: they say nothing about the account."""

_PROJECT: t.Final = re.compile(r"/projects/([^/?]+)/")
_RESOURCE: t.Final = re.compile(
    r"([a-z0-9-]+)\.(?:openai|cognitiveservices|services\.ai)\.azure\.(?:com|us)"
)


class ScopeReader:
    """The scope of one exchange. What the request says takes precedence."""

    __slots__ = ("_ids", "key_digest")

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self.key_digest: str | None = None
        """A digest of the API key."""

    @property
    def text(self) -> str | None:
        """The ids."""
        return scope.text_of(self._ids) if self._ids else None

    def request(self, url: str, headers: Headers) -> None:
        """Read the URL and headers of a request."""
        found = _known(headers)
        if not _REQUEST_IDS.keys().isdisjoint(found):
            for name, kind in _REQUEST_IDS.items():
                if name in found:
                    self.note(kind, found[name])
        self._read_url(url)
        secret = next((found[name] for name in _KEYS if found.get(name)), "")
        secret = _secret(secret or _key_in(url))
        if secret:
            self.key_digest = scope.digest_of(secret)

    def note(self, kind: str, value: str) -> None:
        """Note an id, unless it is known already."""
        if kind not in self._ids and scope.is_id(value):
            self._ids[kind] = value

    def _read_url(self, url: str) -> None:
        if "googleapis.com" in url and (project := _PROJECT.search(url)):
            self.note("project", project[1])
        elif ".azure." in url:
            resource = _RESOURCE.match(urlsplit(url).hostname or "")
            if resource:
                self.note("resource", resource[1])


def _known(headers: Headers) -> dict[str, str]:
    found = {}
    pairs: t.Any = headers.items() if isinstance(headers, Mapping) else headers
    for name, value in pairs:
        name = name.lower()
        if name in _READ:
            found[_plain(name)] = _plain(value).strip()
    return found


def _plain(value: t.Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _secret(value: str) -> str:
    """The part of a header that stays the same as long as the key does."""
    if value.startswith("AWS4-"):
        signed = _SIGNED.match(value)
        value = "" if signed is None else signed[1]
    scheme = _SCHEME.match(value)
    if scheme is not None:
        value = value[scheme.end() :]
    return "" if value.startswith(_BRIEF) else value


def _key_in(url: str) -> str:
    """The key in a query, as Gemini accepts it."""
    if "key=" not in url:
        return ""
    return parse_qs(urlsplit(url).query).get("key", [""])[0]
