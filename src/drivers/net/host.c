/* SPDX-License-Identifier: Apache-2.0 */
/* Hides the rules of the host's namespace: who may come in by a published port, that a VPC reaches
 * nothing of the host, that sources cannot be forged.  The state is changed first; a change of the
 * kernel is an element more or less in a set, and where that fails (someone flushed our table) the
 * table is written anew from the state. */
#include "drivers/net/host.h"

#include <fcntl.h>

#include "base/log.h"
#include "os/conntrack.h"
#include "os/file.h"

enum { TEXT_MAX = 16 << 20, MTU_MIN = 1280, MTU_MAX = 65535, MTU_DEFAULT = 1500 };

static void table_name(const struct host *h, char out[32])
{
    snprintf(out, 32, "brume_%.8s", h->installation);
}

/* ---- the table as a whole ---- */

/* '$' is the transit prefix. */
static const char chains[] = " chain raw {\n"
                             "  type filter hook prerouting priority -300; policy accept;\n"
                             "  iifname != @ups accept\n"
                             "  iifname . ip saddr != @upsrc drop\n"
                             "  ip daddr { 127.0.0.0/8, 169.254.0.0/16 } drop\n"
                             " }\n"
                             " chain prerouting {\n"
                             "  type nat hook prerouting priority -100; policy accept;\n"
                             "  fib daddr type local dnat to meta l4proto . th dport map @ports\n"
                             " }\n"
                             " chain output {\n"
                             "  type nat hook output priority -100; policy accept;\n"
                             "  fib daddr type local dnat to meta l4proto . th dport map @ports\n"
                             " }\n"
                             " chain input {\n"
                             "  type filter hook input priority 0; policy accept;\n"
                             "  iifname != @ups accept\n"
                             "  ct state established,related accept\n"
                             "  drop\n"
                             " }\n"
                             " chain forward {\n"
                             "  type filter hook forward priority 0; policy accept;\n"
                             "  iifname @ups oifname != @ups accept\n"
                             "  oifname != @ups accept\n"
                             "  ct status dnat accept\n"
                             "  iifname != @ups ct state established,related accept\n"
                             "  drop\n"
                             " }\n"
                             " chain postrouting {\n"
                             "  type nat hook postrouting priority 100; policy accept;\n"
                             "  oifname @ups ip saddr { 127.0.0.0/8, $ } masquerade\n"
                             "  oifname . ip saddr @cidrs masquerade\n"
                             "  oifname != @ups iifname @ups masquerade\n"
                             " }\n";

static void put_ip(struct buf *b, const struct ip *ip)
{
    char text[IP_TEXT];

    ip_format(ip, text);
    buf_puts(b, text);
}

static void put_cidr(struct buf *b, const struct cidr *c)
{
    char text[CIDR_TEXT];

    cidr_format(c, text);
    buf_puts(b, text);
}

static void put_up(struct buf *b, const struct vpc *v)
{
    buf_printf(b, "\"%s\"", v->uplink);
}

static void put_source(struct buf *b, const struct vpc *v)
{
    buf_printf(b, "\"%s\" . ", v->uplink);
    put_ip(b, &v->inner);
}

static void put_range(struct buf *b, const struct vpc *v)
{
    buf_printf(b, "\"%s\" . ", v->uplink);
    put_cidr(b, &v->cidr);
}

static void put_key(struct buf *b, const struct net_publish *p)
{
    buf_printf(b, "%s . %d", p->udp ? "udp" : "tcp", p->host_port);
}

static void put_set(struct buf *b, const struct host *h, const char *head,
                    void (*put)(struct buf *b, const struct vpc *v))
{
    const struct vpc *v = h->state->vpcs;

    buf_printf(b, " %s", head);
    if (v)
        buf_puts(b, "  elements = { ");
    for (; v; v = v->next) {
        put(b, v);
        buf_puts(b, v->next ? ", " : " }\n");
    }
    buf_puts(b, " }\n");
}

static void put_ports(struct buf *b, const struct host *h)
{
    bool some = false;

    buf_puts(b, " map ports { type inet_proto . inet_service : ipv4_addr;\n");
    for (const struct vpc *v = h->state->vpcs; v; v = v->next)
        for (const struct port *p = v->ports; p; p = p->next)
            for (size_t i = 0; i < p->n_publish && !p->down; i++) {
                buf_puts(b, some ? ", " : "  elements = { ");
                some = true;
                put_key(b, &p->publish[i]);
                buf_puts(b, " : ");
                put_ip(b, &v->inner);
            }
    buf_puts(b, some ? " }\n }\n" : " }\n");
}

static int rebuild(struct host *h, struct err *e)
{
    _cleanup_(buf_free) struct buf b = BUF(TEXT_MAX);
    char table[32], transit[CIDR_TEXT];

    table_name(h, table);
    cidr_format(&h->transit, transit);
    /* Adding it first makes the removal right in either case. */
    buf_printf(&b, "add table ip %s\ndelete table ip %s\n", table, table);
    if (h->state->vpcs) {
        buf_printf(&b, "table ip %s {\n", table);
        put_set(&b, h, "set ups { type ifname;\n", put_up);
        put_set(&b, h, "set upsrc { type ifname . ipv4_addr;\n", put_source);
        put_set(&b, h, "set cidrs { type ifname . ipv4_addr; flags interval;\n", put_range);
        put_ports(&b, h);
        for (const char *p = chains; *p; p++)
            *p == '$' ? buf_puts(&b, transit) : buf_putc(&b, *p);
        buf_puts(&b, "}\n");
    }
    if (b.failed)
        return err_set(e, ERR_OVERLOADED, "the firewall has too many entries");
    return nft_run(h->nft, buf_cstr(&b), e);
}

/* ---- strangers' firewalls ---- */

/* True if the chain was found; its text with handles then. */
static bool chain_text(struct host *h, struct arena *a, const char *chain, const char **out)
{
    char command[80];
    struct err e;

    snprintf(command, sizeof(command), "list chain ip filter %s", chain);
    return nft_list(h->nft, a, command, true, out, &e) == 0;
}

/* A packet that our chain accepts still dies where another's policy is drop: docker's and ufw's
 * are.  A door that is open stays as it is. */
static void open_door(struct host *h)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(32));
    char table[32], command[512];
    const char *forward, *user, *chain = "FORWARD";
    struct err e;

    table_name(h, table);
    if (!chain_text(h, &a, chain, &forward) || !strstr(forward, "policy drop"))
        return;
    if (chain_text(h, &a, "DOCKER-USER", &user)) {
        chain = "DOCKER-USER";
        forward = user;
    }
    if (strstr(forward, table))
        return;
    snprintf(command, sizeof(command),
             "insert rule ip filter %s iifname \"u%.4s*\" counter accept comment \"%s\"\n"
             "insert rule ip filter %s oifname \"u%.4s*\" counter accept comment \"%s\"\n",
             chain, h->installation, table, chain, h->installation, table);
    if (nft_run(h->nft, command, &e) < 0)
        log_err(LOG_WARN, "firewall_door_failed", &e);
}

static void close_door(struct host *h)
{
    static const char *const names[] = { "DOCKER-USER", "FORWARD" };
    _cleanup_(arena_free) struct arena a = ARENA(MIB(32));
    char table[32], command[80];
    const char *text;
    struct err e;

    table_name(h, table);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (!chain_text(h, &a, names[i], &text))
            continue;
        char *at = arena_strdup(&a, text), *line;
        while ((line = strsep(&at, "\n"))) {
            const char *handle = strstr(line, table) ? strstr(line, "# handle ") : NULL;
            int number = 0;
            if (!handle || sscanf(handle, "# handle %d", &number) != 1)
                continue;
            snprintf(command, sizeof(command), "delete rule ip filter %s handle %d", names[i],
                     number);
            if (nft_run(h->nft, command, &e) < 0)
                log_err(LOG_WARN, "firewall_door_stays", &e);
        }
    }
}

/* ---- changes ---- */

int host_rebuild(struct host *h, struct err *e)
{
    TRY(rebuild(h, e));
    if (h->state->vpcs)
        open_door(h);
    return 0;
}

/* Runs a change of elements; what it could not do, the rebuilding does. */
static int change(struct host *h, struct buf *b, struct err *e)
{
    if (!b->failed && nft_run(h->nft, buf_cstr(b), e) == 0)
        return 0;
    return rebuild(h, e);
}

static void put_element(struct host *h, struct buf *b, const char *verb, const char *set,
                        const struct vpc *v, void (*put)(struct buf *b, const struct vpc *v))
{
    char table[32];

    table_name(h, table);
    buf_printf(b, "%s element ip %s %s { ", verb, table, set);
    put(b, v);
    buf_puts(b, " }\n");
}

static int change_vpc(struct host *h, const char *verb, const struct vpc *v, struct err *e)
{
    _cleanup_(buf_free) struct buf b = BUF(KIB(4));

    put_element(h, &b, verb, "ups", v, put_up);
    put_element(h, &b, verb, "upsrc", v, put_source);
    put_element(h, &b, verb, "cidrs", v, put_range);
    return change(h, &b, e);
}

int host_add_vpc(struct host *h, const struct vpc *v, struct err *e)
{
    /* The first and the last one make and remove the table. */
    TRY(h->state->vpcs->next ? change_vpc(h, "add", v, e) : rebuild(h, e));
    open_door(h);
    return 0;
}

int host_del_vpc(struct host *h, const struct vpc *v, struct err *e)
{
    if (h->state->vpcs)
        return change_vpc(h, "delete", v, e);
    close_door(h);
    return rebuild(h, e);
}

int host_add_port(struct host *h, const struct vpc *v, const struct port *p, struct err *e)
{
    _cleanup_(buf_free) struct buf b = BUF(KIB(64));
    char table[32];

    if (p->n_publish == 0)
        return 0;
    table_name(h, table);
    buf_printf(&b, "add element ip %s ports { ", table);
    for (size_t i = 0; i < p->n_publish; i++) {
        buf_puts(&b, i ? ", " : "");
        put_key(&b, &p->publish[i]);
        buf_puts(&b, " : ");
        put_ip(&b, &v->inner);
    }
    buf_puts(&b, " }\n");
    return change(h, &b, e);
}

int host_del_port(struct host *h, const struct port *p, struct err *e)
{
    _cleanup_(buf_free) struct buf b = BUF(KIB(64));
    char table[32];

    if (p->n_publish == 0)
        return 0;
    table_name(h, table);
    buf_printf(&b, "delete element ip %s ports { ", table);
    for (size_t i = 0; i < p->n_publish; i++) {
        buf_puts(&b, i ? ", " : "");
        put_key(&b, &p->publish[i]);
    }
    buf_puts(&b, " }\n");
    return change(h, &b, e);
}

/* ---- flows ---- */

struct local_addresses {
    const struct host *h;
    const struct cidr *own;
    size_t n;
};

/* To the host itself: by our rule, or before there was one.  What is on its way through the host to
 * the same port elsewhere is not. */
static bool to_host(const struct conntrack_flow *f, void *ctx)
{
    const struct local_addresses *l = ctx;

    if (memcmp(f->dst.b, f->reply_src.b, 4) != 0)
        return cidr_contains(&l->h->transit, &f->reply_src) && f->reply_sport == f->dport;
    if (f->dst.b[0] == 127)
        return true;
    for (size_t i = 0; i < l->n; i++)
        if (memcmp(f->dst.b, l->own[i].ip.b, 4) == 0)
            return true;
    return false;
}

int host_forget_flows(struct host *h, const struct port *p, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(32));
    struct local_addresses l = { .h = h };
    struct cidr *own;

    uint16_t udp[NET_PUBLISH_MAX];
    size_t n = state_udp_ports(p, udp);

    if (n == 0)
        return 0;
    TRY(nl_addr_list(h->nl, &a, &own, &l.n, e));
    l.own = own;
    return conntrack_forget_udp(-1, udp, n, to_host, &l, e);
}

/* ---- addresses and links ---- */

static bool taken(const struct host *h, const struct cidr *used, size_t n, const struct ip *first)
{
    struct cidr pair = { *first, 31 };

    for (size_t i = 0; i < n; i++)
        if (cidr_contains(&pair, &used[i].ip))
            return true;
    for (const struct vpc *v = h->state->vpcs; v; v = v->next)
        if (cidr_contains(&pair, &v->host))
            return true;
    return false;
}

int host_pick_transit(struct host *h, const struct uuid *vpc, struct ip *first, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(32));
    uint32_t pairs = (uint32_t)1 << (31 - h->transit.bits), start = 2166136261u;
    struct cidr *used;
    size_t n;

    /* Installations beside ours take from the same prefix: where we begin depends on the VPC, and
     * what the host has already is passed over. */
    for (const char *p = vpc->s; *p; p++)
        start = (start ^ (uint8_t)*p) * 16777619u;
    TRY(nl_addr_list(h->nl, &a, &used, &n, e));
    for (uint32_t i = 0; i < pairs; i++) {
        struct ip ip = ip4_from(ip4_num(&h->transit.ip) + 2 * ((start + i) % pairs));
        if (!taken(h, used, n, &ip)) {
            *first = ip;
            return 0;
        }
    }
    return err_set(e, ERR_OVERLOADED, "no transit address is left for one more network");
}

/* A switch that this kernel does not have (no IPv6) needs no turning. */
static int poke(const char *link, const char *family, const char *name, const char *value,
                struct err *e)
{
    char path[128];

    snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, link, name);
    if (access(path, F_OK) < 0 && strcmp(family, "ipv6") == 0)
        return 0;
    return file_poke(path, value, e);
}

int host_uplink(struct host *h, const struct vpc *v, struct err *e)
{
    struct nl_link l;

    TRY(nl_link_get(h->nl, v->uplink, &l, e));
    TRY(file_poke("/proc/sys/net/ipv4/ip_forward", "1", e));
    TRY(poke(v->uplink, "ipv6", "disable_ipv6", "1", e));
    TRY(poke(v->uplink, "ipv4", "route_localnet", "1", e));
    TRY(poke(v->uplink, "ipv4", "send_redirects", "0", e));
    nl_addr(h->nl, l.index, &v->host, 31, EEXIST);
    nl_link_up(h->nl, v->uplink);
    return nl_commit(h->nl, "bring up an uplink", e);
}

static int find_mtu(struct host *h)
{
    /* An address of documentation: whatever the default route is. */
    const struct ip far = { 4, { 198, 51, 100, 1 } };
    struct nl_link l;
    struct err e;
    int index;

    if (nl_route_link(h->nl, &far, &index, &e) < 0 || nl_link_at(h->nl, index, &l, &e) < 0 ||
        l.mtu < MTU_MIN || l.mtu > MTU_MAX)
        return MTU_DEFAULT;
    return l.mtu;
}

int host_init(struct host *h, struct err *e)
{
    h->ns_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (h->ns_fd < 0)
        return err_sys(e, errno, "open the host's network namespace");
    if (!(h->nl = nl_open(-1, e)) || !(h->nft = nft_open(-1, e)))
        return -1;
    h->mtu = find_mtu(h);
    return 0;
}

void host_close(struct host *h)
{
    nft_close(h->nft);
    nl_close(h->nl);
    if (h->ns_fd >= 0)
        close(h->ns_fd);
}
