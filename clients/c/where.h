// SPDX-License-Identifier: Apache-2.0
/*
 * Where the broker's socket is: $PRIVCMDD_SOCKET, as it is or was when the process began, else
 * $XDG_RUNTIME_DIR/privcmdd/broker.sock, else /run/privcmdd/broker.sock. Once there is a connection it is the same for as
 * long as the process lives, whatever the program does to its environment and its working directory. All functions need
 * the client's lock.
 */
#ifndef PRIVCMDD_WHERE_H
#define PRIVCMDD_WHERE_H

#include <stdbool.h>
#include <sys/un.h>

/* As long as a path may be, with its end. */
#define WHERE_MOST sizeof(((struct sockaddr_un *)0)->sun_path)

/* Writes the path. False when it is too long. */
bool where_path(char path[WHERE_MOST]);
/* Note that a connection was made there. */
void where_settled(const char path[WHERE_MOST]);

#endif
