"""Network cards between which a bench stands inline, or at which one end of it stands: taken, watched, given back.

    hardware ── terminal's card │ link │ datacenter's card ── hardware

Where one of two loses its carrier, the other side's card is set down, so that who is wired to it sees what he would see
at the end of one cable; it comes up again with the carrier. Of a single card, the carrier is told.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO

from emulator.bench import restorer
from emulator.bench.privilege import has_machine_network
from emulator.bench.runtime import holding, runtime_root, take_lock
from emulator.errors import EmulationError, InterfaceError, PrivilegeError
from emulator.ports.namespace import Namespace
from emulator.ports.nic import Card, NicPort, look_at, refuse_needed
from emulator.scenario.model import Ports
from emulator.units import NS_PER_S

RTMGRP_LINK = 1  # linux/rtnetlink.h
GRACE_NS = 10 * NS_PER_S  # autonegotiation takes 2 to 5 s; some optics more
LOOK_MS = 1000  # at the latest, for the end of a grace; news of a carrier comes at once


class Mirror:
    """Which of two cards is to be up, by which has carrier. Time is an argument; nothing is read and nothing done here.

    A card that we took down shows nothing of its own cable, so it is not asked; one that we took up again has a grace
    in which to find its carrier, or two cards would take each other down by turns.
    """

    def __init__(self, now_ns: int) -> None:
        self.taken_down = [False, False]
        self._patient_until_ns = [now_ns + GRACE_NS] * 2

    def step(self, now_ns: int, running: tuple[bool, bool]) -> tuple[bool | None, bool | None]:
        """What to do with each card: set it up, set it down, or leave it (None)."""
        actions: list[bool | None] = [None, None]
        for side, other in ((0, 1), (1, 0)):
            if running[other]:
                self._patient_until_ns[other] = now_ns
                if self.taken_down[side]:
                    self.taken_down[side], actions[side] = False, True
                    self._patient_until_ns[side] = now_ns + GRACE_NS
            elif running[side] and not self.taken_down[other] and now_ns >= self._patient_until_ns[other]:
                self.taken_down[side], actions[side] = True, False
        return actions[0], actions[1]


class Cards:
    """The cards of `names`, one or two of them, open. `mtu` is the smallest; `notes`, what the person should know.

    on_warning: is told of a carrier that goes or comes. on_failure: that a card has gone.
    Raises InterfaceError, PrivilegeError; the cards are as they were then.
    """

    def __init__(
        self,
        names: Sequence[str],
        ports: Ports,
        namespace: Namespace,
        *,
        on_warning: Callable[[str], None],
        on_failure: Callable[[EmulationError], None],
    ) -> None:
        self._warn, self._fail = on_warning, on_failure
        self._namespace = namespace
        self._stopping = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, self._wake)
            found = [self._find(name) for name in names]
            for card in found:
                if not ports.force:
                    refuse_needed(card)
                stack.enter_context(holding(self._lock(card.name, card.index)))
            self._start_restorer({card.name: card.up for card in found})
            stack.callback(self._end_restorer)
            self.ports: list[NicPort] = []
            for card in found:
                port = NicPort(namespace, card.name, queue_packets=ports.tx_queue_packets, force=ports.force)
                stack.callback(port.close)
                stack.callback(port.restore)
                self.ports.append(port)
            self.mtu = min(port.mtu for port in self.ports)
            self.notes = [note for port in self.ports for note in port.notes]
            watcher = threading.Thread(target=self._watch, name="carriers", daemon=True)
            watcher.start()
            stack.callback(watcher.join)
            stack.callback(self._stop)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Gives the cards back."""
        self._stack.close()

    def _find(self, name: str) -> Card:
        try:
            return look_at(self._namespace, name)
        except InterfaceError as error:
            if not has_machine_network():
                raise PrivilegeError(f"{error}; network cards need root") from error
            raise

    def _stop(self) -> None:
        self._stopping = True
        os.eventfd_write(self._wake, 1)

    def _lock(self, name: str, index: int) -> IO[str]:
        lock = take_lock(runtime_root() / f"card-{self._namespace.inode}-{index}.lock")
        if lock is None:
            raise InterfaceError(f"interface {name}: another bench has taken it")
        return lock

    def _start_restorer(self, states: dict[str, bool]) -> None:
        life, self._life = os.pipe2(os.O_CLOEXEC)
        cards = [word for name, up in states.items() for word in (name, "up" if up else "down")]
        try:
            self._restorer = subprocess.Popen(
                [sys.executable, "-I", "-S", restorer.__file__, str(self._namespace.descriptor), str(life), *cards],
                pass_fds=(self._namespace.descriptor, life),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(life)

    def _end_restorer(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._life, b"x")
        os.close(self._life)
        self._restorer.wait()

    def _watch(self) -> None:
        try:
            news = self._namespace.run(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE))
            with news:
                news.bind((0, RTMGRP_LINK))
                news.setblocking(False)
                self._mirror(news)
        except InterfaceError as error:
            self._fail(EmulationError(f"the bench lost a network card: {error}"))

    def _act(self, actions: tuple[bool | None, bool | None], names: Sequence[str]) -> None:
        for side, action in enumerate(actions):
            if action is None:
                continue
            self.ports[side].set_up(action)
            there = "is back" if action else "is lost"
            self._warn(f"the carrier of {names[1 - side]} {there}: {names[side]} {'up' if action else 'down'}")

    def _mirror(self, news: socket.socket) -> None:
        mirror = Mirror(time.monotonic_ns())
        names = [port.name for port in self.ports]
        before: list[bool] = []
        events = select.poll()
        for descriptor in (news.fileno(), self._wake):
            events.register(descriptor, select.POLLIN)
        while not self._stopping:
            running = [port.running() for port in self.ports]
            if len(running) == 1:
                if before and running != before:
                    self._warn(f"the carrier of {names[0]} is {'back' if running[0] else 'lost'}")
                before = running if before or running[0] else before  # one that never had any has not lost it
            else:
                self._act(mirror.step(time.monotonic_ns(), (running[0], running[1])), names)
            events.poll(LOOK_MS)
            with contextlib.suppress(OSError):  # nothing new, or more than there was room for
                while news.recv(1 << 16):
                    pass
