"""Hosts of providers that answer exactly like OpenAI.

Sources: the default URLs of their SDKs, and of LiteLLM (``openai_like/providers.json``,
``get_llm_provider_logic.py``), whose names for them the bundled prices use.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

GATEWAYS: t.Final[Mapping[str, str]] = {
    "abliteration": "api.abliteration.ai",
    "ai21": "api.ai21.com",
    "aiand": "api.aiand.com",
    "aihubmix": "aihubmix.com",
    "aiml": "api.aimlapi.com",
    "amazon_nova": "api.nova.amazon.com",
    "anyscale": "api.endpoints.anyscale.com",
    "apertis": "api.stima.tech",
    "arcee": "api.arcee.ai",
    "avian": "api.avian.io",
    "baseten": "inference.baseten.co",
    "chutes": "llm.chutes.ai",
    "clf_ai_gateway": "api.clfaigateway.dev",
    "cognition": "api.cognition.ai",
    "coralbricks": "inference.coralbricks.ai",
    "cortecs": "api.cortecs.ai",
    "darkbloom": "api.darkbloom.dev",
    "doubleword": "api.doubleword.ai",
    "edenai": "api.edenai.run",
    "featherless_ai": "api.featherless.ai",
    "friendliai": "api.friendli.ai",
    "gigachat": "gigachat.devices.sberbank.ru",
    "gmi": "api.gmi-serving.com",
    "gradient_ai": "inference.do-ai.run *.agents.do-ai.run",
    "helicone": "ai-gateway.helicone.ai",
    "hostinger_router": "router.hostinger.com",
    "inception": "api.inceptionlabs.ai",
    "inferenceapis": "api.inferenceapis.com",
    "kyma": "kymaapi.com",
    "lambda_ai": "api.lambda.ai",
    "libertai": "api.libertai.io",
    "llamagate": "api.llamagate.dev",
    "modelscope": "api-inference.modelscope.cn",
    "morph": "api.morphllm.com",
    "nano-gpt": "nano-gpt.com",
    "neosantara": "api.neosantara.xyz",
    "nscale": "inference.api.nscale.com",
    "opencode_go": "opencode.ai",
    "openinfer": "api.openinfer.ai",
    "ovhcloud": "oai.endpoints.kepler.ai.cloud.ovh.net",
    "parasail": "api.parasail.io",
    "pinstripes": "pinstripes.io",
    "poe": "api.poe.com",
    "prism": "api.prisminference.com",
    "publicai": "api.publicai.co",
    "qianfan": "qianfan.baidubce.com aip.baidubce.com",
    "recraft": "external.api.recraft.ai",
    "refuseless": "api.refuseless.com",
    "reka": "api.reka.ai",
    "sail": "api.sailresearch.com",
    "sarvam": "api.sarvam.ai",
    "scaleway": "api.scaleway.ai",
    "scx-ai": "api.scx.ai",
    "streamlake": "vanchin.streamlake.ai",
    "synthetic": "api.synthetic.new",
    "tencent": "api.hunyuan.cloud.tencent.com tokenhub-intl.tencentcloudmaas.com"
    " api.lkeap.cloud.tencent.com hunyuan.tencentcloudapi.com"
    " hunyuan.*.tencentcloudapi.com lkeap.tencentcloudapi.com",
    "tensormesh": "serverless.tensormesh.ai",
    "typesafe": "api.typesafe.ai",
    "v0": "api.v0.dev",
    "veniceai": "api.venice.ai",
    "wandb": "api.inference.wandb.ai",
    "xiaomi_mimo": "api.xiaomimimo.com",
    "zerogpu": "api.zerogpu.ai",
}
"""The hosts of each, by the name that calls and prices use."""
