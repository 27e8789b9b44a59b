# SPDX-License-Identifier: Apache-2.0
"""Two vocabularies of failure, never mixed.

``ModelError`` is an answer: the caller did something that the real thing refuses, nothing has changed, and
the errno is the one that the real thing gives. ``LawBroken`` is a bug of ours: a law of the model does not hold.
The session that met it ends, and the broker goes on.
"""

from __future__ import annotations

import errno as _errno
from typing import Any


class ModelError(Exception):
    """A refusal with an errno, a sentence and details; nothing has changed unless ``details`` say otherwise.

    Attributes:
        errno: The positive Linux errno.
        text: What was wrong, with the offending value and what was expected.
        details: Machine-readable particulars; keys are part of the protocol.
    """

    def __init__(self, errno: int, text: str, **details: Any) -> None:
        super().__init__(errno, text)
        self.errno = errno
        self.text = text
        self.details = details

    @property
    def name(self) -> str:
        """The errno's name, as in ``ESRCH``."""
        return _errno.errorcode.get(self.errno, str(self.errno))

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


class Unanswered(ModelError):  # noqa: N818 - an answer, as ModelError is
    """A refusal because there is no such operation. The broker counts it under the operation's name.

    Attributes:
        what: The operation's name, as ``domctl getvcpuinfo``.
    """

    def __init__(self, what: str, text: str | None = None, errno: int = _errno.ENOSYS, **details: Any) -> None:
        super().__init__(errno, text or f"{what} is not answered here", op=what, **details)
        self.what = what


class LawBroken(Exception):  # noqa: N818 - deliberately not an Error: the caller did nothing wrong
    """A law of the model does not hold. Always a bug of ours.

    Attributes:
        law: The law's number and name.
        text: What is wrong.
        subject: The part of the state that is wrong, such as ``frame 0x1f``; the same text as long as it stays wrong.
    """

    def __init__(self, law: str, text: str, subject: str = "") -> None:
        super().__init__(f"{law}: {text}")
        self.law = law
        self.text = text
        self.subject = subject
