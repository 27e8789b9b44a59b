# SPDX-License-Identifier: Apache-2.0
"""The command ``privcmdd``: arguments in, an exit code out.

The order matters here. A broker is started for every test run, so it listens as early as it can. It imports trio,
which is slow, afterwards, and numpy only when the first domain needs it.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from privcmdd import __version__
from privcmdd.cli.parser import Parser
from privcmdd.cli.streams import end_process, guarded

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from privcmdd.server.config import Configuration
    from privcmdd.server.handover import Holdings
    from privcmdd.server.listen import Listener
    from privcmdd.server.state_dir import StateDir

DESCRIPTION = """\
The broker of simulated Xen guests: programs that map guest memory talk to it over a Unix socket
as if a Xen host were there.
"""

EXIT_CODES = """\
exit codes:
  0  stopped by SIGTERM or SIGINT, or another broker has taken over; all that had arrived was answered
  1  failed while running
  2  wrong arguments or configuration, the socket cannot be made, the state cannot be used, or there is nothing to take
     over; nothing was served
  3  stopped by a second signal, or because clients did not take their answers in time
"""

SERVE_EPILOG = (
    """\
examples:
  privcmdd serve
  privcmdd serve --socket-path /tmp/b.sock --log-level debug
  privcmdd serve --config /etc/privcmdd.toml --set limits.frames=1000000
  privcmdd serve --take-over
  systemd-socket-activate -l /tmp/b.sock privcmdd serve

signals:
  SIGTERM, SIGINT  drain and stop; a second one stops at once
  SIGHUP           read the configuration again; a bad one is reported, and the old one stays

environment:
  PRIVCMDD_TABLE__KEY      sets table.key, as PRIVCMDD_LIMITS__FRAMES=1000000; flags win over it
  PRIVCMDD_SOCKET          the socket when none is configured, for broker and clients alike
  XDG_RUNTIME_DIR          else the socket is privcmdd/broker.sock in it, else /run/privcmdd/broker.sock
  NOTIFY_SOCKET            told READY, RELOADING and STOPPING (systemd, Type=notify-reload)
  LISTEN_FDS, LISTEN_PID   listening sockets handed in by systemd; no other is opened then

"""
    + EXIT_CODES
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Its words; None: those of this process, which ends with it.

    Returns:
        Its exit code.
    """
    return end_process(_main(sys.argv[1:])) if arguments is None else _main(arguments)


def _main(arguments: Sequence[str]) -> int:
    if not __debug__:
        print("privcmdd: refuses to run under python -O: its assertions are its leak checks", file=sys.stderr)
        return 2
    # The conventions of vhost-user back ends: other options and arguments are ignored.
    if "--print-capabilities" in arguments:
        return guarded("privcmdd", _print_capabilities)
    parsed = command_line().parse_args(arguments)
    if parsed.run is None:
        command_line().print_help(sys.stderr)
        return 2
    run: Callable[[argparse.Namespace], int] = parsed.run
    if run is _check:
        return guarded("privcmdd", lambda: _check(parsed))
    return run(parsed)


def command_line() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = Parser(
        prog="privcmdd",
        description=DESCRIPTION,
        epilog="`privcmdd serve --help` has examples, signals and environment.\n\n" + EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"privcmdd {__version__}")
    parser.add_argument("--print-capabilities", action="store_true", help="what this broker can do, as JSON, and exit")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    serve = commands.add_parser(
        "serve",
        help="run the broker until a signal stops it",
        description="Run the broker until a signal stops it.",
        epilog=SERVE_EPILOG,
    )
    _add_configuration(serve)
    where = serve.add_mutually_exclusive_group()
    where.add_argument("--socket-path", metavar="PATH", help="listen at PATH (server.socket_path)")
    where.add_argument("--fd", type=int, metavar="N", help="serve the listening Unix socket that is descriptor N")
    serve.add_argument(
        "--first-fd", type=int, metavar="N",
        help="serve the client at the other end of descriptor N, and others when all that it had sent is done",
    )  # fmt: skip
    serve.add_argument(
        "--take-over",
        action="store_true",
        help="take sockets, guests and their memory over from the broker that listens there now; it ends",
    )
    serve.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error (log.level)")
    serve.add_argument("--paranoid", action="store_true", help="check every law of the model after each request")
    serve.set_defaults(run=_serve)

    check = commands.add_parser(
        "check-config",
        help="print the configuration, and where each value is from",
        description="Read the configuration as `serve` would, and print each key, its value and its origin.",
        epilog="exit codes:\n  0  it is right\n  2  it is not; the key is named",
    )
    _add_configuration(check)
    shape = check.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="for programs")
    shape.add_argument("--template", action="store_true", help="print a file of all keys with their defaults")
    check.set_defaults(run=_check, socket_path=None, log_level=None, paranoid=False)
    return parser


def _add_configuration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="a TOML file; without it, the defaults")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="set one key, over file and environment; may be repeated",
    )


def _configured(parsed: argparse.Namespace) -> Configuration:
    from privcmd import _tools  # noqa: PLC0415 - --help needs none of it
    from privcmdd.server import config  # noqa: PLC0415

    flags = []
    for setting in parsed.set:
        dotted, equals, value = setting.partition("=")
        if not equals:
            raise config.ConfigError(f"flag: --set {setting!r}, expected TABLE.KEY=VALUE")
        flags.append((dotted, value))
    for dotted, value in (("server.socket_path", parsed.socket_path), ("log.level", parsed.log_level)):
        if value is not None:
            flags.append((dotted, value))
    if parsed.paranoid:
        flags.append(("paranoid", "true"))
    return config.load(parsed.config, flags=flags, tools=_tools.release())


def _serve(parsed: argparse.Namespace) -> int:
    gc.disable()  # the objects that the start makes are no garbage
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's threads cost 5 ms and are of no use here
    from privcmdd.server import listen, signals  # noqa: PLC0415 - --help needs none of it
    from privcmdd.server.config import ConfigError  # noqa: PLC0415
    from privcmdd.service.keeping import HandOverError  # noqa: PLC0415

    signals.hold()
    try:
        configuration = _configured(parsed)
    except ConfigError as problem:
        print(f"privcmdd: {problem}", file=sys.stderr)
        return 2
    try:
        stored = _stored_events()
        taken, confirm = _take_over(parsed, configuration)
        listeners = _listen(parsed, configuration) if taken is None else taken.listeners
        first = None if parsed.first_fd is None else listen.connected(parsed.first_fd)
    except (listen.ListenError, HandOverError) as problem:
        print(f"privcmdd: {problem}{_elsewhere(configuration)}", file=sys.stderr)
        return 2
    # From here on clients can connect; they are answered when the slow modules are imported.
    import trio  # noqa: PLC0415 - slow

    from privcmdd.model.errors import ModelError  # noqa: PLC0415
    from privcmdd.server import supervise  # noqa: PLC0415 - slow
    from privcmdd.server.logs import Log  # noqa: PLC0415
    from privcmdd.server.notify import Notifier  # noqa: PLC0415
    from privcmdd.service.keeping import StateError  # noqa: PLC0415

    supervise.allow_descriptors()
    try:
        supervisor = supervise.Supervisor(
            configuration,
            lambda: _configured(parsed),
            listeners,
            Log(configuration.log.level, configuration.log.format),
            Notifier(os.environ),
            _state(configuration, taken),
            first,
            taken,
            stored,
        )
        confirm()
    except (StateError, HandOverError, ModelError) as problem:
        print(f"privcmdd: {problem}", file=sys.stderr)
        return 2
    except OSError as problem:
        print(f"privcmdd: cannot start: {problem}", file=sys.stderr)
        return 2
    gc.freeze()
    gc.enable()
    try:
        return trio.run(supervisor.run)
    except OSError as problem:  # trio's own calls at its start; ours are dealt with where they are made
        print(f"privcmdd: cannot go on: {problem}", file=sys.stderr)
        return 2


def _take_over(parsed: argparse.Namespace, configuration: Configuration) -> tuple[Holdings | None, Callable[[], None]]:
    """Take over from the broker that listens at the socket's path, with ``--take-over``.

    Returns:
        What it has passed on, and a function that tells it so.

    Raises:
        HandOverError: It does not hand over.
    """
    if not parsed.take_over:
        return None, lambda: None
    from privcmdd.server import handover, supervise  # noqa: PLC0415 - slow, so before the other broker stops serving
    from privcmdd.service.keeping import HandOverError  # noqa: PLC0415
    from privcmdd.service.methods import machinery  # noqa: PLC0415

    if parsed.fd is not None:
        raise HandOverError("--take-over takes the sockets of the other broker: leave --fd out")
    machinery()
    supervise.allow_descriptors()
    holdings, sock = handover.take(configuration.server.socket_path)
    kept, keeps = holdings.state_dir, configuration.server.state_dir
    if kept != keeps:
        raise HandOverError(
            f"that broker keeps its state in {kept or 'no directory'}, and server.state_dir is {keeps!r}: the broker "
            "that takes over has to go on in the same directory"
        )
    return holdings, lambda: handover.confirm(sock)


def _state(configuration: Configuration, taken: Holdings | None) -> StateDir | None:
    """The directory that the state is kept in.

    Raises:
        StateError: It cannot be used.
    """
    if not configuration.server.state_dir:
        return None
    from privcmdd.server.state_dir import StateDir  # noqa: PLC0415 - it imports numpy and sqlite3

    return StateDir(configuration.server.state_dir, -1 if taken is None else taken.lock)


def _listen(parsed: argparse.Namespace, configuration: Configuration) -> list[Listener]:
    from privcmdd.server import listen  # noqa: PLC0415 - --help needs none of it

    if parsed.fd is not None:
        return [listen.adopt(parsed.fd)]
    if activated := listen.activated(os.environ):
        return activated
    server = configuration.server
    return [listen.bind(server.socket_path, mode=server.socket_mode, backlog=server.backlog)]


def _stored_events() -> dict[int, tuple[int, int]]:
    """The events of channels that the service manager has kept."""
    if "event-" not in os.environ.get("LISTEN_FDNAMES", ""):
        return {}
    from privcmdd.server import event_store  # noqa: PLC0415 - few need it

    return event_store.split(os.environ)


def _elsewhere(configuration: Configuration) -> str:
    """The advice when the socket cannot be made at the system's path, which is the default without XDG_RUNTIME_DIR."""
    variables = ("PRIVCMDD_SOCKET", "XDG_RUNTIME_DIR")
    if configuration.origins["server.socket_path"] != "default" or any(map(os.environ.get, variables)):
        return ""
    return (
        "; that is the default without XDG_RUNTIME_DIR: set PRIVCMDD_SOCKET to a path of your own, for the broker and "
        "its clients"
    )


def _check(parsed: argparse.Namespace) -> int:
    from privcmdd.server import config  # noqa: PLC0415 - --help needs none of it

    if parsed.template:
        from privcmdd.server import keys  # noqa: PLC0415

        print(keys.render(), end="")
        return 0
    try:
        configuration = _configured(parsed)
    except config.ConfigError as problem:
        print(f"privcmdd: {problem}", file=sys.stderr)
        return 2
    rows = {
        path: {"value": value, "origin": configuration.origins[path]} for path, value in configuration.values.items()
    }
    if parsed.json:
        import json  # noqa: PLC0415

        print(json.dumps(rows, indent=2))
    else:
        for path, row in rows.items():
            print(f"{path} = {row['value']!r}  # {row['origin']}")
    return 0


def _print_capabilities() -> int:
    """Print what vhost-user back ends print (docs/interop/vhost-user.rst in QEMU, "Backend program conventions")."""
    import json  # noqa: PLC0415

    from privcmdd.wire.methods import FEATURES, METHODS, PROTOCOL  # noqa: PLC0415

    print(
        json.dumps(
            {
                "type": "privcmd",
                "version": __version__,
                "protocol": PROTOCOL,
                "features": ["fd", "socket-path", "socket-activation", *sorted(FEATURES)],
                "methods": sorted(METHODS),
            },
            indent=2,
        )
    )
    return 0
