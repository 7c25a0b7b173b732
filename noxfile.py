"""Development sessions: ``nox -l`` lists them."""

from __future__ import annotations

import pathlib

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "typing", "tests", "docs"]

PYPROJECT = nox.project.load_toml("pyproject.toml")


def group(name: str) -> list[str]:
    """The requirements of a dependency group."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


def install(session: nox.Session, *groups: str, options: tuple[str, ...] = ()) -> None:
    """Install the project in editable mode, with dependency groups."""
    wanted = [requirement for name in groups for requirement in group(name)]
    session.install(*options, "-e", ".", *wanted)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, with the servers that the environment names."""
    install(session, "tests")
    session.run("python", "-m", "pytest", *session.posargs)


PYTHONS = ["3.11", "3.12", "3.13"]
"""The supported versions, oldest first."""

EXTRAS = f".[{','.join(PYPROJECT['project']['optional-dependencies'])}]"


@nox.session(venv_backend="uv", python=PYTHONS[0])
def floors(session: nox.Session) -> None:
    """Run the tests that need no SDK with exactly the oldest supported versions."""
    lowest = ("--resolution", "lowest-direct")
    session.install(*lowest, "-e", EXTRAS, *group("floors"))
    session.run("python", "-m", "pytest", "-m", "floors", "tests/test_versions.py")
    # The example app has a base class of its own, which Flask-SQLAlchemy 3.1 accepts.
    without = ("-p", "tests.absent", "--ignore", "tests/instance_example")
    session.run("python", "-m", "pytest", *without, *session.posargs)


@nox.session(venv_backend="uv", python=PYTHONS)
def newest(session: nox.Session) -> None:
    """Run the tests that need no SDK with the newest versions, on each Python."""
    session.install("--upgrade", "-e", EXTRAS, *group("floors"))
    session.run("python", "-m", "pytest", "-p", "tests.absent", *session.posargs)


@nox.session
def stress(session: nox.Session) -> None:
    """Run the long crash, chaos and soak tests."""
    install(session, "tests")
    session.run("python", "-m", "pytest", "-m", "stress", *session.posargs)


@nox.session(venv_backend="uv", python="3.12")
def focus(session: nox.Session) -> None:
    """Check FOCUS exports with validators of 1.2 and 1.4."""
    # The validator requires a NumPy that newer versions of pyarrow do not work with.
    session.install(
        "focus-validator==2.2.1", "pyarrow<22", "focus-data-toolkit==0.14.1"
    )
    session.install("-e", ".", *group("floors"))
    session.run(
        *("python", "-m", "pytest", "-m", "focus", "-p", "tests.absent"),
        *("tests/query/test_focus_validator.py", *session.posargs),
    )


SDKS = {
    "openai2": ("openai", "openai>=2,<3", "httpx"),
    "groq": ("groq", "groq"),
    "cohere": ("cohere", "cohere"),
    "ollama": ("ollama", "ollama"),
    "mistralai": ("mistralai", "mistralai>=3"),
    "langchain-openai": ("langchain_openai", "langchain-openai"),
    "pydantic-ai": ("pydantic_ai", "pydantic-ai-slim[openai]"),
    "litellm": ("litellm", "litellm", "aiohttp"),
    "semantic-kernel": ("more", "semantic-kernel"),
    "genai-without-aiohttp": ("google_genai", "google-genai>=3"),
}
"""SDKs that are rare or conflict: their module in tests/capture/sdks, and packages."""


@nox.session
@nox.parametrize("name", list(SDKS), ids=list(SDKS))
def sdk(session: nox.Session, name: str) -> None:
    """Run the matrix of captured calls with another SDK: ``nox -s "sdk(groq)"``."""
    driver, *packages = SDKS[name]
    install(session, "sdk")
    session.install(*packages)
    session.run(
        *("python", "-m", "pytest", "tests/capture/sdks", *session.posargs),
        env={"LLM_COST_SDKS": driver},
    )


MATRIX = {
    "chat": (
        "chat",
        *("together", "cerebras-cloud-sdk", "gradient", "perplexityai", "sambanova"),
        *("fireworks-ai", "writer-sdk", "zai-sdk"),
    ),
    "frameworks": (
        "frameworks",
        *("langchain-groq", "langchain-deepseek", "langchain-together"),
        *("langchain-xai", "langchain-mistralai", "langchain-fireworks"),
        *("langchain-perplexity", "llama-index-llms-openai"),
        *("haystack-ai", "instructor", "openai-agents", "smolagents[openai]", "agno"),
        *("autogen-ext[openai]", "autogen-agentchat"),
    ),
    "services": (
        "services",
        *("portkey-ai", "huggingface_hub", "azure-ai-inference", "ai21", "voyageai"),
        *("replicate", "elevenlabs", "deepgram-sdk"),
    ),
    "more": (
        "more",
        *("langchain-anthropic", "langchain-ollama", "langchain-openrouter"),
        *("langchain-nvidia-ai-endpoints", "llama-index-llms-anthropic"),
        *("aisuite[openai]", "any-llm-sdk"),
    ),
}
"""SDKs that go together in one virtualenv: a module in tests/capture/sdks, and packages."""


@nox.session(venv_backend="uv")
@nox.parametrize("name", [*MATRIX, *SDKS], ids=[*MATRIX, *SDKS])
def matrix(session: nox.Session, name: str) -> None:
    """Try many SDKs, and write the table of the documentation: ``nox -s matrix``."""
    driver, *packages = (MATRIX | SDKS)[name]
    install(session, "sdk")
    session.install("aiohttp", "boto3", "httpx", "httpx2", *packages)
    recorded = pathlib.Path(session.cache_dir, "sdk_matrix.jsonl")
    if name == next(iter(MATRIX)):
        recorded.unlink(missing_ok=True)
    session.run(
        *("python", "-m", "pytest", "tests/capture/sdks", *session.posargs),
        env={"LLM_COST_SDKS": driver, "LLM_COST_MATRIX": str(recorded)},
    )
    table = "docs/clients/matrix.rst"
    session.run("python", "-m", "tools.sdk_matrix", str(recorded), table)


APPS = {
    "dash": "dash",
    "flask_appbuilder": "flask-appbuilder",
    "locust": "locust",
    "mlflow": "mlflow",
    "pgadmin4": "pgadmin4",
    "vanna": "vanna[flask]",
}
"""Public Flask apps: their module in tests/apps/hosts, and package."""


@nox.session(venv_backend="uv")
@nox.parametrize("name", list(APPS), ids=list(APPS))
def apps(session: nox.Session, name: str) -> None:
    """Use the extension in a public Flask app: ``nox -s "apps(mlflow)"``."""
    session.install(APPS[name])
    before = set(pins(session))
    session.install(".")
    moved = before - set(pins(session))
    if moved:
        session.error(f"installing the extension moved {', '.join(sorted(moved))}")
    constraints = pathlib.Path(session.create_tmp()) / "constraints.txt"
    constraints.write_text("\n".join(before))
    session.install("celery", "rq", "fakeredis", "-c", str(constraints))
    session.run("python", "tests/apps/run.py", name)


def pins(session: nox.Session) -> list[str]:
    """The installed packages with their versions."""
    found = session.run("uv", "pip", "freeze", silent=True, external=True)
    return [line for line in str(found).splitlines() if "==" in line]


@nox.session
def replica(session: nox.Session) -> None:
    """Read pages from the standby of a PostgreSQL."""
    install(session, "tests")
    session.run(
        "python", "-m", "pytest", "-m", "cluster", "tests/cluster/test_replica.py"
    )


@nox.session
def galera(session: nox.Session) -> None:
    """Use a cluster of three MariaDBs; needs galera-4 and rsync."""
    install(session, "tests")
    session.run(
        "python", "-m", "pytest", "-m", "cluster", "tests/cluster/test_galera.py"
    )


@nox.session
def citus(session: nox.Session) -> None:
    """Distribute a ledger over the nodes that ``LLM_COST_TEST_CITUS`` is the URL of."""
    install(session, "tests")
    session.run(
        "python", "-m", "pytest", "-m", "cluster", "tests/cluster/test_citus.py"
    )


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz the readers; the options are libFuzzer's: ``-- -max_total_time=600``."""
    install(session, "tests", "fuzz")
    folder = session.create_tmp()
    options = session.posargs or ["-max_total_time=300"]
    session.run("python", "-m", "tests.providers.fuzz", folder, *options)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, spelling, wording and the import contracts."""
    install(session, "lint", "tests")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")
    session.run("python", "-m", "pytest", "-q", "tests/test_english.py")
    session.run("lint-imports")


@nox.session
def typing(session: nox.Session) -> None:
    """Check types: mypy strictly, pyright as a second opinion."""
    install(session, "typing")
    session.run("mypy")
    # By default, it may use the packages of another Python.
    session.run("pyright", "--pythonpath", f"{session.bin}/python")


@nox.session(venv_backend="uv")
def pin(session: nox.Session) -> None:
    """Pin the tools of CI, with hashes."""
    session.install("uv")
    session.run(
        *("uv", "pip", "compile", ".ci/tools.in", "-o", ".ci/tools.txt", "--upgrade"),
        *("--generate-hashes", "--universal", "--python-version", "3.11"),
        *("--no-header", "--no-annotate", "--no-emit-index-url"),
    )


@nox.session
def docs(session: nox.Session) -> None:
    """Build the docs; a warning is an error."""
    install(session, "docs")
    session.run("sphinx-build", "-E", "-W", "-b", "html", "docs", "docs/_build/html")
    session.run("towncrier", "build", "--draft", "--version", "next")


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks, or the given ones; there are no thresholds."""
    install(session, "tests")
    for name in session.posargs or ["adapter", "ledger", "pricing", "readers"]:
        session.run("python", f"benchmarks/{name}.py")
