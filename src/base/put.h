/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Numbers, times and characters into memory the caller has: what log lines, JSON and metrics share.
 * None of them ends with a NUL. */

#include "base/base.h"

enum { PUT_INT_MAX = 20, PUT_TIME_LEN = 24, PUT_MICRO_MAX = 22 };

/* Decimal; returns the bytes written, at most PUT_INT_MAX. */
size_t put_int(char *p, int64_t v);
/* Millionths as a decimal number without needless zeros: 20000 → 0.02; at most PUT_MICRO_MAX. */
size_t put_micro(char *p, int64_t millionths);
/* "2026-01-05T23:00:00.000Z": PUT_TIME_LEN bytes.  Years are held within 0–9999. */
void put_time(char *p, int64_t micros);

/* Days since 1970-01-01 of a Gregorian date; 'month' and 'day' count from 1. */
int64_t days_of_date(int64_t year, int month, int day);

/* Bytes of the well-formed UTF-8 character at 'p' (1–4), or 0 if the first of 'n' bytes starts
 * none. */
size_t utf8_char(const char *p, size_t n);
/* Bytes of well-formed text of 'n' bytes that fit into 'max' and end with a whole character. */
size_t utf8_cut(const char *p, size_t n, size_t max);
/* Takes out of 's' what is no whole character: text that printf() has cut. */
void utf8_mend(char *s);
