# SPDX-License-Identifier: Apache-2.0
"""The broker without its sockets: connections and requests in, answers and effects out.

All state is in ``world``. A request is performed as a generator of pauses (``steps``), so that the same code runs
under trio and under a simulator.
"""

from __future__ import annotations

import errno
from math import inf
from types import GeneratorType
from typing import TYPE_CHECKING, Any, cast

from privcmdd.model.errors import ModelError
from privcmdd.model.ledger import Account, Slot
from privcmdd.model.slices import at_once, to_the_end
from privcmdd.service.dispatch import Dispatch
from privcmdd.service.incident import Incident
from privcmdd.service.keeping import Line
from privcmdd.service.methods import machinery
from privcmdd.service.prices import price
from privcmdd.service.reply import Reply
from privcmdd.service.sequence import Numbered
from privcmdd.service.session import Access, Identity, Session
from privcmdd.service.steps import MIDWAY, Dropped, GivenUp
from privcmdd.service.world import World
from privcmdd.wire.messages import BadRequest, Request, response_error, response_ok
from privcmdd.wire.methods import ParamError, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from privcmdd.model.machine.debts import Debt
    from privcmdd.service.backing import Backing
    from privcmdd.service.sequence import Numbers
    from privcmdd.service.settings import Limits, Settings
    from privcmdd.service.steps import Pause
    from privcmdd.wire.messages import Notification


class Broker:
    """Connects and disconnects clients, and performs their requests.

    Attributes:
        world: All state.
    """

    def __init__(
        self,
        settings: Settings,
        backing: Backing,
        instance: str,
        on_event: Callable[[Session, bytes], None],
        now: Callable[[], float],
        on_incident: Callable[[Incident], str | None] = lambda _incident: None,
        *,
        line: Line | None = None,
    ) -> None:
        """Begin with no domain and no client.

        Args:
            settings: Limits, access rules, defaults.
            backing: Makes and keeps memory files.
            instance: Names this run.
            on_event: Called to queue an encoded notification for a subscriber; must not fail.
            now: Returns the time in seconds, by any clock that does not go back.
            on_incident: Called when a bug of our own was met; returns the name of the report that it wrote, if any.
                Must not fail.
            line: The line of brokers that this one belongs to; None: it is the first and the last of its line.
        """
        self.world = World(settings, backing, instance, line or Line(instance), on_event, now, machinery)
        self._on_incident = on_incident
        self._connection_limits: Mapping[Slot, int] = {}
        self._last_session = 0
        self._dispatch = Dispatch()

    # Sessions

    def connect(self, identity: Identity) -> Session:
        """Make the session of a client that has connected.

        Raises:
            ModelError: EDQUOT, its uid has too many connections.
        """
        world, uid = self.world, identity.uid
        account = world.accounts.get(uid) or Account(f"uid {uid}", uid_limits(world.settings.limits))
        number = self._last_session + 1
        own = Account(f"connection {number}", self._connection_limits, account)
        charges = [own.charge(Slot.FDS, 1)]
        world.accounts[uid] = account
        self._last_session = number
        access = Access(identity, world.settings.access)
        session = Session(
            number,
            identity,
            access,
            own,
            account,
            charges,
            output=own.charge(Slot.QUEUED_BYTES),
            descriptors=own.charge(Slot.FDS),
            incoming=own.charge(Slot.INCOMING_BYTES),
        )
        world.sessions[number] = session
        return session

    def disconnect(self, session: Session) -> None:
        """Give back everything that a client held, at once; it has gone. May be called any number of times."""
        at_once(self.leave(session))

    def leave(self, session: Session) -> Generator[Pause, None, None]:
        """Give back everything that a client held. After the first step nothing of it can be reached any more.

        Yields:
            Pauses; closing the generator does the rest at once.
        """
        if session.closed:
            return
        session.closed = True
        world = self.world
        if world.destroyed:
            machinery().find_zombies(world)
        for leave in (*(machinery().leave if self._dispatch.complete else ()), World.leave_job, self._end_leases):
            try:
                leave(world, session)
            except Exception as problem:  # noqa: BLE001 - a bug met here: what else the session holds is given back all the same
                self.report(problem, session)
        for charge in (*session.charges, session.output, session.descriptors, session.incoming):
            charge.release()
        del world.sessions[session.number]
        if session.uid_account.idle:
            world.accounts.pop(session.identity.uid, None)
        try:
            if world.has_machine:
                machinery().carry_out(world, session)
        except Exception as problem:  # noqa: BLE001 - the client that would be told has gone
            self.report(problem, session)
        if session.numbers is not None:
            world.sequence.take()
        if session.owes or (world.has_machine and world.machine.debts.made):
            yield from to_the_end(self._pay(session))

    def expire(self) -> Generator[Pause, None, None]:
        """Destroy the domains whose lease is over, when nobody asks for anything meanwhile.

        Yields:
            Pauses; closing the generator does the rest at once.

        Raises:
            Exception: The first failure of the backing; all is given back all the same.
        """
        world = self.world
        machinery().end_leases(world)
        if not world.has_machine:
            return
        failed = self._settled(None)
        later = yield from to_the_end(self._give_back(world.machine.debts.take(), None))
        failed = failed or later
        if failed is not None and not isinstance(
            failed, ModelError
        ):  # what cannot be kept is kept with the next change
            raise failed

    @staticmethod
    def _end_leases(world: World, _session: Session) -> None:
        """Destroy the domains whose lease is over."""
        if world.leases.next_s <= world.now():
            machinery().end_leases(world)

    def reconfigure(self, settings: Settings) -> None:
        """Take new limits, access rules and defaults over; the machine stays as it is.

        Use above a lowered limit is kept and only growth refused; spaces keep what they were made with.
        """
        self.world.settings = settings
        for account in self.world.accounts.values():
            account.relimit(uid_limits(settings.limits))
        for session in self.world.sessions.values():
            session.access = Access(session.identity, settings.access)

    # Requests

    def perform(  # noqa: PLR0915 - every request passes here: one function, no calls between
        self, session: Session, request: Request | BadRequest
    ) -> Generator[Pause, None, Reply]:
        """Perform a client's request.

        Yields:
            Pauses; closing the generator at a pause gives back what the request had taken.

        Returns:
            The reply. There always is one: a refusal is a reply, and so is an incident.
        """
        world = self.world
        world.n_requests += 1
        session.n_requests += 1
        session.method = request.method
        msgid = request.msgid
        numbers = session.numbers
        try:
            try:
                if world.leases.next_s < inf:
                    self._end_leases(world, session)
                if world.destroyed:
                    machinery().find_zombies(world)
                if isinstance(request, BadRequest):
                    raise ParamError(request.errno, request.text, request.details)
                method, handler = self._dispatch.known.get(request.method) or self._dispatch.find(request.method)
                params = validate(method, request.params)
                if world.spend is not None:
                    world.spend(price(session, request.method, params))
                result: Any
                if world.injections:
                    result = machinery().inject(world, world.injections, session, method, handler, params)
                else:
                    result = handler(world, session, params)
                if result.__class__ is GeneratorType:
                    try:
                        pause = next(result)
                    except StopIteration as stop:  # most requests end in their first step
                        result = stop.value
                    else:
                        result = yield from self._drive(session, numbers, result, pause)
            except GeneratorExit:
                self._pay_at_once(session)
                raise
            finally:  # a request that was refused or cancelled may have done something before
                try:
                    if world.keeps or (world.has_machine and world.machine.effects):
                        self._settle(session)
                finally:
                    if session.owes or (world.has_machine and world.machine.debts.made):
                        if numbers is not None:
                            numbers.stamp()  # the step that did the work ends here
                        yield from to_the_end(self._pay(session))
                if world.settings.paranoid:
                    machinery().look(world, session, request)
            if numbers is not None:
                result = Numbered(result, numbers)
            if result.__class__ is dict:
                return Reply(response_ok(msgid, result))
            return cast("Reply", result.reply(msgid))
        except (ModelError, ParamError) as refusal:
            world.n_refused += 1
            world.count(session, refusal)
            details = stamped(session, refusal.details)
            nvim = "nvim-errors" in session.features
            return Reply(response_error(msgid, refusal.errno, refusal.text, details, nvim=nvim))
        except MemoryError:
            world.n_refused += 1
            text = "the broker has no memory left for this; nothing has changed, ask again or for less at a time"
            return Reply(response_error(msgid, errno.ENOMEM, text, stamped(session, {})))
        except (Dropped, GivenUp):
            if numbers is not None:
                numbers.clear()
            return Reply(b"", close=True)
        except Exception as problem:  # noqa: BLE001 - a bug of our own ends this session and not the broker
            return self._broken(session, request, problem)

    def _broken(self, session: Session, request: Request | BadRequest, problem: Exception) -> Reply:
        """The reply to a request that met a bug of our own: it is the connection's last."""
        report = self.report(problem, session, request)
        where = "please report it" if report is None else f"please report it, with the broker's file {report}"
        text = f"a bug of the broker; the connection ends here, {where}"
        details = {} if report is None else {"report": report}
        data = response_error(request.msgid, errno.EIO, text, stamped(session, details))
        return Reply(data, close=True, incident=problem)

    def _drive(
        self, session: Session, numbers: Numbers | None, steps: Generator[Pause, None, Any], pause: Pause
    ) -> Generator[Pause, None, Any]:
        """Run a request from pause to pause. At each pause its effects are carried out before other requests run."""
        world = self.world
        try:
            while True:
                if world.keeps or (world.has_machine and world.machine.effects):
                    self._settle(session)
                if world.has_machine and world.machine.debts.made:
                    session.owes += world.machine.debts.take()
                if numbers is not None:
                    numbers.paused(pause)
                yield pause
                try:
                    pause = next(steps)
                except StopIteration as stop:
                    return stop.value
        except GeneratorExit:
            if numbers is not None:
                numbers.clear()
            raise
        finally:
            steps.close()

    def _settle(self, session: Session | None) -> None:
        """Keep what a step of a request has changed, then carry out its effects.

        Raises:
            ModelError: It cannot be kept.
        """
        world = self.world
        try:
            world.keep()
        finally:
            if world.has_machine and world.machine.effects:
                machinery().carry_out(world, session)

    def _pay(self, session: Session) -> Generator[Pause, None, None]:
        """Give back, in slices, what the steps of a request, or the end of its client, have left to be given back."""
        session.owes += self.world.machine.debts.take()
        failed = yield from self._give_back(session.owes, session)
        if failed is not None and session.closed:
            self.report(failed, session)
        elif failed is not None:
            raise failed

    def _give_back(self, owes: list[Debt], session: Session | None) -> Generator[Pause, None, Exception | None]:
        """Give all of this back, in slices. Returns the first failure, after which the rest is given back as well."""
        failed = None
        while owes:
            yield MIDWAY
            if not self.world.machine.debts.pay(owes[0]):
                del owes[0]
            problem = self._settled(session)
            failed = failed or problem
        return failed

    def _settled(self, session: Session | None) -> Exception | None:
        """Settle, and return what has failed."""
        try:
            self._settle(session)
        except Exception as problem:  # noqa: BLE001 - for whoever goes on all the same
            return problem
        return None

    def _pay_at_once(self, session: Session) -> None:
        if self.world.has_machine:
            at_once(self._pay(session))

    def notice(self, session: Session, said: Notification) -> None:  # noqa: ARG002 - protocol 1 knows none from clients
        """Count and ignore a notification from a client."""
        session.n_ignored += 1

    def check(self) -> None:
        """Hold all laws against the state.

        Raises:
            LawBroken: Naming the law that is broken.
        """
        for breach in machinery().breaches(self.world):
            raise breach

    def report(
        self, exception: BaseException, session: Session, request: Request | BadRequest | None = None
    ) -> str | None:
        """Count an incident and have it reported.

        Returns:
            The name of its report; None when none was written.
        """
        world = self.world
        world.n_incidents += 1
        incident = Incident(
            exception,
            session,
            request,
            world.instance,
            world.settings,
            space=lambda: machinery().space_report(session),
            counters=lambda: machinery().counters(world),
        )
        return self._on_incident(incident)


def uid_limits(limits: Limits) -> dict[Slot, int]:
    """The quotas of a uid's account."""
    return {slot: getattr(limits, slot.value) for slot in Slot}


def stamped(session: Session, details: Mapping[str, Any]) -> Mapping[str, Any]:
    """An error's details, with the numbers of the request's steps when the connection asked for them."""
    if session.numbers is None:
        return details
    stamp = session.numbers.stamp()
    session.numbers.clear()
    return {**details, **stamp}
