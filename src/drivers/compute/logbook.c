/* SPDX-License-Identifier: Apache-2.0 */
/* Reads logs forward, line by line.  Hides that lines are written in parts, that the parts of two
 * streams stand between each other, and that files leave at one end while they are written at the
 * other.  Each stream has a place of its own to begin at, so that a tail, or a reader that goes on
 * after a break, has whole lines. */
#include "drivers/compute/logbook.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/log.h"
#include "codec/text.h"

enum {
    MAX_FILES = 64,    /* a shim keeps five */
    BLOCK = 128 << 10, /* several of the longest records */
    PIECE = 1 << 20,   /* of a longer line, one after the other */
    IDLE_MS = 1000,
};

bool log_record_parse(struct str line, struct log_record *out)
{
    const char *end = line.p + line.n, *sp = line.n ? memchr(line.p, ' ', line.n) : NULL;
    struct log_record r = { 0 };

    if (!sp || end - sp < 10 || !time_parse((struct str){ line.p, (size_t)(sp - line.p) }, &r.time))
        return false;
    if (memcmp(sp, " stdout ", 8) == 0)
        r.stream = 1;
    else if (memcmp(sp, " stderr ", 8) == 0)
        r.stream = 2;
    const char *tag = sp + 8, *text = memchr(tag, ' ', (size_t)(end - tag));
    if (r.stream == 0 || !text || (*tag != 'F' && *tag != 'P'))
        return false;
    r.whole = *tag == 'F';
    for (const char *p = tag + 1; p < text; p += 2) {
        if (*p != ':' || p + 1 == text)
            return false;
        r.goes_on |= p[1] == 'C';
        r.lost |= p[1] == 'L';
    }
    r.text = (struct str){ text + 1, (size_t)(end - text - 1) };
    *out = r;
    return true;
}

/* ---- files ---- */

struct place {
    int64_t file, at;
};

static bool is_before(struct place a, struct place b)
{
    return a.file < b.file || (a.file == b.file && a.at < b.at);
}

struct files {
    int64_t number[MAX_FILES]; /* ascending */
    size_t n;
};

/* A folder that is not there, yet or any more, has none. */
static int list_files(const char *dir, struct files *f, struct err *e)
{
    DIR *d = opendir(dir);
    int why = d || errno == ENOENT ? 0 : errno;

    f->n = 0;
    while (d) {
        int64_t number;

        errno = 0;
        const struct dirent *x = readdir(d);
        why = x ? 0 : errno;
        if (!x)
            break;
        if (f->n == MAX_FILES || !int_parse(str_of(x->d_name), 1, INT32_MAX, &number))
            continue;
        size_t k = f->n++;
        for (; k > 0 && f->number[k - 1] > number; k--)
            f->number[k] = f->number[k - 1];
        f->number[k] = number;
    }
    if (d)
        closedir(d);
    return why ? err_sys(e, why, "read the folder %s", dir) : 0;
}

/* 1: *fd is set; 0: it has left. */
static int open_file(const char *dir, int64_t number, int *fd, struct err *e)
{
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s/%lld", dir, (long long)number);

    if (n >= (int)sizeof(path))
        return err_sys(e, ENAMETOOLONG, "open %lld of %s", (long long)number, dir);
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0 && errno != ENOENT)
        return err_sys(e, errno, "open %s", path);
    return *fd >= 0;
}

static ssize_t read_at(int fd, char *p, int64_t n, int64_t at, struct err *e)
{
    ssize_t got = pread(fd, p, (size_t)n, at);

    return got < 0 ? err_sys(e, errno, "read a log") : got;
}

/* ---- backwards: where the last lines begin ---- */

struct scan {
    int64_t want, n; /* lines; found so far */
    bool follow;
    struct {
        struct place start; /* of the earliest record that is ours; file 0: none */
        bool closed;        /* no earlier one is */
        bool same_line;     /* the record before belongs to the line of the last one seen */
        bool open;          /* its beginning is still to be found */
        bool seen;
    } of[2];
    struct place end; /* of the last whole record */
    bool done;
};

static void scan_record(struct scan *s, struct place here, struct str text)
{
    struct log_record r;

    if (!log_record_parse(text, &r))
        return;
    int k = r.stream - 1;
    bool ends = r.whole || !s->of[k].same_line;
    bool printing = !r.whole && !s->of[k].seen && s->follow; /* its end is for the follower */
    if (ends && !printing && s->n == s->want)
        s->of[k].closed = true;
    else if (ends && !printing)
        s->n++;
    if (!s->of[k].closed)
        s->of[k].start = here;
    s->of[k].seen = true;
    s->of[k].same_line = r.goes_on;
    s->of[k].open = r.goes_on && !s->of[k].closed;
    s->done = s->n == s->want && !s->of[0].open && !s->of[1].open;
}

/* The records of a block whose last one ends with it, newest first; where the earliest begins. */
static size_t scan_block(struct scan *s, int64_t file, int64_t at, const char *block, size_t n)
{
    size_t end = n;

    while (end > 0 && !s->done) {
        const char *nl = end > 1 ? memrchr(block, '\n', end - 1) : NULL;
        if (!nl && at > 0)
            break; /* it begins before this block */
        size_t start = nl ? (size_t)(nl + 1 - block) : 0;
        scan_record(s, (struct place){ file, at + (int64_t)start },
                    (struct str){ block + start, end - 1 - start });
        end = start;
    }
    return end == n && !s->done ? 0 : end; /* a block without a record is passed over */
}

/* The end of the last line of a file. */
static int last_end(int fd, char *block, int64_t *out, struct err *e)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_sys(e, errno, "stat a log");
    *out = 0;
    for (int64_t hi = st.st_size; hi > 0 && *out == 0;) {
        int64_t lo = MAX(hi - BLOCK, (int64_t)0);
        ssize_t n = read_at(fd, block, hi - lo, lo, e);
        if (n < 0)
            return -1;
        const char *nl = n > 0 ? memrchr(block, '\n', (size_t)n) : NULL;
        *out = nl ? lo + (nl + 1 - block) : 0;
        hi = lo;
    }
    return 0;
}

static int scan_file(struct scan *s, const char *dir, int64_t file, char *block, struct err *e)
{
    _cleanup_close_ int fd = -1;
    int64_t hi = 0;

    TRY(open_file(dir, file, &fd, e));
    if (fd >= 0)
        TRY(last_end(fd, block, &hi, e));
    if (s->end.file == 0)
        s->end = (struct place){ file, hi };
    while (hi > 0 && !s->done) {
        int64_t lo = MAX(hi - BLOCK, (int64_t)0);
        ssize_t n = read_at(fd, block, hi - lo, lo, e);
        if (n != hi - lo) /* it was cut */
            return n < 0 ? -1 : 0;
        hi = lo + (int64_t)scan_block(s, file, lo, block, (size_t)n);
    }
    return 0;
}

static int scan_all(struct scan *s, const char *dir, const struct files *f, char *block,
                    struct err *e)
{
    for (size_t k = f->n; k > 0 && (!s->done || s->end.file == 0); k--)
        TRY(scan_file(s, dir, f->number[k - 1], block, e));
    return 0;
}

/* ---- forward ---- */

struct chain { /* a line so far */
    struct buf line;
    bool open; /* it has a part */
    bool told; /* some of it has been */
    struct place begun;
    int64_t time;
};

struct reader {
    const char *dir;
    const struct compute_log_opts *o;
    compute_line_fn *fn;
    void *ctx;
    int fd;             /* of 'next.file' */
    struct place next;  /* the first record that has not been taken */
    struct place end;   /* to stop at; file 0: none */
    struct place of[2]; /* what is before it is not wanted */
    struct chain chain[2];
    bool gap; /* output is missing before what comes next */
    bool stop;
    char *block;
};

static void tell(struct reader *r, enum compute_line_kind kind, int stream, int64_t time,
                 struct str text)
{
    struct compute_line l = { .kind = kind, .stream = stream, .time = time, .text = text };

    for (int k = 0; k < 2; k++) {
        struct place p = r->chain[k].open ? r->chain[k].begun : r->next;
        if (is_before(p, r->of[k]))
            p = r->of[k];
        l.after.file[k] = p.file;
        l.after.at[k] = p.at;
    }
    if (!r->stop && r->fn(r->ctx, &l) < 0)
        r->stop = true;
}

static void tell_gap(struct reader *r, int64_t time)
{
    if (r->gap)
        tell(r, COMPUTE_LINE_GAP, 0, time, STR(""));
    r->gap = false;
}

/* A line, or a piece of one, is there. */
static void tell_line(struct reader *r, int k, enum compute_line_kind kind)
{
    struct chain *c = &r->chain[k];

    if (c->time >= r->o->since) {
        tell_gap(r, c->time);
        tell(r, kind, k + 1, c->time, buf_str(&c->line));
    } else {
        r->gap = false; /* what is missing is older than this, and not asked for */
    }
    buf_clear(&c->line);
}

/* The rest of a line is not coming, or not yet. */
static void break_off(struct reader *r, int k)
{
    struct chain *c = &r->chain[k];
    bool any = c->open && c->line.n > 0;

    c->open = false;
    if (any)
        tell_line(r, k, COMPUTE_LINE_PART);
    c->told = false;
}

static void take_record(struct reader *r, struct place here, struct place after, struct str text)
{
    struct log_record rec;

    r->next = here;
    if (!log_record_parse(text, &rec)) {
        r->gap = true;
        r->next = after;
        return;
    }
    int k = rec.stream - 1;
    struct chain *c = &r->chain[k];
    if (is_before(here, r->of[k])) {
        r->next = after;
        return;
    }
    if (!rec.goes_on || rec.lost)
        break_off(r, k);
    if (rec.lost || (rec.goes_on && !c->open && !c->told))
        r->gap = true;
    if (!c->open)
        c->begun = here;
    c->open = !rec.whole;
    c->time = rec.time;
    buf_put(&c->line, rec.text.p, rec.text.n);
    r->next = after;
    if (rec.whole) {
        tell_line(r, k, COMPUTE_LINE);
        c->told = false;
    } else if (c->line.n >= PIECE) {
        c->begun = after;
        tell_line(r, k, COMPUTE_LINE_PART);
        c->told = true;
    }
}

/* The whole records that the open file has now, up to the end that is set. */
static int read_on(struct reader *r, struct err *e)
{
    while (!r->stop) {
        int64_t at = r->next.at, most = BLOCK;
        if (r->end.file == r->next.file)
            most = MIN(most, r->end.at - at);
        ssize_t n = most > 0 ? read_at(r->fd, r->block, most, at, e) : 0;
        if (n < 0)
            return -1;
        const char *p = r->block, *stop = p + n, *nl;
        while (!r->stop && p < stop && (nl = memchr(p, '\n', (size_t)(stop - p)))) {
            struct place here = { r->next.file, at + (p - r->block) };
            struct place after = { r->next.file, at + (nl + 1 - r->block) };
            take_record(r, here, after, (struct str){ p, (size_t)(nl - p) });
            p = nl + 1;
        }
        if (p > r->block)
            continue;
        if (n < BLOCK)
            return 0;    /* what is there is no whole record yet */
        r->next.at += n; /* nor is this one */
        r->gap = true;
    }
    return 0;
}

/* Opens the oldest file that is not older than 'number'; 0 if there is none. */
static int open_from(struct reader *r, int64_t number, struct err *e)
{
    struct files f;

    for (int tries = 0; tries < MAX_FILES; tries++) {
        size_t k = 0;
        int fd;
        TRY(list_files(r->dir, &f, e));
        while (k < f.n && f.number[k] < number)
            k++;
        if (k == f.n)
            return 0;
        int there = open_file(r->dir, f.number[k], &fd, e);
        TRY(there);
        if (!there)
            continue; /* it has just left */
        if (r->fd >= 0)
            close(r->fd);
        r->fd = fd;
        if (r->next.file != f.number[k])
            r->next = (struct place){ f.number[k], 0 };
        return 1;
    }
    return 0;
}

static void gap_between_files(struct reader *r)
{
    for (int k = 0; k < 2; k++)
        break_off(r, k);
    r->gap = true;
}

/* To the present end of all files, or the one that is set. */
static int read_all(struct reader *r, struct err *e)
{
    int64_t begin = r->next.file;
    struct files f;

    if (r->fd < 0) {
        int any = open_from(r, MAX(begin, (int64_t)1), e);
        if (any <= 0)
            return any;
        r->gap |= begin > 0 && r->next.file > begin;
    }
    while (!r->stop) {
        int64_t was = r->next.file;
        TRY(list_files(r->dir, &f, e));
        bool last = f.n == 0 || f.number[f.n - 1] <= was;
        TRY(read_on(r, e));
        if (last || r->stop || (r->end.file && r->end.file <= was))
            return 0;
        int more = open_from(r, was + 1, e);
        if (more <= 0)
            return more;
        if (r->next.file != was + 1)
            gap_between_files(r);
    }
    return 0;
}

/* Where to begin: a place that was given, or the last lines. */
static int choose_start(struct reader *r, const struct files *f, struct err *e)
{
    const struct compute_log_opts *o = r->o;
    struct scan s = { .want = MAX(o->tail, (int64_t)0), .follow = o->follow };
    bool resumes = o->from.file[0] > 0;

    if (resumes) {
        for (int k = 0; k < 2; k++) {
            r->of[k] = (struct place){ o->from.file[k], o->from.at[k] };
            r->chain[k].told = true; /* a part that goes on goes on with what was told */
        }
        r->next = is_before(r->of[0], r->of[1]) ? r->of[0] : r->of[1];
    }
    s.done = resumes || o->tail < 0 || (o->tail == 0 && !o->follow);
    TRY(scan_all(&s, r->dir, f, r->block, e));
    if (!o->follow)
        r->end = s.end;
    if (resumes || f->n == 0)
        return 0;
    for (int k = 0; k < 2; k++) {
        struct place first = o->tail < 0 ? (struct place){ f->number[0], 0 } : s.of[k].start;
        r->of[k] = first.file ? first : s.end;
    }
    r->next = is_before(r->of[0], r->of[1]) ? r->of[0] : r->of[1];
    r->gap = f->number[0] > 1 && (o->tail < 0 || s.n < s.want);
    return 0;
}

static int read_book(struct reader *r, struct err *e)
{
    struct files f;

    TRY(list_files(r->dir, &f, e));
    TRY(choose_start(r, &f, e));
    if (r->o->follow) {
        TRY(read_all(r, e));
        tell_gap(r, 0);
        tell(r, COMPUTE_LINE_IDLE, 0, 0, STR(""));
        return 0;
    }
    if (!r->end.file)
        return 0;
    int done = read_all(r, e);
    for (int k = 0; k < 2; k++)
        break_off(r, k);
    tell_gap(r, 0);
    return done;
}

int logbook_read(const char *dir, const struct compute_log_opts *o, compute_line_fn *fn, void *ctx,
                 struct err *e)
{
    struct reader r = { .dir = dir, .o = o, .fn = fn, .ctx = ctx, .fd = -1 };

    r.block = malloc(BLOCK);
    if (!r.block)
        abort();
    for (int k = 0; k < 2; k++)
        r.chain[k].line = BUF(PIECE + BLOCK);
    int done = read_book(&r, e);
    if (r.fd >= 0)
        close(r.fd);
    for (int k = 0; k < 2; k++)
        buf_free(&r.chain[k].line);
    free(r.block);
    return done;
}
