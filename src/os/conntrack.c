/* SPDX-License-Identifier: Apache-2.0 */
/* Hides ctnetlink.  The kernel picks out UDP, and the port where it is one, as far as it can (Linux
 * 5.8), for a host may remember hundreds of thousands of flows; each that goes is named by its
 * tuple, zone and number, so that one that began meanwhile in its place stays. */
#include "os/conntrack.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "os/ns.h"

enum {
    READ_BYTES = 32768,
    MESSAGE_ROOM = 1024,
    NAME_ROOM = 256,      /* of what names a flow */
    NAMES_MAX = 32 << 20, /* of all, between two looks */
    ROUNDS_MAX = 4,
    BATCH_BYTES = 16384,
};

/* What names a flow, as the kernel gave it. */
struct name {
    uint16_t n;
    _Alignas(4) char bytes[NAME_ROOM];
};

struct look {
    const uint16_t *dports;
    size_t n;
    bool (*match)(const struct conntrack_flow *f, void *ctx);
    void *ctx;
    struct buf names; /* the used part of each */
    bool more;        /* there was no room for all */
};

static struct nlmsghdr *request(char *room, uint16_t type, uint16_t flags)
{
    struct nlmsghdr *h = mnl_nlmsg_put_header(room);

    h->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
    h->nlmsg_flags = NLM_F_REQUEST | flags;
    struct nfgenmsg *m = mnl_nlmsg_put_extra_header(h, sizeof(*m));
    m->nfgen_family = AF_INET;
    m->version = NFNETLINK_V0;
    return h;
}

/* Sends messages, of which 'last' is the one that is waited for, and gives each answer to 'fn'.
 * Returns an errno; what was to go and had gone already is none. */
static int deliver(int fd, const void *out, size_t n, struct nlmsghdr *last, mnl_cb_t fn, void *ctx)
{
    _Alignas(8) char in[READ_BYTES];
    static _Thread_local uint32_t seq;
    int failed = 0;

    last->nlmsg_seq = ++seq ? seq : ++seq; /* the others have 0 */
    if (send(fd, out, n, 0) < 0)
        return errno;
    for (;;) {
        ssize_t got = recv(fd, in, sizeof(in), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno;
        int left = (int)got;
        for (const struct nlmsghdr *m = (void *)in; mnl_nlmsg_ok(m, left);
             m = mnl_nlmsg_next(m, &left)) {
            int errnum = m->nlmsg_type == NLMSG_ERROR
                             ? -((const struct nlmsgerr *)mnl_nlmsg_get_payload(m))->error
                             : 0;
            failed = failed || errnum == ENOENT ? failed : errnum;
            if (m->nlmsg_seq != seq)
                continue;
            if (m->nlmsg_type == NLMSG_ERROR || m->nlmsg_type == NLMSG_DONE)
                return failed;
            if (fn)
                fn(m, ctx);
        }
    }
}

/* ---- one flow ---- */

/* As mnl_attr_for_each_nested(), which does not bear -Wconversion. */
#define nested_each(at, nest)                                                           \
    for ((at) = mnl_attr_get_payload(nest);                                             \
         mnl_attr_ok((at), (int)((const char *)mnl_attr_get_payload(nest) +             \
                                 mnl_attr_get_payload_len(nest) - (const char *)(at))); \
         (at) = mnl_attr_next(at))

static void read_ip(const struct nlattr *at, struct ip *out)
{
    if (mnl_attr_get_payload_len(at) != 4)
        return;
    *out = (struct ip){ .family = 4 };
    memcpy(out->b, mnl_attr_get_payload(at), 4);
}

/* Both ends; returns the protocol. */
static uint8_t read_tuple(const struct nlattr *tuple, struct ip *src, struct ip *dst,
                          uint16_t *sport, uint16_t *dport)
{
    const struct nlattr *part, *at;
    uint8_t protocol = 0;

    nested_each(part, tuple)
    {
        uint16_t kind = mnl_attr_get_type(part);
        if (kind != CTA_TUPLE_IP && kind != CTA_TUPLE_PROTO)
            continue;
        nested_each(at, part)
        {
            uint16_t type = mnl_attr_get_type(at);
            if (kind == CTA_TUPLE_IP && (type == CTA_IP_V4_SRC || type == CTA_IP_V4_DST))
                read_ip(at, type == CTA_IP_V4_SRC ? src : dst);
            else if (kind == CTA_TUPLE_PROTO && type == CTA_PROTO_NUM)
                protocol = mnl_attr_get_u8(at);
            else if (kind == CTA_TUPLE_PROTO && type == CTA_PROTO_SRC_PORT)
                *sport = ntohs(mnl_attr_get_u16(at));
            else if (kind == CTA_TUPLE_PROTO && type == CTA_PROTO_DST_PORT)
                *dport = ntohs(mnl_attr_get_u16(at));
        }
    }
    return protocol;
}

static void name_add(struct name *name, const struct nlattr *at)
{
    uint16_t n = (uint16_t)MNL_ALIGN(mnl_attr_get_len(at));

    if (name->n + n > NAME_ROOM)
        return;
    memcpy(name->bytes + name->n, at, mnl_attr_get_len(at));
    name->n = (uint16_t)(name->n + n);
}

static bool is_to(const struct look *l, uint16_t dport)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->dports[i] == dport)
            return true;
    return false;
}

static int see(const struct nlmsghdr *h, void *ctx)
{
    struct conntrack_flow f = { .dport = 0 };
    struct look *l = ctx;
    struct name name = { .n = 0 };
    uint8_t protocol = 0;
    const struct nlattr *at;

    for (at = mnl_nlmsg_get_payload_offset(h, sizeof(struct nfgenmsg));
         mnl_attr_ok(at, (int)((const char *)mnl_nlmsg_get_payload_tail(h) - (const char *)at));
         at = mnl_attr_next(at)) {
        switch (mnl_attr_get_type(at)) {
        case CTA_TUPLE_ORIG:
            protocol = read_tuple(at, &f.src, &f.dst, &f.sport, &f.dport);
            name_add(&name, at);
            break;
        case CTA_TUPLE_REPLY:
            read_tuple(at, &f.reply_src, &f.reply_dst, &f.reply_sport, &f.reply_dport);
            break;
        case CTA_ZONE:
        case CTA_ID:
            name_add(&name, at);
            break;
        default:
            break;
        }
    }
    if (protocol == IPPROTO_UDP && is_to(l, f.dport) && f.src.family && f.dst.family &&
        l->match(&f, l->ctx)) {
        size_t n = offsetof(struct name, bytes) + name.n;
        if (l->names.n + n <= NAMES_MAX)
            buf_put(&l->names, &name, n);
        else
            l->more = true; /* the rest of the dump must be read all the same */
    }
    return MNL_CB_OK;
}

/* ---- all of them ---- */

static int dump(int fd, struct look *l)
{
    _Alignas(8) char room[MESSAGE_ROOM];
    struct nlmsghdr *h = request(room, IPCTNL_MSG_CT_GET, NLM_F_DUMP);

    struct nlattr *tuple = mnl_attr_nest_start(h, CTA_TUPLE_ORIG);
    struct nlattr *proto = mnl_attr_nest_start(h, CTA_TUPLE_PROTO);
    mnl_attr_put_u8(h, CTA_PROTO_NUM, IPPROTO_UDP);
    if (l->n == 1)
        mnl_attr_put_u16(h, CTA_PROTO_DST_PORT, htons(l->dports[0]));
    mnl_attr_nest_end(h, proto);
    mnl_attr_nest_end(h, tuple);
    struct nlattr *filter = mnl_attr_nest_start(h, CTA_FILTER);
    /* The kernel's numbers of the two, which its headers keep to themselves. */
    mnl_attr_put_u32(h, CTA_FILTER_ORIG_FLAGS, 1u << 3 | (l->n == 1 ? 1u << 5 : 0));
    mnl_attr_put_u32(h, CTA_FILTER_REPLY_FLAGS, 0);
    mnl_attr_nest_end(h, filter);
    return deliver(fd, h, h->nlmsg_len, h, see, l);
}

/* Many messages in one, of which the last is answered for, and of the others what fails. */
static int forget(int fd, const struct buf *names)
{
    _Alignas(8) char out[BATCH_BYTES];
    size_t used = 0;
    int errnum = 0;

    for (size_t at = 0; at < names->n && !errnum;) {
        struct name name;
        memcpy(&name, names->p + at, offsetof(struct name, bytes));
        memcpy(name.bytes, names->p + at + offsetof(struct name, bytes), name.n);
        at += offsetof(struct name, bytes) + name.n;
        bool last = at == names->n || used + 2 * MESSAGE_ROOM > sizeof(out);
        struct nlmsghdr *h =
            request(out + used, IPCTNL_MSG_CT_DELETE, last ? NLM_F_ACK : (uint16_t)0);
        memcpy(mnl_nlmsg_get_payload_tail(h), name.bytes, name.n);
        h->nlmsg_len += name.n;
        used += h->nlmsg_len; /* of aligned parts */
        if (!last)
            continue;
        errnum = deliver(fd, out, used, h, NULL, NULL);
        used = 0;
    }
    return errnum;
}

static int forget_all(int fd, struct look *l)
{
    int errnum = 0;

    l->more = true;
    for (int round = 0; round < ROUNDS_MAX && l->more && !errnum; round++) {
        l->more = false;
        buf_clear(&l->names);
        errnum = dump(fd, l);
        errnum = errnum ? errnum : forget(fd, &l->names);
    }
    return errnum;
}

int conntrack_forget_udp(int ns_fd, const uint16_t *dports, size_t n,
                         bool (*match)(const struct conntrack_flow *f, void *ctx), void *ctx,
                         struct err *e)
{
    struct timeval patience = { .tv_sec = 10 };

    if (n == 0)
        return 0;
    _cleanup_close_ int fd = ns_fd < 0
                                 ? socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER)
                                 : ns_socket(ns_fd, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER, e);

    if (fd < 0)
        return ns_fd < 0 ? err_sys(e, errno, "netfilter socket") : -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    struct look l = {
        .dports = dports, .n = n, .match = match, .ctx = ctx, .names = BUF(NAMES_MAX)
    };
    int errnum = forget_all(fd, &l);
    buf_free(&l.names);
    return errnum ? err_sys(e, errnum, "forget flows") : 0;
}
