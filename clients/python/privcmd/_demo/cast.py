# SPDX-License-Identifier: Apache-2.0
"""Device models as the demonstration controls them: processes that take commands, and can be killed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

from privcmd._demo.stage import CheckFailed

if TYPE_CHECKING:
    from types import TracebackType

END_TIMEOUT_S = 10.0


class Actor:
    """A device model process. The end of the block ends it, and checks that its exit status is 0."""

    def __init__(self, path: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "privcmd._demo.device_model", path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.pid: int = self._process.pid

    def __enter__(self) -> Self:
        self.expect("ready")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process.poll() is None:
            if kind is not None:
                process.kill()
            process.communicate(timeout=END_TIMEOUT_S)
            if kind is None and process.returncode:
                raise CheckFailed(f"device model {self.pid} ended with status {process.returncode}")
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    def do(self, what: str, **arguments: Any) -> Any:
        """Give a command. Returns its answer."""
        self.tell(what, **arguments)
        return self.answer()

    def tell(self, what: str, **arguments: Any) -> None:
        """Give a command.

        Raises:
            CheckFailed: The process has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def answer(self) -> Any:
        """Wait for the answer to a command, and return it.

        Raises:
            CheckFailed: The process ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        return json.loads(line)

    def _ended(self) -> CheckFailed:
        status = self._process.wait(END_TIMEOUT_S)
        return CheckFailed(f"device model {self.pid} ended with status {status}, unasked")

    def expect(self, said: str) -> None:
        """Wait for the next line of the process, which has to be this one."""
        heard = self.answer()
        if heard != said:
            raise CheckFailed(f"device model {self.pid} said {heard!r}, not {said!r}")

    def end(self) -> int:
        """Wait for the end of the process. Returns its exit status, negative for a signal."""
        return self._process.wait(END_TIMEOUT_S)

    def kill(self) -> int:
        """Kill the process (SIGKILL) and wait. Returns its exit status."""
        self._process.kill()
        return self._process.wait(END_TIMEOUT_S)
