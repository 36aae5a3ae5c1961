/* SPDX-License-Identifier: Apache-2.0 */
/* Reads back what the shims wrote: files of "time stream tag text" lines, the newest named current.
 * Hides rotation: a follower that stands at the end of a file goes on in the next. */
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "codec/text.h"
#include "drivers/compute/oci_impl.h"

enum { LOG_FILES = 5, CHUNK = 65536, LINE_MAX_BYTES = 1 << 20, IDLE_MS = 1000 };

struct reader {
    struct arena *a;
    const char *dir, *current;
    int fd;          /* the file being read */
    struct buf text; /* read, not yet a whole line */
    struct buf line; /* of the parts so far */
    int64_t since;
    compute_line_fn *fn;
    void *ctx;
    bool stop; /* fn said so */
};

static const char *file_name(struct reader *r, int n)
{
    return n ? arena_printf(r->a, "%s/current.%d", r->dir, n)
             : arena_printf(r->a, "%s/current", r->dir);
}

/* "2026-01-05T23:00:00.000000000Z stdout F text" */
static void take_line(struct reader *r, struct str s)
{
    const char *sp = memchr(s.p, ' ', s.n);
    int64_t at;

    if (!sp || (size_t)(s.p + s.n - sp) < 10 || memcmp(sp, " std", 4) != 0 ||
        !time_parse((struct str){ s.p, (size_t)(sp - s.p) }, &at))
        return; /* half a line: the machine went down while it was written */
    int stream = memcmp(sp + 4, "err", 3) == 0 ? 2 : 1;
    const char *tag = sp + 8, *text = tag + 2;
    size_t n = (size_t)(s.p + s.n - text);

    buf_put(&r->line, text, n);
    if (*tag == 'P' && !r->line.failed && r->line.n < LINE_MAX_BYTES - CHUNK)
        return;
    if (at >= r->since && r->fn(r->ctx, stream, at, buf_str(&r->line)) < 0)
        r->stop = true;
    buf_clear(&r->line);
}

/* Reads to the present end of the file. */
static void read_on(struct reader *r)
{
    while (!r->stop) {
        char *room = buf_room(&r->text, CHUNK);
        ssize_t n = room ? read(r->fd, room, CHUNK) : -1;
        if (n <= 0)
            return;
        buf_grew(&r->text, (size_t)n);
        size_t done = 0;
        const char *nl;
        while (!r->stop && (nl = memchr(r->text.p + done, '\n', r->text.n - done))) {
            size_t len = (size_t)(nl - r->text.p) - done;
            take_line(r, (struct str){ r->text.p + done, len });
            done += len + 1;
        }
        buf_eat(&r->text, done);
    }
}

/* Where the last '*want' whole lines of a file begin; *want becomes what is still missing. */
static off_t tail_of(int fd, int64_t *want)
{
    struct stat st;

    if (*want == 0 || fstat(fd, &st) < 0 || st.st_size == 0)
        return *want == 0 && fstat(fd, &st) == 0 ? st.st_size : 0;
    size_t size = (size_t)st.st_size;
    const char *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0), *end = p + size;
    off_t from = 0;

    if (p == MAP_FAILED)
        return 0;
    while (end > p) {
        const char *nl = end - 1 > p ? memrchr(p, '\n', (size_t)(end - 1 - p)) : NULL;
        const char *line = nl ? nl + 1 : p;
        const char *sp = memchr(line, ' ', (size_t)(end - line));
        bool whole = sp && end - sp > 9 && sp[8] == 'F';
        if (whole && (*want)-- == 0) {
            *want = 0;
            from = end - p;
            break;
        }
        end = line;
    }
    /* The pointer is the map's own: const only for us. */
    munmap((void *)(uintptr_t)p, size);
    return from;
}

/* From the oldest file that is needed to the end of the newest, which stays open. */
static void read_all(struct reader *r, int64_t tail)
{
    int fds[LOG_FILES], n = 0;

    for (; n < LOG_FILES; n++) {
        fds[n] = open(file_name(r, n), O_RDONLY | O_CLOEXEC);
        if (fds[n] < 0)
            break;
        if (tail < 0)
            continue;
        lseek(fds[n], tail_of(fds[n], &tail), SEEK_SET);
        if (tail == 0) {
            n++;
            break;
        }
    }
    while (n-- > 0) {
        r->fd = fds[n];
        if (!r->stop)
            read_on(r);
        if (n > 0)
            close(r->fd);
    }
}

/* The file that is 'current' now is another than the one we read. */
static bool rotated(struct reader *r)
{
    struct stat now, ours;

    return stat(r->current, &now) == 0 &&
           (r->fd < 0 || (fstat(r->fd, &ours) == 0 && now.st_ino != ours.st_ino));
}

static bool is_gone(struct oci *o, const struct uuid *id)
{
    OCI_LOCK(o);
    return !map_get(o->instances, id->s, strlen(id->s));
}

static void follow(struct oci *o, const struct uuid *id, struct reader *r)
{
    _cleanup_close_ int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    char events[4096];

    if (watch >= 0)
        inotify_add_watch(watch, r->dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO);
    while (!r->stop && !is_gone(o, id)) {
        struct pollfd p = { .fd = watch, .events = POLLIN };
        int n = poll(&p, 1, IDLE_MS);
        while (n > 0 && read(watch, events, sizeof(events)) > 0)
            ;
        if (n == 0 && r->fn(r->ctx, 0, 0, STR("")) < 0)
            return;
        if (r->fd >= 0)
            read_on(r);
        if (rotated(r)) {
            if (r->fd >= 0)
                close(r->fd);
            r->fd = open(r->current, O_RDONLY | O_CLOEXEC);
            read_on(r);
        }
    }
}

int oci_logs(struct compute *h, const struct uuid *id, const struct compute_log_opts *opts,
             compute_line_fn *fn, void *ctx, struct err *e)
{
    struct oci *o = oci_of(h);
    _cleanup_(arena_free) struct arena a = ARENA(MIB(16));
    struct reader r = { .a = &a,
                        .fd = -1,
                        .text = BUF(LINE_MAX_BYTES),
                        .line = BUF(LINE_MAX_BYTES),
                        .since = opts->since,
                        .fn = fn,
                        .ctx = ctx };

    if (is_gone(o, id))
        return err_set(e, ERR_NOT_FOUND, "the host has no such instance");
    r.dir = oci_path(o, &a, id, "log");
    r.current = file_name(&r, 0);
    read_all(&r, opts->tail);
    if (opts->follow && !r.stop)
        follow(o, id, &r);
    if (r.fd >= 0)
        close(r.fd);
    buf_free(&r.text);
    buf_free(&r.line);
    return 0;
}
