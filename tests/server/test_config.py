# SPDX-License-Identifier: Apache-2.0
"""Every key has one home; later sources win; whatever is wrong is named."""

import os
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from privcmdd.model.host import Host
from privcmdd.server import config, keys
from privcmdd.server.config import ConfigError
from privcmdd.service.settings import AccessRule, Limits, MachineSize, Settings, SpaceDefaults

TEMPLATE = Path(__file__).parents[2] / "config" / "privcmdd.toml"


def written(folder: Path, text: str) -> str:
    """A configuration file with this in it."""
    path = folder / "privcmdd.toml"
    path.write_text(text)
    return str(path)


def test_the_template_is_not_stale() -> None:
    """config/privcmdd.toml is what `privcmdd check-config --template` prints."""
    assert TEMPLATE.read_text() == keys.render()


def test_the_template_is_exactly_the_defaults() -> None:
    """Copying the template changes nothing: every key is in it, with its default."""
    defaults = config.load(environ={})
    from_file = config.load(str(TEMPLATE), environ={})

    assert from_file.values == defaults.values
    assert {path for path, origin in from_file.origins.items() if origin == "default"} == {"access"}


def test_the_defaults_are_the_services_own() -> None:
    """The table repeats no number of the service's settings."""
    loaded = config.load(environ={}).settings

    assert loaded == Settings(
        limits=Limits(),
        machine=MachineSize(),
        space=SpaceDefaults(),
        host=Host(),
        access=(AccessRule("admin", uids=tuple(sorted({0, os.geteuid()}))),),
    )


@pytest.mark.parametrize("key", keys.KEYS, ids=lambda key: key.path)
def test_every_key_can_be_set_in_the_environment_and_by_flag(key: keys.Key) -> None:
    """The name of the variable and of the flag follow from the key's."""
    text = str(key.default).lower() if isinstance(key.default, bool) else str(key.default) or "/x"
    by_variable = config.load(environ={key.variable: text})
    by_flag = config.load(environ={}, flags=[(key.path, text)])

    assert by_variable.origins[key.path] == f"environment {key.variable}"
    assert by_flag.origins[key.path] == "flag"
    assert by_variable.values == by_flag.values


def test_the_host_can_be_chosen() -> None:
    """Of each a known one; it is read once."""
    flags = [("host.dom0", "pvh"), ("host.linux", "5.10"), ("host.xen", "4.20"), ("host.build", "debug")]

    assert config.load(environ={}, flags=flags).settings.host == Host(
        dom0="pvh", linux="5.10", xen="4.20", build="debug"
    )
    with pytest.raises(config.ConfigError, match=r"one of 6\.1, 5\.10"):
        config.load(environ={}, flags=[("host.linux", "2.6.32")])
    assert not any(key.live for key in keys.KEYS if key.table == "host")


def test_later_sources_win(tmp_path: Path) -> None:
    """Defaults, then the file, then the environment, then flags; each value says where it is from."""
    path = written(tmp_path, "[limits]\nframes = 1\nentries = 1\nobjects = 1\n")
    environ = {"PRIVCMDD_LIMITS__ENTRIES": "2", "PRIVCMDD_LIMITS__OBJECTS": "2"}
    loaded = config.load(path, environ=environ, flags=[("limits.objects", "3")])

    limits = loaded.settings.limits
    assert (limits.frames, limits.entries, limits.objects, limits.spaces) == (1, 2, 3, Limits().spaces)
    assert [loaded.origins[f"limits.{name}"] for name in ("frames", "entries", "objects", "spaces")] == [
        f"file {path}",
        "environment PRIVCMDD_LIMITS__ENTRIES",
        "flag",
        "default",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[limits]\nframs = 1", r"unknown key limits\.frams; did you mean limits\.frames\?"),
        ("[limit]\nframes = 1", r"unknown table \[limit\]; did you mean \[limits\]\?"),
        ("[sever]\nbacklog = 1", r"unknown table \[sever\]; did you mean \[server\]\?"),
        ("[xyzzy]\nframes = 1", r"unknown table \[xyzzy\]; there are server, log, limits"),
        ("server.x = 1", r"unknown key server\.x; \[server\] has socket_path, socket_mode, backlog"),
        ("[server]\nsocket_mode = 0o660", r'is 432, expected a string: write socket_mode = "0660"'),
        ("xyzzy = 1", r"unknown key xyzzy; `privcmdd check-config` lists the keys"),
        ("[limits]\nframes = '1'", r"limits\.frames is '1', expected an integer"),
        ("[limits]\nframes = true", r"limits\.frames is True, expected an integer"),
        ("[limits]\nframes = 1.5", r"limits\.frames is 1\.5, expected an integer"),
        ("[limits]\nframes = 0", r"limits\.frames is 0, expected 1 to"),
        ("[limits]\nframes = 9007199254740992", r"limits\.frames is 9007199254740992, expected 1 to"),
        ("limits = 3", r"limits is a table, write \[limits\]"),
        ("[server]\ndrain_timeout_s = nan", r"server\.drain_timeout_s is nan, expected 0 to 3600 seconds"),
        ("[server]\nsocket_mode = 600", r"server\.socket_mode is 600, expected a string"),
        ("[server]\nsocket_mode = '0999'", r"server\.socket_mode is '0999', expected an octal mode"),
        ("[server]\nsocket_mode = '07777'", r"server\.socket_mode is '07777', expected an octal mode"),
        ("[log]\nlevel = 'loud'", r"log\.level is 'loud', expected one of debug, info"),
        ("paranoid = 1", r"paranoid is 1, expected true or false"),
        ("[access]\nrights = 'read'", r"access is a list of tables, write \[\[access\]\]"),
        ("access = [1]", r"access rule 1 is 1, write \[\[access\]\]"),
        ("[[access]]\nrights = 'all'\nuids = [1]", r"access rule 1: access\.rights is 'all', expected one of read"),
        ("[[access]]\nrights = 'read'", r"access rule 1 is about nobody"),
        ("[[access]]\nrights = 'read'\nuids = ['me']", r"access\.uids is \['me'\], expected a list of numbers"),
        ("[[access]]\nrights = 'read'\nuids = [-1]", r"access\.uids is \[-1\]"),
        ("[[access]]\nrights = 'read'\nuids = [1]\nuser = 2", r"unknown key access\.user"),
        ("[[access]]\nrights = 'read'\nuids = [1]\ndomains = 3", r"access\.domains is 3, expected a list"),
        ("[limits", r"is not TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, expected: str) -> None:
    """The message names the file, the key, its value and what was expected."""
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=expected) as refused:
        config.load(path, environ={})

    assert path in str(refused.value)


def test_a_missing_file_is_named() -> None:
    """A configuration that was asked for and is not there is an error, not the defaults."""
    with pytest.raises(ConfigError, match="cannot read /no/such/file: No such file or directory"):
        config.load("/no/such/file", environ={})


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("PRIVCMDD_LIMITS__FRAMS", "1", r"environment PRIVCMDD_LIMITS__FRAMS: unknown key limits\.frams"),
        ("PRIVCMDD_LIMITS__FRAMES", "many", r"PRIVCMDD_LIMITS__FRAMES: limits\.frames is 'many'"),
        ("PRIVCMDD_PARANOID", "yes", r"PRIVCMDD_PARANOID: paranoid is 'yes', expected true or false"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(variable: str, text: str, expected: str) -> None:
    """The message names the variable."""
    with pytest.raises(ConfigError, match=expected):
        config.load(environ={variable: text})


def test_other_peoples_variables_are_left_alone() -> None:
    """Kubernetes sets PRIVCMDD_PORT for a service called privcmdd; that is none of our keys."""
    environ = {"PRIVCMDD_PORT": "tcp://10.0.0.1:1", "PRIVCMDD_SERVICE_HOST": "10.0.0.1", "PRIVCMDD_SOCKET": "/s"}

    assert config.load(environ=environ).server.socket_path == "/s"


def test_access_rules_cannot_be_flags() -> None:
    """A list of tables does not fit one word."""
    with pytest.raises(ConfigError, match="access rules can only be written in a file"):
        config.load(environ={}, flags=[("access", "x")])


def test_access_rules_become_the_services(tmp_path: Path) -> None:
    """What is written is what is decided by; nothing is added to it."""
    path = written(
        tmp_path,
        "[[access]]\nrights = 'read'\nuids = [1000]\ndomains = [1, 2]\n"
        "[[access]]\nrights = 'admin'\ngids = [4]\ndomains = 'all'\n",
    )

    assert config.load(path, environ={}).settings.access == (
        AccessRule("read", uids=(1000,), domains=(1, 2)),
        AccessRule("admin", gids=(4,)),
    )


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"PRIVCMDD_SOCKET": "/a", "XDG_RUNTIME_DIR": "/run/user/1"}, "/a"),
        ({"XDG_RUNTIME_DIR": "/run/user/1"}, "/run/user/1/privcmdd/broker.sock"),
        ({}, "/run/privcmdd/broker.sock"),
    ],
)
def test_the_socket_is_where_clients_look_for_it(environ: dict[str, str], expected: str) -> None:
    """Without a word from anybody, broker and clients meet."""
    assert config.load(environ=environ).server.socket_path == expected


def test_a_reload_changes_live_keys_and_names_the_others(tmp_path: Path) -> None:
    """What cannot change while running stays as it is, and is said."""
    running = config.load(environ={})
    text = "[limits]\nframes = 5\n[machine]\nmemory_mib = 7\n[server]\nbacklog = 3\nconnections = 9\n"
    read = config.load(written(tmp_path, text), environ={})
    merged = read.for_running(running)

    assert read.waiting_for_restart(running) == ["server.backlog", "machine.memory_mib"]
    assert merged.settings.limits.frames == 5
    assert merged.server.connections == 9
    assert merged.settings.machine == running.settings.machine
    assert merged.server.backlog == running.server.backlog
    assert read.waiting_for_restart(merged) == ["server.backlog", "machine.memory_mib"]


@pytest.mark.parametrize(
    ("table", "settings"),
    [
        ("server", config.ServerSettings),
        ("log", config.LogSettings),
        ("limits", Limits),
        ("machine", MachineSize),
        ("space", SpaceDefaults),
        ("host", Host),
    ],
)
def test_settings_have_a_field_for_each_key(table: str, settings: type) -> None:
    """Law: a table's keys and its settings' fields are the same, in the same order, and allow the same choices."""
    of_table = [key for key in keys.KEYS if key.table == table]
    annotations = get_type_hints(settings)

    assert [key.name for key in of_table] == list(annotations)
    for key in of_table:
        allowed = get_args(annotations[key.name])
        assert not allowed or allowed == key.choices, key.path
