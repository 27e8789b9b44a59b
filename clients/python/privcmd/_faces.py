# SPDX-License-Identifier: Apache-2.0
"""How a call becomes a method of a face, so that both faces have the same names, signatures and docstrings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from privcmd._call import Call

P = ParamSpec("P")
T = TypeVar("T")


class Blocking(Protocol):
    """An object that can perform a call and wait for its answer."""

    def perform(self, call: Call[T]) -> T:
        """Send it, wait, and return the answer or raise the error."""
        ...


class Awaiting(Protocol):
    """An object that can perform a call in a task."""

    async def perform(self, call: Call[T]) -> T:
        """Send it, wait, and return the answer or raise the error."""
        ...


def blocking(make: Callable[P, Call[T]]) -> Callable[Concatenate[Blocking, P], T]:
    """Make a method that performs the call that ``make`` builds."""

    def method(self: Blocking, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.perform(make(*args, **kwargs))

    return dressed(method, make)


def awaiting(make: Callable[P, Call[T]]) -> Callable[Concatenate[Awaiting, P], Coroutine[Any, Any, T]]:
    """Make a method that performs the call that ``make`` builds, in a task."""

    async def method(self: Awaiting, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.perform(make(*args, **kwargs))

    return dressed(method, make)


class BlockingGroup:
    """Methods that are reached through an attribute of a client."""

    def __init__(self, client: Blocking) -> None:
        self._client = client

    def perform(self, call: Call[T]) -> T:
        """Perform a call by the client. Returns the answer, or raises the error."""
        return self._client.perform(call)


class AwaitingGroup:
    """Methods that are reached through an attribute of a client, for tasks."""

    def __init__(self, client: Awaiting) -> None:
        self._client = client

    async def perform(self, call: Call[T]) -> T:
        """Perform a call by the client. Returns the answer, or raises the error."""
        return await self._client.perform(call)


M = TypeVar("M", bound=Callable[..., Any])


def dressed(method: M, make: Callable[..., Any]) -> M:
    """Give ``method`` the name, docstring and signature of ``make``, with ``self`` first and the answer's type."""
    functools.update_wrapper(method, make)
    del method.__wrapped__  # type: ignore[attr-defined]  # help() would show it without self
    signature = inspect.signature(make)
    self_parameter = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    answer = (
        str(signature.return_annotation).removeprefix("Call[").removeprefix("Steps[").removesuffix("]").strip("\"'")
    )
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[self_parameter, *(p for p in signature.parameters.values() if p.name != "vcpu")],
        return_annotation=answer,
    )
    return method
