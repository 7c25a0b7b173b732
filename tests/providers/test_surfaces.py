"""What costs money at known hosts and is not read is a row without usage."""

from __future__ import annotations

import pytest

from flask_llm_cost.providers import Exchange
from flask_llm_cost.providers import route
from flask_llm_cost.providers.unread import UNREAD

UNREAD_URLS = """
aws_polly polly.us-east-1.amazonaws.com/v1/synthesisTasks
anthropic api.anthropic.com/v1/experimental/generate_prompt
assemblyai api.assemblyai.com/lemur/v3/generate/task
azure x.cognitiveservices.azure.com/speechtotext/transcriptions:transcribe
azure x.cognitiveservices.azure.com/contentsafety/text:analyze
azure x.openai.azure.com/openai/v1/realtime/calls
bedrock bedrock-runtime.us-east-1.amazonaws.com/async-invoke
bedrock bedrock-runtime.us-east-1.amazonaws.com/guardrail/g/version/1/apply
bigmodel open.bigmodel.cn/api/paas/v4/web_search
black_forest_labs api.bfl.ai/v1/finetune
cloudflare api.cloudflare.com/client/v4/accounts/a/ai/tomarkdown
cohere api.cohere.com/v1/summarize
cohere api.cohere.com/v1/parse
cohere api.cohere.com/v1/embed-jobs
cohere api.cohere.com/v1/finetuning/finetuned-models
databricks x.cloud.databricks.com/api/2.0/vector-search/indexes/i/query
deepgram api.deepgram.com/v1/read
deepinfra api.deepinfra.com/v1/inference/org/model
elevenlabs api.elevenlabs.io/v1/sound-generation
elevenlabs api.elevenlabs.io/v1/music
elevenlabs api.elevenlabs.io/v1/speech-to-speech/v/stream
elevenlabs api.elevenlabs.io/v1/dubbing
elevenlabs api.elevenlabs.io/v1/text-to-dialogue
fireworks api.fireworks.ai/inference/v1/workflows/accounts/f/models/flux/text_to_image
gemini generativelanguage.googleapis.com/v1beta/models/aqa:generateAnswer
gemini generativelanguage.googleapis.com/v1beta/tunedModels
huggingface router.huggingface.co/hf-inference/models/org/model
jina api.jina.ai/v1/classify
minimax api.minimax.io/v1/video_generation
minimax api.minimax.io/v1/music_generation
mistral api.mistral.ai/v1/libraries/l/documents
mistral api.mistral.ai/v1/conversations/c/restart
novita api.novita.ai/v3/async/txt2img
nvidia ai.api.nvidia.com/v1/genai/stabilityai/sdxl
oci inference.generativeai.us-chicago-1.oci.oraclecloud.com/20231130/actions/rerankText
ollama ollama.com/api/web_search
openai api.openai.com/v1/realtime/calls
openai api.openai.com/v1/chatkit/sessions
perplexity api.perplexity.ai/v1/agent
replicate api.replicate.com/v1/models/o/m/versions/v/trainings
runwayml api.dev.runwayml.com/v1/video_upscale
sagemaker runtime.sagemaker.us-east-1.amazonaws.com/endpoints/e/async-invocations
snowflake x.snowflakecomputing.com/api/v2/cortex/agent:run
stability api.stability.ai/v2beta/image-to-video
stability api.stability.ai/v1/generation/sdxl/text-to-image
together api.together.xyz/v1/fine-tunes
together api.together.xyz/v1/tci/execute
twelvelabs api.twelvelabs.io/v1.3/search
vertex aiplatform.googleapis.com/v1/projects/p/locations/l/batchPredictionJobs
vertex aiplatform.googleapis.com/v1/projects/p/locations/l/reasoningEngines/e:query
watsonx us-south.ml.cloud.ibm.com/ml/v1/text/rerank
writer api.writer.com/v1/applications/a
writer api.writer.com/v1/graphs/question
xai api.x.ai/v1/tts
xai api.x.ai/v1/stt
zai api.z.ai/api/paas/v4/web_search
zai api.z.ai/api/paas/v4/videos/generations
alibaba dashscope.aliyuncs.com/api/v1/services/aigc/video-generation/video-synthesis
alibaba dashscope.aliyuncs.com/api/v1/services/audio/asr/transcription
""".split("\n")[1:-1]

READ_URLS = """
openai api.openai.com/v1/chat/completions
openai api.openai.com/v1/images/generations
anthropic api.anthropic.com/v1/messages
mistral api.mistral.ai/v1/ocr
mistral api.mistral.ai/v1/audio/transcriptions
cohere api.cohere.com/v2/rerank
deepgram api.deepgram.com/v1/listen
elevenlabs api.elevenlabs.io/v1/text-to-speech/v
perplexity api.perplexity.ai/search
jina api.jina.ai/v1/embeddings
voyage api.voyageai.com/v1/rerank
together api.together.xyz/v1/images/generations
groq api.groq.com/openai/v1/audio/transcriptions
novita api.novita.ai/v3/openai/chat/completions
deepinfra api.deepinfra.com/v1/openai/chat/completions
stability api.stability.ai/v2beta/stable-image/generate/core
replicate api.replicate.com/v1/predictions
alibaba dashscope.aliyuncs.com/api/v1/services/aigc/text-generation/generation
""".split("\n")[1:-1]

FREE_URLS = """
api.openai.com/v1/files
api.openai.com/v1/uploads
api.openai.com/v1/realtime/client_secrets
api.anthropic.com/v1/messages/count_tokens
api.anthropic.com/v1/messages/batches
api.cohere.com/v1/tokenize
api.deepgram.com/v1/auth/grant
api.elevenlabs.io/v1/voices/add
generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:countTokens
api.stability.ai/v1/user/balance
api.tavily.com/search
""".split("\n")[1:-1]
"""Free, or not of a model: the search of Tavily is."""


@pytest.mark.parametrize("line", UNREAD_URLS)
def test_a_surface_that_is_not_read_is_a_row_without_usage(line: str) -> None:
    provider, url = line.split()
    found = route("POST", f"https://{url}")
    assert found is not None
    assert (found.provider, found.dialect) == (provider, UNREAD)
    exchange = Exchange(found, request_body=b'{"model": "m"}')
    exchange.begin_response(200, {"content-type": "application/json"})
    exchange.feed(b'{"id": "x", "usage": {"total_tokens": 5}}', decoded=True)
    reading = exchange.reading(ended=True)
    assert (reading.usage, reading.model, reading.response_id) == (None, "m", "x")
    assert "unread_usage" in reading.flags


@pytest.mark.parametrize("line", READ_URLS)
def test_what_is_read_stays_read(line: str) -> None:
    provider, url = line.split()
    found = route("POST", f"https://{url}")
    assert found is not None
    assert found.provider == provider
    assert found.dialect is not UNREAD


@pytest.mark.parametrize("url", FREE_URLS)
def test_what_is_free_is_not_a_call(url: str) -> None:
    assert route("POST", f"https://{url}") is None


@pytest.mark.parametrize("line", UNREAD_URLS)
def test_only_what_is_posted_is_a_call(line: str) -> None:
    found = route("GET", f"https://{line.split()[1]}")
    assert found is None or found.dialect is not UNREAD
