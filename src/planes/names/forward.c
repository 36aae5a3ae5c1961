/* SPDX-License-Identifier: Apache-2.0 */
/* Names that are not ours: asked of the host's resolvers, one after the other, by a socket of each
 * question's own. */
#include "planes/names/resolver_impl.h"

#include <sys/epoll.h>
#include <sys/random.h>

#include "codec/cidr.h"
#include "codec/id.h"
#include "os/file.h"

#define ATTEMPT_TIME MILLIS(1000)
#define FORWARD_TIME MILLIS(2000)
#define CONF_TIME    SECONDS(5)

static void read_conf(struct resolver *r)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(1));
    struct str text;
    struct err e;

    if (r->conf_read && resolver_now() - r->conf_read < CONF_TIME)
        return;
    r->conf_read = resolver_now();
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

void forward_query(struct resolver *r, struct slot *from, const struct sockaddr_in *client,
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
        resolver_reply_code(r, from, client, query, q, DNS_SERVFAIL);
        return;
    }
    f->from = asker;
    f->client = *client;
    f->id = q->id;
    f->question_end = q->end;
    f->deadline = resolver_now() + FORWARD_TIME;
    f->next_attempt = resolver_now() + ATTEMPT_TIME;
    if (getrandom(&f->upstream_id, sizeof(f->upstream_id), 0) != sizeof(f->upstream_id))
        f->upstream_id = (uint16_t)(resolver_now() ^ q->id);
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
        resolver_reply_code(r, to, &f->client, f->bytes, &q, DNS_SERVFAIL);
    }
    slot_del(r, f);
}

void forward_readable(struct resolver *r, struct slot *f)
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
        resolver_reply(r, to, &f->client, m, (size_t)n);
    }
    slot_del(r, f);
}

void forward_due(struct resolver *r, struct slot *f)
{
    struct epoll_event ev = { .events = EPOLLIN };

    if (resolver_now() >= f->deadline || f->server + 1 >= r->n_servers) {
        if (resolver_now() >= f->deadline || f->next_attempt == 0)
            forward_give_up(r, f);
        else
            f->next_attempt = f->deadline;
        return;
    }
    f->next_attempt = resolver_now() + ATTEMPT_TIME;
    int fd = forward_socket(r, ++f->server);
    ev.data.u64 = (uint64_t)f->generation << 32 | (uint32_t)(f - r->slots);
    if (fd < 0 || epoll_ctl(r->epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
        if (fd >= 0)
            close(fd);
        f->next_attempt = 0;
        return;
    }
    epoll_ctl(r->epoll, EPOLL_CTL_DEL, f->fd, NULL);
    close(f->fd);
    f->fd = fd;
    send(fd, f->bytes, f->n, MSG_DONTWAIT);
}
