/* SPDX-License-Identifier: Apache-2.0 */
/* Reads chunked bodies (RFC 9112 7.1), a byte at a time but for the data.  Hides their grammar, and
 * which fields a trailer may not hold. */
#include "codec/http1.h"

#include "codec/http1_bytes.h"

enum { MAX_SIZE_LINE = 1024, MAX_TRAILERS = 8192, MAX_SIZE_DIGITS = 15 };
enum chunk_state {
    CHUNK_SIZE, /* hex digits; 'line' counts them */
    EXT_SPACE,  /* space that a ';' must follow */
    EXT_NAME_START,
    EXT_NAME,
    EXT_NAME_SPACE, /* behind a name */
    EXT_VALUE_START,
    EXT_TOKEN,
    EXT_QUOTED,
    EXT_ESCAPED, /* in it, behind a backslash */
    EXT_QUOTED_END,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    TRAILER_START,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    TRAILER_END_LF,
    CHUNK_END,
    TRAILER_REFUSED, /* its name */
};

/* What decides of a message before its body is read, so comes too late behind it. */
static const char *const no_trailers[] = {
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "max-forwards",
    "proxy-authorization",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
};

/* What may stand behind a size or behind an extension that is whole. */
static bool after_extension(struct http1_chunked *c, char b)
{
    if (b == ';')
        c->state = EXT_NAME_START;
    else if (b == ' ' || b == '\t')
        c->state = EXT_SPACE;
    else if (b == '\r')
        c->state = CHUNK_SIZE_LF;
    else
        return false;
    return true;
}

/* *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] ): one byte of it. */
static bool extension_byte(struct http1_chunked *c, char b)
{
    bool space = b == ' ' || b == '\t', token = is(b, TOKEN);

    switch (c->state) {
    case EXT_SPACE:
        return space || (b == ';' && after_extension(c, b));
    case EXT_NAME_START:
        c->state = token ? EXT_NAME : EXT_NAME_START;
        return token || space;
    case EXT_NAME:
        if (token)
            return true;
        c->state = b == '=' ? EXT_VALUE_START : EXT_NAME_SPACE;
        return b == '=' || space || after_extension(c, b);
    case EXT_NAME_SPACE:
        if (b == '=')
            c->state = EXT_VALUE_START;
        return b == '=' || space || (b == ';' && after_extension(c, b));
    case EXT_VALUE_START:
        if (token || b == '"')
            c->state = token ? EXT_TOKEN : EXT_QUOTED;
        return token || b == '"' || space;
    case EXT_TOKEN:
        return token || after_extension(c, b);
    case EXT_QUOTED:
        if (b == '"' || b == '\\')
            c->state = b == '"' ? EXT_QUOTED_END : EXT_ESCAPED;
        return is(b, VALUE);
    case EXT_ESCAPED:
        c->state = EXT_QUOTED;
        return is(b, VALUE);
    default:
        return after_extension(c, b);
    }
}

/* One byte of a size line; false if it may not stand there. */
static bool size_byte(struct http1_chunked *c, char b)
{
    int digit = hex_value(b);

    if (c->state == CHUNK_SIZE_LF) {
        c->state = c->left ? CHUNK_DATA : TRAILER_START;
        c->line = 0;
        return b == '\n';
    }
    c->line++;
    if (c->state != CHUNK_SIZE)
        return c->line <= MAX_SIZE_LINE && extension_byte(c, b);
    if (digit >= 0) {
        c->left = c->left * 16 + (uint64_t)digit;
        return c->line <= MAX_SIZE_DIGITS;
    }
    return c->line > 1 && after_extension(c, b);
}

static void name_byte(struct http1_chunked *c, char b)
{
    if (c->name_n < sizeof(c->name))
        c->name[c->name_n] = b >= 'A' && b <= 'Z' ? (char)(b + ('a' - 'A')) : b;
    if (c->name_n <= sizeof(c->name))
        c->name_n++;
}

static bool name_ok(const struct http1_chunked *c)
{
    for (size_t i = 0; i < ARRAY_LEN(no_trailers); i++)
        if (strlen(no_trailers[i]) == c->name_n && memcmp(no_trailers[i], c->name, c->name_n) == 0)
            return false;
    return true;
}

/* One byte of the trailer section; false if it may not stand there. */
static bool trailer_byte(struct http1_chunked *c, char b)
{
    if (++c->line > MAX_TRAILERS)
        return false;
    switch (c->state) {
    case TRAILER_START:
        c->state = b == '\r' ? TRAILER_END_LF : TRAILER_NAME;
        c->name_n = 0;
        name_byte(c, b);
        return b == '\r' || is(b, TOKEN);
    case TRAILER_NAME:
        if (b == ':') {
            c->state = name_ok(c) ? TRAILER_VALUE : TRAILER_REFUSED;
            return c->state == TRAILER_VALUE;
        }
        name_byte(c, b);
        return is(b, TOKEN);
    case TRAILER_VALUE:
        if (b == '\r')
            c->state = TRAILER_LF;
        return b == '\r' || is(b, VALUE);
    case TRAILER_LF:
        c->state = TRAILER_START;
        return b == '\n';
    default:
        c->state = CHUNK_END;
        return b == '\n';
    }
}

static bool framing_byte(struct http1_chunked *c, char b)
{
    if (c->state <= CHUNK_SIZE_LF)
        return size_byte(c, b);
    if (c->state >= TRAILER_START)
        return trailer_byte(c, b);
    if (c->state == CHUNK_DATA_CR) {
        c->state = CHUNK_DATA_LF;
        return b == '\r';
    }
    c->state = CHUNK_SIZE;
    c->line = 0;
    return b == '\n';
}

enum http1_result http1_chunked(struct http1_chunked *c, struct str in, size_t *used,
                                struct str *data, struct err *e)
{
    size_t at = 0;

    *used = 0;
    *data = (struct str){ in.p, 0 };
    while (c->state != CHUNK_END && at < in.n) {
        if (c->state == CHUNK_DATA) {
            size_t n = (size_t)MIN((uint64_t)(in.n - at), c->left);

            *data = (struct str){ in.p + at, n };
            *used = at + n;
            c->left -= n;
            if (c->left == 0)
                c->state = CHUNK_DATA_CR;
            return HTTP1_MORE;
        }
        if (!framing_byte(c, in.p[at++])) {
            err_set(e, ERR_INVALID,
                    c->state == TRAILER_REFUSED ? "a trailer holds a field of the head"
                                                : "the chunked body is malformed");
            return HTTP1_BAD;
        }
    }
    *used = at;
    return c->state == CHUNK_END ? HTTP1_OK : HTTP1_MORE;
}
