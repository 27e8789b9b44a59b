// SPDX-License-Identifier: Apache-2.0
/*
 * Waiting as a driver's read does: after a signal the kernel restarts it (-ERESTARTSYS), unless a handler ran that was
 * set without SA_RESTART. No system call that waits for an epoll instance does that: poll(2) is restarted where no
 * handler ran (SIGSTOP and SIGCONT, a debugger that attaches), and is EINTR after every handler.
 *
 * So signals whose handler has SA_RESTART are kept back while we wait and looked for by a signalfd; they are let in
 * between two waits, which loses nothing. What interrupts the wait then is to interrupt it.
 */
#ifndef PRIVCMDD_WAITING_H
#define PRIVCMDD_WAITING_H

/*
 * Waits until a descriptor can be read. Returns 0, then or when a handler has run that restarts: look again; or EINTR.
 */
int waiting_for(int fd);
/* The program has set a handler. */
void waiting_handlers_changed(void);

#endif
