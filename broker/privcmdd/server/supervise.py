# SPDX-License-Identifier: Apache-2.0
"""The broker's life: accept, serve, reload, drain, stop.

An error of one connection ends no other: an unexpected exception ends its connection and is a line in the log. The
broker ends by signal. SIGTERM or SIGINT drains: no new client is accepted, every request that has arrived is
answered, and each connection is closed when it is idle; a second signal, or the end of the time allowed, closes
the other connections at once. SIGHUP reads the configuration again, and keeps the old one when the new one has an
error.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import resource
import signal
import socket
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from privcmdd import __version__
from privcmdd.model.errors import ModelError
from privcmdd.model.units import DOMID_FIRST_RESERVED
from privcmdd.server import fdpass, handover, headroom, logs, signals, waits
from privcmdd.server.closer import Closer
from privcmdd.server.config import ConfigError
from privcmdd.server.event_store import EventStore
from privcmdd.server.handover import Holdings
from privcmdd.server.hangups import HangUps
from privcmdd.server.host_files import HostFiles
from privcmdd.server.intake import Intake
from privcmdd.server.listen import bar_descriptors
from privcmdd.server.peer import Conduct, Peer, finish
from privcmdd.server.report import Reports
from privcmdd.server.turns import Passes, Turns
from privcmdd.service.broker import Broker
from privcmdd.service.methods import all_imported, machinery
from privcmdd.service.session import Access

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from privcmdd.server.config import Configuration
    from privcmdd.server.listen import Listener
    from privcmdd.server.logs import Log
    from privcmdd.server.notify import Notifier
    from privcmdd.server.state_dir import StateDir
    from privcmdd.server.state_store import StateStore
    from privcmdd.service.keeper import Keeper
    from privcmdd.service.session import Session

# Exit codes; `privcmdd --help` has all of them.
DRAINED: Final = 0
FORCED: Final = 3

# How soon connections are accepted again after the kernel refused.
PAUSE_S: Final = 0.1
# The slow imports begin so long after the start, when the clients that waited for us have been answered: 50 ms each,
# in a thread.
CATCH_UP_AFTER_S: Final = 0.05
# Descriptors that connections never get: for memory files, their copies that go to clients, and the late imports.
RESERVED_FDS: Final = 16
# The log of the records grows for so long before it is moved into the database.
TIDY_EVERY_S: Final = 5.0
# Connections that only administrators get, who can then look, and end others'.
FOR_ADMINISTRATORS: Final = 8
# What a connection costs.
CONNECTION_BYTES: Final = 32_768
# Files that a late import has open for a moment, with the lowest numbers that are free: those of administrators.
FOR_IMPORTS: Final = 2
# Connections accepted before the connections that are already there have their turn.
ACCEPTS_PER_TURN: Final = 16


class Supervisor:
    """One run of the broker."""

    def __init__(
        self,
        configuration: Configuration,
        reread: Callable[[], Configuration],
        listeners: Sequence[Listener],
        log: Log,
        notifier: Notifier,
        state: StateDir | None = None,
        first: socket.socket | None = None,
        taken: Holdings | None = None,
        stored: Mapping[int, tuple[int, int]] | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            configuration: The configuration to run with.
            reread: Reads the configuration again and returns it; raises ConfigError.
            listeners: Sockets that listen already; closed at the end.
            log: Where lines go.
            notifier: The service manager.
            state: Where the state is kept; closed at the end. None: nowhere.
            first: A client that is connected already, non-blocking. No other is accepted before all that it has sent
                so far is answered: whoever starts a broker makes its domains so.
            taken: What another broker has passed on, if this one takes over.
            stored: The events of channels that the service manager has kept, two descriptors of each.

        Raises:
            StateError: What is kept there cannot be used.
        """
        self._first = first
        self._configuration = configuration
        self._reread = reread
        self._listeners = listeners
        self._log = log
        self._notifier = notifier
        self._state = state
        self._files = HostFiles() if state is None else state.files
        self._reports = Reports(configuration.server.report_dir, log)
        instance = os.urandom(8).hex()
        keeper = None if state is None else machinery().keeper(state.store)
        line = None if taken is None else replace(taken.line, epoch=taken.line.epoch + 1)
        line = line if keeper is None else keeper.begin(instance)
        self._broker = Broker(
            configuration.settings, self._files, instance, self._notify, time.monotonic, self._reports, line=line
        )
        self._predecessor = None if taken is None else taken.pid
        self._keep_events(stored or {})
        self._lost = self._restore(keeper, taken)
        if stored and state is not None:
            self._files.drop_events(self._broker.world.machine.events.has_channel)
        self._broker.world.pass_on = self._begin_to_pass_on
        self._headroom = headroom.of_cgroups()
        if self._headroom is not None:
            self._broker.world.spend = self._headroom.spend
        self._broker.world.hang_up = self._hang_up
        self._sooner = trio.Event()
        self._broker.world.leases.on_sooner = self._end_leases_sooner
        self._asked = trio.Event()  # to stop, or to hand over
        self._stopping = False
        self._successor: socket.socket | None = None
        self._conduct = _conduct(configuration)
        self._turns = Turns()
        self._peers: dict[Session, Peer] = {}
        self._closer = Closer(self._fork)
        self._hang_ups = HangUps()
        self._intake = Intake()
        self._nobody_left = trio.Event()
        self._n_connections = 0
        self._n_fds, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._nursery: trio.Nursery

    async def run(self) -> int:
        """Serve until a signal asks to stop.

        Returns:
            The process's exit code: DRAINED when all that had arrived was answered, else FORCED.
        """
        code = FORCED  # a second signal cancels all of what follows
        trio.lowlevel.add_instrument(Passes(self._turns))
        try:
            with trio.open_signal_receiver(*signals.HANDLED) as received:
                signals.release()
                async with trio.open_nursery() as self._nursery:
                    self._nursery.start_soon(self._heed, received)
                    self._nursery.start_soon(self._catch_up)
                    self._nursery.start_soon(self._end_leases)
                    if self._state is not None:
                        self._nursery.start_soon(self._tidy, self._state.store)
                    if self._notifier.watchdog_s:
                        self._nursery.start_soon(self._keep_alive)
                    await self._accept_until_asked()
                    while self._successor is not None and not self._stopping:
                        if await self._hand_over(self._successor):
                            break
                        await self._accept_until_asked()
                    code = DRAINED if self._successor is not None else await self._drain()
                    self._nursery.cancel_scope.cancel()
            self._log.info(
                "stopped", code=code, connections=self._n_connections, lines_suppressed=self._log.n_suppressed
            )
            return code
        finally:
            for listener in self._listeners:
                listener.close()
            self._files.close_all()
            self._hang_ups.close()
            if self._state is not None:
                self._state.close()
            self._notifier.close()

    def _restore(self, keeper: Keeper | None, taken: Holdings | None) -> list[int]:
        """Enter the guests of an earlier broker. Returns the domids of those that are lost."""
        world = self._broker.world
        if taken is not None:
            self._files.adopt(taken.files, taken.events)
            world.machine_files.update(key for key in taken.files if key >= DOMID_FIRST_RESERVED)
        if keeper is not None:
            return keeper.load(world)
        return [] if taken is None else machinery().restore(world, taken.records)

    def _keep_events(self, stored: Mapping[int, tuple[int, int]]) -> None:
        """Have the service manager keep events, where it does that and ports outlive the broker as well."""
        if self._state is not None:
            self._files.keep_events(EventStore(self._notifier, stored))
        else:
            for pair in stored.values():
                fdpass.close_all(pair)

    async def _accept_until_asked(self) -> None:
        """Accept clients until somebody asks to stop or to hand over."""
        async with trio.open_nursery() as accepting:
            accepting.start_soon(self._open, accepting)
            self._notifier.ready(self._status())
            await self._asked.wait()
            accepting.cancel_scope.cancel()

    async def _heed(self, received: AsyncIterator[int]) -> None:
        """Do what signals say: reload, stop, and stop at once when it is said again."""
        async for number in received:
            if self._stopping and number != signal.SIGHUP:
                self._nursery.cancel_scope.cancel()
            elif number != signal.SIGHUP:
                self._stopping = True
                self._asked.set()
                if self._successor is not None:  # what it has said is still read; nobody waits for it any longer
                    with contextlib.suppress(OSError):
                        self._successor.shutdown(socket.SHUT_RDWR)
            elif not self._stopping:
                self._reload()

    def _begin_to_pass_on(self, pid: int) -> tuple[int, ...]:
        """Begin to hand over. Returns the successor's end of a pair of sockets.

        Raises:
            ModelError: EBUSY.
        """
        if self._stopping or self._successor is not None:
            raise ModelError(errno.EBUSY, "this broker is handing over already, or stopping")
        self._successor, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log.info("handing over", to=pid)
        self._asked.set()
        return (theirs.detach(),)

    async def _hand_over(self, to: socket.socket) -> bool:
        """Pass everything on to another broker, after all that has arrived is answered.

        Returns:
            Whether it has taken it. If not, this broker goes on.
        """
        world = self._broker.world
        world.draining = world.passing_on = True
        if not await self._end_connections():
            for peer in list(self._peers.values()):
                peer.drop("another broker takes over")
            await self._end_connections()
        taken = await trio.to_thread.run_sync(handover.give, to, self._holdings(), abandon_on_cancel=True)
        to.close()
        if taken:
            for listener in self._listeners:
                listener.forget()
            return True
        self._log.error("the other broker has not taken over; this one goes on")
        world.draining = world.passing_on = False
        self._successor = None
        self._asked = trio.Event()
        if self._stopping:
            self._asked.set()
        return False

    def _holdings(self) -> Holdings:
        """All that another broker needs to take over."""
        world, state = self._broker.world, self._state
        files, events = self._files.passed_on()
        return Holdings(
            line=world.line,
            pid=os.getpid(),
            state_dir="" if state is None else str(state.path),
            listeners=list(self._listeners),
            lock=-1 if state is None else state.lock,
            files=files,
            events=events,
            records=machinery().records(world) if state is None else {},
        )

    async def _end_connections(self) -> bool:
        """Answer what has arrived, and end all connections. Returns whether they ended in time."""
        for peer in self._peers.values():
            peer.drain()
        with trio.move_on_after(self._configuration.server.drain_timeout_s):
            if self._peers:
                self._nobody_left = trio.Event()
                await self._nobody_left.wait()
        return not self._peers

    def _status(self) -> str:
        return "Serving on " + ", ".join(listener.name for listener in self._listeners)

    async def _keep_alive(self) -> None:
        """Tell the service manager at twice the rate it asks for; a loop that hangs does not."""
        while True:
            self._notifier.alive()
            await trio.sleep(self._notifier.watchdog_s / 2)

    def _hang_up(self, session: Session, why: str) -> None:
        if (peer := self._peers.get(session)) is not None:
            peer.evict(why)

    def _end_leases_sooner(self) -> None:
        self._sooner.set()

    async def _end_leases(self) -> None:
        """Destroy domains when their lease is over, also when nobody asks for anything."""
        leases, now = self._broker.world.leases, self._broker.world.now
        while True:
            with trio.move_on_after(max(0.0, leases.next_s - now())):
                await self._sooner.wait()
            self._sooner = trio.Event()
            if leases.next_s <= now():
                self._hang_ups.n_giving_back += 1
                expiring = self._broker.expire()
                await self._guard(partial(finish, expiring, self._turns, os.geteuid(), self._hang_ups))

    async def _tidy(self, store: StateStore) -> None:
        """Keep the log of the records short, in a thread: that waits for the disk."""
        while True:
            await trio.sleep(TIDY_EVERY_S)
            if store.n_commits:
                try:
                    await trio.to_thread.run_sync(store.tidy)
                except OSError as problem:
                    self._log.once(os.geteuid(), "state", "the log of the state grows", problem=str(problem))

    async def _catch_up(self) -> None:
        """Write the first line and import the rest, late: the first clients need not wait for these slow imports."""
        with trio.CancelScope(shield=True):
            await trio.sleep(CATCH_UP_AFTER_S)
            try:
                await trio.to_thread.run_sync(self._say_started)
                await trio.to_thread.run_sync(all_imported)
            except Exception as problem:  # noqa: BLE001 - the first request that needs it tries again, and says why not
                self._log.error("not ready for requests of the machine yet", problem=str(problem))

    def _say_started(self) -> None:
        self._log.info(
            "started",
            version=__version__,
            pid=os.getpid(),
            sockets=[listener.name for listener in self._listeners],
            paranoid=self._configuration.settings.paranoid,
        )
        if self._predecessor is not None:
            self._log.info("taken over", predecessor=self._predecessor, epoch=self._broker.world.line.epoch)
        if self._state is not None:
            self._say_state(self._state)

    def _say_state(self, state: StateDir) -> None:
        world = self._broker.world
        domains = len(world.machine.domains) if world.has_machine else 0
        self._log.info("state kept", directory=str(state.path), epoch=world.line.epoch, domains=domains)
        if self._lost:
            self._log.error("domains are lost, because their memory files are not there", domains=self._lost)
        if not state.files.guarded:
            problem = "this kernel has no Landlock rule about truncating (Linux 6.2)"
            self._log.warning("clients that may write to a domain can shorten its memory file", problem=problem)

    async def _open(self, accepting: trio.Nursery) -> None:
        """Accept clients, after the one that comes first."""
        if self._first is not None:
            caught_up = trio.Event()
            self._welcome(self._first, caught_up)
            await caught_up.wait()
        for listener in self._listeners:
            accepting.start_soon(self._accept, listener)

    async def _accept(self, listener: Listener) -> None:
        while True:
            try:
                await waits.readable(listener.sock)
                for _ in range(ACCEPTS_PER_TURN):
                    if not self._accept_one(listener.sock):
                        break
            except OSError as problem:  # no room mostly; connections wait in the backlog meanwhile
                self._log.once(os.geteuid(), "accept", "connection not accepted", problem=str(problem))
                await trio.sleep(PAUSE_S)

    def _accept_one(self, listening: socket.socket) -> bool:
        """Take one connection from the backlog. Returns False when there is none."""
        try:
            sock, _ = listening.accept()
        except BlockingIOError:
            return False
        except ConnectionAbortedError:
            return True
        sock.setblocking(False)
        self._welcome(sock)
        return True

    def _welcome(self, sock: socket.socket, caught_up: trio.Event | None = None) -> None:
        """Serve a client, or close its connection and say why; ``caught_up`` is set either way."""
        if not self._begin(sock, caught_up):
            self._closer.end(sock, -1, [])
            if caught_up is not None:
                caught_up.set()

    def _begin(self, sock: socket.socket, caught_up: trio.Event | None) -> bool:
        """Begin to serve a client. Returns False when it is refused."""
        try:
            identity = fdpass.identity(sock)
        except OSError:  # gone already
            return False
        about = {"pid": identity.pid, "gid": identity.gid}
        may_administrate = Access(identity, self._configuration.settings.access).allows("admin", None)
        n_kept = RESERVED_FDS + (0 if may_administrate else FOR_ADMINISTRATORS + FOR_IMPORTS)
        if sock.fileno() >= self._n_fds - n_kept:  # the kernel gives the lowest number that is free
            problem = f"all but {n_kept} of our {self._n_fds} descriptors are in use"
            self._log.once(identity.uid, "descriptors", "connection refused", problem=problem, **about)
            return False
        n_more = FOR_ADMINISTRATORS if may_administrate else 0
        if len(self._peers) >= self._configuration.server.connections + n_more:
            problem = f"{len(self._peers)} connections; server.connections allows no more"
            self._log.once(identity.uid, "server.connections", "connection refused", problem=problem, **about)
            return False
        try:
            if self._headroom is not None and not may_administrate:
                self._headroom.spend(CONNECTION_BYTES)
            session = self._broker.connect(identity)
        except ModelError as refusal:
            reason = "memory" if refusal.errno == errno.ENOMEM else "limits.fds"
            self._log.once(identity.uid, reason, "connection refused", problem=str(refusal), **about)
            return False
        self._n_connections += 1
        try:
            peer = Peer(
                sock,
                self._broker,
                session,
                turns=self._turns,
                hang_ups=self._hang_ups,
                intake=self._intake,
                conduct=self._conduct,
                log=self._log,
                fork=self._fork,
                closer=None if bar_descriptors(sock) else self._closer,
                charge=partial(self._charge_output, session),
                caught_up=caught_up,
            )
        except OSError as problem:
            self._broker.disconnect(session)
            self._log.once(identity.uid, "epoll", "connection refused", problem=str(problem), **about)
            return False
        self._peers[session] = peer
        self._nursery.start_soon(self._serve, peer, session)
        return True

    async def _serve(self, peer: Peer, session: Session) -> None:
        identity = session.identity
        logs.bound.set({"connection": session.number, "uid": identity.uid, "pid": identity.pid})
        try:
            self._log.debug("connected")
            try:
                await peer.run()
            finally:
                peer.close()
            self._log.debug("disconnected", requests=session.n_requests)
        except Exception as problem:  # noqa: BLE001 - any failure ends this connection and no other
            self._broker.report(problem, session)
        finally:
            del self._peers[session]
            if not self._peers:
                self._nobody_left.set()

    def _fork(self, function: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._guard, function)

    async def _guard(self, function: Callable[[], Awaitable[None]]) -> None:
        try:
            await function()
        except Exception as problem:  # noqa: BLE001 - as in _serve
            self._log.error("incident beside a connection", exc_info=problem)

    def _charge_output(self, session: Session, n_bytes: int) -> None:
        """Charge for output that a client has not taken. Who has the most of its uid makes room for the others.

        Raises:
            ModelError: EDQUOT, it is this client that has the most.
        """
        if self._headroom is not None:
            self._headroom.spend(n_bytes)
        while True:
            try:
                session.charge_output(n_bytes)
            except ModelError:
                waiting = {
                    other: peer.n_queued
                    for other, peer in self._peers.items()
                    if other.uid_account is session.uid_account and peer.n_queued
                }
                if not waiting or (deafest := max(waiting, key=lambda other: waiting[other])) is session:
                    raise
                self._peers[deafest].drop(f"{waiting[deafest]} bytes, and others of its uid need room")
            else:
                return

    def _notify(self, session: Session, data: bytes) -> None:
        peer = self._peers.get(session)
        if peer is not None:
            peer.notify(data)

    def _reload(self) -> None:
        self._notifier.reloading()
        try:
            read = self._reread()
        except ConfigError as problem:
            self._log.error("configuration not reloaded, the old one stays", problem=str(problem))
        else:
            waiting = read.waiting_for_restart(self._configuration)
            self._configuration = read.for_running(self._configuration)
            self._broker.reconfigure(self._configuration.settings)
            self._conduct.follow(_conduct(self._configuration))
            self._reports.directory = self._configuration.server.report_dir
            self._log.set_level(self._configuration.log.level)
            if waiting:
                self._log.warning("configuration reloaded; some keys need a restart", keys=waiting)
            else:
                self._log.info("configuration reloaded")
        self._notifier.ready(self._status())

    async def _drain(self) -> int:
        """Answer what has arrived, and end all connections. Returns the exit code."""
        self._broker.world.draining = True
        self._notifier.stopping(f"Draining {len(self._peers)} connections")
        for listener in self._listeners:
            listener.withdraw()
            # What waits in the backlog of our own socket has arrived. The next process that the service manager
            # starts serves the backlog of a socket that was handed in.
            with contextlib.suppress(OSError):
                while listener.ours and self._accept_one(listener.sock):
                    pass
            if listener.ours:
                listener.release()
            else:
                listener.close()
        if await self._end_connections():
            return DRAINED
        self._log.warning("stopping with answers not taken", connections=len(self._peers))
        return FORCED


def _conduct(configuration: Configuration) -> Conduct:
    return Conduct(
        queue_bytes=configuration.settings.limits.connection_queued_bytes,
        linger_s=configuration.server.drain_timeout_s,
        first_s=configuration.server.first_timeout_s or math.inf,
        message_s=configuration.server.message_timeout_s or math.inf,
        deaf_s=configuration.server.deaf_timeout_s or math.inf,
    )


def allow_descriptors() -> None:
    """Raise our limit of open descriptors to what the administrator allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
