/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Structured log on standard error: one line an event, JSON or text.
 *
 *     log_event(LOG_INFO, "request_failed", L_STR("code", wire), L_INT("status", 409));
 *
 * A value is escaped, so no input can forge a line.  A line is written by one write(2), at once
 * unless its thread gathers.  Secrets
 * are never given to it; as a second net, what looks like one of our credentials (thecloud_,
 * sk_live_, sk_test_, cap_, whsec_) is cut to its prefix. */

#include "base/base.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log_field {
    const char *key;
    enum { LOG_STRING, LOG_NUMBER, LOG_REAL } type;
    const char *s;
    int64_t i;
    double d;
};
#define L_STR(k, v)  ((struct log_field){ .key = (k), .type = LOG_STRING, .s = (v) })
#define L_INT(k, v)  ((struct log_field){ .key = (k), .type = LOG_NUMBER, .i = (int64_t)(v) })
#define L_REAL(k, v) ((struct log_field){ .key = (k), .type = LOG_REAL, .d = (v) })

/* Lines below 'level' are dropped; 'role' stands in each line. Called once, before threads. */
void log_init(enum log_level level, bool json, const char *role);
/* The same level for all, at once; any thread at any time. */
void log_set_level(enum log_level level);
bool log_on(enum log_level level);
void log_fields(enum log_level level, const char *event, const struct log_field *f, size_t n);
#define log_event(level, event, ...)                                                \
    do {                                                                            \
        if (log_on(level))                                                          \
            log_fields((level), (event), (const struct log_field[]){ __VA_ARGS__ }, \
                       sizeof((const struct log_field[]){ __VA_ARGS__ }) /          \
                           sizeof(struct log_field));                               \
    } while (0)
/* From now on this thread's lines below LOG_WARN wait, at most PIPE_BUF bytes of them, until
 * log_flush(), which a thread that gathers calls whenever it is about to sleep, and before it
 * ends.  A process that is killed loses what waits. */
void log_gather(void);
void log_flush(void);
/* An error that nobody above will report. */
void log_err(enum log_level level, const char *event, const struct err *e);
