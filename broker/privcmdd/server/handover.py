# SPDX-License-Identifier: Apache-2.0
"""What a broker passes on to the one that takes over: sockets, memory files, events, and records of all else.

The successor asks for it by the method ``hand_over`` and gets one end of a pair of sockets. When all connections have
ended, the broker sends everything through the other end. The successor answers when it has all that it needs to serve;
until then the broker can still go on, and does so when the successor ends or is silent.

Plain sockets that block: both brokers serve nobody meanwhile.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgpack

from privcmdd.server.fdpass import close_all
from privcmdd.server.listen import Listener
from privcmdd.service.keeping import FORM, HandOverError, Line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privcmdd.service.keeping import Records

TAKEN: Final = b"taken"
# How long each of the two waits for the other.
PATIENCE_S: Final = 30.0
MOST_BYTES: Final = 65_536
# The kernel sends at most 253 descriptors at a time (SCM_MAX_FD).
MOST_FDS: Final = 200


@dataclass(slots=True)
class Holdings:
    """All that a broker holds.

    Attributes:
        line: The line of brokers and the broker's own place in it.
        pid: The broker's process.
        state_dir: Where it keeps its state; empty: nowhere.
        listeners: Its listening sockets.
        lock: The descriptor that holds the lock of ``state_dir``; -1 without one.
        files: Memory files that are not in ``state_dir``: a descriptor of each, by domid.
        events: The two eventfds of each event channel, by its number.
        records: All records.
    """

    line: Line
    pid: int
    state_dir: str
    listeners: list[Listener]
    lock: int = -1
    files: dict[int, int] = field(default_factory=dict)
    events: dict[int, tuple[int, int]] = field(default_factory=dict)
    records: Records = field(default_factory=dict)


def give(to: socket.socket, holdings: Holdings) -> bool:
    """Pass everything on.

    Args:
        to: The broker's end of the pair of sockets.
        holdings: What is passed on; its descriptors stay open here.

    Returns:
        Whether the successor has taken it. If not, nothing has changed.
    """
    to.settimeout(PATIENCE_S)
    try:
        head = {
            "form": FORM,
            "line": [holdings.line.lineage, holdings.line.epoch],
            "pid": holdings.pid,
            "state_dir": holdings.state_dir,
            "listeners": [listener.about() for listener in holdings.listeners],
            "has_lock": holdings.lock >= 0,
        }
        records = os.memfd_create("privcmdd-records", os.MFD_CLOEXEC)
        try:
            with open(records, "wb", closefd=False) as file:
                msgpack.pack(holdings.records, file)
            fds = [records, *(fd for listener in holdings.listeners for fd in listener.descriptors())]
            _send(to, head, [*fds, holdings.lock] if holdings.lock >= 0 else fds)
        finally:
            os.close(records)
        for part in _parts(list(holdings.files.items()), MOST_FDS):
            _send(to, {"files": [key for key, _ in part]}, [fd for _, fd in part])
        for some in _parts(list(holdings.events.items()), MOST_FDS // 2):
            _send(to, {"events": [channel for channel, _ in some]}, [fd for _, pair in some for fd in pair])
        _send(to, {"end": True}, [])
        return to.recv(len(TAKEN)) == TAKEN
    except OSError:
        return False


def take(path: str) -> tuple[Holdings, socket.socket]:
    """Take over from the broker that listens at a path.

    Returns:
        What it has passed on, and the socket to ``confirm`` on.

    Raises:
        HandOverError: There is no broker, it does not hand over, or is of another form.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as asking:
            asking.settimeout(PATIENCE_S)
            asking.connect(path)
            asking.sendall(msgpack.packb([0, 1, "hand_over", [{"form": FORM}]]))
            sock = _answer(asking)
        try:
            sock.settimeout(PATIENCE_S)
            return _receive(sock), sock
        except BaseException:
            sock.close()
            raise
    except (OSError, ValueError, KeyError, TypeError) as problem:  # all but the first: it is no broker of ours
        why = getattr(problem, "strerror", None) or repr(problem)
        raise HandOverError(f"cannot take over from a broker at {path}: {why}") from problem


def confirm(sock: socket.socket) -> None:
    """Tell the broker that everything is taken; it ends then.

    Raises:
        HandOverError: It has given up meanwhile, and goes on.
    """
    try:
        sock.sendall(TAKEN)
    except OSError as problem:
        raise HandOverError(f"the broker has not waited, and goes on: {problem.strerror}") from problem
    finally:
        sock.close()


def _answer(asking: socket.socket) -> socket.socket:
    """The socket that the answer brings."""
    data, fds = b"", []
    unpacker = msgpack.Unpacker()
    while True:
        data, more = _read(asking)
        fds += more
        if not data:
            close_all(fds)
            raise OSError(errno.ECONNRESET, "it has closed the connection")
        unpacker.feed(data)
        for message in unpacker:
            if message[0] == 1 and message[2] is None and len(fds) == 1:
                return socket.socket(fileno=fds[0])
            close_all(fds)
            raise HandOverError(
                f"the broker does not hand over: {message[2][1] if message[2] else 'no descriptor came'}"
            )


def _receive(sock: socket.socket) -> Holdings:
    """Receive everything."""
    taken: list[int] = []
    try:
        head, fds = _message(sock, taken)
        if head["form"] != FORM:
            raise HandOverError(f"the broker passes on form {head['form']}, this version knows form {FORM}")
        with open(fds.pop(0), "rb") as file:  # noqa: PTH123 - a descriptor
            taken.pop(0)
            file.seek(0)
            records = msgpack.unpack(file, strict_map_key=False)
        listeners = [Listener.of(about, fds) for about in head["listeners"]]
        lock = fds.pop(0) if head["has_lock"] else -1
        line = Line(*head["line"])
        holdings = Holdings(line, head["pid"], head["state_dir"], listeners, lock, records=records)
        while "end" not in (head := (message := _message(sock, taken))[0]):
            fds = message[1]
            if "files" in head:
                holdings.files.update(zip(head["files"], fds, strict=True))
            else:
                pairs = zip(fds[::2], fds[1::2], strict=True)
                holdings.events.update(zip(head["events"], pairs, strict=True))
    except BaseException:
        close_all(taken)
        raise
    return holdings


def _message(sock: socket.socket, taken: list[int]) -> tuple[dict[str, Any], list[int]]:
    data, fds = _read(sock)
    taken += fds
    if not data:
        raise OSError(errno.ECONNRESET, "it has stopped in the middle")
    message: dict[str, Any] = msgpack.unpackb(data)
    return message, fds


def _send(to: socket.socket, message: dict[str, Any], fds: Sequence[int]) -> None:
    to.sendmsg([msgpack.packb(message)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])


def _read(sock: socket.socket) -> tuple[bytes, list[int]]:
    room = socket.CMSG_SPACE((MOST_FDS + 1) * array.array("i").itemsize)
    data, ancillary, flags, _ = sock.recvmsg(MOST_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, inner in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(inner[: len(inner) - len(inner) % fds.itemsize])
    if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
        close_all(fds)
        raise OSError(errno.EMFILE, "descriptors were lost: raise the limit of open files (RLIMIT_NOFILE)")
    return data, list(fds)


def _parts(rows: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [rows[at : at + size] for at in range(0, len(rows), size)]
