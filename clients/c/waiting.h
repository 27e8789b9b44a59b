// SPDX-License-Identifier: Apache-2.0
/*
 * A wait as in a driver's read: after a signal the kernel restarts the read (-ERESTARTSYS), unless a handler ran that
 * was set without SA_RESTART. No system call that waits for an epoll instance does that: poll(2) is restarted when no
 * handler ran (SIGSTOP and SIGCONT, a debugger that attaches), and fails with EINTR after every handler.
 *
 * So signals whose handler has SA_RESTART are blocked during the wait, and a signalfd tells of them; they are unblocked
 * between two waits, so none is lost. A signal that still interrupts the wait has to interrupt it.
 */
#ifndef PRIVCMDD_WAITING_H
#define PRIVCMDD_WAITING_H

/*
 * Waits until a descriptor can be read. Returns 0, also after a handler with SA_RESTART: the caller looks again; or
 * EINTR.
 */
int waiting_for(int fd);
/* Note that the program has set a handler. */
void waiting_handlers_changed(void);

#endif
