"""Development sessions: ``nox -l`` lists them."""

from __future__ import annotations

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


@nox.session(venv_backend="uv")
def min_versions(session: nox.Session) -> None:
    """Run the tests with the oldest supported versions."""
    install(session, "tests", options=("--resolution", "lowest-direct"))
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def sqlalchemy20(session: nox.Session) -> None:
    """Run the tests with the newest SQLAlchemy 2.0."""
    install(session, "tests")
    session.install("sqlalchemy>=2.0,<2.1")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def stress(session: nox.Session) -> None:
    """Run the long crash, chaos and soak tests."""
    install(session, "tests")
    session.run("python", "-m", "pytest", "-m", "stress", *session.posargs)


SDKS = {
    "openai2": ("openai", "openai>=2,<3", "httpx"),
    "groq": ("groq", "groq"),
    "cohere": ("cohere", "cohere"),
    "ollama": ("ollama", "ollama"),
    "mistralai": ("mistralai", "mistralai>=3"),
    "langchain-openai": ("langchain_openai", "langchain-openai"),
    "pydantic-ai": ("pydantic_ai", "pydantic-ai-slim[openai]"),
    "litellm": ("litellm", "litellm", "aiohttp"),
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
