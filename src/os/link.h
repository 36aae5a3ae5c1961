/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What roles say to each other over a socket (contracts 6).
 *
 * A frame: 4 bytes of length of its body (big-endian, at most 1 MiB), 1 byte of kind, 4 bytes of
 * stream (big-endian), the body.  Both sides begin with a greeting: JSON on stream 0 with protocol,
 * version and installation.  An order is JSON on a stream that the orderer numbers; the answer is
 * any number of JSON and BYTES frames on that stream and one END, whose JSON is {} or
 * {"error":{…}}.  The orderer may send BYTES and END too (an upload), or CANCEL.
 *
 * Each stream has a window a direction, of bytes and of frames: a JSON or BYTES frame may be sent
 * while both are open, and takes its body's length and one frame from them (an order is outside of
 * it); so what waits for its reader is less than the window and one frame.  WINDOW frames (4 bytes
 * each, big-endian: bytes, frames that were used) open it again.  Who sends more than that breaks
 * the connection; who reads slowly holds up the sender of that stream alone. */

#include <pthread.h>

#include "base/base.h"
#include "base/buf.h"
#include "base/map.h"

enum {
    FRAME_HEAD = 9,
    FRAME_MAX = 1 << 20,
    PROTOCOL_VERSION = 3,
    PROTOCOL_OLDEST = 2, /* the oldest version that is understood */
    STREAM_WINDOW_BYTES = 256 << 10,
    STREAM_WINDOW_FRAMES = 1024,
    LINK_MAX_STREAMS = 4096,
};
enum frame_kind { FRAME_JSON = 1, FRAME_BYTES, FRAME_END, FRAME_WINDOW, FRAME_CANCEL };

struct frame {
    enum frame_kind kind;
    uint32_t stream;
    struct str body; /* within what was decoded */
};
/* 1: *out is a frame of '*used' bytes; 0: more bytes are needed; -1: no frame can begin so. */
int frame_decode(struct str in, struct frame *out, size_t *used, struct err *e);
void frame_encode_head(enum frame_kind kind, uint32_t stream, size_t n, uint8_t out[FRAME_HEAD]);

/* ---- one connection, seen by many threads ---- */

struct message {
    struct message *next;
    enum frame_kind kind;
    uint32_t stream;
    size_t n;
    char p[]; /* ends with a NUL that is not counted */
};

struct window {
    int64_t bytes, frames;
};
struct link;
struct stream {
    struct link *link;
    uint32_t id;
    /* under link.lock: */
    pthread_cond_t cond;
    struct message *first, *last;
    struct window in, out; /* left for the other side to send, and for us */
    struct window used;    /* by our reader, and not yet told to the other side */
    bool ended, cancelled;
};

struct link {
    int fd;
    const char *peer;      /* "agent": who it is, for messages */
    pthread_mutex_t write; /* one frame at a time */
    pthread_mutex_t lock;
    int refs;
    bool broken;
    bool orderer;    /* this end gives the orders */
    int64_t version; /* the other end's, once it has greeted */
    struct map *streams;
};

struct link *link_new(int fd, const char *peer); /* takes the descriptor */
struct link *link_ref(struct link *l);
void link_unref(struct link *l);
/* From now on nothing is sent or received; every stream hears of it. */
void link_break(struct link *l);
bool link_broken(struct link *l);

/* Greets and checks the other's greeting; 'installation' NULL: any. */
int link_greet(struct link *l, const char *installation, struct err *e);
int link_send(struct link *l, enum frame_kind kind, uint32_t stream, struct str body,
              struct err *e);
/* The next frame of the connection, for the one thread that reads; free() it. NULL: at an end. */
struct message *link_receive(struct link *l, struct err *e);
/* Gives a frame to its stream, which takes it. 0: done; 1: there is no such stream, the frame stays
 * the caller's; -1: the peer breaks the rules. */
int link_deliver(struct link *l, struct message *m, struct err *e);

/* A new stream with one reference, or NULL if there are too many or the link is broken. */
struct stream *stream_open(struct link *l, uint32_t id);
/* Forgets the number; frames that still come for it have no stream. */
void stream_close(struct stream *s);
/* The next frame: 1, free() it; 0: 'timeout' passed (< 0: never); -1: cancelled or the link broke.
 */
int stream_next(struct stream *s, int64_t timeout, struct message **out);
/* Sends bytes as the window opens; -1 if cancelled, broken or 'timeout' (< 0: never) passed. */
int stream_bytes(struct stream *s, struct str bytes, int64_t timeout, struct err *e);
/* The order that begins the stream; it takes nothing from the window. */
int stream_order(struct stream *s, const struct buf *json, struct err *e);
/* One frame, when the window is open; waits for that as long as it takes. */
int stream_json(struct stream *s, const struct buf *json, struct err *e);
/* END, with the error if there is one. */
int stream_end(struct stream *s, const struct err *failure, struct err *e);
bool stream_cancelled(struct stream *s);
