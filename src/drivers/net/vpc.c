/* SPDX-License-Identifier: Apache-2.0 */
/* Hides the inside of a VPC.  Its names are fixed (br0, up0, table brume), for it has a namespace
 * for itself.  A port's frames pass only with the port's own addresses, so that no instance can
 * speak for another. */
#include "drivers/net/vpc.h"

#include <fcntl.h>

#include "os/conntrack.h"
#include "os/file.h"
#include "os/ns.h"

#define BRIDGE "br0"
#define UPLINK "up0"

/* The two ends of a veth must differ in number: where they do not, kernels take them for one link
 * without a peer and notice its carrier up to a second later. */
enum { TEXT_MAX = 16 << 20, UPLINK_INDEX = 1 << 20 };
#define CARRIER_PATIENCE MILLIS(100)

/* ---- rules ---- */

static const char bridge_chain[] =
    " chain in {\n"
    "  type filter hook prerouting priority -300; policy drop;\n"
    "  ether type ip iifname . ether saddr . ip saddr @owners accept\n"
    "  ether type arp iifname . ether saddr . arp saddr ip @owners accept\n"
    " }\n"
    "}\n";

static const char ip_chains[] =
    " chain pre {\n"
    "  type nat hook prerouting priority -100; policy accept;\n"
    "  iifname \"" UPLINK "\" dnat ip to meta l4proto . th dport map @ports\n"
    " }\n"
    " chain post {\n"
    "  type nat hook postrouting priority 100; policy accept;\n"
    "  oifname \"" UPLINK "\" masquerade\n"
    " }\n"
    " chain in {\n"
    "  type filter hook input priority 0; policy drop;\n"
    "  ct state established,related accept\n"
    "  iifname \"lo\" accept\n"
    "  iifname != \"" BRIDGE "\" drop\n"
    "  icmp type echo-request accept\n"
    "  meta l4proto { tcp, udp } th dport 53 accept\n"
    " }\n"
    " chain forward {\n"
    "  type filter hook forward priority 0; policy accept;\n"
    "  iifname != \"" UPLINK "\" accept\n"
    "  ct state established,related accept\n"
    "  ct status dnat accept\n"
    "  drop\n"
    " }\n"
    "}\n";

static void put_owner(struct buf *b, const struct port *p)
{
    char ip[IP_TEXT];

    ip_format(&p->ip, ip);
    buf_printf(b, "\"%s\" . %02x:%02x:%02x:%02x:%02x:%02x . %s", p->link, p->mac[0], p->mac[1],
               p->mac[2], p->mac[3], p->mac[4], p->mac[5], ip);
}

static void put_published(struct buf *b, const struct port *p, bool values)
{
    char ip[IP_TEXT];

    ip_format(&p->ip, ip);
    for (size_t i = 0; i < p->n_publish; i++) {
        buf_printf(b, "%s%s . %d", i ? ", " : "", p->publish[i].udp ? "udp" : "tcp",
                   p->publish[i].host_port);
        if (values)
            buf_printf(b, " : %s . %d", ip, p->publish[i].port);
    }
}

static int rules_rebuild(const struct vpc *v, bool fresh, struct err *e)
{
    _cleanup_(buf_free) struct buf b = BUF(TEXT_MAX);
    bool some = false;

    if (!fresh)
        buf_puts(&b, "add table bridge brume\ndelete table bridge brume\n"
                     "add table ip brume\ndelete table ip brume\n");
    buf_puts(&b, "table bridge brume {\n"
                 " set owners { type ifname . ether_addr . ipv4_addr;\n");
    for (const struct port *p = v->ports; p; p = p->next) {
        buf_puts(&b, p == v->ports ? "  elements = { " : ", ");
        put_owner(&b, p);
    }
    buf_printf(&b, "%s }\n%s", v->ports ? " }\n" : "", bridge_chain);
    buf_puts(&b, "table ip brume {\n"
                 " map ports { type inet_proto . inet_service : ipv4_addr . inet_service;\n");
    for (const struct port *p = v->ports; p; p = p->next) {
        if (p->n_publish == 0)
            continue;
        buf_puts(&b, some ? ", " : "  elements = { ");
        some = true;
        put_published(&b, p, true);
    }
    buf_printf(&b, "%s }\n%s", some ? " }\n" : "", ip_chains);
    if (b.failed)
        return err_set(e, ERR_OVERLOADED, "the firewall of a network has too many entries");
    return nft_run(v->nft, buf_cstr(&b), e);
}

/* The elements of one port; what fails is mended by writing everything anew from the state. */
static int rules_change(const struct vpc *v, const struct port *p, bool add, struct err *e)
{
    _cleanup_(buf_free) struct buf b = BUF(KIB(64));

    buf_printf(&b, "%s element bridge brume owners { ", add ? "add" : "delete");
    put_owner(&b, p);
    buf_puts(&b, " }\n");
    if (p->n_publish) {
        buf_printf(&b, "%s element ip brume ports { ", add ? "add" : "delete");
        put_published(&b, p, add);
        buf_puts(&b, " }\n");
    }
    if (!b.failed && nft_run(v->nft, buf_cstr(&b), e) == 0)
        return 0;
    return rules_rebuild(v, false, e);
}

/* ---- the namespace ---- */

/* Runs inside. */
static int switches(void *ctx _unused_, struct err *e)
{
    /* clang-format off */
    static const struct { const char *path, *value; bool always; } list[] = {
        { "/proc/sys/net/ipv4/conf/all/send_redirects",       "0", true  },
        { "/proc/sys/net/ipv4/conf/default/send_redirects",   "0", true  },
        { "/proc/sys/net/ipv4/ip_forward",                    "1", true  },
        { "/proc/sys/net/ipv6/conf/all/disable_ipv6",         "1", false },
        { "/proc/sys/net/ipv6/conf/default/disable_ipv6",     "1", false },
        { "/proc/sys/net/bridge/bridge-nf-call-iptables",     "0", false },
        { "/proc/sys/net/bridge/bridge-nf-call-ip6tables",    "0", false },
        { "/proc/sys/net/bridge/bridge-nf-call-arptables",    "0", false },
    };
    /* clang-format on */

    for (size_t i = 0; i < ARRAY_LEN(list); i++)
        if (list[i].always || access(list[i].path, W_OK) == 0)
            TRY(file_poke(list[i].path, list[i].value, e));
    return 0;
}

static void bridge_mac(const struct vpc *v, uint8_t mac[6])
{
    mac[0] = 0x02;
    mac[1] = 0x63;
    memcpy(mac + 2, v->inner.b, 4);
}

/* Addresses of the bridge that the port needs and no port before 'end' has: its gateway and its
 * DNS.
 */
static void addresses(struct nl *nl, const struct vpc *v, const struct port *p,
                      const struct port *end, bool add)
{
    bool gateway = true, dns = p->dns.family != 0;

    for (const struct port *o = v->ports; o != end; o = o->next) {
        if (memcmp(o->gateway.b, p->gateway.b, 4) == 0 && o->subnet.bits == p->subnet.bits)
            gateway = false;
        if (o->dns.family && memcmp(o->dns.b, p->dns.b, 4) == 0)
            dns = false;
    }
    if (gateway && add)
        nl_addr(nl, v->bridge, &p->gateway, p->subnet.bits, EEXIST);
    else if (gateway)
        nl_addr_del(nl, v->bridge, &p->gateway, p->subnet.bits, EADDRNOTAVAIL);
    if (dns && add)
        nl_addr(nl, v->bridge, &p->dns, 32, EEXIST);
    else if (dns)
        nl_addr_del(nl, v->bridge, &p->dns, 32, EADDRNOTAVAIL);
}

/* Bridge and uplink, where they are missing. */
static int links_make(struct host *h, struct vpc *v, bool fresh, struct err *e)
{
    _cleanup_(nl_closep) struct nl *nl = nl_open(v->ns_fd, e);
    struct nl_end inner = { .name = UPLINK, .ns_fd = -1, .index = UPLINK_INDEX };
    struct nl_end outer = { .name = v->uplink, .ns_fd = h->ns_fd };
    struct nl_link l;
    uint8_t mac[6];
    struct err absent;

    if (!nl)
        return -1;
    /* One of a namespace that died a moment ago may still be there. */
    if (fresh && nl_link_get(h->nl, v->uplink, &l, &absent) == 0) {
        nl_link_del(h->nl, v->uplink, ENODEV);
        TRY(nl_commit(h->nl, "remove an old uplink", e));
    }
    bridge_mac(v, mac);
    nl_bridge(nl, BRIDGE, mac, h->mtu, EEXIST);
    nl_link_up(nl, BRIDGE);
    nl_link_up(nl, "lo");
    if (fresh || nl_link_get(h->nl, v->uplink, &l, &absent) < 0)
        nl_veth(nl, &inner, &outer, h->mtu, 0);
    TRY(nl_commit(nl, "make a network's links", e));
    TRY(host_uplink(h, v, e));
    TRY(nl_link_get(nl, UPLINK, &l, e));
    nl_addr(nl, l.index, &v->inner, 31, EEXIST);
    nl_link_up(nl, UPLINK);
    nl_default_route(nl, l.index, &v->host, EEXIST);
    TRY(nl_commit(nl, "bring up a network's uplink", e));
    TRY(nl_link_wait(h->nl, v->uplink, CARRIER_PATIENCE, e));
    TRY(nl_link_get(nl, BRIDGE, &l, e));
    v->bridge = l.index;
    /* A subnet's ports share them; of however many subnets there are, no batch has too many. */
    for (const struct port *p = v->ports; p; p = p->next) {
        addresses(nl, v, p, p, true);
        TRY(nl_commit(nl, "set a network's own addresses", e));
    }
    return 0;
}

int vpc_open(struct vpc *v, struct err *e)
{
    v->ns_fd = ns_open(v->ns_name, e);
    return v->ns_fd < 0 ? -1 : 0;
}

int vpc_make(struct host *h, struct vpc *v, struct err *e)
{
    bool fresh = false;

    if (v->ns_fd < 0)
        v->ns_fd = ns_make(v->ns_name, &fresh, e);
    TRY(v->ns_fd);
    TRY(ns_call(v->ns_fd, switches, NULL, e));
    if (!v->nft && !(v->nft = nft_open(v->ns_fd, e)))
        return -1;
    /* Rules first: nothing is ever reachable without them. */
    TRY(rules_rebuild(v, fresh, e));
    return links_make(h, v, fresh, e);
}

int vpc_remove(struct host *h, struct vpc *v, struct err *e)
{
    nl_link_del(h->nl, v->uplink, ENODEV);
    TRY(nl_commit(h->nl, "remove an uplink", e));
    return ns_remove(v->ns_name, e);
}

/* ---- ports ---- */

static int inside(const struct port *p, int netns_fd, struct err *e)
{
    _cleanup_(nl_closep) struct nl *nl = nl_open(netns_fd, e);
    struct nl_link l;

    if (!nl)
        return -1;
    TRY(nl_link_get(nl, "eth0", &l, e));
    nl_link_up(nl, "lo");
    nl_addr(nl, l.index, &p->ip, p->subnet.bits, 0);
    nl_link_up(nl, "eth0");
    nl_default_route(nl, l.index, &p->gateway, 0);
    if (p->mbps)
        nl_shape(nl, l.index, p->mbps * 1000000);
    TRY(nl_commit(nl, "set up an instance's interface", e));
    return nl_link_wait(nl, "eth0", CARRIER_PATIENCE, e);
}

int port_make(struct host *h, struct vpc *v, const struct port *p, int netns_fd, struct err *e)
{
    _cleanup_(nl_closep) struct nl *nl = nl_open(v->ns_fd, e);
    struct nl_end here = { .name = p->link, .ns_fd = -1, .master = v->bridge };
    struct nl_end there = { .name = "eth0", .ns_fd = netns_fd, .mac = p->mac };
    struct nl_link l;

    if (!nl)
        return -1;
    TRY(rules_change(v, p, true, e));
    addresses(nl, v, p, v->ports, true); /* also where they should be there already */
    nl_veth(nl, &here, &there, h->mtu, 0);
    nl_link_up(nl, p->link);
    TRY(nl_commit(nl, "make an instance's interface", e));
    if (p->mbps) {
        TRY(nl_link_get(nl, p->link, &l, e));
        nl_shape(nl, l.index, p->mbps * 1000000);
        TRY(nl_commit(nl, "shape an instance's interface", e));
    }
    TRY(inside(p, netns_fd, e));
    /* All are up; nothing passes before the kernel has noticed. */
    TRY(nl_link_wait(nl, p->link, CARRIER_PATIENCE, e));
    return nl_link_wait(nl, BRIDGE, CARRIER_PATIENCE, e);
}

int port_remove(struct vpc *v, const struct port *p, struct err *e)
{
    _cleanup_(nl_closep) struct nl *nl = nl_open(v->ns_fd, e);

    if (!nl)
        return -1;
    addresses(nl, v, p, NULL, false);
    nl_link_del(nl, p->link, ENODEV);
    TRY(nl_commit(nl, "remove an instance's interface", e));
    return rules_change(v, p, false, e);
}

static bool to_uplink(const struct conntrack_flow *f, void *ctx)
{
    const struct ip *inner = ctx;

    return memcmp(f->dst.b, inner->b, 4) == 0;
}

int vpc_forget_flows(const struct vpc *v, const struct port *p, struct err *e)
{
    uint16_t udp[NET_PUBLISH_MAX];
    size_t n = state_udp_ports(p, udp);
    struct ip inner = v->inner;

    return v->ns_fd < 0 ? 0 : conntrack_forget_udp(v->ns_fd, udp, n, to_uplink, &inner, e);
}

bool port_is_in(const struct port *p, int netns_fd)
{
    struct nl_link l;
    struct err e;
    _cleanup_(nl_closep) struct nl *nl = nl_open(netns_fd, &e);

    return nl && nl_link_get(nl, "eth0", &l, &e) == 0 && memcmp(l.mac, p->mac, 6) == 0 && l.up;
}

int vpc_check(struct vpc *v, const char *installation, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(32));
    _cleanup_(nl_closep) struct nl *nl = nl_open(v->ns_fd, e);
    struct nl_link *links;
    char prefix[8];
    size_t n;

    if (!nl)
        return -1;
    snprintf(prefix, sizeof(prefix), "v%.4s", installation);
    TRY(nl_link_list(nl, &a, prefix, &links, &n, e));
    for (struct port *p = v->ports; p; p = p->next) {
        size_t i = 0;
        while (i < n && strcmp(links[i].name, p->link) != 0)
            i++;
        if (i == n)
            p->down = true;
        else
            links[i].name[0] = '\0'; /* wanted */
    }
    for (size_t i = 0; i < n; i++)
        if (*links[i].name) {
            nl_link_del(nl, links[i].name, ENODEV);
            TRY(nl_commit(nl, "remove a stray interface", e));
        }
    return 0;
}
