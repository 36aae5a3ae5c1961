/* SPDX-License-Identifier: Apache-2.0 */
/* Networks of a host: the order in which state, rules and links change.  One lock stands around it
 * all, for the kernel changes links one at a time anyway. */
#include "drivers/net/net.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/log.h"
#include "codec/id.h"
#include "drivers/net/handover.h"
#include "drivers/net/host.h"
#include "drivers/net/state.h"
#include "drivers/net/vpc.h"
#include "os/file.h"
#include "os/ns.h"

struct net {
    pthread_mutex_t lock;
    struct net_state state;
    struct host host;
    struct handover *handover;
    char dir[400], installation[9];
    int port_min, port_max;
};

/* ---- taking away ---- */

/* What failed is logged, and swept later: a removal goes on to its end. */
static void note(int result, const char *what, const struct err *e)
{
    if (result < 0)
        log_event(LOG_WARN, "network_removal_incomplete", L_STR("step", what),
                  L_STR("message", e->msg), L_STR("cause", e->cause));
}

/* The VPC with its last port. */
static int drop_vpc(struct net *n, struct vpc *v)
{
    struct err e;
    int result;

    handover_unlisten(n->handover, &v->id, NULL);
    state_take_vpc(&n->state, v);
    note(host_del_vpc(&n->host, v, &e), "host rules", &e);
    note(result = vpc_remove(&n->host, v, &e), "namespace", &e);
    vpc_free(v);
    return result;
}

static bool dns_used(const struct vpc *v, const struct ip *dns)
{
    for (const struct port *p = v->ports; p; p = p->next)
        if (p->dns.family && memcmp(p->dns.b, dns->b, 4) == 0)
            return true;
    return false;
}

/* What the port publishes has changed: clients that were there before find it as the others do.
 * Inside first, or a flow that begins anew would meet an old one. */
static void forget_flows(struct net *n, const struct vpc *v, const struct port *p)
{
    bool udp = false;
    struct err e;

    for (size_t i = 0; i < p->n_publish; i++)
        udp = udp || p->publish[i].udp;
    if (!udp)
        return;
    note(vpc_forget_flows(v, p, &e), "flows of a network", &e);
    note(host_forget_flows(&n->host, p, &e), "flows of the host", &e);
}

/* 'replaced': the VPC stays also without ports, and the port's file, which is the next one's. */
static int drop_port(struct net *n, struct vpc *v, struct port *p, bool replaced, struct err *e)
{
    int result = 0;

    state_take_port(&n->state, v, p, !replaced);
    struct err rules;
    if (!p->down)
        note(host_del_port(&n->host, p, &rules), "published ports", &rules);
    if (p->dns.family && !dns_used(v, &p->dns))
        handover_unlisten(n->handover, &v->id, &p->dns);
    if (v->nft)
        result = port_remove(v, p, e);
    forget_flows(n, v, p);
    free(p);
    if (!v->ports && !replaced)
        drop_vpc(n, v);
    return result;
}

/* ---- published ports ---- */

/* A socket that holds the port for us: 0.0.0.0, bound, never listening. -1 if it is taken. */
static int hold(int port, bool udp)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    _cleanup_close_ int fd = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        return -1;
    return TAKE_FD(fd);
}

static bool chosen(const struct port *p, size_t n, int port, bool udp)
{
    for (size_t i = 0; i < n; i++)
        if (p->publish[i].host_port == port && p->publish[i].udp == udp)
            return true;
    return false;
}

static int pick(struct net *n, struct port *p, size_t i, struct err *e)
{
    uint32_t start = 0, span = (uint32_t)(n->port_max - n->port_min + 1);
    bool udp = p->publish[i].udp;

    if (getrandom(&start, sizeof(start), 0) != sizeof(start))
        return err_sys(e, errno, "getrandom");
    start %= span;
    for (uint32_t k = 0; k < span; k++) {
        int port = n->port_min + (int)((start + k) % span);
        if (state_published(&n->state, port, udp) || chosen(p, p->n_publish, port, udp))
            continue;
        int fd = hold(port, udp);
        if (fd < 0)
            continue;
        p->publish[i].host_port = port;
        return fd;
    }
    return err_set(e, ERR_OVERLOADED, "no host port from %d to %d is free", n->port_min,
                   n->port_max);
}

/* 'mine': the instance had this port before, so its shim may be the one that holds it, unless it
 * has ended. */
static int take(struct net *n, struct port *p, size_t i, const struct port *mine, int *fd,
                struct err *e)
{
    const struct net_publish *one = &p->publish[i];

    if (one->host_port == 0)
        return *fd = pick(n, p, i, e);
    struct port *other = state_published(&n->state, one->host_port, one->udp);
    *fd = other && other != mine ? -1 : hold(one->host_port, one->udp);
    if (*fd < 0 && (!other || other != mine || mine->down))
        return err_set(e, ERR_ALREADY_EXISTS, "host port %d/%s is in use", one->host_port,
                       one->udp ? "udp" : "tcp");
    return 0;
}

static void let_go(int *listen, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (listen[i] >= 0) {
            close(listen[i]);
            listen[i] = -1;
        }
}

static int take_all(struct net *n, struct port *p, const struct port *mine, int *listen,
                    struct err *e)
{
    for (size_t i = 0; i < p->n_publish; i++)
        listen[i] = -1;
    /* What is named first, so that no picked one is in its way. */
    for (size_t i = 0; i < p->n_publish; i++)
        if (p->publish[i].host_port && take(n, p, i, mine, &listen[i], e) < 0)
            return -1;
    for (size_t i = 0; i < p->n_publish; i++)
        if (!p->publish[i].host_port && take(n, p, i, mine, &listen[i], e) < 0)
            return -1;
    return 0;
}

/* ---- attaching ---- */

static int check_vpc(struct net *n, const struct net_port *in, struct cidr *cidr, struct err *e)
{
    if (!in->vpc_cidr || !cidr_parse(str_of(in->vpc_cidr), true, cidr) || cidr->ip.family != 4)
        return err_set(e, ERR_INVALID, "vpc_cidr is no IPv4 prefix");
    if (cidr_overlaps(cidr, &n->host.transit))
        return err_set(e, ERR_INVALID, "the VPC's addresses overlap the host's transit network");
    return 0;
}

/* The machine was down: nothing of the VPC is in the kernel, and somebody else may have its transit
 * addresses by now.  Its own are not in its way. */
static int begin_anew(struct net *n, struct vpc *v, struct err *e)
{
    for (struct port *p = v->ports; p; p = p->next)
        p->down = true;
    v->host = (struct ip){ 0 };
    TRY(host_pick_transit(&n->host, &v->id, &v->host, e));
    v->inner = ip4_from(ip4_num(&v->host) + 1);
    return state_save_vpc(&n->state, v, e);
}

/* The VPC in the kernel, and its names. */
static int make_whole(struct net *n, struct vpc *v, struct err *e)
{
    TRY(vpc_make(&n->host, v, e));
    for (const struct port *p = v->ports; p; p = p->next)
        if (p->dns.family)
            TRY(handover_listen(n->handover, &v->id, v->ns_fd, &p->dns, e));
    return 0;
}

/* Leaves the record of a VPC alone, with which its ports keep what they publish. */
static void unmake(struct net *n, struct vpc *v)
{
    struct err e;

    handover_unlisten(n->handover, &v->id, NULL);
    note(vpc_remove(&n->host, v, &e), "namespace", &e);
    nft_close(v->nft);
    v->nft = NULL;
    if (v->ns_fd >= 0)
        close(v->ns_fd);
    v->ns_fd = -1;
}

/* The record was there alone: now the VPC is, or the record still. */
static int make_again(struct net *n, struct vpc *v, struct err *e)
{
    if (begin_anew(n, v, e) == 0 && host_rebuild(&n->host, e) == 0 && make_whole(n, v, e) == 0)
        return 0;
    unmake(n, v);
    return -1;
}

/* The VPC of a port, made where it is missing. */
static struct vpc *need_vpc(struct net *n, const struct net_port *in, const struct cidr *cidr,
                            struct err *e)
{
    struct vpc *v = state_vpc(&n->state, &in->vpc);

    if (v)
        return v->nft || make_again(n, v, e) == 0 ? v : NULL;
    v = calloc(1, sizeof(*v));
    if (!v)
        abort();
    *v = (struct vpc){ .id = in->vpc, .cidr = *cidr, .ns_fd = -1 };
    if (host_pick_transit(&n->host, &v->id, &v->host, e) < 0) {
        free(v);
        return NULL;
    }
    v->inner = ip4_from(ip4_num(&v->host) + 1);
    if (state_add_vpc(&n->state, v, e) < 0) {
        free(v);
        return NULL;
    }
    if (host_add_vpc(&n->host, v, e) < 0 || vpc_make(&n->host, v, e) < 0) {
        drop_vpc(n, v);
        return NULL;
    }
    return v;
}

/* It has no interface, but what it publishes stays its own. */
static void cut_port(struct net *n, struct vpc *v, struct port *p)
{
    struct err e;

    p->down = true;
    note(host_del_port(&n->host, p, &e), "published ports", &e);
    note(port_remove(v, p, &e), "interface", &e);
    forget_flows(n, v, p);
}

/* 'replaces': the instance had a port here before, and keeps it also when this fails. */
static int attach_new(struct net *n, const struct net_port *in, struct port *p,
                      const struct cidr *cidr, int netns_fd, bool replaces, struct err *e)
{
    struct vpc *v = need_vpc(n, in, cidr, e);

    if (!v || (!replaces && state_save_port(&n->state, p, e) < 0)) {
        if (v && !v->ports)
            drop_vpc(n, v);
        free(p);
        return -1;
    }
    state_add_port(&n->state, v, p);
    if (port_make(&n->host, v, p, netns_fd, e) == 0 &&
        (!p->dns.family || handover_listen(n->handover, &v->id, v->ns_fd, &p->dns, e) == 0) &&
        host_add_port(&n->host, v, p, e) == 0) {
        forget_flows(n, v, p);
        return 0;
    }
    struct err ignored;
    if (replaces)
        cut_port(n, v, p);
    else if (drop_port(n, v, p, false, &ignored) < 0)
        log_err(LOG_WARN, "network_removal_incomplete", &ignored);
    return -1;
}

static bool same_port(const struct port *a, const struct port *b)
{
    return uuid_eq(&a->vpc, &b->vpc) && memcmp(&a->ip, &b->ip, sizeof(a->ip)) == 0 &&
           memcmp(&a->gateway, &b->gateway, sizeof(a->gateway)) == 0 &&
           memcmp(&a->dns, &b->dns, sizeof(a->dns)) == 0 && a->subnet.bits == b->subnet.bits &&
           a->mbps == b->mbps && a->n_publish == b->n_publish;
}

/* What was asked for with host port 0 keeps the port it got. */
static bool keep_ports(struct port *p, const struct port *old)
{
    bool same = true;

    for (size_t i = 0; i < p->n_publish; i++) {
        bool kept = i < old->n_publish && old->publish[i].port == p->publish[i].port &&
                    old->publish[i].udp == p->publish[i].udp;
        if (kept && !p->publish[i].host_port &&
            !chosen(p, p->n_publish, old->publish[i].host_port, p->publish[i].udp))
            p->publish[i].host_port = old->publish[i].host_port;
        same = same && kept && p->publish[i].host_port == old->publish[i].host_port;
    }
    return same;
}

static int publish_again(struct net *n, const struct vpc *v, struct port *p, struct err *e)
{
    if (!p->down)
        return 0;
    p->down = false;
    TRY(host_add_port(&n->host, v, p, e));
    forget_flows(n, v, p);
    return 0;
}

static int attach(struct net *n, struct net_port *in, int netns_fd, int *listen, struct err *e)
{
    struct port *p = calloc(1, sizeof(*p)), *old;
    struct vpc *of;
    struct cidr cidr;

    if (!p)
        abort();
    if (state_read_port(p, in, e) < 0 || check_vpc(n, in, &cidr, e) < 0) {
        free(p);
        return -1;
    }
    old = state_port(&n->state, &p->id, &of);
    bool same = old && keep_ports(p, old) && same_port(p, old) && port_is_in(old, netns_fd);
    if (take_all(n, p, old, listen, e) < 0) {
        free(p);
        return -1;
    }
    for (size_t i = 0; i < p->n_publish; i++)
        in->publish[i].host_port = p->publish[i].host_port;
    if (same) {
        free(p);
        return publish_again(n, of, old, e);
    }
    bool replaces = old && uuid_eq(&p->vpc, &of->id);
    /* Written first: at no moment is it unknown whose the published ports are. */
    if (replaces && (!need_vpc(n, in, &cidr, e) || state_save_port(&n->state, p, e) < 0)) {
        free(p);
        return -1;
    }
    struct err why;
    if (old)
        note(drop_port(n, of, old, replaces, &why), "interface", &why);
    return attach_new(n, in, p, &cidr, netns_fd, replaces, e);
}

int net_attach(struct net *n, struct net_port *p, int netns_fd, int *listen, struct err *e)
{
    int asked[NET_PUBLISH_MAX];
    size_t count = p->n_publish;

    if (count > NET_PUBLISH_MAX)
        return err_set(e, ERR_INVALID, "at most %d ports can be published", NET_PUBLISH_MAX);
    for (size_t i = 0; i < count; i++) {
        asked[i] = p->publish[i].host_port;
        listen[i] = -1;
    }
    pthread_mutex_lock(&n->lock);
    int result = attach(n, p, netns_fd, listen, e);
    pthread_mutex_unlock(&n->lock);
    if (result < 0) {
        let_go(listen, count);
        for (size_t i = 0; i < count; i++)
            p->publish[i].host_port = asked[i];
    }
    return result;
}

int net_detach(struct net *n, const struct uuid *instance, struct err *e)
{
    struct vpc *v;
    int result = 0;

    pthread_mutex_lock(&n->lock);
    struct port *p = state_port(&n->state, instance, &v);
    if (p)
        result = drop_port(n, v, p, false, e);
    pthread_mutex_unlock(&n->lock);
    return result;
}

int net_sync(struct net *n, const struct uuid *instance, struct err *e)
{
    struct vpc *v;
    int result = 0;

    pthread_mutex_lock(&n->lock);
    const struct port *p = state_port(&n->state, instance, &v);
    if (p)
        result = state_sync(&n->state, v, p, e);
    pthread_mutex_unlock(&n->lock);
    return result;
}

int net_unpublish(struct net *n, const struct uuid *instance, struct err *e)
{
    struct vpc *v;
    int result = 0;

    pthread_mutex_lock(&n->lock);
    struct port *p = state_port(&n->state, instance, &v);
    if (p && !p->down) {
        p->down = true;
        result = host_del_port(&n->host, p, e);
        forget_flows(n, v, p);
    }
    pthread_mutex_unlock(&n->lock);
    return result;
}

/* ---- looking ---- */

int net_list(struct net *n, struct arena *a, struct uuid **out, size_t *count,
             struct err *e _unused_)
{
    size_t total = 0;

    pthread_mutex_lock(&n->lock);
    for (const struct vpc *v = n->state.vpcs; v; v = v->next)
        for (const struct port *p = v->ports; p; p = p->next)
            total++;
    *out = arena_new_n(a, struct uuid, total);
    *count = 0;
    for (const struct vpc *v = n->state.vpcs; v; v = v->next)
        for (const struct port *p = v->ports; p; p = p->next)
            (*out)[(*count)++] = p->id;
    pthread_mutex_unlock(&n->lock);
    return 0;
}

static int stats(struct net *n, const struct uuid *instance, struct net_counters *out,
                 struct err *e)
{
    struct vpc *v;
    struct port *p = state_port(&n->state, instance, &v);
    struct nl_link l;

    if (!p || !v->nft)
        return err_set(e, ERR_NOT_FOUND, "the instance has no interface here");
    _cleanup_(nl_closep) struct nl *nl = nl_open(v->ns_fd, e);
    if (!nl)
        return -1;
    TRY(nl_link_get(nl, p->link, &l, e));
    /* What the bridge's end receives, the instance sent. */
    *out = (struct net_counters){ l.tx_bytes, l.rx_bytes, l.tx_packets, l.rx_packets };
    return 0;
}

int net_stats(struct net *n, const struct uuid *instance, struct net_counters *out, struct err *e)
{
    pthread_mutex_lock(&n->lock);
    int result = stats(n, instance, out, e);
    pthread_mutex_unlock(&n->lock);
    return result;
}

/* ---- sweeping ---- */

static bool is_kept(const struct uuid *id, const struct uuid *keep, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (uuid_eq(id, &keep[i]))
            return true;
    return false;
}

/* The next port that nobody wants. */
static struct port *unwanted(struct net *n, const struct uuid *keep, size_t count, struct vpc **of)
{
    for (*of = n->state.vpcs; *of; *of = (*of)->next)
        for (struct port *p = (*of)->ports; p; p = p->next)
            if (!is_kept(&p->id, keep, count))
                return p;
    return NULL;
}

/* Namespaces of ours that no VPC has; what is in them goes with them. */
static int sweep_namespaces(struct net *n, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(32));
    const char **names;
    char prefix[NET_NAME];
    size_t count;

    snprintf(prefix, sizeof(prefix), "brume-%s-", n->installation);
    TRY(ns_list(&a, prefix, &names, &count, e));
    for (size_t i = 0; i < count; i++) {
        const struct vpc *v = n->state.vpcs;
        while (v && strcmp(v->ns_name, names[i]) != 0)
            v = v->next;
        if (!v)
            TRY(ns_remove(names[i], e));
    }
    return 0;
}

static int sweep(struct net *n, const struct uuid *keep, size_t count, struct err *e)
{
    struct port *p;
    struct vpc *v;
    int result = 0;

    while ((p = unwanted(n, keep, count, &v)))
        if (drop_port(n, v, p, false, e) < 0)
            result = -1;
    TRY(result);
    TRY(sweep_namespaces(n, e));
    return host_rebuild(&n->host, e);
}

int net_sweep(struct net *n, const struct uuid *keep, size_t count, struct err *e)
{
    pthread_mutex_lock(&n->lock);
    int result = sweep(n, keep, count, e);
    pthread_mutex_unlock(&n->lock);
    return result;
}

/* ---- its life ---- */

/* Takes up what the kernel still has of a VPC, and mends the rest.  The port of an instance that
 * has ended stays, for what it publishes is its own until net_detach() or net_sweep(). */
static int adopt(struct net *n, struct vpc *v, struct err *e)
{
    if (!v->ports)
        return 0;
    if (vpc_open(v, e) == 0)
        TRY(vpc_check(v, n->installation, e));
    else
        TRY(e->code == ERR_NOT_FOUND ? begin_anew(n, v, e) : -1);
    return make_whole(n, v, e);
}

static bool is_up(const struct vpc *v)
{
    for (const struct port *p = v->ports; p; p = p->next)
        if (!p->down)
            return true;
    return false;
}

static int start(struct net *n, struct err *e)
{
    TRY(host_init(&n->host, e));
    TRY(state_load(&n->state, e));
    for (struct vpc *v = n->state.vpcs, *next; v; v = next) {
        next = v->next;
        if (adopt(n, v, e) < 0) {
            /* Nothing runs in it: it is made when something is to. */
            if (is_up(v))
                return -1;
            log_err(LOG_WARN, "network_not_made", e);
            unmake(n, v);
        }
        if (!v->ports)
            drop_vpc(n, v);
    }
    handover_begin(n->handover);
    TRY(n->state.vpcs ? host_rebuild(&n->host, e) : 0);
    for (const struct vpc *v = n->state.vpcs; v; v = v->next)
        for (const struct port *p = v->ports; p; p = p->next)
            if (p->down) /* perhaps since nobody looked */
                forget_flows(n, v, p);
    return 0;
}

static bool is_installation(const char *s)
{
    return strlen(s) == 8 && strspn(s, "0123456789abcdef") == 8;
}

struct net *net_linux(const struct net_opts *o, struct err *e)
{
    _cleanup_(net_freep) struct net *n = calloc(1, sizeof(*n));
    const char *transit = o->transit_cidr ? o->transit_cidr : "198.18.0.0/15";

    if (!n)
        abort();
    pthread_mutex_init(&n->lock, NULL);
    n->host.ns_fd = -1;
    if (!is_installation(o->installation) || strlen(o->dir) >= sizeof(n->dir) ||
        !cidr_parse(str_of(transit), true, &n->host.transit) || n->host.transit.ip.family != 4 ||
        n->host.transit.bits < 8 || n->host.transit.bits > 30 || o->port_min < 1 ||
        o->port_max > 65535 || o->port_min > o->port_max) {
        err_set(e, ERR_INVALID, "the options of the host's networks make no sense");
        return NULL;
    }
    snprintf(n->dir, sizeof(n->dir), "%s", o->dir);
    snprintf(n->installation, sizeof(n->installation), "%s", o->installation);
    n->port_min = o->port_min;
    n->port_max = o->port_max;
    n->state = (struct net_state){ .dir = n->dir, .installation = n->installation };
    n->handover = handover_new(o->edge_socket);
    n->host.installation = n->installation;
    n->host.state = &n->state;
    if (start(n, e) < 0)
        return NULL;
    return TAKE(n);
}

void net_free(struct net *n)
{
    if (!n)
        return;
    handover_free(n->handover);
    host_close(&n->host);
    state_free(&n->state);
    pthread_mutex_destroy(&n->lock);
    free(n);
}
