/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Inside of the resolver: resolver.c (its thread, sockets and answers) and forward.c (what is asked
 * of the host's resolvers).  Every socket has a slot; what epoll returns is a slot's number and its
 * generation, so a socket that was closed meanwhile is noticed.  All is under the resolver's lock.
 */

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fair.h"
#include "codec/dns.h"
#include "planes/names/resolver.h"

enum {
    SLOTS_MAX = 65536,
    FORWARDS_MAX = 512,
    CONNECTIONS_MAX = 128,
    QUERY_MAX = 4096,
    SERVERS_MAX = 3,
    BURST = 64,
    TTL = 5,
};

enum slot_kind { SLOT_FREE, SLOT_UDP, SLOT_TCP, SLOT_CONNECTION, SLOT_FORWARD };

struct handle {
    uint32_t index, generation;
};

struct slot {
    enum slot_kind kind;
    uint32_t generation;
    int fd;
    struct uuid vpc;
    uint64_t flow;  /* of it, whose seat it has; FLOW_SYSTEM: none */
    struct ip addr; /* listeners: where, and the namespace */
    int64_t netns;
    int64_t deadline; /* connections, forwards */
    uint8_t *bytes;   /* connections: what was read; forwards: the query */
    size_t n;
    /* Forwards: who asked, by which socket; how far it is. */
    struct handle from;
    struct sockaddr_in client;
    uint16_t id, upstream_id;
    size_t question_end;
    int server;
    int64_t next_attempt;
};

struct resolver {
    pthread_mutex_t lock;
    pthread_t thread;
    int epoll, wake;
    bool running, stop;
    bool draining;
    char conf[256];
    struct slot *slots;
    uint32_t n_slots;
    struct fair *seats[2]; /* forwards, connections: each network has its share of them */
    struct zones *zones;
    struct sockaddr_storage servers[SERVERS_MAX];
    int n_servers;
    int64_t conf_read; /* when; 0: never */
    uint8_t message[DNS_MESSAGE_MAX + 2];
};

static inline int64_t resolver_now(void)
{
    return clock_mono(clock_system());
}

/* ---- resolver.c */
/* NULL when it cannot be, or its network has its share of this kind; the descriptor stays the
 * caller's then. */
struct slot *slot_add(struct resolver *r, enum slot_kind kind, const struct uuid *vpc, int fd,
                      uint32_t events);
void slot_del(struct resolver *r, struct slot *s);
struct handle handle_of(const struct resolver *r, const struct slot *s);
struct slot *slot_of(struct resolver *r, struct handle h); /* NULL: it is closed */
/* 'm' has two bytes of room before it, for TCP's length. */
void resolver_reply(struct resolver *r, struct slot *to, const struct sockaddr_in *client,
                    uint8_t *m, size_t n);
void resolver_reply_code(struct resolver *r, struct slot *to, const struct sockaddr_in *client,
                         const uint8_t *query, const struct dns_question *q, enum dns_rcode code);

/* ---- forward.c */
void forward_query(struct resolver *r, struct slot *from, const struct sockaddr_in *client,
                   const uint8_t *query, size_t n, const struct dns_question *q);
void forward_readable(struct resolver *r, struct slot *f);
/* Another server, or the end. */
void forward_due(struct resolver *r, struct slot *f);
