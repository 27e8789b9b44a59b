# SPDX-License-Identifier: Apache-2.0
"""One request as a value: what to send, and how to read the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request: method, parameters, and the function that makes a value of the answer and its descriptors."""

    method: str
    params: Mapping[str, Any]
    read: Callable[[Any, tuple[int, ...]], T]


def whole(answer: Any, _fds: tuple[int, ...]) -> Any:
    """Read an answer as it comes: return it unchanged."""
    return answer


def nothing(_answer: Any, _fds: tuple[int, ...]) -> None:
    """Read an answer that says only that the request was performed."""


def plain(method: str, params: Mapping[str, Any]) -> Call[Any]:
    """A call of any method by its name, whose value is the answer as it comes."""
    return Call(method, params, whole)


def given(**params: Any) -> dict[str, Any]:
    """The parameters that are not None."""
    return {name: value for name, value in params.items() if value is not None}
