from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.capture.server import Answer
from tests.capture.server import CHAT_JSON
from tests.capture.server import Provider


@pytest.fixture(scope="session")
def _server() -> Iterator[Provider]:
    provider = Provider()
    thread = threading.Thread(target=provider.serve_forever, args=(0.01,))
    thread.start()
    yield provider
    provider.released.set()
    provider.shutdown()
    provider.server_close()
    thread.join()


@pytest.fixture
def provider(_server: Provider) -> Provider:
    """A provider on the loopback, which answers like OpenAI."""
    _server.play(Answer(CHAT_JSON, headers=(("Content-Type", "application/json"),)))
    return _server


@pytest.fixture
def provider_url(provider: Provider) -> str:
    return f"http://{provider.host}"
