/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A request that is sent again with the same Idempotency-Key gets the first one's answer. */

#include "base/err.h"
#include "core/service.h"

struct app;
struct call_private;
struct idem;
struct idem_body; /* idem_key.c's own */

enum { PRINT_HEX = 65 };

/* What a transaction does with the record: claims the key, so that a retry after a crash knows that
 * there was a first run; keeps the answer; gives the key back. */
enum idem_step { IDEM_NONE, IDEM_CLAIM, IDEM_KEEP, IDEM_DROP };

/* Of a call. */
struct idem_part {
    const char *scope, *key; /* NULL: none */
    char print[PRINT_HEX];
    bool held;              /* in the set of those running */
    struct db *lock;        /* LONG on PostgreSQL: the connection that holds the key's lock */
    struct uuid token;      /* of this run's claim there */
    bool claimed;           /* that claim stands */
    int64_t row;            /* LONG: journal row that has this key already, or 0 */
    int64_t seq;            /* row that this transaction writes to */
    enum idem_step step;    /* what it writes there */
    bool resumed;           /* an earlier run of this request was cut short */
    bool spent;             /* what it does cannot be undone: see call_claim() */
    struct uuid object;     /* what that run had made, or nil */
    struct idem_body *body; /* of a raw body: the sum of what was read */
};

struct idem *idem_new(void);
void idem_free(struct idem *i);
int idem_load(struct app *app, struct err *e) _must_check_;
/* The credential and whom it acts for, in few bytes: they stand in each record, and one that fits
 * a page of SQLite costs less. */
const char *idem_scope(struct arena *a, const struct principal *who);
/* Reads the header; 1: there is a key. */
int idem_header(struct call_private *p, struct err *e) _must_check_;
/* Takes the key: 0 go on, 1 the answer is filled from the record. */
int idem_begin(struct call_private *p, struct db *db, struct err *e) _must_check_;
/* PostgreSQL, inside the transaction: as idem_begin(). */
int idem_begin_pg(struct call_private *p, struct db *db, struct err *e) _must_check_;
/* Before a LONG handler, on its worker: 0 go on, 1 the answer is filled from the record. */
int idem_begin_long(struct call_private *p, struct db *db, struct err *e) _must_check_;
/* Whether it asks what the record's request asked. */
bool idem_same(const struct call_private *p, const char *print);
/* A raw body's next bytes, as its handler gets them; 0: its end. */
void idem_body_read(struct call_private *p, const void *bytes, size_t n);
/* Whether a retry has taken this run's claim over: in the transaction that would write to it. */
bool idem_lost(struct call_private *p, struct db *db);
void idem_committed(struct call_private *p);
void idem_end(struct call_private *p);
bool idem_kept(enum err_code code);
/* Whether the answer may be kept: it has a bound. */
bool idem_fits(const struct call_private *p);
/* The column of the record: what is sealed, or says that the first run has begun.  NULL: an answer
 * that is too large to be kept. */
const char *idem_pack(struct call_private *p, enum idem_step step, struct err *e);
void idem_forget(struct app *app, int64_t now);
