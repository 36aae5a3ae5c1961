/* SPDX-License-Identifier: Apache-2.0 */
/* Hides the thread, its sockets and what is on the way to the host's resolvers.  Every socket has a
 * slot; what epoll returns is a slot's number and its generation, so a socket that was closed
 * meanwhile is noticed. */
#include "drivers/net/resolver.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fair.h"
#include "base/log.h"
#include "codec/dns.h"
#include "codec/id.h"
#include "drivers/net/zone.h"
#include "os/file.h"
#include "os/ns.h"
#include "os/thread.h"

enum {
    SLOTS_MAX = 65536,
    FORWARDS_MAX = 512,
    CONNECTIONS_MAX = 128,
    QUERY_MAX = 4096,
    SERVERS_MAX = 3,
    BURST = 64,
    TTL = 5,
};
#define ATTEMPT_TIME MILLIS(1000)
#define FORWARD_TIME MILLIS(2000)
#define IDLE_TIME    SECONDS(10)
#define CONF_TIME    SECONDS(5)

enum slot_kind { SLOT_FREE, SLOT_UDP, SLOT_TCP, SLOT_CONNECTION, SLOT_FORWARD };

struct handle {
    uint32_t index, generation;
};

struct slot {
    enum slot_kind kind;
    uint32_t generation;
    int fd;
    struct uuid vpc;
    uint64_t flow;    /* of it, whose seat it has; FLOW_SYSTEM: none */
    struct ip addr;   /* listeners */
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
    bool stop;
    char dir[400], conf[256];
    struct slot *slots;
    uint32_t n_slots;
    struct fair *seats[2]; /* forwards, connections: each network has its share of them */
    struct zone **zones;
    size_t n_zones;
    struct sockaddr_storage servers[SERVERS_MAX];
    int n_servers;
    int64_t conf_read; /* when; 0: never */
    uint8_t message[DNS_MESSAGE_MAX + 2];
};

static int64_t now(void)
{
    return clock_mono(clock_system());
}

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

/* NULL when it cannot be, or its network has its share of this kind. */
static struct slot *slot_add(struct resolver *r, enum slot_kind kind, const struct uuid *vpc,
                             int fd, uint32_t events)
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

static void slot_del(struct resolver *r, struct slot *s)
{
    seat_back(r, s->kind, s->flow);
    close(s->fd); /* it leaves the epoll set with its last descriptor */
    free(s->bytes);
    *s = (struct slot){ .generation = s->generation };
}

static struct handle handle_of(const struct resolver *r, const struct slot *s)
{
    return (struct handle){ (uint32_t)(s - r->slots), s->generation };
}

static struct slot *slot_of(struct resolver *r, struct handle h)
{
    if (h.index >= r->n_slots || r->slots[h.index].generation != h.generation ||
        r->slots[h.index].kind == SLOT_FREE)
        return NULL;
    return &r->slots[h.index];
}

/* ---- answering ---- */

/* 'm' has two bytes of room before it, for TCP's length. */
static void reply(struct resolver *r, struct slot *to, const struct sockaddr_in *client, uint8_t *m,
                  size_t n)
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

static void reply_code(struct resolver *r, struct slot *to, const struct sockaddr_in *client,
                       const uint8_t *query, const struct dns_question *q, enum dns_rcode code)
{
    uint8_t out[2 + QUERY_MAX];

    reply(r, to, client, out + 2,
          dns_answer(query, q, code, NULL, 0, TTL, out + 2, sizeof(out) - 2));
}

static struct zone *zone_of(struct resolver *r, const struct uuid *vpc)
{
    for (size_t i = 0; i < r->n_zones; i++)
        if (uuid_eq(zone_vpc(r->zones[i]), vpc))
            return r->zones[i];
    return NULL;
}

/* ---- forwarding ---- */

static void read_conf(struct resolver *r)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct str text;
    struct err e;

    if (r->conf_read && now() - r->conf_read < CONF_TIME)
        return;
    r->conf_read = now();
    r->n_servers = 0;
    if (file_read(&a, r->conf, 65536, &text, &e) < 0)
        return;
    char *at = arena_dup(&a, text.p, text.n), *line;
    while ((line = strsep(&at, "\n")) && r->n_servers < SERVERS_MAX) {
        char word[64];
        struct ip ip;
        if (sscanf(line, " nameserver %63s", word) != 1 || !ip_parse(str_of(word), &ip))
            continue;
        struct sockaddr_storage *s = &r->servers[r->n_servers++];
        memset(s, 0, sizeof(*s));
        if (ip.family == 4) {
            struct sockaddr_in *in = (struct sockaddr_in *)s;
            in->sin_family = AF_INET;
            in->sin_port = htons(53);
            memcpy(&in->sin_addr, ip.b, 4);
        } else {
            struct sockaddr_in6 *in = (struct sockaddr_in6 *)s;
            in->sin6_family = AF_INET6;
            in->sin6_port = htons(53);
            memcpy(&in->sin6_addr, ip.b, 16);
        }
    }
}

/* Sends the query to its next server by a fresh socket, whose port nobody can guess; -1 when no
 * server is left.  'f->fd' is replaced, so the caller gives the slot's epoll entry anew. */
static int forward_socket(const struct resolver *r, int server)
{
    const struct sockaddr *sa = (const struct sockaddr *)&r->servers[server];
    socklen_t n =
        sa->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    _cleanup_close_ int fd = socket(sa->sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 || connect(fd, sa, n) < 0)
        return -1;
    return TAKE_FD(fd);
}

static void forward(struct resolver *r, struct slot *from, const struct sockaddr_in *client,
                    const uint8_t *query, size_t n, const struct dns_question *q)
{
    struct handle asker = handle_of(r, from);
    struct slot *f = NULL;
    int fd = -1;

    read_conf(r);
    struct uuid vpc = from->vpc;
    if (r->n_servers)
        fd = forward_socket(r, 0);
    if (fd >= 0 && !(f = slot_add(r, SLOT_FORWARD, &vpc, fd, EPOLLIN)))
        close(fd);
    if (!f) {
        from = slot_of(r, asker);
        reply_code(r, from, client, query, q, DNS_SERVFAIL);
        return;
    }
    f->from = asker;
    f->client = *client;
    f->id = q->id;
    f->question_end = q->end;
    f->deadline = now() + FORWARD_TIME;
    f->next_attempt = now() + ATTEMPT_TIME;
    if (getrandom(&f->upstream_id, sizeof(f->upstream_id), 0) != sizeof(f->upstream_id))
        f->upstream_id = (uint16_t)(now() ^ q->id);
    f->bytes = malloc(n);
    if (!f->bytes)
        abort();
    memcpy(f->bytes, query, n);
    f->n = n;
    f->bytes[0] = (uint8_t)(f->upstream_id >> 8);
    f->bytes[1] = (uint8_t)f->upstream_id;
    send(f->fd, f->bytes, n, MSG_DONTWAIT);
}

static void forward_give_up(struct resolver *r, struct slot *f)
{
    struct slot *to = slot_of(r, f->from);
    struct dns_question q;
    enum dns_rcode code;

    if (to && dns_query_parse(f->bytes, f->n, &q, &code) == DNS_OK) {
        q.id = f->id;
        reply_code(r, to, &f->client, f->bytes, &q, DNS_SERVFAIL);
    }
    slot_del(r, f);
}

static void forward_readable(struct resolver *r, struct slot *f)
{
    uint8_t *m = r->message + 2;
    ssize_t n = recv(f->fd, m, DNS_MESSAGE_MAX, MSG_DONTWAIT);

    if (n < 0) /* refused: the next attempt is due at once */
        f->next_attempt = errno == EAGAIN || errno == EINTR ? f->next_attempt : 0;
    if (n <= 0 || !dns_reply_matches(m, (size_t)n, f->upstream_id, f->bytes + DNS_HEADER,
                                     f->question_end - DNS_HEADER))
        return;
    struct slot *to = slot_of(r, f->from);
    if (to && to->kind == SLOT_CONNECTION && (m[2] & 2)) {
        forward_give_up(r, f);
        return;
    }
    if (to) {
        m[0] = (uint8_t)(f->id >> 8);
        m[1] = (uint8_t)f->id;
        reply(r, to, &f->client, m, (size_t)n);
    }
    slot_del(r, f);
}

/* Another server, or the end. */
static void forward_due(struct resolver *r, struct slot *f)
{
    struct epoll_event ev = { .events = EPOLLIN };

    if (now() >= f->deadline || f->server + 1 >= r->n_servers) {
        if (now() >= f->deadline || f->next_attempt == 0)
            forward_give_up(r, f);
        else
            f->next_attempt = f->deadline;
        return;
    }
    f->next_attempt = now() + ATTEMPT_TIME;
    int fd = forward_socket(r, ++f->server);
    ev.data.u64 = (uint64_t)f->generation << 32 | (uint32_t)(f - r->slots);
    if (fd < 0 || epoll_ctl(r->epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
        if (fd >= 0)
            close(fd);
        f->next_attempt = 0;
        return;
    }
    close(f->fd);
    f->fd = fd;
    send(fd, f->bytes, f->n, MSG_DONTWAIT);
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
        reply_code(r, from, client, m, &q, parsed == DNS_BAD ? code : DNS_FORMERR);
        return;
    }
    enum zone_answer z = q.plain && q.class == 1
                             ? zone_ask(zone_of(r, &from->vpc), q.name, addrs, &count)
                             : ZONE_FORWARD;
    if (z == ZONE_FORWARD) {
        forward(r, from, client, m, n, &q);
        return;
    }
    if (q.type != DNS_A && q.type != DNS_ANY)
        count = 0;
    size_t max = from->kind == SLOT_UDP ? MIN(q.udp_max, (size_t)1232) : sizeof(out) - 2;
    code = z == ZONE_FOUND ? DNS_NOERROR : DNS_NXDOMAIN;
    reply(r, from, client, out + 2,
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
    c->deadline = now() + IDLE_TIME;
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
    c->deadline = now() + IDLE_TIME;
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

    if (!s)
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
    int64_t t = now();

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

static void load_zones(struct resolver *r)
{
    DIR *d = opendir(r->dir);
    struct dirent *f;
    struct uuid id;
    struct err e;

    while (d && (f = readdir(d))) {
        if (!uuid_parse(str_of(f->d_name), &id))
            continue;
        struct zone *z = zone_load(&id, r->dir, &e);
        if (!z) {
            log_err(LOG_WARN, "names_dropped", &e);
            unlinkat(dirfd(d), f->d_name, 0);
            continue;
        }
        r->zones = realloc(r->zones, (r->n_zones + 1) * sizeof(struct zone *));
        if (!r->zones)
            abort();
        r->zones[r->n_zones++] = z;
    }
    if (d)
        closedir(d);
}

struct resolver *resolver_new(const struct resolver_opts *o, struct err *e)
{
    struct resolver *r = calloc(1, sizeof(*r));
    struct epoll_event ev = { .events = EPOLLIN, .data.u64 = UINT64_MAX };

    if (!r)
        abort();
    pthread_mutex_init(&r->lock, NULL);
    r->seats[0] = fair_new(FORWARDS_MAX, 1);
    r->seats[1] = fair_new(CONNECTIONS_MAX, 1);
    snprintf(r->dir, sizeof(r->dir), "%s", o->dir);
    snprintf(r->conf, sizeof(r->conf), "%s", o->resolv_conf ? o->resolv_conf : "/etc/resolv.conf");
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->epoll < 0 || r->wake < 0 || epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->wake, &ev) < 0)
        err_sys(e, errno, "make an event loop");
    else if (dir_make(r->dir, 0700, e) == 0) {
        load_zones(r);
        r->thread = thread_start("dns", serve, r);
        return r;
    }
    if (r->epoll >= 0)
        close(r->epoll);
    if (r->wake >= 0)
        close(r->wake);
    fair_free(r->seats[0]);
    fair_free(r->seats[1]);
    free(r);
    return NULL;
}

void resolver_free(struct resolver *r)
{
    uint64_t one = 1;

    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_mutex_unlock(&r->lock);
    if (write(r->wake, &one, sizeof(one)) < 0)
        abort();
    pthread_join(r->thread, NULL);
    for (uint32_t i = 0; i < r->n_slots; i++)
        if (r->slots[i].kind != SLOT_FREE)
            slot_del(r, &r->slots[i]);
    for (size_t i = 0; i < r->n_zones; i++)
        zone_free(r->zones[i]);
    free(r->zones);
    free(r->slots);
    close(r->epoll);
    close(r->wake);
    pthread_mutex_destroy(&r->lock);
    fair_free(r->seats[0]);
    fair_free(r->seats[1]);
    free(r);
}

/* ---- listening ---- */

struct bind_call {
    const struct ip *addr;
    int udp, tcp;
};

static int bind_inside(void *ctx, struct err *e)
{
    struct bind_call *c = ctx;
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(53) };
    int one = 1;

    memcpy(&sa.sin_addr, c->addr->b, 4);
    c->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    c->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->udp < 0 || c->tcp < 0)
        return err_sys(e, errno, "socket for DNS");
    setsockopt(c->tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(c->udp, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
        bind(c->tcp, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(c->tcp, 16) < 0)
        return err_sys(e, errno, "bind the DNS address of a VPC");
    return 0;
}

static bool listens(const struct resolver *r, const struct uuid *vpc, const struct ip *addr)
{
    for (uint32_t i = 0; i < r->n_slots; i++) {
        const struct slot *s = &r->slots[i];
        if (s->kind == SLOT_UDP && uuid_eq(&s->vpc, vpc) &&
            (!addr || memcmp(s->addr.b, addr->b, 4) == 0))
            return true;
    }
    return false;
}

static bool add_listener(struct resolver *r, enum slot_kind kind, int *fd, const struct uuid *vpc,
                         const struct ip *addr)
{
    struct slot *s = slot_add(r, kind, vpc, *fd, EPOLLIN);

    if (!s)
        return false;
    *fd = -1;
    s->addr = *addr;
    return true;
}

int resolver_listen(struct resolver *r, const struct uuid *vpc, int ns_fd, const struct ip *addr,
                    struct err *e)
{
    struct bind_call c = { addr, -1, -1 };
    int result = 0;

    pthread_mutex_lock(&r->lock);
    if (!listens(r, vpc, addr)) {
        result = ns_call(ns_fd, bind_inside, &c, e);
        if (result == 0 && (!add_listener(r, SLOT_UDP, &c.udp, vpc, addr) ||
                            !add_listener(r, SLOT_TCP, &c.tcp, vpc, addr)))
            result = err_set(e, ERR_OVERLOADED, "too many networks have a DNS address here");
    }
    pthread_mutex_unlock(&r->lock);
    if (c.udp >= 0)
        close(c.udp);
    if (c.tcp >= 0)
        close(c.tcp);
    return result;
}

void resolver_unlisten(struct resolver *r, const struct uuid *vpc, const struct ip *addr)
{
    pthread_mutex_lock(&r->lock);
    for (uint32_t i = 0; i < r->n_slots; i++) {
        struct slot *s = &r->slots[i];
        bool listener = s->kind == SLOT_UDP || s->kind == SLOT_TCP;
        if ((listener && uuid_eq(&s->vpc, vpc) && (!addr || memcmp(s->addr.b, addr->b, 4) == 0)) ||
            (!addr && s->kind == SLOT_CONNECTION && uuid_eq(&s->vpc, vpc)))
            slot_del(r, s);
    }
    pthread_mutex_unlock(&r->lock);
}

/* ---- names ---- */

int resolver_names(struct resolver *r, const struct uuid *vpc, int64_t revision,
                   const struct net_name *names, size_t count, struct err *e)
{
    struct uuid same;

    if (!uuid_parse((struct str){ vpc->s, strlen(vpc->s) }, &same) || revision < 0)
        return err_set(e, ERR_INVALID, "the id or revision of a VPC is malformed");
    _cleanup_(zone_freep) struct zone *z = zone_new(vpc, revision, names, count, e);
    if (!z)
        return -1;
    pthread_mutex_lock(&r->lock);
    size_t i = 0;
    while (i < r->n_zones && !uuid_eq(zone_vpc(r->zones[i]), vpc))
        i++;
    bool old = i < r->n_zones && zone_revision(r->zones[i]) > revision;
    int result = old ? 0 : zone_save(z, r->dir, e);
    if (result == 0 && !old) {
        if (i == r->n_zones) {
            r->zones = realloc(r->zones, (r->n_zones + 1) * sizeof(struct zone *));
            if (!r->zones)
                abort();
            r->zones[r->n_zones++] = NULL;
        }
        struct zone *before = r->zones[i];
        r->zones[i] = TAKE(z);
        zone_free(before);
    }
    pthread_mutex_unlock(&r->lock);
    return result;
}

void resolver_sweep(struct resolver *r)
{
    char path[512];

    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < r->n_zones;) {
        if (listens(r, zone_vpc(r->zones[i]), NULL)) {
            i++;
            continue;
        }
        snprintf(path, sizeof(path), "%s/%s", r->dir, zone_vpc(r->zones[i])->s);
        unlink(path);
        zone_free(r->zones[i]);
        r->zones[i] = r->zones[--r->n_zones];
    }
    pthread_mutex_unlock(&r->lock);
}
