# SPDX-License-Identifier: Apache-2.0
"""The broker without its sockets: connections and requests in, answers and effects out.

It owns the hypervisor, the address spaces and the accounts. A request is performed as a generator of pauses
(``steps``), so that the same code runs under trio and under a simulator.

The machine, and with it numpy, is imported and made when something first asks for it: a broker that has just
started answers before that.
"""

from __future__ import annotations

import errno
from functools import cached_property
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Final, cast

from privcmdd.model.errors import ModelError
from privcmdd.model.ledger import Account, Slot
from privcmdd.service.dispatch import check_known, machine_handlers, paired
from privcmdd.service.incident import Incident
from privcmdd.service.methods import conversation
from privcmdd.service.paranoid import Scrutiny
from privcmdd.service.reply import Reply
from privcmdd.service.sequence import Sequence
from privcmdd.service.session import Access, Identity, Session
from privcmdd.service.steps import Dropped
from privcmdd.wire.messages import BadRequest, Request, notification, response_error, response_ok
from privcmdd.wire.methods import ParamError, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from privcmdd.model.injection import Faults
    from privcmdd.model.machine.effects import Effect
    from privcmdd.model.machine.lifecycle import Hypervisor
    from privcmdd.service.backing import Backing
    from privcmdd.service.dispatch import Handler
    from privcmdd.service.findings import Finding, Findings
    from privcmdd.service.processes import Residence, Spaces
    from privcmdd.service.settings import Limits, Settings
    from privcmdd.service.steps import Pause
    from privcmdd.wire.messages import Notification
    from privcmdd.wire.methods import Method

FRAMES_PER_MIB: Final = 256
# Names of operations that are counted apart: they come from clients.
MOST_NAMES: Final = 256
OTHERS: Final = "others"  # what is counted when that many names are taken


class Broker:
    """All state, and every operation on it.

    Attributes:
        backing: Where guest bytes live.
        instance: Another value for each run, so that a client can tell that all state is new.
        machine_files: Keys of files of memory that is no guest's.
        faults: Rules by which requests fail on demand; None until there was one.
        sequence: Numbers the steps of the connections that asked for it.
        unanswered: Hypercalls that there is no answer to, by name, and how often they were made.
        scrutiny: Holds the laws against the state, and knows which are broken.
    """

    def __init__(
        self,
        settings: Settings,
        backing: Backing,
        instance: str,
        on_event: Callable[[Session, bytes], None],
        on_fault: Callable[[Incident], str | None] = lambda _fault: None,
    ) -> None:
        """Make the machine, with no domain and no client.

        Args:
            settings: Limits, access rules, defaults.
            backing: Makes and keeps memory files.
            instance: Names this run.
            on_event: Queue an encoded notification to a subscriber; must not fail.
            on_fault: A fault of our own was met; returns the name of a report that tells of it, if there is one. Must
                not fail.
        """
        self.settings = settings
        self.backing: Backing = backing
        self.instance = instance
        self._hypervisor: Hypervisor | None = None
        self.sessions: dict[int, Session] = {}
        self.n_requests = 0
        self.n_refused = 0
        self.n_faults = 0
        self.faults: Faults | None = None
        self.unanswered: dict[str, int] = {}
        self.machine_files: set[int] = set()
        self.sequence = Sequence()
        self.scrutiny = Scrutiny(self)
        self._on_event = on_event
        self._on_fault = on_fault
        self._accounts: dict[int, Account] = {}
        self._connection_limits: Mapping[Slot, int] = {}
        self._last_session = 0
        self._methods = paired(conversation.HANDLERS)

    # The machine

    @property
    def hypervisor(self) -> Hypervisor:
        """The simulated machine."""
        if self._hypervisor is None:
            from privcmdd.model.machine.lifecycle import Hypervisor  # noqa: PLC0415 - see the module's docstring

            size = self.settings.machine
            self._hypervisor = Hypervisor(
                size.memory_mib * FRAMES_PER_MIB, size.domains, size.gfns_per_domain, self.settings.host
            )
        return self._hypervisor

    @cached_property
    def spaces(self) -> Spaces:
        """The address spaces of the clients."""
        from privcmdd.service.processes import Spaces  # noqa: PLC0415 - see the module's docstring

        return Spaces(self.hypervisor, self._tell_of_space)

    @cached_property
    def findings(self) -> Findings:
        """Harm that clients did and were not told of."""
        from privcmdd.service.findings import Findings  # noqa: PLC0415 - see the module's docstring

        return Findings(self._tell_of_finding)

    # Sessions

    def connect(self, identity: Identity) -> Session:
        """A client has connected.

        Raises:
            ModelError: EDQUOT, its uid has too many connections.
        """
        uid = identity.uid
        limits = self.settings.limits
        account = self._accounts.get(uid) or Account(f"uid {uid}", uid_limits(limits))
        number = self._last_session + 1
        own = Account(f"connection {number}", self._connection_limits, account)
        charges = [own.charge(Slot.FDS, 1)]
        self._accounts[uid] = account
        self._last_session = number
        access = Access(identity, self.settings.access)
        session = Session(number, identity, access, own, account, charges, output=own.charge(Slot.QUEUED_BYTES))
        self.sessions[number] = session
        return session

    def disconnect(self, session: Session) -> None:
        """A client has gone: give everything back. Any number of times."""
        if session.closed:
            return
        session.closed = True
        try:
            if session.residence is not None or session.forked:
                self.spaces.leave(session)
            if session.ports:
                from privcmdd.service.methods import evtchn  # noqa: PLC0415 - see the module's docstring

                evtchn.give_up_all(self, session)
            if self._hypervisor is not None and self._hypervisor.shares.refs:
                from privcmdd.service.methods import gntalloc  # noqa: PLC0415 - see the module's docstring

                self._hypervisor.shares.let_go_of_all(gntalloc.connection(session))
        except Exception as fault:  # noqa: BLE001 - a law broken by one session: the rest of it goes all the same
            self.report(fault, session)
        if self.faults:
            self.faults.leave(session.number)
        for charge in (*session.charges, *session.shares.values(), session.output):
            charge.release()
        del self.sessions[session.number]
        if session.uid_account.idle:
            del self._accounts[session.identity.uid]
        try:
            self.carry_out(session)
        except Exception as fault:  # noqa: BLE001 - whatever it is, the client it would be told has gone
            self.report(fault, session)
        if session.numbers is not None:
            self.sequence.take()

    def reconfigure(self, settings: Settings) -> None:
        """Take new limits, access rules and defaults over; the machine stays as it is.

        Use above a lowered limit is kept and only growth refused; spaces keep what they were made with.
        """
        self.settings = settings
        for account in self._accounts.values():
            account.relimit(uid_limits(settings.limits))
        for session in self.sessions.values():
            session.access = Access(session.identity, settings.access)

    def charge_output(self, session: Session, n_bytes: int) -> None:
        """Output waits to be taken by a client.

        Raises:
            ModelError: EDQUOT, its uid has too much of it.
        """
        session.output.resize(session.output.amount + n_bytes)

    def output_sent(self, session: Session, n_bytes: int) -> None:
        """Output has been taken, or was dropped."""
        if not session.closed:
            session.output.resize(session.output.amount - n_bytes)

    # Requests

    def perform(self, session: Session, request: Request | BadRequest) -> Generator[Pause, None, Reply]:
        """Do what a client asks.

        Yields:
            Pauses; closing the generator at one gives back what the request had taken.

        Returns:
            The reply, always: refusals are replies, and so are faults of our own.
        """
        self.n_requests += 1
        session.n_requests += 1
        session.method = request.method
        msgid = request.msgid
        try:
            try:
                if isinstance(request, BadRequest):
                    raise ParamError(request.errno, request.text, request.details)
                found = self._methods.get(request.method) or self._find(request.method)
                method, handler = found
                if session.numbers is not None:
                    handler = session.numbers.counting(handler)
                params = validate(method, request.params)
                result: Any = (
                    self._hindered(method, handler, session, params) if self.faults else handler(self, session, params)
                )
                if result.__class__ is GeneratorType:
                    result = yield from result
            finally:  # a request that was refused or given up may have done something before
                if self._hypervisor is not None and self._hypervisor.effects:
                    self.carry_out(session)
                if self.settings.paranoid:
                    self.scrutiny.look(session, request)
            if result.__class__ is dict:
                return Reply(response_ok(msgid, result))
            return cast("Reply", result.reply(msgid))
        except (ModelError, ParamError) as refusal:
            self.n_refused += 1
            nvim = "nvim-errors" in session.features
            details = stamped(session, refusal.details)
            return Reply(response_error(msgid, refusal.errno, refusal.text, details, nvim=nvim))
        except MemoryError:
            self.n_refused += 1
            text = "the broker has no memory left for this; nothing has changed, ask again or for less at a time"
            return Reply(response_error(msgid, errno.ENOMEM, text, stamped(session, {})))
        except Dropped:
            return Reply(b"", close=True)
        except Exception as fault:  # noqa: BLE001 - whatever it is, it ends this session and not the broker
            report = self.report(fault, session, request)
            where = "please report it" if report is None else f"please report it, with the broker's file {report}"
            text = f"a fault of the broker's own; the connection ends here, {where}"
            details = {} if report is None else {"report": report}
            return Reply(response_error(msgid, errno.EIO, text, stamped(session, details)), close=True, fault=fault)

    def notice(self, session: Session, said: Notification) -> None:  # noqa: ARG002 - protocol 1 knows none from clients
        """A client says something without wanting an answer; it is counted and ignored."""
        session.n_ignored += 1

    def residence(self, session: Session) -> Any:
        """The address space that a connection lives in; a new one when it has none."""
        return self.spaces.of(session, self.settings.space, self.settings.limits.slice_frames)

    def check(self) -> None:
        """Hold all laws against the state.

        Raises:
            InternalFault: Naming the law that is broken.
        """
        for breach in self.scrutiny.breaches():
            raise breach

    def report(self, exception: BaseException, session: Session, request: Any = None) -> str | None:
        """Count a fault and tell of it; the name of its report."""
        self.n_faults += 1
        return self._on_fault(Incident(self, exception, session, request))

    def count_unanswered(self, what: str, number: int) -> ModelError:
        """An operation that is not there; it is counted, for people who wonder why a program fails.

        Returns:
            The refusal, for the caller to raise.
        """
        counts = self.unanswered
        name = what if what in counts or len(counts) < MOST_NAMES else OTHERS
        counts[name] = counts.get(name, 0) + 1
        return ModelError(number, f"{what} is not answered here", op=what)

    def accounts(self) -> dict[Account, list[Account]]:
        """The accounts of uids, with those of the connections that draw on each."""
        below: dict[Account, list[Account]] = {account: [] for account in self._accounts.values()}
        for session in self.sessions.values():
            below[session.uid_account].append(session.account)
        return below

    def usage(self) -> dict[str, dict[str, int]]:
        """What each uid uses, by uid and slot."""
        return {
            str(uid): {slot.value: n for slot, n in account.used.items()} for uid, account in self._accounts.items()
        }

    def statistics(self) -> dict[str, Any]:
        """All counters, as ``stats`` answers them."""
        return conversation.counters(self)

    def _hindered(
        self, method: Method, handler: Handler, session: Session, params: dict[str, Any]
    ) -> Generator[Pause, None, Any]:
        """Do a request that rules may make fail."""
        from privcmdd.service.methods import faults  # noqa: PLC0415 - see the module's docstring

        assert self.faults is not None
        return faults.perform(self, self.faults, session, method, handler, params)

    def _find(self, name: str) -> tuple[Method, Handler]:
        """A method that is not known yet: about the machine, or not there at all.

        Raises:
            ModelError: ENOSYS.
        """
        check_known(name)
        self._methods |= paired(machine_handlers())
        return self._methods[name]

    def _tell_of_space(self, residence: Residence, state: str) -> None:
        """Subscribers of the same uid, and administrators, hear of address spaces and what was left in them."""
        uid = residence.uid
        self.tell(
            "space",
            residence.told(state),
            lambda session: session.identity.uid == uid or session.access.allows("admin", None),
        )

    def _tell_of_finding(self, finding: Finding) -> None:
        """Subscribers who may see it hear of a finding when it is new."""
        from privcmdd.service.findings import sees  # noqa: PLC0415 - see the module's docstring

        uid, dom = finding.culprit.uid, finding.found.dom
        self.tell("finding", finding.row(), lambda session: sees(session, uid, dom))

    def tell(self, topic: str, body: dict[str, Any], concerns: Callable[[Session], bool]) -> None:
        """Tell those subscribers of a topic whom it concerns."""
        data = None
        for session in self.sessions.values():
            if topic in session.topics and concerns(session):
                if session.numbers is not None:
                    self._on_event(session, notification(topic, {**body, "seq": self.sequence.last}))
                    continue
                data = data or notification(topic, body)
                self._on_event(session, data)

    def carry_out(self, session: Session) -> None:
        """Do outside what the model has decided: all of it, even when some of it fails.

        This comes before anybody else runs, so that what was found is put down to the client that did it.

        Args:
            session: Whose request, or end, it was that the model decided this for.

        Raises:
            Exception: The first failure of the backing.
        """
        if self._hypervisor is None:
            return
        from privcmdd.service import effects  # noqa: PLC0415 - see the module's docstring

        failed = None
        put_off: list[Effect] = []
        while self._hypervisor.effects:  # to carry one out may have others
            for effect in self._hypervisor.take_effects():
                try:
                    effects.carry_out(self, session, effect)
                except MemoryError:
                    put_off.append(effect)  # with the next request, then
                except Exception as fault:  # noqa: BLE001 - raised below, when the others have had their turn
                    failed = failed or fault
        self._hypervisor.effects += put_off
        if failed is not None:
            raise failed


def uid_limits(limits: Limits) -> dict[Slot, int]:
    """The quotas of a uid's account."""
    return {slot: getattr(limits, slot.value) for slot in Slot}


def stamped(session: Session, details: Mapping[str, Any]) -> Mapping[str, Any]:
    """An error's details, with the request's numbers when its connection asked for them."""
    if session.numbers is None:
        return details
    stamp = session.numbers.stamp()
    session.numbers.clear()
    return {**details, **stamp}
