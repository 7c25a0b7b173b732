"""The one spelling of each provider's name, which calls, prices and budgets use."""

from __future__ import annotations

import typing as t

_SYNONYMS: t.Final = {
    "google": "gemini",
    "googleai": "gemini",
    "google_ai": "gemini",
    "google_genai": "gemini",
    "google_gla": "gemini",
    "gcp.gemini": "gemini",
    "vertex_ai": "vertex",
    "vertex_ai_beta": "vertex",
    "gcp.vertex_ai": "vertex",
    "vertexai": "vertex",
    "google_vertex": "vertex",
    "google_vertexai": "vertex",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "aws": "bedrock",
    "aws_bedrock": "bedrock",
    "amazon_bedrock": "bedrock",
    "aws.bedrock": "bedrock",
    "bedrock_converse": "bedrock",
    "x_ai": "xai",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "dashscope": "alibaba",
    "voyageai": "voyage",
    "moonshotai": "moonshot",
    "zhipuai": "bigmodel",
    "z_ai": "zai",
    "z.ai": "zai",
    "perplexityai": "perplexity",
    "ibm.watsonx.ai": "watsonx",
    "mistralai": "mistral",
    "mistral_ai": "mistral",
    "hugging_face": "huggingface",
    "copilot": "github_copilot",
    "githubcopilot": "github_copilot",
    "github_copilot": "github_copilot",
    "meta_llama": "meta",
    "llama_api": "meta",
}
"""Other spellings, from gateways, price lists, frameworks and OpenTelemetry's conventions
(``gen_ai.provider.name``). ``-`` counts as ``_``."""


def provider_name(name: str) -> str:
    """Return a provider's name in lower case, and without synonyms."""
    name = name.strip().lower()
    return _SYNONYMS.get(name.replace("-", "_"), name)
