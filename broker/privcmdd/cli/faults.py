# SPDX-License-Identifier: Apache-2.0
"""Rules of injection as ``privcmdctl`` takes and shows them.

The options of ``fault add`` and the words of ``run --fault`` are the same: a SPEC is those options without their
dashes, separated by commas, and the same parser reads it.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Never

from privcmdd.cli import output
from privcmdd.cli.arguments import SPEC, domain, number, span
from privcmdd.cli.asking import client_of, domid, show
from privcmdd.cli.parser import Parser
from privcmdd.service.suggest import meant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privcmd import InjectedFault
    from privcmdd.cli.commands import Commands

PPM: Final = 1_000_000
ABOUT: Final = """\
Make requests or frames fail, to see whether the code that meets them copes.

One option says what happens; the others say to whom and when. A rule about frames (--frame-errno, --paged) counts
good frames that are looked up, one about requests counts requests; --nth, --times and --probability choose among
what it counts. The same --seed chooses the same ones. The rule stays until it is cleared.

  privcmdctl fault add --dom 1 --gfns 0x100+16 --frame-errno EINVAL
  privcmdctl fault add --dom 1 --paged 3
  privcmdctl fault add --method privcmd.mmapbatch_v2 --nth 3 --times 1 --errno ENOMEM
  privcmdctl fault add --client 'qemu*' --probability 0.01 --seed 7 --delay 250
  privcmdctl fault add --method domain.destroy --drop --after
"""


def _add(parsed: argparse.Namespace) -> int:
    with client_of(parsed) as client:
        rule = keywords(parsed)
        if "dom" in rule:
            rule["dom"] = domid(client, rule["dom"])
        made = client.faults.add(**rule, keep=True)
        (added,) = (one for one in client.faults.list() if one.id == made)
    show(parsed, asdict(added), f"rule {made}: {added}")
    return 0


def _list(parsed: argparse.Namespace) -> int:
    with client_of(parsed) as client:
        rules = client.faults.list()
    rows = [(one.id, one.seen, one.fired, until(one), one) for one in rules]
    text = output.table(("rule", "seen", "fired", "until", "what"), rows, left=("until", "what"))
    show(parsed, {"faults": [asdict(one) for one in rules]}, text if rows else "no rules")
    return 0


def _clear(parsed: argparse.Namespace) -> int:
    with client_of(parsed) as client:
        cleared = client.faults.clear(parsed.rule)
    show(parsed, {"cleared": cleared}, f"{cleared} rule{'s' * (cleared != 1)} cleared")
    return 0


def until(rule: InjectedFault) -> str:
    """What ends a rule, for the column "until"."""
    if rule.connection is not None:
        return f"connection {rule.connection} ends"
    return f"job {rule.job} ends" if rule.job else "cleared"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a rule to a parser."""
    what = parser.add_argument_group("what happens, one of").add_mutually_exclusive_group(required=True)
    what.add_argument("--frame-errno", metavar="ERRNO", help="frames fail with this errno, as EINVAL")
    what.add_argument("--paged", metavar="N", type=number, help="frames are paged out for N look-ups, then good")
    what.add_argument("--errno", metavar="ERRNO", help="requests fail with this errno before they do anything")
    what.add_argument("--delay", dest="delay_ms", metavar="MS", type=number, help="requests wait so many milliseconds")
    what.add_argument(
        "--drop", action="store_const", const=True, help="the connection is closed where the answer would be"
    )
    parser.add_argument(
        "--after", dest="when", action="store_const", const="after", help="delay or drop when the work is done"
    )
    whom = parser.add_argument_group("to whom (default: to all)")
    whom.add_argument("--client", metavar="NAME", help="clients of this name in their hello, * for anything: 'qemu*'")
    whom.add_argument("--connection", metavar="N", type=number, help="the connection of this number")
    whom.add_argument("--pid", metavar="N", type=number, help="this process")
    whom.add_argument("--uid", metavar="N", type=number, help="this user")
    whom.add_argument(
        "--dom", metavar="DOMID", type=domain, help="requests that name this domain, by number or name, and its frames"
    )
    whom.add_argument(
        "--gfns", metavar="GFN+PAGES", type=span, action="append",
        help="these frames (pv: mfns), or requests that name one; may be given again",
    )  # fmt: skip
    whom.add_argument(
        "--method",
        metavar="NAME",
        help="this method of the protocol; or all whose names begin with a word and a dot, as privcmd.",
    )
    when = parser.add_argument_group("when (default: always)")
    when.add_argument("--nth", metavar="N", type=number, help="from the Nth match on, counted from 1")
    when.add_argument("--times", metavar="N", type=number, help="N times at most")
    when.add_argument("--probability", metavar="P", type=probability, help="with this probability, as 0.01")
    when.add_argument("--seed", metavar="N", type=number, help="which matches --probability chooses (default: 0)")


RULE: Final = (
    "frame_errno", "paged", "errno", "delay_ms", "drop", "when", "client", "connection", "pid", "uid", "dom", "method",
    "nth", "times", "probability", "seed",
)  # fmt: skip


def keywords(parsed: argparse.Namespace) -> dict[str, Any]:
    """The parsed options as arguments of ``privcmd.Client.faults.add``; the domain may still be a name."""
    given = {key: getattr(parsed, key) for key in RULE if getattr(parsed, key, None) is not None}
    if getattr(parsed, "gfns", None):
        given["gfns"] = [range(first, first + n_pages) for first, n_pages in parsed.gfns]
    return given


def probability(text: str) -> float:
    """A probability above 0. Raises argparse.ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 1 / PPM <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no probability; write 0.01, at least {1 / PPM:f} and at most 1")
    return value


class Words(Parser):
    """The parser of a SPEC, whose errors are errors of the option that the SPEC was given to."""

    def error(self, message: str) -> Never:
        """Say what is wrong with the SPEC. Raises argparse.ArgumentTypeError."""
        raise argparse.ArgumentTypeError(f"{self.corrected(message).replace('--', '')}; a rule is {SPEC}")

    def unrecognised(self, words: Sequence[str]) -> str:
        """The sentence about unknown words, which it names as the user wrote them: without dashes."""
        name = words[0].removeprefix("--").partition("=")[0]
        options = [option.removeprefix("--") for action in self._actions for option in action.option_strings]
        return f"there is no {name!r} in a rule{meant(name, options)}"


def rule_of(text: str) -> dict[str, Any]:
    """A SPEC as ``keywords`` has the options. Raises argparse.ArgumentTypeError."""
    parser = Words(add_help=False)
    options(parser)
    words = [f"--{word}" for word in text.split(",")]
    return keywords(parser.parse_args(words))


def add(commands: Commands) -> None:
    """Add the commands."""
    rules = commands.group("fault", "make requests and frames fail on demand")
    options(rules.add("add", _add, "add a rule", ABOUT))
    rules.add("list", _list, "list the rules, and how often each has fired")
    cleared = rules.add("clear", _clear, "end a rule, or all of them")
    cleared.add_argument("rule", metavar="RULE", type=number, nargs="?", help="its number (default: all)")
