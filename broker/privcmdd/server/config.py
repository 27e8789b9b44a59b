# SPDX-License-Identifier: Apache-2.0
"""The broker's configuration, put together from its sources.

Later sources win: defaults, file, environment (``PRIVCMDD_TABLE__KEY``), flags. A key that is not in the
table (``keys.py``) is an error that names it, and so is a value of the wrong type or out of bounds. The
configuration keeps the origin of each value.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from privcmdd.model.host import Host
from privcmdd.server.keys import BY_PATH, ENVIRONMENT_PREFIX, KEYS, Key, Value
from privcmdd.service.settings import AccessRule, Limits, MachineSize, Settings, SpaceDefaults
from privcmdd.service.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RIGHTS: Final = ("read", "write", "admin")


class ConfigError(Exception):
    """The configuration cannot be used. The text names the key, where it came from, and what was expected."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The settings of the server itself; see ``KEYS`` for units and reasons."""

    socket_path: str
    socket_mode: int
    backlog: int
    connections: int
    drain_timeout_s: float
    first_timeout_s: float
    message_timeout_s: float
    deaf_timeout_s: float
    report_dir: str
    state_dir: str


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How lines are written."""

    level: str
    format: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """All settings, and where each came from.

    Attributes:
        values: By ``table.key``; the value of ``access`` is a list of plain tables.
        origins: By ``table.key``: ``default`` (why), ``file PATH``, ``environment VARIABLE`` or ``flag``.
    """

    server: ServerSettings
    log: LogSettings
    settings: Settings
    values: Mapping[str, Any]
    origins: Mapping[str, str]

    def waiting_for_restart(self, running: Configuration) -> list[str]:
        """Keys that differ from the running configuration and that only a restart changes."""
        return [key.path for key in KEYS if not key.live and self.values[key.path] != running.values[key.path]]

    def for_running(self, running: Configuration) -> Configuration:
        """This configuration, but with the running values of the keys that only a restart changes."""
        fixed = [key.path for key in KEYS if not key.live]
        values = {**self.values, **{path: running.values[path] for path in fixed}}
        origins = {**self.origins, **{path: running.origins[path] for path in fixed}}
        return _assemble(values, origins)


def load(
    path: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    flags: Sequence[tuple[str, str]] = (),
    tools: str | None = None,
) -> Configuration:
    """Put the configuration together.

    Args:
        path: A TOML file; None: no file.
        environ: The environment.
        flags: ``table.key`` and value, as text; later ones win.
        tools: The release of Xen that this machine's tools are made for, which is simulated unless one is chosen.

    Raises:
        ConfigError: A key is unknown, a value is of the wrong type or out of bounds, or the file cannot be read.
    """
    values: dict[str, Any] = {key.path: key.default for key in KEYS}
    values["access"] = []
    origins = dict.fromkeys(values, "default")
    if tools is not None:
        values["host.xen"], origins["host.xen"] = tools, "default: that of the installed tools"
    if path is not None:
        for dotted, value in _read(path).items():
            values[dotted] = value
            origins[dotted] = f"file {path}"
    for variable, text in sorted(environ.items()):
        # Variables without the double underscore are not ours: Kubernetes sets PRIVCMDD_PORT for a service called
        # privcmdd.
        if not variable.startswith(ENVIRONMENT_PREFIX) or ("__" not in variable and variable != "PRIVCMDD_PARANOID"):
            continue
        dotted = variable.removeprefix(ENVIRONMENT_PREFIX).replace("__", ".").lower()
        origin = f"environment {variable}"
        values[dotted] = _from_text(_known(dotted, origin), text, origin)
        origins[dotted] = origin
    for dotted, text in flags:
        values[dotted] = _from_text(_known(dotted, "flag"), text, "flag")
        origins[dotted] = "flag"
    if not values["server.socket_path"]:
        values["server.socket_path"] = default_socket_path(environ)
    if not values["server.report_dir"]:
        values["server.report_dir"] = default_report_dir(environ)
    return _assemble(values, origins)


def default_socket_path(environ: Mapping[str, str]) -> str:
    """The default path of the socket; the client library has the same rule."""
    if explicit := environ.get("PRIVCMDD_SOCKET"):
        return explicit
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return f"{runtime}/privcmdd/broker.sock"
    return "/run/privcmdd/broker.sock"


def default_report_dir(environ: Mapping[str, str]) -> str:
    """The default directory of reports: the directory that systemd made for us, else the user's state directory."""
    if given := environ.get("STATE_DIRECTORY"):
        return given.partition(":")[0]
    state = environ.get("XDG_STATE_HOME") or f"{environ.get('HOME', '')}/.local/state"
    return f"{state}/privcmdd"


def _read(path: str) -> dict[str, Any]:
    """The file's keys by ``table.key``, checked."""
    import tomllib  # noqa: PLC0415 - most brokers start without a file, and this costs 10 ms

    try:
        with Path(path).open("rb") as file:
            document = tomllib.load(file)
    except OSError as problem:
        raise ConfigError(f"cannot read {path}: {problem.strerror}") from problem
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path} is not TOML: {problem}") from problem
    found: dict[str, Any] = {}
    tables = {key.table for key in KEYS if key.table}
    for name, value in document.items():
        if name == "access":
            found[name] = value
        elif name not in tables and isinstance(value, dict):
            raise _unknown_table(name, path)
        elif name not in tables:
            found[name] = _typed(_known(name, path), value, path)
        elif not isinstance(value, dict):
            raise ConfigError(f"{path}: {name} is a table, write [{name}]")
        else:
            for inner, content in value.items():
                dotted = f"{name}.{inner}"
                found[dotted] = _typed(_known(dotted, path), content, path)
    return found


def _known(dotted: str, origin: str) -> Key:
    if (key := BY_PATH.get(dotted)) is not None:
        return key
    if dotted == "access":
        raise ConfigError(f"{origin}: access rules can only be written in a file, as [[access]]")
    table, dot, name = dotted.rpartition(".")
    of_table = [key.name for key in KEYS if key.table == table]
    if dot and of_table:
        near = nearest(name, of_table)
        near = near and f"{table}.{near}"
        there = f"; [{table}] has {', '.join(of_table)}"
    else:
        near = nearest(dotted, BY_PATH)
        there = "; `privcmdd check-config` lists the keys"
    raise ConfigError(f"{origin}: unknown key {dotted}{f'; did you mean {near}?' if near else there}")


def _unknown_table(name: str, origin: str) -> ConfigError:
    """The error about a table that does not exist."""
    tables = [*dict.fromkeys(key.table for key in KEYS if key.table), "access"]
    near = nearest(name, tables)
    hint = f"did you mean [{near}]?" if near else "there are " + ", ".join(tables)
    return ConfigError(f"{origin}: unknown table [{name}]; {hint}")


def _from_text(key: Key, text: str, origin: str) -> Value:
    value: Value = text
    if isinstance(key.default, bool):
        value = {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    elif not isinstance(key.default, str):
        try:
            value = int(text, 0) if isinstance(key.default, int) else float(text)
        except ValueError:
            value = text
    return _typed(key, value, origin)


def _typed(key: Key, value: Any, origin: str) -> Value:
    expected = type(key.default)
    if expected is float and type(value) is int:
        value = float(value)
    if type(value) is not expected:
        kind = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}[expected]
        if key.unit == "octal" and type(value) is int:  # a parsed number no longer tells its base
            kind += f': write {key.name} = "0660"'
        raise ConfigError(f"{origin}: {key.path} is {value!r}, expected {kind}")
    if isinstance(value, str):
        if key.choices and value not in key.choices:
            raise ConfigError(f"{origin}: {key.path} is {value!r}, expected one of {', '.join(key.choices)}")
        if key.unit == "octal":
            _octal(key, value, origin)
    elif not isinstance(value, bool) and not key.low <= value <= key.high:  # a NaN is in no range
        raise ConfigError(f"{origin}: {key.path} is {value!r}, expected {key.low} to {key.high} {key.unit}")
    return value


def _octal(key: Key, value: str, origin: str) -> int:
    try:
        mode = int(value, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise ConfigError(f'{origin}: {key.path} is {value!r}, expected an octal mode such as "0660"')
    return mode


def _access(rules: Any, origin: str) -> tuple[AccessRule, ...]:
    if not rules:
        # Only users that can read the broker's memory anyway.
        return (AccessRule("admin", uids=tuple(sorted({0, os.geteuid()}))),)
    if not isinstance(rules, list):
        raise ConfigError(f"{origin}: access is a list of tables, write [[access]]")
    made = []
    for number, rule in enumerate(rules, 1):
        where = f"{origin}: access rule {number}"
        if not isinstance(rule, dict):
            raise ConfigError(f"{where} is {rule!r}, write [[access]]")
        for name in rule:
            if name not in {"rights", "uids", "gids", "domains"}:
                raise ConfigError(f"{where}: unknown key access.{name}; known are rights, uids, gids, domains")
        rights = rule.get("rights")
        if rights not in RIGHTS:
            raise ConfigError(f"{where}: access.rights is {rights!r}, expected one of {', '.join(RIGHTS)}")
        uids, gids = (_numbers(rule.get(name, []), f"{where}: access.{name}") for name in ("uids", "gids"))
        if not uids and not gids:
            raise ConfigError(f"{where} is about nobody: give uids, gids or both")
        domains: tuple[int, ...] | Literal["all"] = "all"
        if (listed := rule.get("domains", "all")) != "all":
            domains = _numbers(listed, f"{where}: access.domains")
        made.append(AccessRule(rights, uids, gids, domains))
    return tuple(made)


def _numbers(value: Any, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(each) is int and 0 <= each < 2**32 for each in value):
        raise ConfigError(f"{where} is {value!r}, expected a list of numbers from 0 to {2**32 - 1}")
    return tuple(value)


def _assemble(values: dict[str, Any], origins: dict[str, str]) -> Configuration:
    def table(name: Literal["server", "limits", "machine", "space", "host", "log"]) -> dict[str, Any]:
        return {key.name: values[key.path] for key in KEYS if key.table == name}

    server = table("server")
    server["socket_mode"] = int(server["socket_mode"], 8)
    return Configuration(
        server=ServerSettings(**server),
        log=LogSettings(**table("log")),
        settings=Settings(
            limits=Limits(**table("limits")),
            machine=MachineSize(**table("machine")),
            space=SpaceDefaults(**table("space")),
            host=Host(**table("host")),
            access=_access(values["access"], origins["access"]),
            paranoid=values["paranoid"],
        ),
        values=values,
        origins=origins,
    )
