/* SPDX-License-Identifier: Apache-2.0 */
/* Hides the layout of rtnetlink messages and how their answers are matched: each message of a batch
 * asks for an acknowledgement and bears its own sequence number. */
#include "os/netlink.h"

#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <sys/socket.h>
#include <time.h>

#include "os/ns.h"

enum { BATCH_BYTES = 16384, READ_BYTES = 32768, MESSAGE_ROOM = 1024 };

/* As mnl_attr_for_each(), which does not bear -Wconversion. */
#define attr_each(at, h, offset)                                                             \
    for ((at) = mnl_nlmsg_get_payload_offset((h), (offset)); mnl_attr_ok(                    \
             (at), (int)((const char *)mnl_nlmsg_get_payload_tail(h) - (const char *)(at))); \
         (at) = mnl_attr_next(at))

struct nl {
    int fd;
    uint32_t seq;
    /* The batch: its messages have the numbers first, first + 1 … */
    uint32_t first;
    size_t used;
    int count;
    bool overflow;
    int ok[NL_BATCH_MAX];
    _Alignas(8) char out[BATCH_BYTES];
    _Alignas(8) char in[READ_BYTES];
};

struct nl *nl_open(int ns_fd, struct err *e)
{
    int fd = ns_fd < 0 ? socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)
                       : ns_socket(ns_fd, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, e);
    struct timeval patience = { .tv_sec = 10 };
    int one = 1;

    if (fd < 0) {
        if (ns_fd < 0)
            err_sys(e, errno, "netlink socket");
        return NULL;
    }
    /* Acknowledgements without a copy of what was asked. */
    setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one));
    setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    struct nl *n = calloc(1, sizeof(*n));
    if (!n)
        abort();
    n->fd = fd;
    n->seq = (uint32_t)time(NULL);
    return n;
}

void nl_close(struct nl *n)
{
    if (!n)
        return;
    close(n->fd);
    free(n);
}

/* ---- asking ---- */

/* Sends one request and gives each answer to 'fn' until the kernel says it is done.  Returns an
 * errno. */
static int ask(struct nl *n, struct nlmsghdr *h, void (*fn)(const struct nlmsghdr *h, void *ctx),
               void *ctx)
{
    uint32_t seq = h->nlmsg_seq = ++n->seq;

    if (send(n->fd, h, h->nlmsg_len, 0) < 0)
        return errno;
    for (;;) {
        ssize_t got = recv(n->fd, n->in, sizeof(n->in), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno;
        int left = (int)got;
        for (struct nlmsghdr *m = (void *)n->in; mnl_nlmsg_ok(m, left);
             m = mnl_nlmsg_next(m, &left)) {
            if (m->nlmsg_seq != seq)
                continue;
            if (m->nlmsg_type == NLMSG_ERROR)
                return -((const struct nlmsgerr *)mnl_nlmsg_get_payload(m))->error;
            if (m->nlmsg_type == NLMSG_DONE)
                return 0;
            fn(m, ctx);
            if (!(m->nlmsg_flags & NLM_F_MULTI) && !(h->nlmsg_flags & NLM_F_ACK))
                return 0;
        }
    }
}

static struct nlmsghdr *request(char *room, uint16_t type, uint16_t flags)
{
    struct nlmsghdr *h = mnl_nlmsg_put_header(room);

    h->nlmsg_type = type;
    h->nlmsg_flags = NLM_F_REQUEST | flags;
    return h;
}

static void read_stats(struct nl_link *l, const struct nlattr *at)
{
    struct rtnl_link_stats64 s = { 0 };

    memcpy(&s, mnl_attr_get_payload(at), MIN(sizeof(s), (size_t)mnl_attr_get_payload_len(at)));
    l->rx_bytes = (int64_t)s.rx_bytes;
    l->tx_bytes = (int64_t)s.tx_bytes;
    l->rx_packets = (int64_t)s.rx_packets;
    l->tx_packets = (int64_t)s.tx_packets;
}

static bool read_link(const struct nlmsghdr *h, struct nl_link *l)
{
    const struct ifinfomsg *m = mnl_nlmsg_get_payload(h);
    const struct nlattr *at;

    if (h->nlmsg_type != RTM_NEWLINK)
        return false;
    *l = (struct nl_link){ .index = m->ifi_index, .up = m->ifi_flags & IFF_UP };
    attr_each(at, h, sizeof(*m))
    {
        switch (mnl_attr_get_type(at)) {
        case IFLA_IFNAME:
            snprintf(l->name, sizeof(l->name), "%s", mnl_attr_get_str(at));
            break;
        case IFLA_MTU:
            l->mtu = (int)mnl_attr_get_u32(at);
            break;
        case IFLA_OPERSTATE:
            l->working = mnl_attr_get_u8(at) == IF_OPER_UP;
            break;
        case IFLA_MASTER:
            l->master = (int)mnl_attr_get_u32(at);
            break;
        case IFLA_ADDRESS:
            if (mnl_attr_get_payload_len(at) == sizeof(l->mac))
                memcpy(l->mac, mnl_attr_get_payload(at), sizeof(l->mac));
            break;
        case IFLA_STATS64:
            read_stats(l, at);
            break;
        default:
            break;
        }
    }
    return true;
}

static void one_link(const struct nlmsghdr *h, void *ctx)
{
    read_link(h, ctx);
}

static int link_get(struct nl *n, const char *name, int index, struct nl_link *out, struct err *e)
{
    _Alignas(8) char room[MESSAGE_ROOM];
    struct nlmsghdr *h = request(room, RTM_GETLINK, 0);
    struct ifinfomsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    struct nl_link l = { 0 };

    m->ifi_index = index;
    if (name)
        mnl_attr_put_strz(h, IFLA_IFNAME, name);
    int errnum = ask(n, h, one_link, &l);
    if (errnum == ENODEV)
        return err_set(e, ERR_NOT_FOUND, "there is no link %s", name ? name : "of that number");
    if (errnum)
        return err_sys(e, errnum, "look for link %s", name ? name : "by number");
    *out = l;
    return 0;
}

int nl_link_get(struct nl *n, const char *name, struct nl_link *out, struct err *e)
{
    return link_get(n, name, 0, out, e);
}

int nl_link_at(struct nl *n, int index, struct nl_link *out, struct err *e)
{
    return link_get(n, NULL, index, out, e);
}

int nl_link_wait(struct nl *n, const char *name, int64_t patience, struct err *e)
{
    struct timespec nap = { .tv_nsec = 200000 };
    struct nl_link l;

    /* A link's carrier is noticed by a worker of the kernel, up to a second later; since Linux 6.8
     * to ask for the link is to have it noticed. */
    for (int64_t waited = 0;; waited += 200) {
        TRY(nl_link_get(n, name, &l, e));
        if (l.working || waited >= patience)
            return 0;
        nanosleep(&nap, NULL);
    }
}

struct link_list {
    struct arena *a;
    const char *prefix;
    struct nl_link *links;
    size_t n, cap;
};

static void add_link(const struct nlmsghdr *h, void *ctx)
{
    struct link_list *l = ctx;
    struct nl_link link;

    if (!read_link(h, &link) || strncmp(link.name, l->prefix, strlen(l->prefix)) != 0)
        return;
    if (l->n == l->cap) {
        struct nl_link *old = l->links;
        l->cap = l->cap ? 2 * l->cap : 16;
        l->links = arena_new_n(l->a, struct nl_link, l->cap);
        if (l->n)
            memcpy(l->links, old, l->n * sizeof(*old));
    }
    l->links[l->n++] = link;
}

int nl_link_list(struct nl *n, struct arena *a, const char *prefix, struct nl_link **out,
                 size_t *count, struct err *e)
{
    _Alignas(8) char room[MESSAGE_ROOM];
    struct nlmsghdr *h = request(room, RTM_GETLINK, NLM_F_DUMP);
    struct link_list l = { .a = a, .prefix = prefix };

    mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
    int errnum = ask(n, h, add_link, &l);
    if (errnum)
        return err_sys(e, errnum, "list links");
    *out = l.links;
    *count = l.n;
    return 0;
}

struct addr_list {
    struct arena *a;
    struct cidr *addrs;
    size_t n, cap;
};

static void add_addr(const struct nlmsghdr *h, void *ctx)
{
    struct addr_list *l = ctx;
    const struct ifaddrmsg *m = mnl_nlmsg_get_payload(h);
    const struct nlattr *at;

    if (h->nlmsg_type != RTM_NEWADDR || m->ifa_family != AF_INET)
        return;
    attr_each(at, h, sizeof(*m))
    {
        if (mnl_attr_get_type(at) != IFA_LOCAL || mnl_attr_get_payload_len(at) != 4)
            continue;
        if (l->n == l->cap) {
            struct cidr *old = l->addrs;
            l->cap = l->cap ? 2 * l->cap : 16;
            l->addrs = arena_new_n(l->a, struct cidr, l->cap);
            if (l->n)
                memcpy(l->addrs, old, l->n * sizeof(*old));
        }
        struct cidr *c = &l->addrs[l->n++];
        *c = (struct cidr){ .ip = { .family = 4 }, .bits = m->ifa_prefixlen };
        memcpy(c->ip.b, mnl_attr_get_payload(at), 4);
    }
}

int nl_addr_list(struct nl *n, struct arena *a, struct cidr **out, size_t *count, struct err *e)
{
    _Alignas(8) char room[MESSAGE_ROOM];
    struct nlmsghdr *h = request(room, RTM_GETADDR, NLM_F_DUMP);
    struct ifaddrmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    struct addr_list l = { .a = a };

    m->ifa_family = AF_INET;
    int errnum = ask(n, h, add_addr, &l);
    if (errnum)
        return err_sys(e, errnum, "list addresses");
    *out = l.addrs;
    *count = l.n;
    return 0;
}

static void one_route(const struct nlmsghdr *h, void *ctx)
{
    const struct nlattr *at;

    attr_each(at, h, sizeof(struct rtmsg))
    {
        if (mnl_attr_get_type(at) == RTA_OIF)
            *(int *)ctx = (int)mnl_attr_get_u32(at);
    }
}

int nl_route_link(struct nl *n, const struct ip *to, int *index, struct err *e)
{
    _Alignas(8) char room[MESSAGE_ROOM];
    struct nlmsghdr *h = request(room, RTM_GETROUTE, 0);
    struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    int found = 0;

    m->rtm_family = AF_INET;
    m->rtm_dst_len = 32;
    mnl_attr_put(h, RTA_DST, 4, to->b);
    int errnum = ask(n, h, one_route, &found);
    if (errnum == ENETUNREACH || errnum == EHOSTUNREACH || (!errnum && !found))
        return err_set(e, ERR_NOT_FOUND, "there is no route");
    if (errnum)
        return err_sys(e, errnum, "look for a route");
    *index = found;
    return 0;
}

/* ---- the batch ---- */

/* Room for one more message, or a scratch place once the batch has overflown: nl_commit() says so.
 */
static struct nlmsghdr *next(struct nl *n, uint16_t type, uint16_t flags, int ok)
{
    if (n->count == NL_BATCH_MAX || n->used + MESSAGE_ROOM > sizeof(n->out)) {
        n->overflow = true;
        n->used = 0;
        n->count = 0;
    }
    if (n->count == 0)
        n->first = n->seq + 1;
    struct nlmsghdr *h = request(n->out + n->used, type, (uint16_t)(NLM_F_ACK | flags));
    h->nlmsg_seq = ++n->seq;
    n->ok[n->count++] = ok;
    return h;
}

static void done(struct nl *n, const struct nlmsghdr *h)
{
    n->used += ((size_t)h->nlmsg_len + 3) & ~(size_t)3;
}

/* Attributes that both ends of a veth have. */
static void put_end(struct nlmsghdr *h, const struct nl_end *end, int mtu)
{
    mnl_attr_put_strz(h, IFLA_IFNAME, end->name);
    if (end->ns_fd >= 0)
        mnl_attr_put_u32(h, IFLA_NET_NS_FD, (uint32_t)end->ns_fd);
    if (end->mac)
        mnl_attr_put(h, IFLA_ADDRESS, 6, end->mac);
    if (mtu)
        mnl_attr_put_u32(h, IFLA_MTU, (uint32_t)mtu);
    if (end->master)
        mnl_attr_put_u32(h, IFLA_MASTER, (uint32_t)end->master);
}

void nl_veth(struct nl *n, const struct nl_end *here, const struct nl_end *peer, int mtu, int ok)
{
    struct nlmsghdr *h = next(n, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ok);

    /* Neither end can be up before both are there. */
    struct ifinfomsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    m->ifi_index = here->index;
    put_end(h, here, mtu);
    struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
    mnl_attr_put_strz(h, IFLA_INFO_KIND, "veth");
    struct nlattr *data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
    struct nlattr *other = mnl_attr_nest_start(h, VETH_INFO_PEER);
    mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
    put_end(h, peer, mtu);
    mnl_attr_nest_end(h, other);
    mnl_attr_nest_end(h, data);
    mnl_attr_nest_end(h, info);
    done(n, h);
}

void nl_bridge(struct nl *n, const char *name, const uint8_t mac[6], int mtu, int ok)
{
    struct nlmsghdr *h = next(n, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ok);
    struct nl_end end = { .name = name, .ns_fd = -1, .mac = mac };

    mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
    put_end(h, &end, mtu);
    struct nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
    mnl_attr_put_strz(h, IFLA_INFO_KIND, "bridge");
    struct nlattr *data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
    mnl_attr_put_u8(h, IFLA_BR_MCAST_SNOOPING, 0);
    mnl_attr_nest_end(h, data);
    mnl_attr_nest_end(h, info);
    done(n, h);
}

void nl_link_up(struct nl *n, const char *name)
{
    struct nlmsghdr *h = next(n, RTM_NEWLINK, 0, 0);
    struct ifinfomsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

    m->ifi_flags = IFF_UP;
    m->ifi_change = IFF_UP;
    mnl_attr_put_strz(h, IFLA_IFNAME, name);
    done(n, h);
}

void nl_link_del(struct nl *n, const char *name, int ok)
{
    struct nlmsghdr *h = next(n, RTM_DELLINK, 0, ok);

    mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
    mnl_attr_put_strz(h, IFLA_IFNAME, name);
    done(n, h);
}

static void address(struct nl *n, uint16_t type, uint16_t flags, int index, const struct ip *ip,
                    int bits, int ok)
{
    struct nlmsghdr *h = next(n, type, flags, ok);
    struct ifaddrmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

    m->ifa_family = AF_INET;
    m->ifa_prefixlen = (uint8_t)bits;
    m->ifa_index = (uint32_t)index;
    mnl_attr_put(h, IFA_LOCAL, 4, ip->b);
    mnl_attr_put(h, IFA_ADDRESS, 4, ip->b);
    done(n, h);
}

void nl_addr(struct nl *n, int index, const struct ip *ip, int bits, int ok)
{
    address(n, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, ip, bits, ok);
}

void nl_addr_del(struct nl *n, int index, const struct ip *ip, int bits, int ok)
{
    address(n, RTM_DELADDR, 0, index, ip, bits, ok);
}

void nl_default_route(struct nl *n, int index, const struct ip *gateway, int ok)
{
    struct nlmsghdr *h = next(n, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, ok);
    struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));

    m->rtm_family = AF_INET;
    m->rtm_table = RT_TABLE_MAIN;
    m->rtm_protocol = RTPROT_STATIC;
    m->rtm_scope = RT_SCOPE_UNIVERSE;
    m->rtm_type = RTN_UNICAST;
    m->rtm_flags = RTNH_F_ONLINK;
    mnl_attr_put(h, RTA_GATEWAY, 4, gateway->b);
    mnl_attr_put_u32(h, RTA_OIF, (uint32_t)index);
    done(n, h);
}

void nl_shape(struct nl *n, int index, int64_t bits_per_second)
{
    struct nlmsghdr *h = next(n, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, 0);
    struct tcmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    uint64_t rate = (uint64_t)bits_per_second / 8;
    /* A burst of 10 ms, never below what one large segment takes; a queue of 50 ms. */
    uint64_t burst = MIN(MAX(rate / 100, (uint64_t)65536 + 1514), (uint64_t)1 << 26);
    struct tc_tbf_qopt q = {
        .rate = { .linklayer = TC_LINKLAYER_ETHERNET, .rate = (uint32_t)MIN(rate, UINT32_MAX) },
        .limit = (uint32_t)MIN(burst + rate / 20, (uint64_t)1 << 28),
    };

    m->tcm_ifindex = index;
    m->tcm_parent = TC_H_ROOT;
    m->tcm_handle = 0x10000;
    mnl_attr_put_strz(h, TCA_KIND, "tbf");
    struct nlattr *o = mnl_attr_nest_start(h, TCA_OPTIONS);
    mnl_attr_put(h, TCA_TBF_PARMS, sizeof(q), &q);
    mnl_attr_put_u32(h, TCA_TBF_BURST, (uint32_t)burst);
    if (rate > UINT32_MAX)
        mnl_attr_put_u64(h, TCA_TBF_RATE64, rate);
    mnl_attr_nest_end(h, o);
    done(n, h);
}

int nl_commit(struct nl *n, const char *what, struct err *e)
{
    int waiting = n->count, failed = 0, at = -1;
    size_t used = n->used;
    bool overflow = n->overflow;

    n->count = 0;
    n->used = 0;
    n->overflow = false;
    if (overflow)
        return err_set(e, ERR_INTERNAL, "more than %d changes at once", NL_BATCH_MAX);
    if (waiting == 0)
        return 0;
    if (send(n->fd, n->out, used, 0) < 0)
        return err_sys(e, errno, "%s", what);
    while (waiting > 0) {
        ssize_t got = recv(n->fd, n->in, sizeof(n->in), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_sys(e, errno, "%s: no answer", what);
        int left = (int)got;
        for (struct nlmsghdr *m = (void *)n->in; mnl_nlmsg_ok(m, left);
             m = mnl_nlmsg_next(m, &left)) {
            uint32_t i = m->nlmsg_seq - n->first;
            if (m->nlmsg_type != NLMSG_ERROR || i >= NL_BATCH_MAX)
                continue;
            int errnum = -((const struct nlmsgerr *)mnl_nlmsg_get_payload(m))->error;
            if (errnum && errnum != n->ok[i] && !failed) {
                failed = errnum;
                at = (int)i;
            }
            waiting--;
        }
    }
    return failed ? err_sys(e, failed, "%s (change %d)", what, at) : 0;
}
