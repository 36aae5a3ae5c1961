/* SPDX-License-Identifier: Apache-2.0 */
/* Published ports, as clients write them, as rows keep them, and as hosts are told. */
#include "codec/text.h"
#include "services/compute/compute_private.h"

enum { MAX_PORTS = 10 };

struct port_map {
    int64_t host, port;
    bool udp;
};

static bool port_number(struct str s, int64_t *out)
{
    return s.n && s.p[0] != '-' && int_parse(s, 0, INT64_MAX, out);
}

/* "8080:80", "8080:80/tcp", "53:53/udp", "80" (any host port).  NULL, or what is wrong. */
static const char *port_parse(struct str s, struct port_map *out, const char **code)
{
    static const char *const form =
        "must be a port map such as 8080:80 or 53:53/udp, host port first";
    const char *slash = s.n ? memchr(s.p, '/', s.n) : NULL;
    struct str proto = STR("tcp");

    if (slash) {
        proto = (struct str){ slash + 1, s.n - (size_t)(slash + 1 - s.p) };
        s.n = (size_t)(slash - s.p);
    }
    if (!str_is(proto, "tcp") && !str_is(proto, "udp"))
        return form;
    out->udp = str_is(proto, "udp");
    const char *colon = s.n ? memchr(s.p, ':', s.n) : NULL;
    struct str port = s;
    out->host = 0;
    if (colon) {
        port = (struct str){ colon + 1, s.n - (size_t)(colon + 1 - s.p) };
        if (!port_number((struct str){ s.p, (size_t)(colon - s.p) }, &out->host))
            return form;
    }
    if (!port_number(port, &out->port))
        return form;
    if (out->host <= 65535 && out->port >= 1 && out->port <= 65535)
        return NULL;
    *code = "out_of_range";
    return "must have a host port from 0 to 65535 and a port from 1 to 65535";
}

const char *check_port(const char *key _unused_, const char *value, const char **code)
{
    struct port_map ignored;

    return port_parse(str_of(value), &ignored, code);
}

/* Reads "a,b" or ["a","b"]; NULL, or what is wrong. */
static const char *ports_read(struct arena *a, const char *json, struct port_map *out, size_t *n)
{
    struct err e;
    _cleanup_(json_freep) struct json_value *v = json_parse(str_of(json), &e);
    enum json_type type = v ? json_type_of(v) : JSON_NULL;
    struct buf text = BUF(4096);
    const char *wrong = NULL, *code;

    *n = 0;
    for (size_t i = 0; type == JSON_ARR && i < json_len(v); i++) {
        size_t len = 0;
        const char *s = json_str_of(json_at(v, i), &len);
        if (!s) {
            buf_free(&text);
            return "must be a list of texts such as \"8080:80\"";
        }
        if (i)
            buf_putc(&text, ',');
        buf_put(&text, s, len);
    }
    if (type == JSON_STR)
        buf_puts(&text, json_str_of(v, NULL));
    else if (type != JSON_ARR)
        wrong = "must be a text such as \"8080:80,53:53/udp\", or a list of them";
    const char *at = arena_strdup(a, buf_cstr(&text));
    buf_free(&text);
    for (bool more = *at != '\0'; !wrong && more; at++) {
        size_t len = strcspn(at, ",");

        if (*n == MAX_PORTS)
            wrong = "must be ten port maps at most";
        else
            wrong = port_parse((struct str){ at, len }, &out[(*n)++], &code);
        at += len;
        more = *at == ',';
    }
    return wrong;
}

const char *ports_check(struct arena *a, const char **v)
{
    struct port_map map[MAX_PORTS];
    size_t n;
    struct buf text = BUF(4096);
    const char *wrong = ports_read(a, *v, map, &n);

    if (wrong)
        return wrong;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            if (map[i].host && map[i].host == map[j].host && map[i].udp == map[j].udp)
                return "must not use a host port twice";
    buf_putc(&text, '"');
    for (size_t i = 0; i < n; i++)
        buf_printf(&text, "%s%lld:%lld%s", i ? "," : "", (long long)map[i].host,
                   (long long)map[i].port, map[i].udp ? "/udp" : "");
    buf_putc(&text, '"');
    *v = arena_strdup(a, buf_cstr(&text));
    buf_free(&text);
    return NULL;
}

#define PORT \
    "0*(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
#define PORT_MAP "((0+|" PORT "):)?" PORT "(/(tcp|udp))?"
const struct form form_ports = {
    .check = ports_check,
    .pattern = "^(" PORT_MAP "(," PORT_MAP ")*)?$",
    .schema = "{\"oneOf\":[{\"type\":\"string\",\"maxLength\":1022,\"pattern\":\"^(" PORT_MAP
              "(," PORT_MAP ")*)?$\"},{\"type\":\"array\",\"maxItems\":10,\"items\":{\"type\":"
              "\"string\",\"pattern\":\"^" PORT_MAP "$\"}},{\"type\":\"null\"}]}",
    .example = "8080:80",
};

const char *ports_for_host(struct arena *a, const char *ports)
{
    struct port_map map[MAX_PORTS];
    size_t n = 0;
    struct buf text = BUF(4096);
    struct json_out o = JSON_OUT(&text);

    if (!ports || ports_read(a, ports, map, &n))
        return NULL;
    json_open(&o, '[');
    for (size_t i = 0; i < n; i++) {
        json_open(&o, '{');
        json_kint(&o, "host", map[i].host);
        json_kint(&o, "port", map[i].port);
        json_kstr(&o, "protocol", map[i].udp ? "udp" : "tcp");
        json_close(&o);
    }
    json_close(&o);
    const char *out = arena_strdup(a, buf_cstr(&text));
    buf_free(&text);
    return out;
}

const char *ports_from_host(struct arena *a, const char *host)
{
    struct err e;
    _cleanup_(json_freep) struct json_value *v = host ? json_parse(str_of(host), &e) : NULL;
    struct buf text = BUF(4096);

    if (!v || json_type_of(v) != JSON_ARR || json_len(v) == 0)
        return NULL;
    buf_putc(&text, '"');
    for (size_t i = 0; i < json_len(v); i++) {
        const struct json_value *p = json_at(v, i);
        bool udp = strcmp(json_get_str(a, p, "protocol", "tcp"), "udp") == 0;

        buf_printf(&text, "%s%lld:%lld%s", i ? "," : "", (long long)json_get_int(p, "host", 0),
                   (long long)json_get_int(p, "port", 0), udp ? "/udp" : "");
    }
    buf_putc(&text, '"');
    const char *out = arena_strdup(a, buf_cstr(&text));
    buf_free(&text);
    return out;
}
