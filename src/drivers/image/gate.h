/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The way out for a program that strangers can send anywhere: it runs in a network namespace that
 * has nothing but this gate, a proxy that knows CONNECT alone.  The gate looks a name up once and
 * connects to the address it has judged, so neither a redirection nor a name that changes its
 * meaning leads to an address of this machine or its networks. */

#include "base/base.h"
#include "codec/cidr.h"
#include "os/process.h"

struct gate_opts {
    const char *allowed; /* what may be internal: hosts (with :port or without) and networks,
                            separated by commas */
    const char *local;   /* "127.0.0.1:5000", "localhost:5000": reached there without the proxy, for
                            programs use none for such names; NULL: none */
};
struct gate;
struct gate *gate_open(const struct gate_opts *o, struct err *e);
/* What was begun through it ends. */
void gate_free(struct gate *g);
DEFINE_CLEANUP(struct gate *, gate_free)
/* process_run() with the gate as its only network. */
int gate_run(struct gate *g, struct arena *a, const char *const *argv, int64_t timeout,
             struct process_result *out, struct err *e) _must_check_;
/* Why something was not let through, in words ("x.example leads to an internal address"), or
 * "" if nothing was; then '*unreachable' says whether an address could not be found or reached. */
void gate_refusal(struct gate *g, char out[160], bool *unreachable);

/* Whether a list names this host, port or address; 'ip' may be NULL. */
bool gate_lists(const char *allowed, const char *host, int port, const struct ip *ip);
/* "name:port", "[::1]:port"; 'port' stays where there is none. */
bool gate_split(const char *text, char host[256], int *port);
