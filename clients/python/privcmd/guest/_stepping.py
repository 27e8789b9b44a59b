# SPDX-License-Identifier: Apache-2.0
"""How the steps of a guest's operation become a method of a face."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from privcmd._faces import dressed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from privcmd.guest._vcpu import Steps, Vcpu

P = ParamSpec("P")
T = TypeVar("T")


class Stepping(Protocol):
    """An object that has a vcpu and can take steps to their end."""

    steps: Vcpu

    def drive(self, steps: Steps[T]) -> T:
        """Make the calls that the steps ask for, and wait as they say. Returns their value."""
        ...


class SteppingAsync(Protocol):
    """An object that has a vcpu and can take steps to their end in a task."""

    steps: Vcpu

    async def drive(self, steps: Steps[T]) -> T:
        """Make the calls that the steps ask for, and wait as they say. Returns their value."""
        ...


def stepping(make: Callable[Concatenate[Vcpu, P], Steps[T]]) -> Callable[Concatenate[Stepping, P], T]:
    """Make a method that takes the steps of ``make``."""

    def method(self: Stepping, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.drive(make(self.steps, *args, **kwargs))

    return dressed(method, make)


def stepping_async(
    make: Callable[Concatenate[Vcpu, P], Steps[T]],
) -> Callable[Concatenate[SteppingAsync, P], Coroutine[Any, Any, T]]:
    """Make a method that takes the steps of ``make``, in a task."""

    async def method(self: SteppingAsync, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.drive(make(self.steps, *args, **kwargs))

    return dressed(method, make)
