# SPDX-License-Identifier: Apache-2.0
"""The table of configuration keys.

A key's name, type, default, unit, bounds and reason are said once, here. Parsing (``config.py``), ``check-config``,
``config/privcmdd.toml`` and the tables of docs/reference/configuration.md use this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from privcmdd.model.host import Host
from privcmdd.service.settings import Limits, MachineSize, SpaceDefaults
from privcmdd.wire.table.common import PERSONALITIES

ENVIRONMENT_PREFIX: Final = "PRIVCMDD_"

Value = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Key:
    """One line of the configuration.

    Attributes:
        table: The TOML table; empty for the top level.
        name: The name of the key in its table.
        default: The default; its type is the key's type.
        unit: What a number counts; empty for a value that is no number.
        reason: Why the key exists, or why the default is what it is.
        low: Smallest value allowed, for numbers.
        high: Largest value allowed, for numbers.
        choices: The only values allowed, for strings.
        live: True: SIGHUP changes the value. False: only a restart of the broker does.
    """

    table: str
    name: str
    default: Value
    unit: str
    reason: str
    low: float = 0
    high: float = 2**53 - 1
    choices: tuple[str, ...] = ()
    live: bool = True

    @property
    def path(self) -> str:
        """``table.key``, as flags and messages write it."""
        return f"{self.table}.{self.name}" if self.table else self.name

    @property
    def variable(self) -> str:
        """The environment variable that sets the key."""
        return ENVIRONMENT_PREFIX + self.path.replace(".", "__").upper()


_LIMITS = Limits()
_MACHINE = MachineSize()
_SPACE = SpaceDefaults()
_HOST = Host()

# fmt: off
KEYS: Final[tuple[Key, ...]] = (
    Key("", "paranoid", False, "", "check every law of the model after each request; slow, for hunting bugs"),

    Key("server", "socket_path", "", "", "where to listen; empty: $PRIVCMDD_SOCKET, else"
        " $XDG_RUNTIME_DIR/privcmdd/broker.sock, else /run/privcmdd/broker.sock", live=False),
    Key("server", "socket_mode", "0600", "octal", "who may connect; what they may do then is [[access]]",
        live=False),
    Key("server", "backlog", 128, "connections", "waiting to be accepted while the broker is busy",
        1, 65_535, live=False),
    Key("server", "connections", 4096, "connections", "of all uids together; one more is closed at once",
        1, 1_000_000),
    Key("server", "drain_timeout_s", 2.0, "seconds", "for clients to take their last answers after SIGTERM;"
        " what is left then is cut off", 0, 3600),
    Key("server", "first_timeout_s", 300.0, "seconds", "for a new connection to send its first byte; 0: for ever",
        0, 86_400),
    Key("server", "message_timeout_s", 30.0, "seconds", "for a client to send the rest of a message that it has begun;"
        " 0: for ever", 0, 86_400),
    Key("server", "deaf_timeout_s", 60.0, "seconds", "for a client to take more of what it was sent, when it does not"
        " fit its socket; 0: for ever", 0, 86_400),
    Key("server", "report_dir", "", "", "where reports of bugs of the broker go; empty: $STATE_DIRECTORY, else"
        " $XDG_STATE_HOME/privcmdd, else ~/.local/state/privcmdd"),
    Key("server", "state_dir", "", "", "where domains and their memory outlive the broker; empty: nowhere, and nothing"
        " is written", live=False),

    Key("log", "level", "info", "", "a correct client causes no line at info",
        choices=("debug", "info", "warning", "error")),
    Key("log", "format", "auto", "", "auto is console on a terminal and JSON otherwise",
        choices=("auto", "console", "json"), live=False),

    Key("limits", "frames", _LIMITS.frames, "pages, per uid", "foreign pages mapped at one time; 64 GiB", 1),
    Key("limits", "entries", _LIMITS.entries, "map entries, per uid", "they cost the broker memory", 1),
    Key("limits", "objects", _LIMITS.objects, "uvm objects, per uid", "one for each mapping made", 1),
    Key("limits", "spaces", _LIMITS.spaces, "address spaces, per uid", "one for each client process", 1),
    Key("limits", "batches", _LIMITS.batches, "requests, per uid", "mapping requests at work at one time", 1),
    Key("limits", "queued_bytes", _LIMITS.queued_bytes, "bytes, per uid",
        "answers not taken yet; a connection that would go beyond it is closed", 65_536),
    Key("limits", "incoming_bytes", _LIMITS.incoming_bytes, "bytes, per uid",
        "messages of more than 16 KiB, until they are answered; above it the next ones wait", 17_825_792),
    Key("limits", "restricted_files", _LIMITS.restricted_files, "files, per uid",
        "files of the device that may name one domain only (privcmd.restrict)", 1),
    Key("limits", "fds", _LIMITS.fds, "descriptors, per uid", "one for each connection", 1),
    Key("limits", "connection_queued_bytes", _LIMITS.connection_queued_bytes, "bytes, per connection",
        "answers not taken yet; above it no more requests of the connection are read", 4096),
    Key("limits", "frames_per_batch", _LIMITS.frames_per_batch, "frames, per request", "4 GiB; more is E2BIG",
        1, 2_097_152),
    Key("limits", "slice_frames", _LIMITS.slice_frames, "frames",
        "prepared before other clients have their turn; fewer is fairer, more is faster", 16, 1_048_576),
    Key("limits", "zombie_s", _LIMITS.zombie_s, "seconds",
        "a destroyed domain may stay mapped for so long before that is a finding; 0: none"),

    Key("machine", "memory_mib", _MACHINE.memory_mib, "MiB", "of the simulated host, all guests together",
        1, 16_777_216, live=False),
    Key("machine", "domains", _MACHINE.domains, "domains", "at one time, dying ones included", 1, 32_752,
        live=False),
    Key("machine", "gfns_per_domain", _MACHINE.gfns_per_domain, "pages",
        "highest guest frame number plus one, and the size of the memory file; 64 GiB", 1, 268_435_456,
        live=False),

    Key("space", "personality", _SPACE.personality, "", "whose privcmd is simulated: NetBSD's (uvm) or Linux's",
        choices=PERSONALITIES),
    Key("space", "probe", _SPACE.probe, "", "frames are tried in place (load) or elsewhere first (scratch);"
        " the answers are the same", choices=("load", "scratch")),
    Key("space", "merge", _SPACE.merge, "", "contiguous entries of one MMAP share an object;"
        " the answers are the same"),

    Key("host", "dom0", _HOST.dom0, "", "the dom0 that clients of personality linux see; in a PVH dom0"
        " frames are auto-translated, and fewer errors are told apart", choices=("pv", "pvh"), live=False),
    Key("host", "linux", _HOST.linux, "", "the kernel of dom0, for personality linux: 5.10 can split a mapping of the"
        " device, 6.1 cannot", choices=("6.1", "5.10"), live=False),
    Key("host", "xen", _HOST.xen, "", "the hypervisor: what xen_version says, which versions of domctl and"
        " sysctl it takes, and the answer for unknown types of resources; by default the"
        " release that the installed libxenctrl is of", choices=("4.17", "4.20"), live=False),
    Key("host", "build", _HOST.build, "", "the hypervisor's build: debug makes domains with shadow paging, and refuses"
        " frame numbers with bit 50", choices=("release", "debug"), live=False),
)
# fmt: on
BY_PATH: Final[dict[str, Key]] = {key.path: key for key in KEYS}

_ACCESS: Final = """\
Who may do what; the rules that apply add up. rights: read (map read-only), write (also map writable) or \
admin (also create, change and destroy). uids, gids: the users of the rule. domains: a list of numbers, or "all". \
Without any rule, root and the broker's own uid have admin on all domains.\
"""


def render() -> str:
    """The text of ``config/privcmdd.toml``: every key with its default, unit and reason."""
    lines = [
        "# SPDX-License-Identifier: Apache-2.0",
        "# The configuration of privcmdd: every key with its default. Made from broker/privcmdd/server/keys.py by",
        "# `privcmdd check-config --template`. Later wins: this file, PRIVCMDD_TABLE__KEY in the environment, flags.",
        "# Keys marked (restart) are read once; SIGHUP changes the others.",
    ]
    table = ""
    for key in KEYS:
        if key.table != table:
            table = key.table
            lines += ["", f"[{table}]"]
        notes = [note for note in (key.unit, "" if key.live else "restart") if note]
        about = f" ({'; '.join(notes)})" if notes else ""
        lines += _comment(f"{key.name}{about}: {key.reason}.")
        if key.choices:
            lines += _comment("One of: " + ", ".join(key.choices) + ".")
        lines.append(f"{key.name} = {as_toml(key.default)}")
    lines += ["", *_comment(_ACCESS)]
    lines += ["# [[access]]", '# rights = "write"', "# uids = [1000]", "# gids = []", "# domains = [1, 2]"]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    import textwrap  # noqa: PLC0415 - serving needs none of it

    return textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ")


def as_toml(value: Value) -> str:
    """A value as it is written in a TOML file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:_}" if value >= 100_000 else str(value)
    return f'"{value}"' if isinstance(value, str) else str(value)
