/* SPDX-License-Identifier: Apache-2.0 */
/* Hides the thread, its sockets and what it answers itself. */
#include "planes/names/resolver_impl.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "codec/id.h"
#include "os/thread.h"

#define IDLE_TIME SECONDS(10)

/* ---- slots ---- */

/* NULL: listeners have no seats. */
static struct fair *seats_of(struct resolver *r, enum slot_kind kind)
{
    return kind == SLOT_FORWARD ? r->seats[0] : kind == SLOT_CONNECTION ? r->seats[1] : NULL;
}

static void seat_back(struct resolver *r, enum slot_kind kind, uint64_t flow)
{
    if (seats_of(r, kind))
        fair_give(seats_of(r, kind), flow, 1);
}

struct slot *slot_add(struct resolver *r, enum slot_kind kind, const struct uuid *vpc, int fd,
                      uint32_t events)
{
    struct flow flow = { .key = flow_key(vpc->s, sizeof(vpc->s)) };

    if (seats_of(r, kind) && fair_take(seats_of(r, kind), &flow, 1) != FAIR_OK)
        return NULL;

    uint32_t i = 0;

    while (i < r->n_slots && r->slots[i].kind != SLOT_FREE)
        i++;
    if (i == SLOTS_MAX) {
        seat_back(r, kind, flow.key);
        return NULL;
    }
    if (i == r->n_slots) {
        uint32_t more = MAX(16u, r->n_slots * 2);
        struct slot *s = realloc(r->slots, more * sizeof(*s));
        if (!s)
            abort();
        memset(s + r->n_slots, 0, (more - r->n_slots) * sizeof(*s));
        r->slots = s;
        r->n_slots = more;
    }
    struct slot *s = &r->slots[i];
    struct epoll_event ev = { .events = events,
                              .data.u64 = (uint64_t)(s->generation + 1) << 32 | i };
    if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
        seat_back(r, kind, flow.key);
        return NULL;
    }
    *s = (struct slot){
        .kind = kind, .fd = fd, .vpc = *vpc, .flow = flow.key, .generation = s->generation + 1
    };
    return s;
}

void slot_del(struct resolver *r, struct slot *s)
{
    seat_back(r, s->kind, s->flow);
    /* Not by close() alone: the agent has descriptors of the same sockets. */
    epoll_ctl(r->epoll, EPOLL_CTL_DEL, s->fd, NULL);
    close(s->fd);
    free(s->bytes);
    *s = (struct slot){ .generation = s->generation };
}

struct handle handle_of(const struct resolver *r, const struct slot *s)
{
    return (struct handle){ (uint32_t)(s - r->slots), s->generation };
}

struct slot *slot_of(struct resolver *r, struct handle h)
{
    if (h.index >= r->n_slots || r->slots[h.index].generation != h.generation ||
        r->slots[h.index].kind == SLOT_FREE)
        return NULL;
    return &r->slots[h.index];
}

/* ---- answering ---- */

void resolver_reply(struct resolver *r, struct slot *to, const struct sockaddr_in *client,
                    uint8_t *m, size_t n)
{
    if (n == 0)
        return;
    if (to->kind == SLOT_UDP) {
        sendto(to->fd, m, n, MSG_DONTWAIT, (const struct sockaddr *)client, sizeof(*client));
        return;
    }
    m[-2] = (uint8_t)(n >> 8);
    m[-1] = (uint8_t)n;
    if (send(to->fd, m - 2, n + 2, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)(n + 2))
        slot_del(r, to);
}

void resolver_reply_code(struct resolver *r, struct slot *to, const struct sockaddr_in *client,
                         const uint8_t *query, const struct dns_question *q, enum dns_rcode code)
{
    uint8_t out[2 + QUERY_MAX];

    resolver_reply(r, to, client, out + 2,
                   dns_answer(query, q, code, NULL, 0, TTL, out + 2, sizeof(out) - 2));
}

/* ---- what comes in ---- */

static void query(struct resolver *r, struct slot *from, const struct sockaddr_in *client,
                  const uint8_t *m, size_t n)
{
    uint8_t addrs[ZONE_ANSWERS_MAX][4], out[2 + QUERY_MAX];
    struct dns_question q;
    enum dns_rcode code;
    size_t count = 0;
    enum dns_parse parsed = dns_query_parse(m, n, &q, &code);

    if (parsed == DNS_DROP)
        return;
    if (parsed == DNS_BAD || n > QUERY_MAX) {
        resolver_reply_code(r, from, client, m, &q, parsed == DNS_BAD ? code : DNS_FORMERR);
        return;
    }
    enum zone_answer z = q.plain && q.class == 1
                             ? zone_ask(zones_of(r->zones, &from->vpc), q.name, addrs, &count)
                             : ZONE_FORWARD;
    if (z == ZONE_FORWARD) {
        forward_query(r, from, client, m, n, &q);
        return;
    }
    if (q.type != DNS_A && q.type != DNS_ANY)
        count = 0;
    size_t max = from->kind == SLOT_UDP ? MIN(q.udp_max, (size_t)1232) : sizeof(out) - 2;
    code = z == ZONE_FOUND ? DNS_NOERROR : DNS_NXDOMAIN;
    resolver_reply(r, from, client, out + 2,
                   dns_answer(m, &q, code, (const uint8_t(*)[4])addrs, count, TTL, out + 2, max));
}

static void udp_readable(struct resolver *r, struct handle h)
{
    for (int i = 0; i < BURST; i++) {
        struct slot *s = slot_of(r, h); /* the table may have moved */
        struct sockaddr_in client = { 0 };
        socklen_t len = sizeof(client);
        ssize_t n = recvfrom(s->fd, r->message, DNS_MESSAGE_MAX, MSG_DONTWAIT,
                             (struct sockaddr *)&client, &len);
        if (n < 0)
            return;
        query(r, s, &client, r->message, (size_t)n);
    }
}

static void tcp_readable(struct resolver *r, struct handle h)
{
    struct slot *s = slot_of(r, h);
    int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    struct uuid vpc = s->vpc;
    struct slot *c = slot_add(r, SLOT_CONNECTION, &vpc, fd, EPOLLIN);
    if (!c) {
        close(fd);
        return;
    }
    c->deadline = resolver_now() + IDLE_TIME;
    c->bytes = malloc(2 + QUERY_MAX);
    if (!c->bytes)
        abort();
}

static void connection_readable(struct resolver *r, struct handle h)
{
    struct slot *c = slot_of(r, h);
    static const struct sockaddr_in nobody;
    ssize_t n = recv(c->fd, c->bytes + c->n, 2 + QUERY_MAX - c->n, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        slot_del(r, c);
        return;
    }
    c->n += (size_t)n;
    c->deadline = resolver_now() + IDLE_TIME;
    while (c && c->n >= 2) {
        size_t want = (size_t)(c->bytes[0] << 8 | c->bytes[1]);
        if (want > QUERY_MAX || want < DNS_HEADER) {
            slot_del(r, c);
            return;
        }
        if (c->n < 2 + want)
            return;
        uint8_t one[QUERY_MAX];
        memcpy(one, c->bytes + 2, want);
        memmove(c->bytes, c->bytes + 2 + want, c->n - 2 - want);
        c->n -= 2 + want;
        query(r, c, &nobody, one, want);
        c = slot_of(r, h);
    }
}

static void readable(struct resolver *r, struct handle h)
{
    struct slot *s = slot_of(r, h);

    if (!s || (r->draining && (s->kind == SLOT_UDP || s->kind == SLOT_TCP)))
        return;
    switch (s->kind) {
    case SLOT_UDP:
        udp_readable(r, h);
        break;
    case SLOT_TCP:
        tcp_readable(r, h);
        break;
    case SLOT_CONNECTION:
        connection_readable(r, h);
        break;
    case SLOT_FORWARD:
        forward_readable(r, s);
        break;
    case SLOT_FREE:
        break;
    }
}

/* Something has a time at which it ends. */
static bool waits(const struct resolver *r)
{
    struct fair_counts forwards, connections;

    fair_counts(r->seats[0], &forwards);
    fair_counts(r->seats[1], &connections);
    return forwards.used || connections.used;
}

static void time_passes(struct resolver *r)
{
    int64_t t = resolver_now();

    if (!waits(r))
        return;
    for (uint32_t i = 0; i < r->n_slots; i++) {
        struct slot *s = &r->slots[i];
        if (s->kind == SLOT_FORWARD && t >= s->next_attempt)
            forward_due(r, s);
        else if (s->kind == SLOT_CONNECTION && t >= s->deadline)
            slot_del(r, s);
    }
}

static void *serve(void *arg)
{
    struct resolver *r = arg;
    struct epoll_event ev[16];
    bool busy = false;

    for (;;) {
        int n = epoll_wait(r->epoll, ev, ARRAY_LEN(ev), busy ? 100 : -1);
        pthread_mutex_lock(&r->lock);
        if (r->stop)
            break;
        for (int i = 0; i < n; i++)
            readable(r,
                     (struct handle){ (uint32_t)ev[i].data.u64, (uint32_t)(ev[i].data.u64 >> 32) });
        time_passes(r);
        busy = waits(r);
        pthread_mutex_unlock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* ---- its life ---- */

struct resolver *resolver_new(const char *resolv_conf, struct err *e)
{
    struct resolver *r = calloc(1, sizeof(*r));
    struct epoll_event ev = { .events = EPOLLIN, .data.u64 = UINT64_MAX };

    if (!r)
        abort();
    pthread_mutex_init(&r->lock, NULL);
    r->seats[0] = fair_new(FORWARDS_MAX, 1);
    r->seats[1] = fair_new(CONNECTIONS_MAX, 1);
    r->zones = zones_new();
    snprintf(r->conf, sizeof(r->conf), "%s", resolv_conf ? resolv_conf : "/etc/resolv.conf");
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->epoll >= 0 && r->wake >= 0 && epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->wake, &ev) == 0) {
        r->thread = thread_start("dns", serve, r);
        r->running = true;
        return r;
    }
    err_sys(e, errno, "make an event loop");
    resolver_free(r);
    return NULL;
}

static void wake(struct resolver *r)
{
    uint64_t one = 1;

    if (write(r->wake, &one, sizeof(one)) < 0 && errno != EAGAIN)
        abort();
}

void resolver_drain(struct resolver *r, int64_t patience)
{
    int64_t until = resolver_now() + patience;
    bool busy = true;

    while (busy && resolver_now() < until) {
        struct fair_counts forwards;

        pthread_mutex_lock(&r->lock);
        for (uint32_t i = 0; i < r->n_slots && !r->draining; i++)
            if (r->slots[i].kind == SLOT_UDP || r->slots[i].kind == SLOT_TCP)
                epoll_ctl(r->epoll, EPOLL_CTL_DEL, r->slots[i].fd, NULL);
        r->draining = true;
        fair_counts(r->seats[0], &forwards);
        pthread_mutex_unlock(&r->lock);
        busy = forwards.used > 0;
        if (busy)
            usleep(5000);
    }
}

void resolver_free(struct resolver *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_mutex_unlock(&r->lock);
    if (r->running) {
        wake(r);
        pthread_join(r->thread, NULL);
    }
    for (uint32_t i = 0; i < r->n_slots; i++)
        if (r->slots[i].kind != SLOT_FREE)
            slot_del(r, &r->slots[i]);
    zones_free(r->zones);
    free(r->slots);
    if (r->epoll >= 0)
        close(r->epoll);
    if (r->wake >= 0)
        close(r->wake);
    pthread_mutex_destroy(&r->lock);
    fair_free(r->seats[0]);
    fair_free(r->seats[1]);
    free(r);
}

/* ---- sockets ---- */

static bool is_listener(const struct slot *s, enum slot_kind kind, const struct uuid *vpc,
                        const struct ip *addr)
{
    return s->kind == kind && uuid_eq(&s->vpc, vpc) &&
           (!addr || memcmp(s->addr.b, addr->b, 4) == 0);
}

static struct slot *listener_of(struct resolver *r, enum slot_kind kind, const struct uuid *vpc,
                                const struct ip *addr)
{
    for (uint32_t i = 0; i < r->n_slots; i++)
        if (is_listener(&r->slots[i], kind, vpc, addr))
            return &r->slots[i];
    return NULL;
}

static int take_one(struct resolver *r, enum slot_kind kind, const struct held *h, int fd,
                    struct err *e)
{
    struct slot *before = listener_of(r, kind, &h->vpc, &h->addr), *s;

    if (before)
        slot_del(r, before);
    if (!(s = slot_add(r, kind, &h->vpc, fd, EPOLLIN))) {
        close(fd);
        return err_set(e, ERR_OVERLOADED, "too many networks have a DNS address here");
    }
    s->addr = h->addr;
    s->netns = h->netns;
    return 0;
}

int resolver_take(struct resolver *r, const struct held *h, struct err *e)
{
    pthread_mutex_lock(&r->lock);
    int first = take_one(r, SLOT_UDP, h, h->fds[0], e),
        second = take_one(r, SLOT_TCP, h, h->fds[1], e);
    pthread_mutex_unlock(&r->lock);
    return first < 0 || second < 0 ? -1 : 0;
}

void resolver_drop(struct resolver *r, const struct uuid *vpc, const struct ip *addr)
{
    pthread_mutex_lock(&r->lock);
    for (uint32_t i = 0; i < r->n_slots; i++) {
        struct slot *s = &r->slots[i];
        if (is_listener(s, SLOT_UDP, vpc, addr) || is_listener(s, SLOT_TCP, vpc, addr) ||
            (!addr && s->kind == SLOT_CONNECTION && uuid_eq(&s->vpc, vpc)))
            slot_del(r, s);
    }
    pthread_mutex_unlock(&r->lock);
}

size_t resolver_held(struct resolver *r, struct arena *a, struct held **out)
{
    size_t n = 0, cap = 0;

    *out = NULL;
    pthread_mutex_lock(&r->lock);
    for (uint32_t i = 0; i < r->n_slots; i++) {
        const struct slot *s = &r->slots[i];
        if (s->kind != SLOT_UDP)
            continue;
        *out = arena_more(a, *out, n, &cap, sizeof(**out));
        const struct slot *tcp = listener_of(r, SLOT_TCP, &s->vpc, &s->addr);
        if (tcp)
            (*out)[n++] = (struct held){ s->vpc,
                                         s->addr,
                                         s->netns,
                                         { fcntl(s->fd, F_DUPFD_CLOEXEC, 3),
                                           fcntl(tcp->fd, F_DUPFD_CLOEXEC, 3) } };
    }
    pthread_mutex_unlock(&r->lock);
    return n;
}

/* ---- names ---- */

void resolver_names(struct resolver *r, struct zones *names)
{
    pthread_mutex_lock(&r->lock);
    struct zones *before = r->zones;
    r->zones = names;
    pthread_mutex_unlock(&r->lock);
    zones_free(before);
}

int resolver_put(struct resolver *r, const struct uuid *id, const struct uuid *vpc,
                 const char *name, const char *ip, struct err *e)
{
    pthread_mutex_lock(&r->lock);
    int result = zones_put(r->zones, id, vpc, name, ip, e);
    pthread_mutex_unlock(&r->lock);
    return result;
}

void resolver_forget(struct resolver *r, const struct uuid *id)
{
    pthread_mutex_lock(&r->lock);
    zones_drop(r->zones, id);
    pthread_mutex_unlock(&r->lock);
}
