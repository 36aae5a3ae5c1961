/* SPDX-License-Identifier: Apache-2.0 */
/* Hides how built-in images are made: Debian's packages by mmdebstrap into one layer, our own files
 * into a small one above it.  What took a while is kept in a cache that all installations of a host
 * share, under a key of everything that went into it. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/log.h"
#include "codec/text.h"
#include "drivers/image/archive.h"
#include "drivers/image/local.h"
#include "os/file.h"
#include "os/process.h"

enum { TAR_BYTES = 64 << 20, SOURCES_BYTES = 1 << 20, BLOCK = 65536 };
#define BUILD_TIME SECONDS(1800)

/* ---- our own files as a tar ---- */

struct tar {
    struct archive *a;
    struct buf b;
};

static la_ssize_t tar_write(struct archive *a, void *ctx, const void *p, size_t n)
{
    struct tar *t = ctx;

    buf_put(&t->b, p, n);
    if (t->b.failed) {
        archive_set_error(a, ENOMEM, "too long");
        return -1;
    }
    return (la_ssize_t)n;
}

static void tar_open(struct tar *t)
{
    *t = (struct tar){ .a = archive_write_new(), .b = BUF(TAR_BYTES) };
    if (!t->a || archive_write_set_format_pax_restricted(t->a) != ARCHIVE_OK ||
        archive_write_open(t->a, t, NULL, tar_write, NULL) != ARCHIVE_OK)
        abort();
}

/* 'type' is S_IFREG with 'text', S_IFDIR, or S_IFLNK to 'text'. */
static void tar_put(struct tar *t, const char *path, mode_t type, unsigned mode, struct str text)
{
    struct archive_entry *en = archive_entry_new();

    if (!en)
        abort();
    archive_entry_set_pathname(en, path);
    archive_entry_set_filetype(en, type);
    archive_entry_set_perm(en, mode);
    archive_entry_set_mtime(en, 0, 0); /* the same input gives the same layer */
    if (type == S_IFLNK)
        archive_entry_set_symlink(en, text.p);
    else if (type == S_IFREG)
        archive_entry_set_size(en, (la_int64_t)text.n);
    if (archive_write_header(t->a, en) != ARCHIVE_OK ||
        (type == S_IFREG && text.n &&
         archive_write_data(t->a, text.p, text.n) != (la_ssize_t)text.n))
        t->b.failed = true;
    archive_entry_free(en);
}

/* Ends it and adds it as a layer. */
static int tar_layer(struct tar *t, const struct image_paths *p, struct manifest *m, struct err *e)
{
    int result = 0;

    if (archive_write_close(t->a) != ARCHIVE_OK || t->b.failed)
        result = err_set(e, ERR_INTERNAL, "the files of an image could not be packed");
    archive_write_free(t->a);
    if (result == 0)
        result = layer_add_bytes(p, buf_str(&t->b), m, e);
    buf_free(&t->b);
    return result;
}

static int files_layer(const struct image_paths *p, const struct recipe *r, struct manifest *m,
                       struct err *e)
{
    struct tar t;

    TRY(archive_open(e));
    tar_open(&t);
    for (const struct recipe_file *f = r->files; f->path; f++) {
        if (f->text)
            tar_put(&t, f->path, S_IFREG, f->mode ? f->mode : 0644, str_of(f->text));
        else
            tar_put(&t, f->path, S_IFLNK, 0777, str_of(f->link));
    }
    return tar_layer(&t, p, m, e);
}

/* ---- busybox ---- */

static int busybox(const struct image_paths *p, struct arena *a, struct manifest *m, struct err *e)
{
    static const char *const folders[] = { "bin", "dev", "etc", "proc", "root",
                                           "run", "sys", "usr", "var" };
    const char *const argv[] = { "/bin/busybox", "--list", NULL };
    struct process_opts o = { .argv = argv };
    struct process_result r;
    struct str program;
    struct tar t;

    if (file_read(a, "/bin/busybox", MIB(16), &program, e) < 0)
        return err_cause(e, ERR_ENGINE_UNAVAILABLE, e->cause,
                         "the host has no /bin/busybox (package busybox-static)");
    TRY(process_check(a, &o, &r, e));
    TRY(archive_open(e));
    tar_open(&t);
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        tar_put(&t, folders[i], S_IFDIR, strcmp(folders[i], "root") ? 0755 : 0700,
                (struct str){ 0 });
    tar_put(&t, "tmp", S_IFDIR, 01777, (struct str){ 0 });
    tar_put(&t, "usr/bin", S_IFLNK, 0777, STR("/bin"));
    tar_put(&t, "usr/sbin", S_IFLNK, 0777, STR("/bin"));
    tar_put(&t, "sbin", S_IFLNK, 0777, STR("/bin"));
    tar_put(&t, "etc/passwd", S_IFREG, 0644,
            STR("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"));
    tar_put(&t, "etc/group", S_IFREG, 0644, STR("root:x:0:\nnogroup:x:65534:\n"));
    tar_put(&t, "bin/busybox", S_IFREG, 0755, program);
    char *at = arena_dup(a, r.out.p, r.out.n), *name;
    while ((name = strsep(&at, "\n"))) {
        char path[128];
        if (!*name || strchr(name, '/') || strcmp(name, "busybox") == 0)
            continue;
        snprintf(path, sizeof(path), "bin/%s", name);
        tar_put(&t, path, S_IFLNK, 0777, STR("busybox"));
    }
    return tar_layer(&t, p, m, e);
}

/* ---- where packages come from ---- */

struct sources {
    struct buf text; /* deb822 stanzas and one-line entries of Debian's own archives */
    struct buf lines;
    char suite[64];
};

/* The value of a deb822 field of the stanza, or NULL. */
static const char *field(struct arena *a, const char *stanza, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = stanza; p && *p; p = strchr(p, '\n'), p += p != NULL)
        if (strncasecmp(p, name, n) == 0 && p[n] == ':') {
            p += n + 1;
            p += strspn(p, " \t");
            return arena_dup(a, p, strcspn(p, "\n"));
        }
    return NULL;
}

static bool is_debian(const char *uri)
{
    return uri && (strstr(uri, "/debian") != NULL) && !strstr(uri, "docker.com");
}

static void note_suite(struct sources *s, const char *suites)
{
    size_t n = strcspn(suites, " ");

    if (!*s->suite && n < sizeof(s->suite) && !memchr(suites, '-', n))
        snprintf(s->suite, sizeof(s->suite), "%.*s", (int)n, suites);
}

static void take_stanzas(struct arena *a, struct sources *s, char *text)
{
    char *end;

    for (; text && *text; text = end) {
        end = strstr(text, "\n\n");
        if (end) {
            *end = '\0';
            end += 2;
        }
        const char *types = field(a, text, "Types"), *suites = field(a, text, "Suites");
        const char *on = field(a, text, "Enabled");
        if (!types || !suites || !strstr(types, "deb") || !is_debian(field(a, text, "URIs")) ||
            (on && strcmp(on, "no") == 0))
            continue;
        note_suite(s, suites);
        buf_printf(&s->text, "%s\n\n", text);
    }
}

static void take_lines(struct arena *a, struct sources *s, char *text)
{
    char *line;

    while ((line = strsep(&text, "\n"))) {
        if (strncmp(line, "deb ", 4) != 0 || !is_debian(line))
            continue;
        buf_printf(&s->lines, "%s\n", line);
        char *p = arena_strdup(a, line + 4), *word;
        while ((word = strsep(&p, " ")) && (!*word || *word == '['))
            continue;
        while (word && (word = strsep(&p, " ")) && !*word)
            continue;
        if (word)
            note_suite(s, word);
    }
}

static void take_file(struct arena *a, struct sources *s, const char *path)
{
    size_t n = strlen(path);
    struct str text;
    struct err e;

    bool stanzas = n > 8 && strcmp(path + n - 8, ".sources") == 0;
    if ((!stanzas && (n < 5 || strcmp(path + n - 5, ".list") != 0)) ||
        file_read(a, path, SOURCES_BYTES, &text, &e) < 0)
        return;
    char *copy = arena_dup(a, text.p, text.n);
    if (stanzas)
        take_stanzas(a, s, copy);
    else
        take_lines(a, s, copy);
}

/* What mmdebstrap gets: the suite, and a file of sources (two, if the host writes both forms). */
static int host_sources(struct arena *a, const char *mirror, struct sources *s, struct err *e)
{
    struct dirent **files = NULL;

    *s = (struct sources){ .text = BUF(SOURCES_BYTES), .lines = BUF(SOURCES_BYTES) };
    if (!*mirror) {
        take_file(a, s, "/etc/apt/sources.list");
        int n = scandir("/etc/apt/sources.list.d", &files, NULL, alphasort);
        for (int i = 0; i < n; i++) {
            take_file(a, s, arena_printf(a, "/etc/apt/sources.list.d/%s", files[i]->d_name));
            free(files[i]);
        }
        free(files);
    }
    if (!*s->suite)
        snprintf(s->suite, sizeof(s->suite), "bookworm");
    if (*mirror)
        buf_printf(&s->lines, "deb %s %s main\n", mirror, s->suite);
    if (s->text.failed || s->lines.failed)
        return err_set(e, ERR_TOO_LARGE, "the host's list of package sources is too long");
    if (s->text.n == 0 && s->lines.n == 0)
        return err_set(e, ERR_ENGINE_UNAVAILABLE,
                       "this host names no Debian mirror: set compute.debian_mirror");
    return 0;
}

/* ---- the cache ---- */

static void cache_key(const struct recipe *r, const struct sources *s, char hex[IMAGE_HEX])
{
    _cleanup_(buf_free) struct buf b = BUF(4 * SOURCES_BYTES);
    uint8_t hash[32];

    buf_printf(&b, "1\n%s\n%s\n", r->packages, s->suite);
    buf_put(&b, s->text.p, s->text.n);
    buf_put(&b, s->lines.p, s->lines.n);
    sha256(b.p, b.n, hash);
    hex_encode(hash, sizeof(hash), hex);
}

/* One builds, the others on this host wait and find it built. */
static int cache_lock(const struct image_paths *p, const char *name, struct err *e)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/%s.lock", p->cache, name);
    _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_sys(e, errno, "open %s", path);
    while (flock(fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return err_sys(e, errno, "lock %s", path);
    return TAKE_FD(fd);
}

/* Compresses 'from' to 'to', written to the disk. */
static int compress_file(const char *from, const char *to, struct err *e)
{
    _cleanup_close_ int in = open(from, O_RDONLY | O_CLOEXEC);
    _cleanup_close_ int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    static const char why[] = "compress a layer";
    char block[BLOCK];
    ssize_t n = -1;
    int result = 0;

    TRY(archive_open(e));
    struct archive *a = archive_write_new();
    struct archive_entry *en = archive_entry_new();

    if (!a || !en)
        abort();
    archive_entry_set_pathname(en, "data");
    archive_entry_set_filetype(en, AE_IFREG);
    if (in < 0 || out < 0 || archive_write_add_filter_zstd(a) != ARCHIVE_OK ||
        archive_write_set_format_raw(a) != ARCHIVE_OK ||
        archive_write_open_fd(a, out) != ARCHIVE_OK || archive_write_header(a, en) != ARCHIVE_OK)
        result = err_sys(e, errno, "%s", why);
    while (result == 0 && (n = read(in, block, sizeof(block))) > 0)
        if (archive_write_data(a, block, (size_t)n) != n)
            result = err_sys(e, archive_errno(a), "%s", why);
    if (result == 0 && (n < 0 || archive_write_close(a) != ARCHIVE_OK || fsync(out) < 0))
        result = err_sys(e, errno, "%s", why);
    archive_entry_free(en);
    archive_write_free(a);
    return result;
}

/* ---- Debian ---- */

static int write_sources(struct arena *a, const char *dir, const struct sources *s,
                         const char **files, struct err *e)
{
    size_t n = 0;

    if (s->text.n) {
        files[n] = arena_printf(a, "%s/debian.sources", dir);
        TRY(file_write(files[n++], s->text.p, s->text.n, 0644, e));
    }
    if (s->lines.n) {
        files[n] = arena_printf(a, "%s/debian.list", dir);
        TRY(file_write(files[n++], s->lines.p, s->lines.n, 0644, e));
    }
    return 0;
}

/* The line of the log that says what went wrong. */
static int build_failed(struct arena *a, const char *log, const struct recipe *r, struct err *e)
{
    struct str text;
    struct err unread;
    const char *found = "mmdebstrap failed";

    if (file_read(a, log, MIB(8), &text, &unread) == 0) {
        char *at = arena_dup(a, text.p, text.n), *line;
        while ((line = strsep(&at, "\n")))
            if (strncmp(line, "E: ", 3) == 0 || strncmp(line, "Err:", 4) == 0)
                found = line;
    }
    return err_cause(e, ERR_ENGINE_UNAVAILABLE, found,
                     "%s could not be built from Debian packages: %.90s", r->name, found);
}

static int mmdebstrap(struct arena *a, const struct recipe *r, const struct sources *s,
                      const char *dir, struct progress *g, const char *archive, struct err *e)
{
    const char *files[3] = { NULL };
    const char *log = arena_printf(a, "%s/log", dir), *tar = arena_printf(a, "%s/tar", dir);

    TRY(write_sources(a, dir, s, files, e));
    /* PostgreSQL's package makes no cluster; the first start does. */
    static const char no_cluster[] =
        "--essential-hook=mkdir -p \"$1/etc/postgresql-common\" && echo 'create_main_cluster = false'"
        " > \"$1/etc/postgresql-common/createcluster.conf\"";
    const char *const argv[] = {
        "mmdebstrap",
        "--mode=root",
        "--format=tar",
        "--variant=apt",
        arena_printf(a, "--logfile=%s", log),
        arena_printf(a, "--include=%s", *r->packages ? r->packages : "ca-certificates"),
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/info/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        no_cluster,
        s->suite,
        tar,
        files[0],
        files[1],
        NULL,
    };
    const char *const env[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                "LANG=C.UTF-8",
                                "HOME=/root",
                                arena_printf(a, "TMPDIR=%s", dir),
                                "DEBIAN_FRONTEND=noninteractive",
                                NULL };
    struct process_opts o = { .argv = argv, .env = env, .timeout = BUILD_TIME };
    struct process_result result;

    if (!process_which(a, "mmdebstrap"))
        return err_set(e, ERR_ENGINE_UNAVAILABLE,
                       "built-in images are made by mmdebstrap, which this host does not have");
    progress_set(g, 5, "installing Debian packages", log);
    TRY(process_run(a, &o, &result, e));
    if (result.status != 0)
        return build_failed(a, log, r, e);
    progress_set(g, 80, "packing", NULL);
    const char *made = arena_printf(a, "%s/tar.zst", dir);
    TRY(compress_file(tar, made, e));
    if (rename(made, archive) < 0)
        return err_sys(e, errno, "rename to %s", archive);
    return 0;
}

static int open_cached(const char *archive)
{
    return open(archive, O_RDONLY | O_CLOEXEC);
}

/* Folders of builders that were killed: whoever has the lock may remove them. */
static void sweep_cache(const struct image_paths *p, const char *name)
{
    struct dirent *f;
    char prefix[80], path[700];
    struct err e;
    DIR *d = opendir(p->cache);

    snprintf(prefix, sizeof(prefix), ".new-%s-", name);
    while (d && (f = readdir(d))) {
        if (strncmp(f->d_name, prefix, strlen(prefix)) != 0)
            continue;
        snprintf(path, sizeof(path), "%s/%s", p->cache, f->d_name);
        if (dir_remove(path, &e) < 0)
            log_err(LOG_WARN, "image_rest_stays", &e);
    }
    if (d)
        closedir(d);
}

/* The packages' archive, from the cache or made; its descriptor. */
static int packages(const struct image_paths *p, struct arena *a, const struct recipe *r,
                    const struct sources *s, struct progress *g, const char *archive, struct err *e)
{
    int fd = open_cached(archive);

    if (fd >= 0)
        return fd;
    progress_set(g, 1, "waiting for another build", NULL);
    _cleanup_close_ int lock = cache_lock(p, r->name, e);
    TRY(lock);
    if ((fd = open_cached(archive)) >= 0)
        return fd;
    sweep_cache(p, r->name);
    char *dir = arena_printf(a, "%s/.new-%s-XXXXXX", p->cache, r->name);
    if (!mkdtemp(dir) || chmod(dir, 0755) < 0)
        return err_sys(e, errno, "make a folder in %s", p->cache);
    int result = mmdebstrap(a, r, s, dir, g, archive, e);
    struct err ignored;
    if (dir_remove(dir, &ignored) < 0)
        log_err(LOG_WARN, "image_rest_stays", &ignored);
    TRY(result);
    fd = open_cached(archive);
    return fd < 0 ? err_sys(e, errno, "open %s", archive) : fd;
}

static int debian_layer(const struct image_paths *p, struct arena *a, const struct recipe *r,
                        struct progress *g, struct manifest *m, struct err *e)
{
    struct sources s;
    char key[IMAGE_HEX];
    int failed = host_sources(a, p->mirror, &s, e);

    cache_key(r, &s, key);
    const char *archive = arena_printf(a, "%s/%s-%.16s.tar.zst", p->cache, r->name, key);
    _cleanup_close_ int fd = failed ? -1 : packages(p, a, r, &s, g, archive, e);
    buf_free(&s.text);
    buf_free(&s.lines);
    TRY(fd);
    progress_set(g, 90, "unpacking", NULL);
    if (layer_add_file(p, fd, m, NULL, e) < 0) {
        if (e->code == ERR_INVALID) /* damaged in the cache: the next try makes it anew */
            unlink(archive);
        return -1;
    }
    return 0;
}

int image_build(const struct image_paths *p, struct arena *a, const struct recipe *r,
                struct progress *g, struct manifest *out, struct err *e)
{
    progress_set(g, 1, "starting", NULL);
    TRY(r->packages ? debian_layer(p, a, r, g, out, e) : busybox(p, a, out, e));
    if (r->files)
        TRY(files_layer(p, r, out, e));
    out->entrypoint = "[]";
    out->cmd = r->cmd;
    out->env = r->env;
    out->cwd = r->cwd;
    out->user = r->user;
    manifest_seal(out);
    return 0;
}
