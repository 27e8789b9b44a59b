// SPDX-License-Identifier: Apache-2.0
/*
 * SIGBUS and SIGSEGV on memory of the device: the broker is told of the access, then the signal is delivered as usual.
 *
 * The broker decides whether an access is a finding: it makes the access itself. From the first mapping of the device
 * on, the process' handlers of these two signals are ours, with the flags and the mask of the program's handlers;
 * sigaction and signal answer with the program's handlers. When the program has none, the access is made again under
 * the default action: the process ends by the same signal, at the same place.
 */
#ifndef PRIVCMDD_SIGNALS_H
#define PRIVCMDD_SIGNALS_H

/* From now on the broker is told of accesses to the device's memory that raise a signal. */
void signals_watch(void);

#endif
