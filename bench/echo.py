# SPDX-License-Identifier: Apache-2.0
"""The yardstick: a bare trio server on a Unix socket, without a protocol. Usage: echo.py PATH (echo | sink).

``echo`` sends back what it receives. ``sink`` reads a 4-byte length and that many bytes, and answers 16 bytes.
"""

from __future__ import annotations

import sys
from functools import partial

import trio


async def echo(stream: trio.SocketStream) -> None:
    """Send back what comes."""
    async for data in stream:
        await stream.send_all(data)


async def sink(stream: trio.SocketStream) -> None:
    """Take what comes, answer when it is complete."""
    held = bytearray()
    async for data in stream:
        held += data
        if len(held) >= 4 and len(held) >= 4 + int.from_bytes(held[:4], "little"):
            held.clear()
            await stream.send_all(bytes(16))


async def main(path: str, kind: str) -> None:
    """Listen, say so on standard output, serve."""
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(path)
    sock.listen()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await trio.serve_listeners({"echo": echo, "sink": sink}[kind], [trio.SocketListener(sock)])


if __name__ == "__main__":
    trio.run(partial(main, *sys.argv[1:3]))
