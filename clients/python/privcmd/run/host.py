# SPDX-License-Identifier: Apache-2.0
"""A simulated Xen host to run programs on: a broker, domains, xenstored, and device models where they are asked for."""

from __future__ import annotations

import contextlib
import errno
import os

from privcmd.errors import PrivcmdError
from privcmd.run import _program as program
from privcmd.run import _xenstore as xenstore
from privcmd.run._guests import DomainConfig, told

TYPE_CHECKING = False  # typing is slow to import, and each run pays for it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from privcmd._connection import Connection
    from privcmd._protocol import Notification
    from privcmd.client import Client
    from privcmd.run._joined import Joined
    from privcmd.run._standby import Standby
    from privcmd.run._xenstore import Xenstored

__all__ = ["DomainConfig", "Host", "running"]

_SUN_PATH_ROOM = 80


def __getattr__(name: str) -> type[DomainConfig]:
    """``Guest`` was the name of ``DomainConfig``, and is that of a guest which does something, in ``privcmd.guest``."""
    if name != "Guest":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import warnings  # noqa: PLC0415 - slow to import, and only for programs that use the old name

    warnings.warn(f"{__name__}.Guest is {__name__}.DomainConfig now", DeprecationWarning, stacklevel=2)
    return DomainConfig


class Host:
    """A host.

    Attributes:
        socket: Its broker's.
        doms: The domains that were made for it.
    """

    def __init__(
        self,
        stack: contextlib.ExitStack,
        broker: Joined | Standby,
        guests: Sequence[DomainConfig],
        xenstored: Xenstored | None,
        *,
        job: str = "",
        in_session: bool = False,
    ) -> None:
        self.socket: str = broker.path
        self.doms: list[int] = broker.doms
        self._stack = stack
        self._guests = guests
        self._in_session = in_session
        self._job = job
        self._broker = broker
        self._xenstored = xenstored
        self._client: Client | None = None

    @property
    def link(self) -> Connection | None:
        """The connection by which it was set up; None as long as nobody has needed a broker."""
        return self._broker.link

    @property
    def error(self) -> Exception | None:
        """Why its broker could not be started, or set up, when its first client came."""
        return self._broker.failure()

    @property
    def client(self) -> Client:
        """A connection to its broker, which ends with the host."""
        from privcmd.client import Client  # noqa: PLC0415 - slow to import, and not all need it

        if self._client is None:
            self._client = self._stack.enter_context(Client(self.socket))
        return self._client

    @property
    def store(self) -> Path | None:
        """The directory of its xenstored; None without one."""
        from pathlib import Path  # noqa: PLC0415 - as above

        return None if self._xenstored is None else Path(self._xenstored.directory)

    @property
    def without_store(self) -> Exception | None:
        """Why its xenstored did not come up when its first client came."""
        return None if self._xenstored is None else self._xenstored.door.failure()

    def environment(self, token: str) -> dict[str, str]:
        """The environment of a program that is to live on it; ``token`` tells its processes from others."""
        env = {**program.environment(self.socket, token), "PRIVCMDD_JOB": self._job}
        if self.doms or not self._in_session:  # or else it may use those of the session
            env = told(env, self.doms, self._guests)
        return env if self._xenstored is None else {**env, "XENSTORED_RUNDIR": self._xenstored.directory}


@contextlib.contextmanager
def running(
    guests: Sequence[DomainConfig] = (),
    *,
    socket: str | None = None,
    job: str = "",
    keep: bool = False,
    config: str | None = None,
    settings: Sequence[str] = (),
    store: bool | None = None,
    device_model: Sequence[str] | None = None,
    lazily: bool = False,
    in_session: bool = False,
    listener: Callable[[Notification], None] | None = None,
) -> Iterator[Host]:
    """Have a host for as long as the block lasts.

    Args:
        guests: Domains to make.
        socket: A broker to join; None starts one.
        job: The job that its domains, and the programs on it, belong to; empty for none.
        keep: Whether domains that are made in the job stay on the broker that is joined.
        config: Configuration of a broker that is started, as TOML text.
        settings: Keys of it that are otherwise, each as TABLE.KEY=VALUE.
        store: Whether to run xenstored: None, where it is installed; True, or else fail.
        device_model: Arguments of a QEMU for the first HVM guest, beyond those it must have; None for no QEMU.
        lazily: Start a broker of its own, and make the domains, when the first client comes and not before. What the
            broker refuses is then known only at the end (``Host.error``).
        in_session: Whether the broker that is joined is a session's: the domains have the lowest numbers there.
        listener: Called with each notice about address spaces that come and go.

    Raises:
        PrivcmdError: A domain cannot be made; what is needed is not installed, or did not come up.
        NoBroker: No broker answers, or ours did not start.
    """
    with contextlib.ExitStack() as stack:
        emulated = None if device_model is None else _emulated(guests)
        if device_model is not None and store is False:
            raise PrivcmdError(errno.EINVAL, "a device model needs xenstored, which is not to be run")
        broker: Joined | Standby
        if socket is not None:
            from privcmd.run._joined import Joined  # noqa: PLC0415 - slow to import, and most runs start a broker

            broker = Joined(
                socket, guests, job=job, keep=keep, emulated=emulated, in_session=in_session, listener=listener
            )
            stack.callback(broker.close)
        needed = bool(store) or device_model is not None
        path = None if store is False else xenstore.wanted(needed=needed)
        directory = _directory(stack) if socket is None or path is not None else ""
        if socket is None:
            from privcmd.run._standby import Standby  # noqa: PLC0415 - others join one

            broker = Standby(
                directory, guests, job=job, emulated=emulated, config=config, settings=settings, listener=listener
            )
            stack.callback(broker.close)
            if not lazily or needed:
                broker.door.open()
            broker.door.watch()
        xenstored = None
        if path is not None:
            xenstored = xenstore.Xenstored(path, f"{directory}/xs", broker.path, broker.names)
            stack.callback(xenstored.close)
            if needed:
                xenstored.door.open()
            xenstored.door.watch()
        here = Host(stack, broker, guests, xenstored, job=job, in_session=in_session)
        if device_model is not None and emulated is not None and here.store is not None:
            from privcmd.run import _qemu as qemu  # noqa: PLC0415 - slow to import, and most hosts have none

            dom = here.doms[guests.index(emulated)]
            stack.enter_context(qemu.running(here.socket, here.store, dom, emulated.n_pages, device_model))
        yield here


def _emulated(guests: Sequence[DomainConfig]) -> DomainConfig:
    """The guest that a device model is for."""
    for guest in guests:
        if guest.kind == "hvm":
            return guest
    raise PrivcmdError(errno.EINVAL, "a device model needs an HVM domain: --domain hvm:64M")


def _directory(stack: contextlib.ExitStack) -> str:
    """A directory of our own, for as long as a stack lasts. The tempfile module would cost more than all else here."""
    base = os.environ.get("TMPDIR", "/tmp")  # noqa: S108 - as tempfile does
    base = base if len(base) < _SUN_PATH_ROOM else "/tmp"  # noqa: S108
    made = f"{base}/pc-{os.getpid()}-{os.urandom(8).hex()}"
    os.mkdir(made, 0o700)
    stack.callback(_remove, made)
    return made


def _remove(directory: str) -> None:
    for place, directories, files in os.walk(directory, topdown=False):
        for name in files:
            os.unlink(f"{place}/{name}")
        for name in directories:
            os.rmdir(f"{place}/{name}")
    os.rmdir(directory)
