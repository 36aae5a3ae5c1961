/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the two halves of the queue service share: queues (queue.c) and messages (queue_message.c).
 */

#include "core/service.h"

enum queue_status { QUEUE_ACTIVE };

struct queue {
    OWNED_MEMBERS;
    const char *name;
    enum queue_status status;
    bool fifo;
    int64_t visibility_timeout; /* seconds */
    int64_t delay_seconds;
    int64_t retention_days;
    int64_t max_message_size; /* bytes of body and attributes */
    struct uuid dead_letter_queue_id;
    int64_t max_receives;
    const char *tags; /* JSON map */
    struct uuid box_id;
    int64_t depth, in_flight; /* counted when shown */
};
extern const struct record queue_record;

struct message {
    struct uuid id, queue_id;
    int64_t seq; /* the order of sending; the receipt handle names it */
    struct uuid box_id;
    const char *body;
    const char *attributes; /* JSON map */
    const char *group_id, *deduplication_id;
    int64_t delay_seconds;
    const char *receipt_handle;
    int64_t visible_at, received_count, created_at;
};
extern const struct record message_record;

/* visible_at of a FIFO message that waits behind another of its group: never due. */
#define QUEUE_BEHIND INT64_MAX

/* Whoever waits at a box is parked on its id, until the next of its messages falls due.  So each
 * write by which one may fall due earlier signals that id: message_next(), message_counted() of
 * more messages, and what changes visible_at or the queue itself. */

/* The first waiting message of a group comes forward, when its delay is over: call when the one
 * before it is gone.  The queue's row is locked, so that no sender puts one behind it meanwhile. */
int message_next(struct call *c, const struct queue *q, const char *group,
                 struct err *e) _must_check_;

/* 'n' more messages of that creation are in the box, or less; in the transaction that makes it so.
 */
int message_counted(struct call *c, const struct uuid *box, int64_t created_at, int64_t n,
                    struct err *e) _must_check_;

/* For .alone of the routes of messages. */
bool queue_takes_turns(const void *queue);
int message_send(struct call *c, struct err *e);
int message_send_batch(struct call *c, struct err *e);
int message_receive(struct call *c, struct err *e);
int message_delete(struct call *c, struct err *e);
int message_delete_batch(struct call *c, struct err *e);
int message_extend(struct call *c, struct err *e);

extern const struct record message_batch_record;
extern const struct record message_extend_record;
extern const struct record message_receipts_record;
extern const struct record message_results_record;
extern const struct record message_receive_query;

/* Messages are counted, and expire, by the ten minutes in which they were sent. */
#define QUEUE_BUCKET MINUTES(10)

static inline int64_t queue_bucket(int64_t at)
{
    return at / QUEUE_BUCKET;
}

/* The first bucket whose messages live. */
static inline int64_t queue_first_bucket(const struct queue *q, int64_t now)
{
    return queue_bucket(now - DAYS(q->retention_days));
}

/* Messages as old as this are dead, though not yet swept. */
static inline int64_t queue_oldest(const struct queue *q, int64_t now)
{
    return queue_first_bucket(q, now) * QUEUE_BUCKET - 1;
}
