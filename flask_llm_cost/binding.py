"""Carries a context into threads, executors, coroutines and generators."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import typing as t
from collections.abc import Callable

_P = t.ParamSpec("_P")
_R = t.TypeVar("_R")
_T = t.TypeVar("_T")

Runner: t.TypeAlias = Callable[[Callable[[], _T]], _T]
"""Runs a function in some context, and returns what it returns."""


def bind(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run a function in a copy of the current context, each time it is called.

    It may be a coroutine function, or a generator function, plain or async.
    """
    context = contextvars.copy_context()
    if inspect.isasyncgenfunction(function):
        steps = step_async(lambda: context.copy().run, function)
        return t.cast(Callable[_P, _R], functools.wraps(function)(steps))

    @functools.wraps(function)
    def bound(*args: _P.args, **kwargs: _P.kwargs) -> t.Any:
        # A copy for each call: a context cannot be entered twice at the same time.
        run = context.copy().run
        result = run(function, *args, **kwargs)
        return step(run, t.cast(t.Any, result)) if generates else result

    @functools.wraps(function)
    async def bound_coroutine(*args: _P.args, **kwargs: _P.kwargs) -> t.Any:
        work = t.cast("t.Coroutine[t.Any, t.Any, t.Any]", function(*args, **kwargs))
        return await asyncio.create_task(work, context=context.copy())

    generates = inspect.isgeneratorfunction(function)
    chosen = bound_coroutine if inspect.iscoroutinefunction(function) else bound
    return t.cast(Callable[_P, _R], chosen)


def step(
    run: Runner[t.Any], generator: t.Generator[t.Any, t.Any, t.Any]
) -> t.Generator[t.Any, t.Any, t.Any]:
    """Run each step of a generator with ``run``, but not what happens between the steps."""
    advance: Callable[[], t.Any] = functools.partial(next, generator)
    while True:
        try:
            value = run(advance)
        except StopIteration as stop:
            return stop.value
        try:
            sent = yield value
        except GeneratorExit:
            # Only here: since Python 3.13, closing what athrow() returned after it has
            # ended would close the async generator itself.
            run(generator.close)
            raise
        except BaseException as error:
            advance = functools.partial(generator.throw, error)
        else:
            advance = functools.partial(generator.send, sent)


def step_async(
    make_runner: Callable[[], Runner[t.Any]],
    function: Callable[_P, t.AsyncGenerator[t.Any, t.Any]],
) -> Callable[_P, t.AsyncGenerator[t.Any, t.Any]]:
    """An async generator function whose generators are run as :func:`step` runs one.

    :param make_runner: Called once for each generator.
    """

    async def steps(
        *args: _P.args, **kwargs: _P.kwargs
    ) -> t.AsyncGenerator[t.Any, t.Any]:
        run, generator = make_runner(), function(*args, **kwargs)
        advance: Callable[[], t.Any] = functools.partial(anext, generator)
        try:
            while True:
                try:
                    value = await _Stepped(run, advance())
                except StopAsyncIteration:
                    return
                try:
                    sent = yield value
                except GeneratorExit:
                    raise
                except BaseException as error:
                    advance = functools.partial(generator.athrow, error)
                else:
                    advance = functools.partial(generator.asend, sent)
        finally:
            await _Stepped(run, generator.aclose())

    return steps


class _Stepped:
    """Awaits something in the caller's own task, but runs its code with ``run``."""

    def __init__(self, run: Runner[t.Any], awaited: t.Awaitable[t.Any]) -> None:
        self._run = run
        self._awaited = awaited

    def __await__(self) -> t.Generator[t.Any, t.Any, t.Any]:
        return step(self._run, self._awaited.__await__())
