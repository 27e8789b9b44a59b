// SPDX-License-Identifier: Apache-2.0
/*
 * Messages to people: the text of the last error, and lines on the standard error. No lock is needed.
 *
 * $PRIVCMDD_SAY asks for more lines. "errors": each refusal, in the broker's words where it is the broker that refuses.
 * "times": how long the process has waited for the broker, when the process ends.
 */
#ifndef PRIVCMDD_SAY_H
#define PRIVCMDD_SAY_H

#include <stdbool.h>

/* The text of the last error in this thread. */
const char *say_error_text(void);
/* Sets that text. Returns error. */
int say_error(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Writes one line to the standard error: "privcmdd: ...". */
void say_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

enum say_wish { SAY_ERRORS = 1, SAY_TIMES = 2 };

/* Whether $PRIVCMDD_SAY asks for these lines. */
bool say_wishes(enum say_wish wish);
/* Says, once, that $PRIVCMDD_SAY asks for lines that there are not. */
void say_unknown_wish(void);

/*
 * A call of the program that a device serves is said to have been refused if nothing was said of it between these two:
 * with the text that was set meanwhile, else with what the errno means. call names it. A refusal that is the same as the
 * last one is not said again: programs ask for frames that are paged out until they are there.
 */
void say_begin(void);
void say_refused(const char *device, const char *call, int error);

#endif
