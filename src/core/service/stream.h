/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Answers that go on: STREAM handlers. */

#include "core/service/call.h"

/* A STREAM handler runs as a READ handler does.  Its first run answers an error, or begins; each
 * writes what there is and then returns call_park() to run again (when its topic is signalled, when
 * its time comes, and not before its peer has room), or 0: the stream ends.  -1 after it began: the
 * peer sees that the answer is cut.  No run waits: no thread is held between them, and of memory
 * only what is here.  It ends with its peer and with its credential; 'until' is INT64_MAX where
 * nothing else ends it. */

/* Begins with status and headers; content_type e.g. "text/event-stream" or "text/plain", static. */
int stream_begin(struct call *c, const char *content_type, struct err *e) _must_check_;
/* Queues all of 'data' and never waits; -1: the peer has gone. */
int stream_write(struct call *c, struct str data, struct err *e) _must_check_;
/* How many bytes may be written before this run should park: what is behind its reader is 256 KiB
 * at most, and one write more.  A run begins with half of it.  With nothing left, park to run again
 * at once (c->now): that is when there is room. */
size_t stream_room(struct call *c);
/* True in the last run, when the server drains or the peer has gone: a farewell may be written. */
bool stream_last(const struct call *c);
/* Memory of the handler's own that lasts as long as the stream: zeroed before the first run. */
void *stream_state(struct call *c, size_t size);

/* ---- WebSocket, of a route that .upgrades: each stream_write() is a message, text if it is UTF-8.
 */
/* True if the peer asks for one; stream_begin() then answers 101, or 400 where it asks wrongly. */
bool stream_is_socket(const struct call *c);
/* The next message of the peer's (64 KiB at most), in the call's arena; false: there is none.  One
 * that comes makes the stream run.  Of those that are not taken so many wait here as fill 64 KiB.
 */
bool stream_message(struct call *c, struct str *out);

/* ---- text/event-stream (codec/sse.h).  Where nothing else is written, core writes a comment every
 * 15 s. */
/* True if the client prefers it to what its route produces, as its Accept says. */
bool stream_wants_events(struct call *c);
/* The id of the last event that the client has seen: the header Last-Event-ID, else 'given' (the
 * query's last_event_id), else NULL. */
const char *stream_last_id(struct call *c, const char *given);
/* The end of a stream that its client may take up again: why, as JSON, in an event "end". */
int stream_farewell(struct call *c, struct err *e) _must_check_;
