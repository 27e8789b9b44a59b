// SPDX-License-Identifier: Apache-2.0
/*
 * Messages to people: the text of the last error, and lines on the standard error. No lock is needed.
 *
 * $PRIVCMDD_SAY asks for more lines. "errors": the broker's text of each refusal. "times": how long the process has
 * waited for the broker, when the process ends.
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

#endif
