/* SPDX-License-Identifier: Apache-2.0 */
/* Orders that do something inside of an instance: commands and probes. */
#include "drivers/compute/remote_call.h"

struct ran {
    struct arena *a;
    struct compute_exec_result *out;
    struct buf text[2];
};

static int take_output(void *ctx, const struct json_value *json, struct str bytes,
                       _unused_ struct err *e)
{
    struct ran *r = ctx;

    if (json) {
        r->out->exit_code = json_get_int(json, "exit_code", -1);
        r->out->timed_out = json_get_bool(json, "timed_out", false);
        r->out->out_cut = json_get_bool(json, "out_cut", false);
        r->out->err_cut = json_get_bool(json, "err_cut", false);
        r->out->cwd_fault = json_get_str(r->a, json, "cwd_fault", NULL);
    } else if (bytes.n > 1) {
        buf_put(&r->text[bytes.p[0] == 2], bytes.p + 1, bytes.n - 1);
    }
    return 0;
}

struct input {
    struct str left;
};

static ssize_t read_input(void *ctx, void *p, size_t n, _unused_ struct err *e)
{
    struct input *in = ctx;
    size_t part = MIN(n, in->left.n);

    if (part)
        memcpy(p, in->left.p, part);
    in->left.p += part;
    in->left.n -= part;
    return (ssize_t)part;
}

int remote_exec(struct compute *h, struct arena *a, const struct uuid *id,
                const struct compute_exec *x, struct compute_exec_result *out, struct err *e)
{
    int64_t timeout = (x->timeout ? x->timeout : SECONDS(60)) + SECONDS(15);
    struct buf b = BUF(FRAME_MAX);
    struct json_out o = remote_begin(&b, "exec", timeout);
    struct compute_exec_result result = { 0 };
    struct ran ran = { .a = a, .out = &result, .text = { BUF(MIB(1) + 1), BUF(MIB(1) + 1) } };
    struct input in = { x->input };
    struct remote_order order = { .json = &b,
                                  .timeout = timeout,
                                  .read = read_input,
                                  .read_ctx = &in,
                                  .answer = take_output,
                                  .ctx = &ran,
                                  .gone = x->gone,
                                  .gone_ctx = x->gone_ctx };

    json_kstr(&o, "id", id->s);
    json_kstr(&o, "cmd", x->cmd);
    json_kstr(&o, "env", x->env);
    json_kstr(&o, "cwd", x->cwd);
    json_kint(&o, "timeout", x->timeout);
    json_kbool(&o, "kill_background", x->kill_background);
    json_close(&o);
    int r = json_done(&o) < 0 ? err_set(e, ERR_TOO_LARGE, "the command is too large")
                              : remote_do(h, &order, e);
    if (r == 0) {
        result.out =
            (struct str){ arena_dup(a, buf_cstr(&ran.text[0]), ran.text[0].n), ran.text[0].n };
        result.err =
            (struct str){ arena_dup(a, buf_cstr(&ran.text[1]), ran.text[1].n), ran.text[1].n };
        *out = result;
    }
    buf_free(&b);
    buf_free(&ran.text[0]);
    buf_free(&ran.text[1]);
    return r;
}

struct probed {
    struct arena *a;
    const char *fault;
    bool told;
};

static int take_probed(void *ctx, const struct json_value *json, _unused_ struct str bytes,
                       struct err *e)
{
    struct probed *p = ctx;

    if (!json)
        return err_set(e, ERR_ENGINE_UNAVAILABLE, "the agent's answer is malformed");
    p->told = true;
    p->fault = json_get_str(p->a, json, "fault", NULL);
    return 0;
}

int remote_probe(struct compute *h, struct arena *a, const struct uuid *id,
                 const struct compute_probe *p, const char **fault, struct err *e)
{
    int64_t timeout = p->timeout + SECONDS(15);
    struct buf b = BUF(KIB(16));
    struct json_out o = remote_begin(&b, "probe", timeout);
    struct probed got = { .a = a };
    struct remote_order order = {
        .json = &b, .timeout = timeout, .needs = PROTOCOL_FILES, .answer = take_probed, .ctx = &got
    };

    json_kstr(&o, "id", id->s);
    json_kstr(&o, "kind", enum_to_str(compute_probe_names, (int)p->kind));
    json_kint(&o, "port", p->port);
    json_kstr(&o, "path", p->path);
    json_kint(&o, "timeout", p->timeout);
    json_close(&o);
    int r = json_done(&o) < 0 ? err_set(e, ERR_TOO_LARGE, "the order is too large")
                              : remote_do(h, &order, e);
    buf_free(&b);
    if (r == 0 && !got.told)
        r = err_set(e, ERR_ENGINE_UNAVAILABLE, "the agent's answer is malformed");
    if (r == 0)
        *fault = got.fault;
    return r;
}
