/* SPDX-License-Identifier: Apache-2.0 */
/* `brume serve`: prepares the machine, opens the listeners, and has the supervisor keep the roles.
 * What is said to people on standard output is said here, once; the rest is the log. */

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/log.h"
#include "codec/json.h"
#include "codec/text.h"
#include "core/app.h"
#include "drivers/drivers.h"
#include "http/server.h"
#include "os/file.h"
#include "roles/cli/profile.h"
#include "roles/roles.h"
#include "roles/supervisor.h"
#include "services/services.h"

enum { CONFIG_BYTES = 256 * 1024, SPARE_FILES = 4096 };

struct serve {
    struct config *config;
    int argc;
    const char *const *argv, *const *env;
    char url[160];
    char installation[9];
    int config_fd;   /* ours, writable */
    int config_read; /* what the roles inherit */
    bool announced;
    char key[128], password[128]; /* of a first run, until they have been shown */
};

struct config *serve_config(int argc, const char *const *argv, const char *const *env)
{
    _cleanup_(arena_free) struct arena a = ARENA(MIB(4));
    struct buf faults = BUF(KIB(64));
    struct err e = { 0 };
    struct config *c = config_load(settings_of(all_services, all_drivers).of, CONFIG_DEFAULT_FILE,
                                   argc, argv, clone_below(&a), env, &faults, &e);

    if (!c) {
        fprintf(stderr, "brume: %s\n", e.msg);
        if (faults.n)
            fprintf(stderr, "%s", buf_cstr(&faults));
    }
    buf_free(&faults);
    return c;
}

/* ---- the configuration in force, as the roles read it */

static void put_key(const struct config_key *k, struct json_out *o)
{
    int64_t i;
    bool yes;
    const char *s;

    switch (k->is->type) {
    case SET_INT:
        memcpy(&i, k->at, sizeof(i));
        json_int(o, i);
        break;
    case SET_BOOL:
        memcpy(&yes, k->at, sizeof(yes));
        json_bool(o, yes);
        break;
    case SET_STR:
        memcpy(&s, k->at, sizeof(s));
        json_str(o, s ? s : "");
        break;
    }
}

static int write_config(int fd, const struct config *c, struct err *e)
{
    struct buf b = BUF(CONFIG_BYTES);
    struct json_out o = JSON_OUT(&b);
    const char *section = "";
    int rc = 0;

    for (size_t i = 0; i < c->n_keys; i++) {
        const struct config_key *k = &c->keys[i];
        const char *name = k->is->name, *dot = strchr(name, '.');
        size_t n = (size_t)(dot - name);

        if (strncmp(section, name, n + 1) != 0)
            buf_printf(&b, "%.*s:\n", (int)n, name);
        section = name;
        buf_printf(&b, "  %s: ", dot + 1);
        o.comma = 0;
        put_key(k, &o);
        buf_putc(&b, '\n');
    }
    if (b.failed || pwrite(fd, b.p, b.n, 0) != (ssize_t)b.n || ftruncate(fd, (off_t)b.n) < 0)
        rc = err_sys(e, b.failed ? E2BIG : errno, "write the configuration for the roles");
    buf_free(&b);
    return rc;
}

/* A role can read it, and only root can write it. */
static int open_config(struct serve *s, struct err *e)
{
    char path[64];

    s->config_fd = memfd_create("brume-config", MFD_CLOEXEC);
    if (s->config_fd < 0 || fchmod(s->config_fd, 0444) < 0)
        return err_sys(e, errno, "memfd");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", s->config_fd);
    s->config_read = open(path, O_RDONLY | O_CLOEXEC);
    if (s->config_read < 0)
        return err_sys(e, errno, "memfd");
    return write_config(s->config_fd, s->config, e);
}

static void on_hangup(void *ctx)
{
    struct serve *s = ctx;
    struct config *c = serve_config(s->argc, s->argv, s->env);
    struct err e = { 0 };

    if (!c) {
        log_event(LOG_ERROR, "not_reloaded", L_STR("reason", "the configuration has faults"));
        return;
    }
    config_follow(c, s->config, role_needs_restart, NULL);
    if (write_config(s->config_fd, c, &e) < 0)
        log_err(LOG_ERROR, "not_reloaded", &e);
    role_log_level(c);
    config_free(c);
}

/* ---- what people are told */

/* Where the key is kept for the client of who called. */
struct kept {
    char profile[24];
    bool current; /* it is the one that commands use */
    char file[512];
};

/* As the user who called (through sudo, perhaps): writes a profile that nobody has yet, "local" if
 * it can be.  Runs in a child. */
static int write_profile(const struct serve *s, const struct passwd *pw, const char *home,
                         struct kept *kept)
{
    struct arena a = ARENA(MIB(4));
    struct profiles all = { 0 };
    struct profile *p;
    struct err e;
    const char *path = profiles_path(&a, home);

    snprintf(kept->file, sizeof(kept->file), "%s", path);
    if (pw->pw_uid != geteuid() && (initgroups(pw->pw_name, pw->pw_gid) < 0 ||
                                    setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) < 0 ||
                                    setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0))
        return 1;
    if (profiles_load(&a, path, &all, &e) < 0)
        return 1;
    snprintf(kept->profile, sizeof(kept->profile), "local");
    for (int i = 2; profiles_find(&all, kept->profile); i++)
        snprintf(kept->profile, sizeof(kept->profile), "local-%d", i);
    if (all.n == 0)
        all.current = kept->profile;
    kept->current = all.current && strcmp(all.current, kept->profile) == 0;
    p = profiles_add(&a, &all, kept->profile);
    p->url = s->url;
    p->api_key = s->key;
    return profiles_save(&all, path, &e) < 0;
}

static const char *variable(const struct serve *s, const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; s->env && s->env[i]; i++)
        if (!strncmp(s->env[i], name, n) && s->env[i][n] == '=' && s->env[i][n + 1])
            return s->env[i] + n + 1;
    return NULL;
}

/* True if the caller's client knows the key now. */
static bool keep_key(const struct serve *s, struct kept *kept)
{
    const char *sudo = variable(s, "SUDO_USER"), *home = variable(s, "HOME");
    const struct passwd *pw = sudo && geteuid() == 0 ? getpwnam(sudo) : getpwuid(geteuid());
    struct kept *shared;
    int status;
    pid_t pid;

    if (!pw)
        return false;
    if (!home || (sudo && geteuid() == 0))
        home = pw->pw_dir;
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!shared || shared == MAP_FAILED)
        return false;
    pid = fork();
    if (pid == 0)
        _exit(write_profile(s, pw, home, shared));
    bool ok =
        pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    *kept = *shared;
    munmap(shared, sizeof(*shared));
    return ok;
}

static void say_kept(const struct kept *kept, const char *brume)
{
    printf("Both are shown this once; the key is also in profile \"%s\" of %s.\n", kept->profile,
           kept->file);
    if (!kept->current)
        printf("The client has another profile: `%s config use %s` takes this one.\n", brume,
               kept->profile);
}

static void announce(struct serve *s)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(64));
    const char *brume = clone_command(&a);
    struct kept kept = { "" };

    printf("brume " BRUME_VERSION " serves at %s\n", s->url);
    if (s->key[0]) {
        bool known = keep_key(s, &kept);

        printf("\nThis is its first run: it made the user admin@localhost, who runs this cloud.\n"
               "  key       %s\n",
               s->key);
        if (s->password[0])
            printf("  password  %s\n", s->password);
        if (known)
            say_kept(&kept, brume);
        else
            printf("Both are shown this once. For the client: export BRUME_API_KEY=<the key>\n");
        printf("\nTry, in another terminal:\n"
               "  %s instance create --name web --image nginx --ports 8088:80 --wait\n"
               "  curl http://127.0.0.1:8088/\n"
               "  %s instance list\n"
               "  %s help\n\n",
               brume, brume, brume);
    }
    fflush(stdout);
    explicit_bzero(s->key, sizeof(s->key));
    explicit_bzero(s->password, sizeof(s->password));
}

/* systemd's protocol (sd_notify(3)): one datagram. */
static void notify_manager(const struct serve *s)
{
    const char *path = variable(s, "NOTIFY_SOCKET");
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    static const char text[] = "READY=1";
    _cleanup_close_ int fd = -1;
    size_t n = path ? strlen(path) : 0;

    if (!n || n >= sizeof(at.sun_path) || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(at.sun_path, path, n);
    if (path[0] == '@')
        at.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        (void)!sendto(fd, text, sizeof(text) - 1, MSG_NOSIGNAL, (const struct sockaddr *)&at,
                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
}

static void on_line(void *ctx, const char *line)
{
    struct serve *s = ctx;

    if (!strncmp(line, "key ", 4)) {
        snprintf(s->key, sizeof(s->key), "%s", line + 4);
    } else if (!strncmp(line, "password ", 9)) {
        snprintf(s->password, sizeof(s->password), "%s", line + 9);
    } else if (!strcmp(line, "ready") && (!s->announced || s->key[0])) {
        if (!s->announced)
            notify_manager(s);
        s->announced = true;
        announce(s);
    }
}

/* ---- preparing */

static int need_root(void)
{
    _cleanup_(arena_free) struct arena a = ARENA(KIB(64));

    if (geteuid() == 0)
        return 0;
    fprintf(stderr,
            "brume: serving needs root, for containers, networks and mounts (the API itself runs as"
            " the user brume): run `sudo %s`, or the same as root\n",
            clone_root(&a) ? "make run" : "brume serve");
    return -1;
}

static int prepare(struct serve *s, int *lock, struct err *e)
{
    struct config *c = s->config;
    struct rlimit files = { 0 };
    uid_t uid;
    gid_t gid;

    if (!c->fake_drivers)
        TRY(user_find(c->edge_user, &uid, &gid, e));
    TRY(user_find(c->user, &uid, &gid, e));
    TRY(place_make(c, uid, gid, e));
    TRY(place_installation(c->state_dir, s->installation, e));
    *lock = place_lock(arena_printf(&c->arena, "%s/agent/supervisor.lock", c->state_dir), e);
    if (*lock < 0 && e->code == ERR_INVALID_STATE)
        return err_set(e, ERR_INVALID_STATE,
                       "brume already serves from %s; stop it first, or take another --state-dir",
                       c->state_dir);
    TRY(*lock);
    files.rlim_cur = files.rlim_max =
        (rlim_t)(MAX(c->max_connections, INT64_C(65536)) + SPARE_FILES);
    setrlimit(RLIMIT_NOFILE, &files);
    return open_config(s, e);
}

static void make_url(struct serve *s, const struct listen_address *at, int fd)
{
    const char *scheme = *s->config->tls_cert ? "https" : "http";
    const char *host = at->host;

    if (!strncmp(host, "unix:", 5)) {
        snprintf(s->url, sizeof(s->url), "%s", host);
        return;
    }
    if (!strcmp(host, "0.0.0.0"))
        host = "127.0.0.1";
    else if (!strcmp(host, "::"))
        host = "::1";
    snprintf(s->url, sizeof(s->url), strchr(host, ':') ? "%s://[%s]:%d" : "%s://%s:%d", scheme,
             host, http_listen_port(fd));
}

/* Clean but for what the tools that the agent runs need to reach the outside. */
static const char *const *role_env(struct serve *s, const char *extra)
{
    static const char *const passed[] = { "http_proxy",    "https_proxy", "no_proxy",
                                          "HTTP_PROXY",    "HTTPS_PROXY", "NO_PROXY",
                                          "SSL_CERT_FILE", "TZ" };
    struct arena *a = &s->config->arena;
    const char **env = arena_alloc(a, sizeof(*env) * (ARRAY_LEN(passed) + 5));
    size_t n = 0;

    env[n++] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    env[n++] = "LANG=C.UTF-8";
    env[n++] = "HOME=/";
    if (extra)
        env[n++] = extra;
    for (size_t i = 0; i < ARRAY_LEN(passed); i++)
        if (variable(s, passed[i]))
            env[n++] = arena_printf(a, "%s=%s", passed[i], variable(s, passed[i]));
    return env;
}

static int keep_roles(struct serve *s, const int *listeners, size_t n, struct err *e)
{
    static const char *const agent_argv[] = { "brume", "serve", "--role", "agent", NULL };
    static const char *const edge_argv[] = { "brume", "serve", "--role", "edge", NULL };
    static const char *const api_argv[] = { "brume", "serve", "--role", "api", NULL };
    _cleanup_close_ int exe = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    int plain_fds[] = { s->config_read, -1 };
    int api_fds[FD_LISTEN - FD_CONFIG + LISTENERS_MAX] = { s->config_read, -1 };
    struct child children[3] = { 0 };
    struct supervisor sup = {
        .children = children,
        .backoff_min = MILLIS(100),
        .backoff_max = SECONDS(5),
        .healthy = SECONDS(60),
        .drain = SECONDS(35),
        .on_hangup = on_hangup,
        .ctx = s,
    };

    if (exe < 0)
        return err_sys(e, errno, "open /proc/self/exe");
    memcpy(api_fds + 2, listeners, n * sizeof(int));
    if (!s->config->fake_drivers) {
        children[sup.n++] = (struct child){ .name = "agent", .argv = agent_argv };
        children[sup.n++] =
            (struct child){ .name = "edge", .argv = edge_argv, .wait = MILLIS(100) };
    }
    for (size_t i = 0; i < sup.n; i++) {
        children[i].env = role_env(s, NULL);
        children[i].fds = plain_fds;
        children[i].n_fds = ARRAY_LEN(plain_fds);
    }
    children[sup.n++] = (struct child){
        .name = "api",
        .argv = api_argv,
        .env = role_env(s, arena_printf(&s->config->arena, ENV_LISTENERS "=%zu", n)),
        .fds = api_fds,
        .n_fds = 2 + n,
        .on_line = on_line,
        .ctx = s,
    };
    for (size_t i = 0; i < sup.n; i++) {
        children[i].exe_fd = exe;
        children[i].hopeless = EXIT_HOPELESS;
    }
    return supervise(&sup, e);
}

static int serve_all(struct serve *s, struct err *e)
{
    _cleanup_close_ int lock = -1;
    struct listen_address at;
    int listeners[LISTENERS_MAX];
    size_t n = (size_t)serve_io_threads(s->config);
    int rc;

    TRY(listen_parse(s->config->listen, &at, e));
    if (!at.loopback && !*s->config->tls_cert && !s->config->allow_plain)
        return err_set(e, ERR_INVALID,
                       "%s is not loopback: set server.tls_cert and tls_key, or --allow-plain to "
                       "serve keys and data in clear",
                       s->config->listen);
    TRY(prepare(s, &lock, e));
    TRY(listen_open(&at, n, listeners, e));
    make_url(s, &at, listeners[0]);
    rc = keep_roles(s, listeners, n, e);
    for (size_t i = 0; i < n; i++)
        close(listeners[i]);
    if (!strncmp(at.host, "unix:", 5))
        unlink(at.host + 5);
    return rc;
}

static void print_flags(const struct settings *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->keys[i].flag)
            printf("  --%-14s %s\n", s->keys[i].flag, s->keys[i].doc);
}

static void usage(void)
{
    const struct all_settings more = settings_of(all_services, all_drivers);

    puts("brume serve [--config FILE] [--role api|agent|edge] [flags]\n\n"
         "Serves the cloud on this machine until SIGTERM; as root. SIGHUP reloads what can be.\n"
         "Every key of the configuration is a flag, --section.key VALUE; the short ones:\n");
    print_flags(&config_own);
    for (size_t i = 0; more.of[i]; i++)
        print_flags(more.of[i]);
    puts("\n`brume config` shows all keys with the values in force.");
}

int serve_main(int argc, const char *const *argv, const char *const *env)
{
    struct serve s = { .argc = argc, .argv = argv, .env = env, .config_fd = -1, .config_read = -1 };
    const char *role = NULL;
    struct err e = { 0 };
    int rc;

    for (int i = 0; i < argc; i++) {
        if (!strcmp(argv[i], "--role") && i + 1 < argc)
            role = argv[i + 1];
        else if (!strncmp(argv[i], "--role=", 7))
            role = argv[i] + 7;
        else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            usage();
            return 0;
        }
    }
    umask(022);
    if (role && strcmp(role, "supervisor") != 0)
        return role_main(role, argc, argv, env);
    if (need_root() < 0 || !(s.config = serve_config(argc, argv, env)))
        return 2;
    role_log(s.config, "supervisor");
    signal(SIGPIPE, SIG_IGN);
    rc = serve_all(&s, &e);
    if (rc < 0)
        fprintf(stderr, "brume: %s\n", e.code == ERR_INTERNAL && e.cause[0] ? e.cause : e.msg);
    if (s.config_fd >= 0)
        close(s.config_fd);
    if (s.config_read >= 0)
        close(s.config_read);
    config_free(s.config);
    return rc < 0 ? 1 : rc;
}
