/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Names of VPCs at the edge: the rows come by the feed, the sockets from the agent, which makes
 * them inside of the namespaces (drivers/net/handover.h). */

#include "planes/feed/take.h"
#include "planes/names/resolver.h"

struct names;
/* Answers at the sockets that come by 'listener' (SEQPACKET), which stays the caller's. */
struct names *names_new(int listener, const char *resolv_conf, struct err *e);
/* Ends at once, after resolver_drain(). */
void names_free(struct names *n);
DEFINE_CLEANUP(struct names *, names_free)
struct resolver *names_resolver(struct names *n);
/* Where the feed's part "names" goes. */
struct feed_sink names_sink(struct names *n);
/* Readable when names_serve() has something to do: an agent comes, or says something. */
int names_fd(const struct names *n);
void names_serve(struct names *n);
