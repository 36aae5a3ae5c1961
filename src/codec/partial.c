/* SPDX-License-Identifier: Apache-2.0 */
/* Conditions and ranges.  Hides their order and their three forms of a date. */
#include <time.h>

#include "codec/negotiate.h"
#include "codec/partial.h"

/* ---- dates */

static const char days[][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
static const char *const long_days[] = { "Sunday",   "Monday", "Tuesday", "Wednesday",
                                         "Thursday", "Friday", "Saturday" };
static const char months[][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                  "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

static bool take(struct str *s, const char *text)
{
    size_t n = strlen(text);

    if (s->n < n || memcmp(s->p, text, n) != 0)
        return false;
    s->p += n;
    s->n -= n;
    return true;
}

static bool take_digits(struct str *s, size_t n, int *out)
{
    int v = 0;

    if (s->n < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (s->p[i] < '0' || s->p[i] > '9')
            return false;
        v = v * 10 + (s->p[i] - '0');
    }
    s->p += n;
    s->n -= n;
    *out = v;
    return true;
}

static bool take_month(struct str *s, struct tm *tm)
{
    for (int i = 0; i < (int)ARRAY_LEN(months); i++)
        if (take(s, months[i])) {
            tm->tm_mon = i;
            return true;
        }
    return false;
}

static bool take_time(struct str *s, struct tm *tm)
{
    return take_digits(s, 2, &tm->tm_hour) && take(s, ":") && take_digits(s, 2, &tm->tm_min) &&
           take(s, ":") && take_digits(s, 2, &tm->tm_sec);
}

/* " Nov  6 08:49:37 1994" */
static bool asctime_rest(struct str s, struct tm *tm, int *year)
{
    if (!take(&s, " ") || !take_month(&s, tm) || !take(&s, " "))
        return false;
    bool day = take(&s, " ") ? take_digits(&s, 1, &tm->tm_mday) : take_digits(&s, 2, &tm->tm_mday);
    return day && take(&s, " ") && take_time(&s, tm) && take(&s, " ") && take_digits(&s, 4, year) &&
           s.n == 0;
}

/* ", 06 Nov 1994 08:49:37 GMT" */
static bool fixdate_rest(struct str s, struct tm *tm, int *year)
{
    return take(&s, ", ") && take_digits(&s, 2, &tm->tm_mday) && take(&s, " ") &&
           take_month(&s, tm) && take(&s, " ") && take_digits(&s, 4, year) && take(&s, " ") &&
           take_time(&s, tm) && take(&s, " GMT") && s.n == 0;
}

static int year_of(int two, int64_t now)
{
    time_t at = (time_t)now;
    struct tm tm;

    if (!gmtime_r(&at, &tm))
        return 1900 + two;
    int last = tm.tm_year + 1900 + 50, year = last - last % 100 + two;
    return year > last ? year - 100 : year;
}

/* ", 06-Nov-94 08:49:37 GMT" */
static bool rfc850_rest(struct str s, struct tm *tm, int64_t now, int *year)
{
    if (!take(&s, ", ") || !take_digits(&s, 2, &tm->tm_mday) || !take(&s, "-") ||
        !take_month(&s, tm) || !take(&s, "-") || !take_digits(&s, 2, year) || !take(&s, " ") ||
        !take_time(&s, tm) || !take(&s, " GMT") || s.n != 0)
        return false;
    *year = year_of(*year, now);
    return true;
}

static bool read_date(struct str s, int64_t now, struct tm *tm, int *year)
{
    for (size_t i = 0; i < ARRAY_LEN(days); i++) {
        struct str rest = s;

        if (take(&rest, long_days[i]))
            return rfc850_rest(rest, tm, now, year);
        if (take(&rest, days[i]))
            return fixdate_rest(rest, tm, year) || asctime_rest(rest, tm, year);
    }
    return false;
}

bool http_date_parse(struct str s, int64_t now, int64_t *seconds)
{
    struct tm tm = { 0 };
    int year;

    if (!read_date(s, now, &tm, &year))
        return false;
    tm.tm_year = year - 1900;
    struct tm asked = tm;
    time_t at = timegm(&tm);
    /* A day or an hour that there is not became another; a leap second is the next one. */
    if (asked.tm_sec > 60 || asked.tm_mday == 0 ||
        (asked.tm_sec < 60 &&
         (tm.tm_mday != asked.tm_mday || tm.tm_hour != asked.tm_hour || tm.tm_min != asked.tm_min)))
        return false;
    *seconds = at;
    return true;
}

void http_date_format(int64_t seconds, char out[HTTP_DATE])
{
    time_t at = (time_t)seconds;
    struct tm tm;

    char day[12], hour[13];

    if (!gmtime_r(&at, &tm) || tm.tm_year < -1900 || tm.tm_year > 8099) {
        snprintf(out, HTTP_DATE, "Thu, 01 Jan 1970 00:00:00 GMT");
        return;
    }
    /* strftime() leaves out the zeros of an early year. */
    strftime(day, sizeof(day), "%a, %d %b", &tm);
    strftime(hour, sizeof(hour), "%H:%M:%S GMT", &tm);
    snprintf(out, HTTP_DATE, "%s %04u %s", day, (unsigned)(tm.tm_year + 1900) % 10000, hour);
}

/* ---- ranges */

static void skip_ows(struct str *s)
{
    while (s->n && (*s->p == ' ' || *s->p == '\t')) {
        s->p++;
        s->n--;
    }
}

/* 1*DIGIT; what is beyond any size is INT64_MAX. */
static bool take_position(struct str *s, int64_t *out)
{
    int64_t v = 0;
    size_t n = 0;

    for (; n < s->n && s->p[n] >= '0' && s->p[n] <= '9'; n++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, s->p[n] - '0', &v))
            v = INT64_MAX / 10; /* whatever follows overflows again */
    s->p += n;
    s->n -= n;
    *out = v;
    return n > 0;
}

struct range {
    int64_t first, last; /* first -1: the last 'last' bytes */
};

static bool take_range(struct str *s, struct range *out)
{
    out->first = -1;
    out->last = INT64_MAX;
    if (take(s, "-"))
        return take_position(s, &out->last);
    if (!take_position(s, &out->first) || !take(s, "-"))
        return false;
    return !(s->n && *s->p >= '0' && *s->p <= '9') ||
           (take_position(s, &out->last) && out->last >= out->first);
}

/* "bytes=" 1#range (RFC 9110 5.6.1: empty elements are none).  How many, 0 where it is malformed.
 */
static size_t take_ranges(struct str s, struct range *out)
{
    static const char unit[] = "bytes=";
    size_t n = 0;

    if (s.n < sizeof(unit) - 1 || strncasecmp(s.p, unit, sizeof(unit) - 1) != 0)
        return 0;
    s.p += sizeof(unit) - 1;
    s.n -= sizeof(unit) - 1;
    for (;;) {
        skip_ows(&s);
        if (s.n && *s.p != ',') {
            if (!take_range(&s, out))
                return 0;
            n++;
            skip_ows(&s);
        }
        if (s.n == 0)
            return n;
        if (!take(&s, ","))
            return 0;
    }
}

enum range_kind range_read(struct str value, int64_t size, int64_t *first, int64_t *n)
{
    struct range r;

    if (take_ranges(value, &r) != 1)
        return RANGE_WHOLE;
    if (r.first < 0 && r.last > 0 && size == 0)
        return RANGE_WHOLE; /* the last bytes of nothing are all of it */
    if (r.first < 0 && r.last == 0)
        return RANGE_NOWHERE;
    if (r.first >= size)
        return RANGE_NOWHERE;
    *first = r.first >= 0 ? r.first : size - MIN(r.last, size);
    *n = r.first >= 0 && r.last < size ? r.last - *first + 1 : size - *first;
    return RANGE_ONE;
}

/* ---- conditions */

static bool tag_listed(struct str list, const char *etag, bool strong)
{
    struct str own = str_of(etag);
    struct etag want, t;

    if (etag_any(list))
        return true;
    if (!etag_next(&own, &want))
        return false;
    while (etag_next(&list, &t))
        if (str_eq(t.opaque, want.opaque) && !(strong && t.weak))
            return true;
    return false;
}

/* 13.1.5: exactly this state.  A date is exact once its second is over. */
static bool range_still(struct str value, const struct validators *v, int64_t now)
{
    struct str own = str_of(v->etag);
    struct etag want, t;
    int64_t at;

    if (etag_next(&value, &t))
        return !t.weak && value.n == 0 && etag_next(&own, &want) && str_eq(t.opaque, want.opaque);
    return http_date_parse(value, now, &at) && at == v->modified && now > at;
}

/* Steps 1 to 4: 0, 304 or 412. */
static int refused(const struct conditions *c, const struct validators *v, int64_t now)
{
    int64_t at;

    if (c->if_match.p) {
        if (!tag_listed(c->if_match, v->etag, true))
            return 412;
    } else if (c->if_unmodified_since.p && http_date_parse(c->if_unmodified_since, now, &at) &&
               v->modified > at) {
        return 412;
    }
    if (c->if_none_match.p)
        return tag_listed(c->if_none_match, v->etag, false) ? 304 : 0;
    if (c->if_modified_since.p && http_date_parse(c->if_modified_since, now, &at) &&
        v->modified <= at)
        return 304;
    return 0;
}

void partial_of(const struct conditions *c, const struct validators *v, int64_t now,
                struct partial *out)
{
    struct partial p = { .status = refused(c, v, now) };

    if (p.status) {
        *out = p;
        return;
    }
    enum range_kind kind = RANGE_WHOLE;
    if (c->range.p && (!c->if_range.p || range_still(c->if_range, v, now)))
        kind = range_read(c->range, v->size, &p.first, &p.n);
    p.status = kind == RANGE_ONE ? 206 : kind == RANGE_NOWHERE ? 416 : 200;
    if (kind == RANGE_WHOLE) {
        p.first = 0;
        p.n = v->size;
    }
    *out = p;
}
