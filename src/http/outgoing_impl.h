/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the files of the outgoing client share; for them alone. */

#include <pthread.h>

#include "base/buf.h"
#include "base/map.h"
#include "http/ask.h"
#include "http/outgoing.h"

enum { OUTGOING_ADDRESSES = 8, OUTGOING_NAME = 256 };

/* Where a URL leads. */
struct outgoing_place {
    CURLU *url;
    char host[OUTGOING_NAME]; /* in lower case, without brackets */
    struct ip ip;             /* when the host is an address */
    int port;
};
/* Owns out->url on success. */
int outgoing_read_url(const char *url, struct outgoing_place *out, struct err *e);
bool outgoing_listed(const struct ip *ip, const struct cidr *list, size_t n);
int outgoing_check_method(const char *method, struct err *e);

/* The part of the options that a transfer reads. */
struct outgoing_rules {
    struct cidr *allowed;
    size_t n_allowed;
    const char *ca_file, *user_agent;
};

/* One request on its way: what curl has of it.  No lock: made by the sender, then the thread's. */
struct transfer {
    const struct outgoing_rules *rules;
    struct outgoing_place at;
    char *method, *body;
    size_t body_n, keep;
    int64_t connect;
    struct curl_slist *headers, *resolved;
    CURL *easy;
    struct buf answer; /* its first bytes */
    size_t seen, head_size;
    int64_t retry_after;
    int opened; /* sockets to allowed addresses */
    bool refused, too_long, head_too_long;
    char detail[CURL_ERROR_SIZE];
};
/* Checks 'q' and copies it into '*t', which is zeroed; transfer_free() frees what is in it. */
int transfer_read(struct transfer *t, const struct outgoing_request *q,
                  const struct outgoing_rules *rules, struct err *e);
/* Makes t->easy, which is to end within 'left' and connects to these addresses alone; n 0: the host
 * is one. */
void transfer_begin(struct transfer *t, CURLSH *share, const struct ip *to, int n, int64_t left);
/* What came of it; out->body lies in '*t'. */
void transfer_end(struct transfer *t, CURLcode rc, struct outgoing_result *out);
void transfer_free(struct transfer *t);
void outgoing_say(struct outgoing_result *r, enum outgoing_end end, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
