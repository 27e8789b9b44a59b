# SPDX-License-Identifier: Apache-2.0
"""Completion and man pages: made from the parsers, and taken by the shells and by man."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from typing import TYPE_CHECKING

import commands
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = commands.files()
OF_SHELL = {"bash": ("bash", "-n"), "zsh": ("zsh", "-n"), "fish": ("fish", "--no-execute")}


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Every long option that a command or one of its subcommands shows."""
    for action in commands.actions(parser):
        if action.help != argparse.SUPPRESS:
            yield from (option for option in action.option_strings if option.startswith("--") and option != "--help")


def tool(name: str, what: str) -> str:
    """A program; without it the test is skipped, loudly."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"NOT TESTED: {what}; missing: {name} (apt-get install {name})")
    return found


def completed(tmp_path: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    script = tmp_path / "completion"
    script.write_text(FILES["share/bash-completion/completions/privcmdctl"])
    line = " ".join(f"'{word}'" for word in words)
    code = (
        f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
        '"$(complete -p privcmdctl | sed "s/.*-F \\([^ ]*\\).*/\\1/")"; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    ran = subprocess.run([tool("bash", "completion"), "-c", code], capture_output=True, text=True, check=True)
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("privcmdctl", "dem"), ["demo"]),
        (("privcmdctl", "domain", ""), ["create", "destroy", "info", "list"]),
        (("privcmdctl", "run", "--lea"), ["--leaks"]),
        (("privcmdctl", "run", "--leaks", ""), ["error", "report"]),
    ],
    ids=" ".join,
)
def test_bash_completes(words: tuple[str, ...], offered: list[str], tmp_path: Path) -> None:
    """Commands, their options, and what an option takes."""
    assert sorted(completed(tmp_path, *words)) == offered


@pytest.mark.parametrize("shell", OF_SHELL)
def test_each_shell_reads_its_completion(shell: str, tmp_path: Path) -> None:
    """The scripts of both commands have no mistake that the shell sees."""
    checker = [tool(shell, f"completion for {shell}"), *OF_SHELL[shell][1:]]
    for command, _ in commands.COMMANDS:
        script = tmp_path / command.prog
        script.write_text(FILES[commands.PLACES[shell].format(command.prog)])
        subprocess.run([*checker, str(script)], check=True)


@pytest.mark.parametrize("command", [command for command, _ in commands.COMMANDS], ids=lambda command: command.prog)
def test_man_shows_every_option(command: argparse.ArgumentParser, tmp_path: Path) -> None:
    """Of the command and its subcommands, without a warning, under a name that apropos finds."""
    page = tmp_path / "page.1"
    page.write_text(FILES[commands.MAN.format(command.prog)])
    ran = subprocess.run(
        [tool("groff", "man pages"), "-man", "-Tutf8", "-ww", "-P-cbou", str(page)],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        check=True,
    )

    assert f"{command.prog} - " in ran.stdout
    assert [option for option in options(command) if option not in ran.stdout] == []
    assert ran.stderr == ""
