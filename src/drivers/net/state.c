/* SPDX-License-Identifier: Apache-2.0 */
/* Hides the form in which the networks of a host are kept: small JSON files, replaced as a whole.
 * The kernel's part goes when the machine goes down; what stays then is which published ports are
 * whose, and that is fsynced when somebody asks for it: a start does not wait for it. */
#include "drivers/net/state.h"

#include <dirent.h>
#include <sys/stat.h>

#include "base/log.h"
#include "codec/id.h"
#include "codec/json.h"
#include "os/file.h"

enum { FILE_MAX = 65536 };

/* ---- names ---- */

void state_ns_name(const char *installation, const struct uuid *vpc, char out[NET_NAME])
{
    snprintf(out, NET_NAME, "brume-%.8s-%s", installation, vpc->s + 24);
}

void state_link_name(const char *installation, char kind, const struct uuid *id, char out[NET_LINK])
{
    snprintf(out, NET_LINK, "%c%.4s%s", kind, installation, id->s + 26);
}

/* ---- finding ---- */

struct vpc *state_vpc(struct net_state *s, const struct uuid *id)
{
    for (struct vpc *v = s->vpcs; v; v = v->next)
        if (uuid_eq(&v->id, id))
            return v;
    return NULL;
}

struct port *state_port(struct net_state *s, const struct uuid *id, struct vpc **of)
{
    for (struct vpc *v = s->vpcs; v; v = v->next)
        for (struct port *p = v->ports; p; p = p->next)
            if (uuid_eq(&p->id, id)) {
                *of = v;
                return p;
            }
    return NULL;
}

struct port *state_published(struct net_state *s, int host_port, bool udp)
{
    for (struct vpc *v = s->vpcs; v; v = v->next)
        for (struct port *p = v->ports; p; p = p->next)
            for (size_t i = 0; i < p->n_publish; i++)
                if (p->publish[i].host_port == host_port && p->publish[i].udp == udp)
                    return p;
    return NULL;
}

size_t state_udp_ports(const struct port *p, uint16_t out[NET_PUBLISH_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < p->n_publish; i++)
        if (p->publish[i].udp)
            out[n++] = (uint16_t)p->publish[i].host_port;
    return n;
}

/* ---- reading what is said ---- */

static int read_ip(const char *what, const char *text, struct ip *out, struct err *e)
{
    if (!text || !ip_parse(str_of(text), out) || out->family != 4)
        return err_set(e, ERR_INVALID, "%s is no IPv4 address", what);
    return 0;
}

static int read_publish(struct port *p, const struct net_port *in, struct err *e)
{
    if (in->n_publish > NET_PUBLISH_MAX)
        return err_set(e, ERR_INVALID, "at most %d ports can be published", NET_PUBLISH_MAX);
    for (size_t i = 0; i < in->n_publish; i++) {
        const struct net_publish *one = &in->publish[i];
        if (one->port < 1 || one->port > 65535 || one->host_port < 0 || one->host_port > 65535)
            return err_set(e, ERR_INVALID, "a port is 1 to 65535");
        for (size_t j = 0; one->host_port && j < i; j++)
            if (in->publish[j].host_port == one->host_port && in->publish[j].udp == one->udp)
                return err_set(e, ERR_INVALID, "host port %d is published twice", one->host_port);
        p->publish[i] = *one;
    }
    p->n_publish = in->n_publish;
    return 0;
}

int state_read_port(struct port *p, const struct net_port *in, struct err *e)
{
    *p = (struct port){ .id = in->instance, .vpc = in->vpc, .mbps = in->mbps };
    struct uuid same;
    if (!uuid_parse(str_of(p->id.s), &same) || !uuid_parse(str_of(p->vpc.s), &same))
        return err_set(e, ERR_INVALID, "an id is malformed");
    TRY(read_ip("ip", in->ip, &p->ip, e));
    TRY(read_ip("gateway", in->gateway, &p->gateway, e));
    if (in->dns && *in->dns)
        TRY(read_ip("dns", in->dns, &p->dns, e));
    if (!in->subnet_cidr || !cidr_parse(str_of(in->subnet_cidr), true, &p->subnet) ||
        p->subnet.ip.family != 4)
        return err_set(e, ERR_INVALID, "subnet_cidr is no IPv4 prefix");
    if (!cidr_contains(&p->subnet, &p->ip) || !cidr_contains(&p->subnet, &p->gateway))
        return err_set(e, ERR_INVALID, "an address is outside of its subnet");
    if (p->mbps < 0 || p->mbps > 1000000)
        return err_set(e, ERR_INVALID, "mbps is 0 to 1000000");
    /* Locally administered, and made from the address: unique in the VPC. */
    p->mac[0] = 0x02;
    p->mac[1] = 0x62;
    memcpy(p->mac + 2, p->ip.b, 4);
    return read_publish(p, in, e);
}

/* ---- files ---- */

static void path_of(const struct net_state *s, const char *kind, const struct uuid *id,
                    char out[512])
{
    snprintf(out, 512, "%s/%s/%s", s->dir, kind, id->s);
}

static int save(const struct net_state *s, const char *kind, const struct uuid *id, struct buf *b,
                struct err *e)
{
    char path[512];

    path_of(s, kind, id, path);
    if (b->failed)
        return err_set(e, ERR_INTERNAL, "a record is too long");
    return file_write(path, b->p, b->n, 0600, e);
}

static void forget(const struct net_state *s, const char *kind, const struct uuid *id)
{
    char path[512];

    path_of(s, kind, id, path);
    unlink(path);
}

static int save_vpc(const struct net_state *s, const struct vpc *v, struct err *e)
{
    _cleanup_(buf_free) struct buf b = BUF(FILE_MAX);
    struct json_out o = JSON_OUT(&b);
    char cidr[CIDR_TEXT], host[IP_TEXT];

    cidr_format(&v->cidr, cidr);
    ip_format(&v->host, host);
    json_open(&o, '{');
    json_kstr(&o, "cidr", cidr);
    json_kstr(&o, "host", host);
    json_close(&o);
    return save(s, "vpcs", &v->id, &b, e);
}

int state_save_port(const struct net_state *s, const struct port *p, struct err *e)
{
    _cleanup_(buf_free) struct buf b = BUF(FILE_MAX);
    struct json_out o = JSON_OUT(&b);
    char text[CIDR_TEXT];

    json_open(&o, '{');
    json_kstr(&o, "vpc", p->vpc.s);
    cidr_format(&p->subnet, text);
    json_kstr(&o, "subnet", text);
    ip_format(&p->ip, text);
    json_kstr(&o, "ip", text);
    ip_format(&p->gateway, text);
    json_kstr(&o, "gateway", text);
    if (p->dns.family) {
        ip_format(&p->dns, text);
        json_kstr(&o, "dns", text);
    }
    json_kint(&o, "mbps", p->mbps);
    json_key(&o, "publish");
    json_open(&o, '[');
    for (size_t i = 0; i < p->n_publish; i++) {
        json_open(&o, '{');
        json_kint(&o, "host", p->publish[i].host_port);
        json_kint(&o, "port", p->publish[i].port);
        json_kbool(&o, "udp", p->publish[i].udp);
        json_close(&o);
    }
    json_close(&o);
    json_close(&o);
    return save(s, "ports", &p->id, &b, e);
}

/* ---- changing ---- */

static void name_vpc(const struct net_state *s, struct vpc *v)
{
    state_ns_name(s->installation, &v->id, v->ns_name);
    state_link_name(s->installation, 'u', &v->id, v->uplink);
}

int state_add_vpc(struct net_state *s, struct vpc *v, struct err *e)
{
    name_vpc(s, v);
    TRY(save_vpc(s, v, e));
    v->next = s->vpcs;
    s->vpcs = v;
    return 0;
}

void state_add_port(struct net_state *s, struct vpc *v, struct port *p)
{
    state_link_name(s->installation, 'v', &p->id, p->link);
    p->next = v->ports;
    v->ports = p;
}

void vpc_free(struct vpc *v)
{
    while (v->ports) {
        struct port *p = v->ports;
        v->ports = p->next;
        free(p);
    }
    nft_close(v->nft);
    if (v->ns_fd >= 0)
        close(v->ns_fd);
    free(v);
}

void state_take_vpc(struct net_state *s, struct vpc *v)
{
    struct vpc **at = &s->vpcs;

    while (*at != v)
        at = &(*at)->next;
    *at = v->next;
    v->next = NULL;
    forget(s, "vpcs", &v->id);
}

void state_take_port(struct net_state *s, struct vpc *v, struct port *p, bool forgotten)
{
    struct port **at = &v->ports;

    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    p->next = NULL;
    if (forgotten)
        forget(s, "ports", &p->id);
}

void state_free(struct net_state *s)
{
    while (s->vpcs) {
        struct vpc *v = s->vpcs;
        s->vpcs = v->next;
        vpc_free(v);
    }
}

int state_save_vpc(const struct net_state *s, const struct vpc *v, struct err *e)
{
    return save_vpc(s, v, e);
}

int state_sync(const struct net_state *s, const struct vpc *v, const struct port *p, struct err *e)
{
    char path[512];

    path_of(s, "vpcs", &v->id, path);
    TRY(file_sync(path, e));
    path_of(s, "ports", &p->id, path);
    return file_sync(path, e);
}

/* ---- loading ---- */

static int load_vpc(struct net_state *s, struct arena *a, const struct uuid *id,
                    const struct json_value *doc, struct err *e)
{
    struct vpc *v = calloc(1, sizeof(*v));
    const char *cidr = json_get_str(a, doc, "cidr", "");

    if (!v)
        abort();
    *v = (struct vpc){ .id = *id, .ns_fd = -1 };
    if (!cidr_parse(str_of(cidr), true, &v->cidr) ||
        read_ip("host", json_get_str(a, doc, "host", NULL), &v->host, e) < 0) {
        free(v);
        return err_set(e, ERR_INVALID, "the file of a VPC makes no sense");
    }
    v->inner = ip4_from(ip4_num(&v->host) + 1);
    name_vpc(s, v);
    v->next = s->vpcs;
    s->vpcs = v;
    return 0;
}

static int load_port(struct net_state *s, struct arena *a, const struct uuid *id,
                     const struct json_value *doc, struct err *e)
{
    const struct json_value *list = json_get(doc, "publish");
    struct net_publish publish[NET_PUBLISH_MAX];
    struct net_port in = {
        .instance = *id,
        .ip = json_get_str(a, doc, "ip", NULL),
        .gateway = json_get_str(a, doc, "gateway", NULL),
        .dns = json_get_str(a, doc, "dns", NULL),
        .subnet_cidr = json_get_str(a, doc, "subnet", NULL),
        .mbps = json_get_int(doc, "mbps", 0),
        .publish = publish,
    };
    const char *vpc = json_get_str(a, doc, "vpc", "");

    if (!uuid_parse(str_of(vpc), &in.vpc))
        return err_set(e, ERR_INVALID, "the file of a port names no VPC");
    struct vpc *v = state_vpc(s, &in.vpc);
    if (!v)
        return err_set(e, ERR_INVALID, "the file of a port names a VPC that is gone");
    for (; list && in.n_publish < json_len(list) && in.n_publish < NET_PUBLISH_MAX;
         in.n_publish++) {
        const struct json_value *one = json_at(list, in.n_publish);
        publish[in.n_publish] = (struct net_publish){
            .host_port = (int)json_get_int(one, "host", 0),
            .port = (int)json_get_int(one, "port", 0),
            .udp = json_get_bool(one, "udp", false),
        };
    }
    struct port *p = calloc(1, sizeof(*p));
    if (!p)
        abort();
    if (state_read_port(p, &in, e) < 0) {
        free(p);
        return -1;
    }
    state_add_port(s, v, p);
    return 0;
}

static int load_file(struct net_state *s, const char *kind, const struct uuid *id, struct err *e)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    char path[512];
    struct str text;

    path_of(s, kind, id, path);
    TRY(file_read(&a, path, FILE_MAX, &text, e));
    _cleanup_(json_freep) struct json_value *doc = json_parse(text, e);
    if (!doc)
        return -1;
    return strcmp(kind, "vpcs") == 0 ? load_vpc(s, &a, id, doc, e) : load_port(s, &a, id, doc, e);
}

static int load_folder(struct net_state *s, const char *kind, struct err *e)
{
    char path[512];
    struct dirent *f;
    struct uuid id;

    snprintf(path, sizeof(path), "%s/%s", s->dir, kind);
    TRY(dir_make(path, 0700, e));
    DIR *d = opendir(path);
    if (!d)
        return err_sys(e, errno, "open %s", path);
    while ((f = readdir(d))) {
        struct err why;
        if (f->d_name[0] == '.')
            continue;
        if (!uuid_parse(str_of(f->d_name), &id)) {
            unlinkat(dirfd(d), f->d_name, 0); /* what a killed writer left */
        } else if (load_file(s, kind, &id, &why) < 0) {
            log_err(LOG_WARN, "network_record_dropped", &why);
            forget(s, kind, &id);
        }
    }
    closedir(d);
    return 0;
}

int state_load(struct net_state *s, struct err *e)
{
    TRY(load_folder(s, "vpcs", e));
    return load_folder(s, "ports", e);
}
