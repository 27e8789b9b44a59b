// SPDX-License-Identifier: Apache-2.0
/* What the C test programs share: saying what was expected, and catching signals of a touch. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int n_failed;

#define EXPECT(what, wanted)                                                                                           \
    do {                                                                                                               \
        long long got_ = (long long)(what), wanted_ = (long long)(wanted);                                             \
        if (got_ != wanted_) {                                                                                         \
            fprintf(stderr, "%s:%d: %s is %lld, expected %lld\n", __FILE__, __LINE__, #what, got_, wanted_);           \
            n_failed++;                                                                                                \
        }                                                                                                              \
    } while (0)

/* An error as a number: 0, or -errno. */
#define RESULT(call) ((call) < 0 ? -errno : 0)
#define MAPPED(call) ((call) == MAP_FAILED ? -errno : 0)

static sigjmp_buf out_of_touch;
static volatile sig_atomic_t signal_code;

static void on_touch(int number, siginfo_t *info, void *context)
{
    (void)context;
    signal_code = info->si_code;
    siglongjmp(out_of_touch, number);
}

__attribute__((unused)) static void catch_touches(void)
{
    struct sigaction action = {.sa_sigaction = on_touch, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
}

/* The signal that reading, or writing, one byte raises; 0 for none. */
__attribute__((unused)) static int touch_read(const void *at)
{
    int number = sigsetjmp(out_of_touch, 1);
    if (!number)
        (void)*(volatile const char *)at;
    return number;
}

__attribute__((unused)) static int touch_write(void *at, char value)
{
    int number = sigsetjmp(out_of_touch, 1);
    if (!number)
        *(volatile char *)at = value;
    return number;
}

__attribute__((unused)) static int finish(void)
{
    if (n_failed)
        fprintf(stderr, "%d failed\n", n_failed);
    return n_failed ? 1 : 0;
}

#endif
