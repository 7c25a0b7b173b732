"""Imports: nothing is loaded before it is used, and no cycle at import or run time."""

from __future__ import annotations

import functools
import graphlib
import subprocess
import sys

import grimp
import pytest

CLIENTS = {"requests", "urllib3", "httpx", "httpx2", "aiohttp", "botocore"}
STORES = {"sqlalchemy", "alembic", "flask_sqlalchemy"}


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that a fresh interpreter holds after a statement."""
    show = "import sys\nprint(*{name.partition('.')[0] for name in sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", f"{statement}\n{show}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(result.stdout.split())


def test_the_package_loads_no_database_and_no_client() -> None:
    assert not loaded_by("import flask_llm_cost") & (STORES | CLIENTS)


def test_the_extension_class_loads_no_database_and_no_client() -> None:
    loaded = loaded_by("from flask_llm_cost import LlmCost")
    assert not loaded & (STORES | CLIENTS)


@pytest.mark.parametrize(
    "module",
    ["flask_llm_cost.prices", "flask_llm_cost.providers", "flask_llm_cost.call"],
)
def test_reading_and_pricing_load_no_framework(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert not loaded & (STORES | CLIENTS | {"flask", "wtforms", "werkzeug"})


def test_pricing_works_without_a_framework() -> None:
    loaded = loaded_by(
        "from flask_llm_cost.call import Usage\n"
        "from flask_llm_cost.prices import PriceBook\n"
        "PriceBook.bundled().cost('openai', 'gpt-4o', Usage(input_tokens=1))"
    )
    assert not loaded & (STORES | CLIENTS | {"flask", "wtforms", "werkzeug"})


@pytest.mark.parametrize("module", ["ledger.spool", "jsonl"])
def test_the_spool_is_written_without_a_database(module: str) -> None:
    loaded = loaded_by(f"import flask_llm_cost.{module}")
    assert not loaded & (STORES | CLIENTS)


@functools.cache
def import_graph() -> grimp.ImportGraph:
    """Who imports whom, in functions too, but not for type checking only."""
    return grimp.build_graph(
        "flask_llm_cost", exclude_type_checking_imports=True, cache_dir=None
    )


def test_no_import_closes_a_cycle() -> None:
    graph = import_graph()
    imports = {
        module: graph.find_modules_directly_imported_by(module)
        for module in graph.modules
    }
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, naming the cycle


IMPORT_EACH = """
import gc, importlib, json, os, sys
import alembic, flask, flask_sqlalchemy, requests, sqlalchemy, wtforms  # for speed

gc.disable()
gc.freeze()
imported, failed = set(), 0
for name in sys.argv[1:]:
    if name in imported:
        continue
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(name, repr(error), flush=True)
            os._exit(1)
        with open(writable, "w") as file:
            json.dump([each for each in sys.modules if each.startswith(name + ".")], file)
        os._exit(0)
    os.close(writable)
    with open(readable) as file:
        # A package comes first anyway: to import one of these first is the same.
        imported |= set(json.loads(file.read() or "[]"))
    failed += os.waitpid(child, 0)[1] != 0
sys.exit(failed > 0)
"""


def test_each_module_can_be_imported_first() -> None:
    """Each in a process that has imported no other module of the package."""
    # Alembic runs `env` in a context of its own.
    names = {m for m in import_graph().modules if not m.endswith(".env")}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH, *sorted(names)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
