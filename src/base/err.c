/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base.h"
#include "base/put.h"

static const struct {
    int status;
    const char *wire;
    bool retry;
    const char *doc;
} codes[] = { [ERR_NONE] = { 200, "ok", false, "" },
#define X(sym, status, wire, retry, doc) [ERR_##sym] = { status, wire, retry, doc },
              ERR_CODES(X)
#undef X
};

/* A message may go into a row: a character that was cut is none. */
__attribute__((format(printf, 2, 0))) static void fill_message(struct err *e, const char *fmt,
                                                               va_list ap)
{
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    utf8_mend(e->msg);
}

void err_fill(struct err *e, enum err_code code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    e->code = code;
    e->cause[0] = '\0';
    fill_message(e, fmt, ap);
    va_end(ap);
}

void err_fill_cause(struct err *e, enum err_code code, const char *cause, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    e->code = code;
    fill_message(e, fmt, ap);
    va_end(ap);
    snprintf(e->cause, sizeof(e->cause), "%s", cause ? cause : "");
}

void err_fill_sys(struct err *e, int errnum, const char *fmt, ...)
{
    char what[100];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    bool full = errnum == ENOSPC || errnum == EDQUOT;
    e->code = full ? ERR_NO_SPACE : ERR_INTERNAL;
    snprintf(e->msg, sizeof(e->msg), full ? "the host's disk is full" : "internal error");
    snprintf(e->cause, sizeof(e->cause), "%s: %s", what, strerrordesc_np(errnum));
}

int err_status(enum err_code code)
{
    return codes[code].status;
}

const char *err_wire(enum err_code code)
{
    return codes[code].wire;
}

bool err_retry(enum err_code code)
{
    return codes[code].retry;
}

const char *err_doc(enum err_code code)
{
    return codes[code].doc;
}

enum err_code err_from_wire(const char *wire)
{
    for (size_t i = 1; wire && i < ARRAY_LEN(codes); i++)
        if (strcmp(codes[i].wire, wire) == 0)
            return (enum err_code)i;
    return ERR_INTERNAL;
}
