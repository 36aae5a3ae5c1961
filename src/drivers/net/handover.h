/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The DNS sockets of VPCs: the agent makes them inside of the namespaces and hands them to the
 * edge, which answers at them.  Each keeps them while the other is away, so what is asked meanwhile
 * waits in them.
 *
 * Both speak at the edge's socket (SEQPACKET), a JSON message each.  The edge begins with what it
 * HOLDS, then END.  The agent then GIVES and DROPS; the same VPC and address given again replaces
 * what was there.  With HOLDS and GIVE go two descriptors: UDP, TCP. */

#include "base/record.h"
#include "codec/cidr.h"

enum door_verb { DOOR_HOLDS, DOOR_END, DOOR_GIVE, DOOR_DROP };
struct door {
    enum door_verb verb;
    struct uuid vpc;
    const char *address; /* NULL in DROP: all of the VPC */
    int64_t netns;       /* which namespace it is in: its inode */
};
enum { DOOR_TEXT = 512, DOOR_FDS = 2 };
/* One message with 'fds' (HOLDS, GIVE: two; else NULL). */
int door_send(int fd, const struct door *d, const int *fds, struct err *e) _must_check_;
/* The next message: 1; 0 at the end of the connection.  'fds' are the caller's, or -1. */
int door_receive(int fd, struct arena *a, struct door *out, int fds[DOOR_FDS],
                 struct err *e) _must_check_;

/* ---- the agent's end */

struct handover;
/* 'socket_path' NULL: there is no edge, and nobody answers. */
struct handover *handover_new(const char *socket_path);
/* All that was there before is wanted now: what the edge holds beyond that it is to drop.  Finds
 * the edge when it comes, and again when it has been away, on a thread of its own. */
void handover_begin(struct handover *h);
void handover_free(struct handover *h); /* the edge keeps what it has */
DEFINE_CLEANUP(struct handover *, handover_free)
/* Wants names to be answered at 'addr' (which the namespace must have), port 53, UDP and TCP; what
 * is asked there waits in the sockets until the edge has them.  Twice is fine. */
int handover_listen(struct handover *h, const struct uuid *vpc, int ns_fd, const struct ip *addr,
                    struct err *e) _must_check_;
/* NULL: on all addresses of the VPC. */
void handover_unlisten(struct handover *h, const struct uuid *vpc, const struct ip *addr);
