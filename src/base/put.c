/* SPDX-License-Identifier: Apache-2.0 */
/* By arithmetic and tables, for these run several times in each answer: printf costs ten times as
 * much. */
#include "base/put.h"

static const char two_digits[] = "00010203040506070809"
                                 "10111213141516171819"
                                 "20212223242526272829"
                                 "30313233343536373839"
                                 "40414243444546474849"
                                 "50515253545556575859"
                                 "60616263646566676869"
                                 "70717273747576777879"
                                 "80818283848586878889"
                                 "90919293949596979899";

static inline void put2(char *p, unsigned v)
{
    memcpy(p, two_digits + (size_t)v * 2, 2);
}

static size_t put_unsigned(char *p, uint64_t u)
{
    char tmp[PUT_INT_MAX];
    size_t at = sizeof(tmp);

    while (u >= 100) {
        at -= 2;
        put2(tmp + at, (unsigned)(u % 100));
        u /= 100;
    }
    if (u >= 10) {
        at -= 2;
        put2(tmp + at, (unsigned)u);
    } else {
        tmp[--at] = (char)('0' + u);
    }
    memcpy(p, tmp + at, sizeof(tmp) - at);
    return sizeof(tmp) - at;
}

static uint64_t magnitude(int64_t v)
{
    return v < 0 ? (uint64_t)0 - (uint64_t)v : (uint64_t)v;
}

size_t put_int(char *p, int64_t v)
{
    if (v >= 0)
        return put_unsigned(p, (uint64_t)v);
    *p = '-';
    return 1 + put_unsigned(p + 1, magnitude(v));
}

size_t put_micro(char *p, int64_t millionths)
{
    uint64_t u = magnitude(millionths);
    unsigned part = (unsigned)(u % 1000000);
    size_t n = 0;

    if (millionths < 0)
        p[n++] = '-';
    n += put_unsigned(p + n, u / 1000000);
    if (!part)
        return n;
    p[n++] = '.';
    put2(p + n, part / 10000);
    put2(p + n + 2, part / 100 % 100);
    put2(p + n + 4, part % 100);
    n += 6;
    while (p[n - 1] == '0')
        n--;
    return n;
}

int64_t days_of_date(int64_t year, int month, int day)
{
    /* The year begins in March here, so that the leap day is its last. */
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

void put_time(char *p, int64_t micros)
{
    static const int64_t first = INT64_C(-62167219200000), last = INT64_C(253402300799999);
    int64_t ms = micros / 1000 - (micros % 1000 < 0);

    ms = ms < first ? first : ms > last ? last : ms;
    uint64_t since = (uint64_t)(ms - first); /* 0000-01-01, 60 days before that year's March */
    unsigned of_day = (unsigned)(since % 86400000);
    unsigned days = (unsigned)(since / 86400000) + 146097 - 60; /* since -0400-03-01 */
    unsigned era = days / 146097, of_era = days % 146097;
    unsigned y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * y + y / 4 - y / 100);
    unsigned m = (5 * of_year + 2) / 153;
    unsigned day = of_year - (153 * m + 2) / 5 + 1;
    unsigned month = m < 10 ? m + 3 : m - 9;
    unsigned year = y + era * 400 + (month <= 2) - 400;

    put2(p, year / 100);
    put2(p + 2, year % 100);
    p[4] = '-';
    put2(p + 5, month);
    p[7] = '-';
    put2(p + 8, day);
    p[10] = 'T';
    put2(p + 11, of_day / 3600000);
    p[13] = ':';
    put2(p + 14, of_day / 60000 % 60);
    p[16] = ':';
    put2(p + 17, of_day / 1000 % 60);
    p[19] = '.';
    unsigned milli = of_day % 1000;
    p[20] = (char)('0' + milli / 100);
    put2(p + 21, milli % 100);
    p[23] = 'Z';
}

size_t utf8_char(const char *p, size_t n)
{
    unsigned char c = n ? (unsigned char)p[0] : 0xff;
    unsigned char low = 0x80, high = 0xbf; /* of the second byte */
    size_t len;

    if (c < 0x80)
        return 1;
    if (c >= 0xc2 && c <= 0xdf)
        len = 2;
    else if (c >= 0xe0 && c <= 0xef)
        len = 3;
    else if (c >= 0xf0 && c <= 0xf4)
        len = 4;
    else
        return 0;
    if (c == 0xe0)
        low = 0xa0; /* overlong */
    else if (c == 0xed)
        high = 0x9f; /* surrogates */
    else if (c == 0xf0)
        low = 0x90; /* overlong */
    else if (c == 0xf4)
        high = 0x8f; /* past U+10FFFF */
    if (n < len || (unsigned char)p[1] < low || (unsigned char)p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (((unsigned char)p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

size_t utf8_cut(const char *p, size_t n, size_t max)
{
    if (n <= max)
        return n;
    while (max && ((unsigned char)p[max] & 0xc0) == 0x80)
        max--;
    return max;
}

void utf8_mend(char *s)
{
    size_t n = strlen(s);
    char *to = s;

    for (size_t i = 0, len; i < n; i += len ? len : 1) {
        len = utf8_char(s + i, n - i);
        memmove(to, s + i, len);
        to += len;
    }
    *to = '\0';
}
