# SPDX-License-Identifier: Apache-2.0
"""What both commands say when something is not as it should be: the true cause, once, and what to do."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.command import ctl, privcmdd

if TYPE_CHECKING:
    from collections.abc import Callable

    from privcmd import Client, PrivateBroker

NOWHERE = {"XDG_RUNTIME_DIR": "", "PRIVCMDD_SOCKET": ""}
FULL = Path("/dev/full")


def test_without_a_runtime_directory_the_broker_says_where_else(tmp_path: Path) -> None:
    """Law: a default path that cannot be had is explained by the missing variable; a path asked for is not."""
    barred = tmp_path / "file"
    barred.touch()
    asked = privcmdd("serve", "--socket-path", str(barred / "s"), env=NOWHERE)
    assert asked.returncode == 2
    assert "XDG_RUNTIME_DIR" not in asked.stderr
    if os.geteuid() == 0:
        pytest.skip("NOT TESTED: root may listen at the default path; missing: an unprivileged user")
    default = privcmdd("serve", env=NOWHERE)
    assert default.returncode == 2
    assert "default without XDG_RUNTIME_DIR: set PRIVCMDD_SOCKET" in default.stderr


def test_without_a_runtime_directory_a_client_says_what_was_not_looked_for() -> None:
    """Law: "there is no such socket" names the variable without which a user's own broker is not found."""
    if Path("/run/privcmdd/broker.sock").exists():
        pytest.skip("NOT TESTED: a system's broker runs here; missing: a machine without one")
    ran = ctl("ping", env=NOWHERE)

    assert ran.returncode == 3
    assert "XDG_RUNTIME_DIR is not set" in ran.stderr


def test_a_run_without_its_broker_says_that_first_and_once() -> None:
    """Law: `run --socket /nope` tells of the broker that is not there, and of nothing that fails because of it."""
    ran = ctl("run", "--socket", "/nope", "--", "true")

    assert ran.returncode == 3
    assert ran.stderr.startswith("privcmdctl: ENOENT: no broker at /nope: ")
    assert len(ran.stderr.splitlines()) == 1


def on_terminal(*arguments: str, **environment: str) -> bytes:
    """What the command writes to a terminal."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "privcmdd.cli.ctl", *arguments],
        stdout=follower, stderr=follower, stdin=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "", **environment},
    ) as process:  # fmt: skip
        process.wait(60)
        os.close(follower)
        said = b""
        try:
            while data := os.read(leader, 65536):
                said += data
        except OSError:  # EIO: the other end is closed
            pass
        os.close(leader)
    return said


@pytest.mark.parametrize(("value", "coloured"), [("", True), ("1", False), ("0", False)])
def test_no_color_is_heeded(broker: PrivateBroker, value: str, coloured: bool) -> None:
    """Law: NO_COLOR, if set and not empty, means no escape sequence, in answers and in errors, on a terminal too."""
    said = on_terminal("--socket", broker.path, "stats", NO_COLOR=value)
    refused = on_terminal("--socket", broker.path, "domain", "info", "999", NO_COLOR=value)

    assert (b"\x1b[" in said, b"\x1b[" in refused) == (coloured, coloured)


@pytest.mark.parametrize("arguments", [("stats",), ("stats", "--json"), ("--help",), ("stats", "--help")])
def test_a_full_disk_is_one_sentence(broker: PrivateBroker, arguments: tuple[str, ...]) -> None:
    """Law: output that cannot be written is status 1 and one sentence, never a traceback and never silence."""
    with FULL.open("w") as full:
        ran = ctl("--socket", broker.path, *arguments, stdout=full)

    assert ran.returncode == 1
    assert ran.stderr.endswith(": cannot write to standard output: No space left on device\n")
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [("check-config",), ("--print-capabilities",), ("serve", "--help")])
def test_a_full_disk_is_one_sentence_of_the_broker_too(arguments: tuple[str, ...]) -> None:
    """Law: as of privcmdctl."""
    with FULL.open("w") as full:
        ran = privcmdd(*arguments, stdout=full)

    assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1)
    assert ran.stderr.endswith(": cannot write to standard output: No space left on device\n")


def test_a_name_with_umlauts_in_an_ascii_world(broker: PrivateBroker, client: Client) -> None:
    """Law: a name travels as UTF-8 whatever the locale is; what the terminal cannot show is shown as escapes."""
    ascii_world = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    made = ctl("--socket", broker.path, "domain", "create", "--memory", "1M", "--name", "käse", env=ascii_world)
    listed = ctl("--socket", broker.path, "domain", "list", env=ascii_world)
    shown = ctl("--socket", broker.path, "domain", "info", "käse", "--json", env=ascii_world)
    guessed = ctl("--socket", broker.path, "domain", "info", "käze", env=ascii_world)

    assert json.loads(shown.stdout)["name"] == "käse"
    assert guessed.stderr.endswith("called 'k\\xe4ze'; did you mean k\\xe4se?\n")
    assert (made.returncode, listed.returncode) == (0, 0)
    assert [domain.name for domain in client.domains.list()] == ["käse"]
    assert "k\\xe4se" in listed.stdout


def test_a_name_that_is_no_text_is_refused(broker: PrivateBroker) -> None:
    """Law: bytes that are not UTF-8 are wrong usage, before the broker is asked."""
    latin = os.fsdecode("käse".encode("latin-1"))
    ran = ctl("--socket", broker.path, "domain", "create", "--memory", "1M", "--name", latin)

    assert ran.returncode == 2
    assert "is not UTF-8" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("pnig",), "privcmdctl: error: there is no command 'pnig'; did you mean ping?"),
        (("xyzzy",), "privcmdctl: error: there is no command 'xyzzy', there are: ping, health, "),
        (("domain", "crate"), "privcmdctl domain: error: there is no command 'crate'; did you mean create?"),
        (("stats", "--unanswerd"), "unrecognized arguments: --unanswerd; did you mean --unanswered?"),
        (("run", "--domian", "hvm:4M", "--", "true"), "--domian; did you mean --domain?"),
        (
            ("run", "--leaks=eror", "--", "true"),
            "argument --leaks: 'eror' is none of report, error; did you mean error?",
        ),
        (("run", "--fault", "gnfs=3,errno=EIO", "--", "true"), "there is no 'gnfs' in a rule; did you mean gfns?"),
    ],
)
def test_a_misspelt_word_is_guessed(arguments: tuple[str, ...], sentence: str) -> None:
    """Law: a misspelt command or option is named, with the nearest there is, by the subcommand that it was given to."""
    ran = ctl(*arguments)

    assert (ran.returncode, ran.stdout) == (2, "")
    assert sentence in ran.stderr


def test_a_misspelt_method_is_guessed(broker: PrivateBroker) -> None:
    """Law: the broker guesses a misspelt method of a rule, for every client alike."""
    ran = ctl("--socket", broker.path, "fault", "add", "--errno", "EIO", "--method", "privcmd.mmapbatch_v3")

    assert ran.returncode == 1
    assert ran.stderr.endswith("; did you mean privcmd.mmapbatch_v2?\n")


def test_a_misspelt_method_of_a_run_is_guessed() -> None:
    """Law: as of `fault add`; the program is not started."""
    ran = ctl("run", "--no-xenstore", "--fault", "method=privcmd.mmapbatch_v3,errno=EIO", "--", "echo", "started")

    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.endswith("; did you mean privcmd.mmapbatch_v2?\n")


def test_a_rule_that_never_fired_is_told() -> None:
    """Law: a rule of --fault that never made anything fail is said to be one; with --faults=error it is status 97."""
    words = ("run", "--no-xenstore", "--fault", "gfns=3,errno=EIO")

    told = ctl(*words, "--", "true")
    failed = ctl(*words, "--faults=error", "--", "true")

    assert (told.returncode, failed.returncode) == (0, 97)
    assert told.stderr == failed.stderr
    assert "fault errno=EIO,gfns=0x3+0x1: seen 0, fired 0; it never made anything fail: nothing came" in told.stderr


def test_one_frame_is_a_range(broker: PrivateBroker) -> None:
    """Law: gfns=3 is the frame 3, and `--gfns 3` too."""
    ran = ctl("--socket", broker.path, "fault", "add", "--gfns", "3", "--errno", "EIO", "--json")
    ctl("--socket", broker.path, "fault", "clear")

    assert json.loads(ran.stdout)["rule"]["gfns"] == [{"gfn": 3, "npages": 1}]


def test_a_program_of_roots_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: a PATH without /usr/sbin finds what is there, as root's would; for the program's children as well."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    ran = ctl("run", "--no-xenstore", "--", "sh", "-c", "echo $PATH")
    found = ctl("run", "--no-xenstore", "--", "ldconfig", "--version")

    assert "/usr/sbin" in ran.stdout.strip().split(":")
    assert "no such program" not in found.stderr


def test_a_program_of_this_directory_is_pointed_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law: a name is looked for on PATH, as a shell does; one that lies here is pointed to."""
    poke = tmp_path / "poke"
    poke.write_text("#!/bin/sh\n")
    poke.chmod(0o755)
    monkeypatch.chdir(tmp_path)

    ran = ctl("run", "--no-xenstore", "--", "poke")

    assert (ran.returncode, ran.stderr) == (
        1,
        "privcmdctl: ENOENT: poke: no such program on PATH; there is one in this directory: ./poke\n",
    )


HINT = "privcmdctl: no Xen device was opened: the program failed before that, or the shim does not reach it "


def test_a_program_that_opened_no_device_and_failed_is_told() -> None:
    """Law: `run` says so of a program that failed and asked nothing of Xen, and points to the page; of no other one."""
    asks = f"{sys.executable} -c 'import privcmd; privcmd.Client().ping()'; "
    ran = {
        words: ctl("run", "--no-xenstore", "--", "sh", "-c", words) for words in ("exit 3", "exit 0", asks + "exit 3")
    }

    assert ran["exit 3"].stderr.startswith(HINT)
    assert ran["exit 3"].stderr.endswith("see `privcmdctl explain reach-a-program`\n")
    assert [one.stderr for words, one in ran.items() if words != "exit 3"] == ["", ""]
    assert "strace" in ctl("explain", "reach-a-program").stdout


def test_on_a_broker_that_others_use_too_nothing_is_claimed(broker: PrivateBroker, client: Client) -> None:
    """Law: beside a broker that is joined, `run` says so only when nobody has asked the broker for anything."""
    words = ("--socket", broker.path, "run", "--no-xenstore", "--", "sh", "-c")
    alone = ctl(*words, "exit 3")
    beside = ctl(*words, f"{sys.executable} -m privcmdd.cli.ctl --socket {broker.path} ping; exit 3")

    assert alone.stderr.startswith(HINT)
    assert HINT not in beside.stderr
    assert client.ping()


@pytest.mark.parametrize("program", ["printf unended >&2", "echo ended >&2", "true"])
def test_json_is_on_a_line_of_its_own(program: str) -> None:
    """Law: the document of `run --json` is the last line of standard error, whatever the program wrote there."""
    ran = ctl("run", "--no-xenstore", "--json", "--", "sh", "-c", program)

    assert json.loads(ran.stderr.splitlines()[-1])["status"] == 0


@pytest.mark.parametrize(
    ("arguments", "status", "name"),
    [
        (("ping",), 3, "ENOENT"),
        (("run", "--", "no-such-program"), 1, "ENOENT"),
        (("domain", "list", "--unknown"), 2, "EINVAL"),
        (("domian",), 2, "EINVAL"),
        (("run", "--"), 2, "EINVAL"),
    ],
)
def test_errors_are_json_under_json(arguments: tuple[str, ...], status: int, name: str) -> None:
    """Law: with --json an error is one line of JSON on standard error, wrong usage too; standard output has nothing."""
    ran = ctl("--socket", "/nonexistent/s", "--json", *arguments)

    assert (ran.returncode, ran.stdout) == (status, "")
    error = json.loads(ran.stderr)["error"]
    assert (error["name"], sorted(error)) == (name, ["details", "errno", "name", "text"])


@pytest.mark.parametrize("columns", [60, 100])
@pytest.mark.parametrize(
    ("command", "arguments"),
    [(ctl, ()), (ctl, ("run",)), (ctl, ("domain", "create")), (ctl, ("fault", "add")), (privcmdd, ("serve",))],
)
def test_help_is_wrapped_to_the_terminal(
    command: Callable[..., subprocess.CompletedProcess[str]], arguments: tuple[str, ...], columns: int
) -> None:
    """Law: no line of help is wider than the terminal, but for examples, which are to be copied, and choices."""
    said = command(*arguments, "--help", env={"COLUMNS": str(columns)}).stdout

    wide = [line for line in said.splitlines() if len(line) > columns]
    kept = ("  privcmd", "  systemd-socket-activate", "                            (--frame-errno ERRNO |")
    assert [line for line in wide if not line.startswith(kept)] == []


def test_help_of_a_subcommand_is_about_itself() -> None:
    """Law: the examples and exit statuses of a subcommand are its own."""
    domain, stats, run = (ctl(*words, "--help").stdout for words in (("domain", "list"), ("stats",), ("run",)))

    assert "privcmdctl run" not in domain + stats
    assert "run --leaks" not in domain + stats
    assert "run --leaks=error" in run
    assert "privcmdctl demo" not in run


def test_the_bare_command_shows_its_help() -> None:
    """Law: without arguments the whole help is shown, with the status of wrong usage."""
    ran = ctl()

    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == ctl("--help").stdout


def test_a_run_takes_settings_and_a_host(tmp_path: Path) -> None:
    """Law: --set and --host configure the broker that `run` starts, over --config; a mistake names its key."""
    config = tmp_path / "c.toml"
    config.write_text('[host]\nxen = "4.17"\n')
    words = ("run", "--no-xenstore", "--config", str(config), "--set", "machine.memory_mib=77")
    program = (
        sys.executable,
        "-c",
        "import privcmd; c = privcmd.Client(); s = c.stats(); print(s['machine']['frames'])",
    )

    ran = ctl(*words, "--host", "xen=4.20,dom0=pvh", "--", *program)
    wrong = ctl(*words, "--host", "xem=4.20", "--", *program)
    joined = ctl("--socket", "/nope", *words, "--", *program)

    assert (ran.stdout, ran.stderr) == (f"{77 * 256}\n", "")
    assert (wrong.returncode, "unknown key host.xem; did you mean host.xen?" in wrong.stderr) == (2, True)
    assert (joined.returncode, "leave out --socket" in joined.stderr) == (2, True)


def test_variables_that_a_run_does_not_heed_are_named() -> None:
    """Law: PRIVCMDD_TABLE__KEY is for brokers of one's own; `run` says that it does not heed it, and what it takes."""
    ran = ctl("run", "--no-xenstore", "--", "true", env={"PRIVCMDD_LIMITS__FRAMES": "1", "PRIVCMDD_PARANOID": "1"})

    assert ran.stderr == (
        "privcmdctl: PRIVCMDD_LIMITS__FRAMES, PRIVCMDD_PARANOID are ignored by run: use --config, --set or --host\n"
    )


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PRIVCMDD_SOKET": "/s"}, "PRIVCMDD_SOKET is ignored; did you mean PRIVCMDD_SOCKET?"),
        ({"PRIVCMDD_SAYS": "errors"}, "PRIVCMDD_SAYS is ignored; did you mean PRIVCMDD_SAY?"),
        ({"PRIVCMDD_LIMITS_FRAMES": "1"}, "PRIVCMDD_LIMITS_FRAMES is ignored; did you mean PRIVCMDD_LIMITS__FRAMES?"),
        ({"PRIVCMDD_SOCKET": "/s", "PRIVCMDD_CLIENT": "run-1"}, ""),
        ({"PRIVCMDD_PORT": "tcp://10.0.0.1:1", "PRIVCMDD_SERVICE_HOST": "10.0.0.1", "PRIVCMDD_PROFILE": "long"}, ""),
        ({"PRIVCMDD_SAY": "errors", "PRIVCMDD_DOMID": "3", "PRIVCMDD_DOMAINS": "3"}, ""),
        ({"PRIVCMDD_BROKER_TIMEOUT": "5"}, ""),
    ],
)
def test_misspelt_variables_are_named(variables: dict[str, str], said: str) -> None:
    """Law: a variable that nothing heeds and that is like one that is heeded is said to be ignored; others are not."""
    ran = ctl("run", "--no-xenstore", "--", "true", env=variables)

    assert (ran.returncode, ran.stderr) == (0, f"privcmdctl: {said}\n" if said else "")


def test_a_domain_can_be_named(broker: PrivateBroker, client: Client) -> None:
    """Law: a domain is found by its name; a name that none or several have is refused with what to do."""
    dom, *_ = (client.domains.create("hvm", 8, name=name) for name in ("bert", "twin", "twin"))

    info = json.loads(ctl("--socket", broker.path, "domain", "info", "bert", "--json").stdout)
    rule, wrong = (
        ctl("--socket", broker.path, "fault", "add", "--dom", name, "--errno", "EIO") for name in ("bert", "berd")
    )
    assert client.faults.clear() == 1
    twin, brt, gone = (ctl("--socket", broker.path, "domain", "destroy", name) for name in ("twin", "brt", "bert"))

    assert rule.stdout.partition(": ")[2] == f"errno=EIO,dom={dom}\n"
    assert wrong.stderr == "privcmdctl: ESRCH: there is no domain called 'berd'; did you mean bert?\n"
    assert info["dom"] == dom
    assert (twin.returncode, "are all called 'twin'; give the number" in twin.stderr) == (1, True)
    assert brt.stderr == "privcmdctl: ESRCH: there is no domain called 'brt'; did you mean bert?\n"
    assert gone.stdout == f"domain {dom} is gone\n"


@pytest.mark.parametrize("others", [(), ("serve", "--socket-path", "/nope/s"), ("--unknown", "words")])
def test_capabilities_are_printed_whatever_else_is_asked(others: tuple[str, ...]) -> None:
    """Law: as vhost-user's conventions say, --print-capabilities prints JSON and ends; all else is ignored."""
    for words in (("--print-capabilities", *others), (*others, "--print-capabilities")):
        ran = privcmdd(*words)

        assert (ran.returncode, ran.stderr) == (0, "")
        assert json.loads(ran.stdout)["type"] == "privcmd"


VGA = range(0xA0, 0xC0)


@pytest.mark.parametrize(
    ("domain", "tot_pages", "holes"),
    [
        ("hvm:1M", 224, {*VGA, *range(0x100, 0x120)}),
        ("hvm:1M,hole=none", 256, {*range(0x100, 0x120)}),
        ("hvm:1M,hole=0xa0+0x20", 256, {*VGA}),
        ("hvm:1M,hole=8+8", 224, {*range(8, 16), *VGA, *range(0x108, 0x120)}),
        ("hvm:1M,hole=8+8,hole=none", 256, {*range(8, 16), *range(0x108, 0x120)}),
        ("pvh:1M", 256, {*range(0x100, 0x120)}),
    ],
)
def test_a_domain_of_a_run_has_holes(domain: str, tot_pages: int, holes: set[int]) -> None:
    """Law: HVM lacks the VGA's gfns, as builders make it, and else memory jumps over the holes that are asked for."""
    words = ("run", "--no-xenstore", "--domain", f"{domain}:bert", "--", sys.executable, "-m", "privcmdd.cli.ctl")
    ran = ctl(*words, "domain", "info", "bert", "--frames", "0+0x120", "--json")

    info = json.loads(ran.stdout)
    assert info["tot_pages"] == tot_pages
    assert {gfn for gfn, frame in enumerate(info["frames"]) if frame == 2**64 - 1} == holes


def test_a_domain_that_cannot_be_read_is_shown_how() -> None:
    """Law: what is no domain is wrong usage, and the error shows what is one."""
    wrong = ctl("run", "--domain", "hvm:1M,hol=3", "--", "true")

    assert (wrong.returncode, "write hvm:64M" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(("value", "status"), [("eror", 2), ("errors,tims", 2), ("errors,times", 0), ("", 0)])
def test_unknown_wishes_are_refused(value: str, status: int) -> None:
    """Law: `run` refuses a value of PRIVCMDD_SAY that nothing listens to, and says which was probably meant."""
    ran = ctl("run", "--no-xenstore", "--", "true", env={"PRIVCMDD_SAY": value})

    assert ran.returncode == status
    assert ("PRIVCMDD_SAY is" in ran.stderr and "did you mean" in ran.stderr) == bool(status)


@pytest.mark.parametrize(
    ("options", "variable", "told"),
    [([], "", "30"), ([], "7.5", "7.5"), (["--broker-timeout=0"], "7.5", "0"), ([], "soon", None)],
)
def test_a_run_says_how_long_the_broker_is_waited_for(options: list[str], variable: str, told: str | None) -> None:
    """Law: the shim is told in the environment, by the option, else as it was; what is no time is refused."""
    program = "import os; print(os.environ['PRIVCMDD_BROKER_TIMEOUT'])"

    ran = ctl(
        "run", "--no-xenstore", *options, "--", sys.executable, "-c", program, env={"PRIVCMDD_BROKER_TIMEOUT": variable}
    )

    assert (ran.returncode, ran.stdout) == ((2, "") if told is None else (0, f"{told}\n"))
    assert ("'soon' is not a number of seconds" in ran.stderr) == (told is None)


@pytest.mark.parametrize(("device", "number", "name"), [("privcmd", 0x5063, "ENOTTY"), ("evtchn", 0x4563, "ENOSYS")])
def test_an_unknown_ioctl_is_said(device: str, number: int, name: str) -> None:
    """Law: PRIVCMDD_SAY=errors says an ioctl that the device does not have, and `run` counts it."""
    program = f"import fcntl, os; fcntl.ioctl(os.open('/dev/xen/{device}', os.O_RDWR), {number})"

    ran = ctl("run", "--no-xenstore", "--", sys.executable, "-c", program, env={"PRIVCMDD_SAY": "errors"})

    assert f"privcmdd: {name}: {device} ioctl {number:#x} is not answered here\n" in ran.stderr
    assert f"privcmdctl: asked for and not answered: {device} ioctl {number:#x}; see " in ran.stderr


def test_keep_needs_a_broker_that_stays() -> None:
    """A broker that ``run`` starts ends with it, and all its domains: that is said, not done in silence."""
    done = ctl("run", "--keep", "--", "true")

    assert (done.returncode, "name it with --socket" in done.stderr) == (2, True)
