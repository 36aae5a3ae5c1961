/* SPDX-License-Identifier: Apache-2.0 */
/* A role's own side of its start: what it inherits from the supervisor, or makes when it is started
 * alone. */

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/log.h"
#include "codec/text.h"
#include "core/app.h"
#include "drivers/compute/compute.h"
#include "drivers/drivers.h"
#include "drivers/image/image.h"
#include "drivers/net/net.h"
#include "os/file.h"
#include "os/thread.h"
#include "roles/agent.h"
#include "roles/edge.h"
#include "roles/roles.h"
#include "services/services.h"

enum { CONFIG_BYTES = 256 * 1024 };

static enum log_level level_of(const struct config *c)
{
    static const char *const levels[] = { "debug", "info", "warn", "error" };
    enum log_level level = LOG_INFO;

    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        if (!strcmp(levels[i], c->log_level))
            level = (enum log_level)i;
    return level;
}

void role_log(const struct config *c, const char *role)
{
    log_init(level_of(c), !strcmp(c->log_format, "json"), role);
}

void role_log_level(const struct config *c)
{
    log_set_level(level_of(c));
}

void role_needs_restart(void *ctx _unused_, const struct setting *key)
{
    log_event(LOG_WARN, "needs_restart", L_STR("key", key->name));
}

struct config *role_config(struct err *e)
{
    struct buf text = BUF(CONFIG_BYTES), faults = BUF(KIB(16));
    struct config *c = NULL;
    ssize_t n = 1;

    while (n > 0) {
        char *room = buf_room(&text, 4096);

        n = room ? pread(FD_CONFIG, room, 4096, (off_t)text.n) : -1;
        if (n > 0)
            buf_grew(&text, (size_t)n);
    }
    if (n < 0)
        err_sys(e, errno, "read the configuration");
    else
        c = config_load_text(settings_of(all_services, all_drivers).of, buf_str(&text),
                             "the supervisor's configuration", 0, NULL, NULL, &faults, e);
    if (faults.n)
        log_event(LOG_ERROR, "configuration_refused", L_STR("faults", buf_cstr(&faults)));
    buf_free(&text);
    buf_free(&faults);
    return c;
}

void role_say(const struct launch *l, const char *fmt, ...)
{
    struct buf line = BUF(512);
    struct err e;
    va_list ap;

    if (l->ready_fd < 0)
        return;
    va_start(ap, fmt);
    buf_vprintf(&line, fmt, ap);
    va_end(ap);
    buf_putc(&line, '\n');
    if (!line.failed)
        (void)!fd_write_all(l->ready_fd, line.p, line.n, &e);
    if (line.p)
        explicit_bzero(line.p, line.n);
    buf_free(&line);
}

int role_bind(const struct launch *l, struct err *e)
{
    if (!l->supervisor)
        return 0;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return err_sys(e, errno, "PR_SET_PDEATHSIG");
    if (getppid() != l->supervisor)
        return err_set(e, ERR_INTERNAL, "the supervisor is gone");
    return 0;
}

void role_raise_files(void)
{
    struct rlimit l;

    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
        l.rlim_cur = l.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &l) < 0)
            log_event(LOG_WARN, "files_limited", L_INT("errno", errno));
    }
}

static void *leave(void *arg)
{
    const int64_t *patience = arg;

    usleep((useconds_t)*patience);
    log_event(LOG_INFO, "left_work_undone");
    _exit(0);
}

void role_leave_within(int64_t patience)
{
    static int64_t kept;

    kept = patience;
    pthread_detach(thread_start("leave", leave, &kept));
}

static const char *variable(const char *const *env, const char *name)
{
    size_t n = strlen(name);

    for (; env && *env; env++)
        if (!strncmp(*env, name, n) && (*env)[n] == '=')
            return *env + n + 1;
    return NULL;
}

/* What the supervisor handed down; nothing if there is none. */
static void inherit(const char *const *env, struct launch *l)
{
    const char *pid = variable(env, ENV_SUPERVISOR), *n = variable(env, ENV_LISTENERS);
    int64_t value;

    *l = (struct launch){ .ready_fd = -1 };
    if (!pid || !int_parse(str_of(pid), 1, INT32_MAX, &value) || (pid_t)value != getppid())
        return;
    l->supervisor = (pid_t)value;
    l->ready_fd = FD_READY;
    fcntl(FD_CONFIG, F_SETFD, FD_CLOEXEC);
    fcntl(FD_READY, F_SETFD, FD_CLOEXEC);
    if (!n || !int_parse(str_of(n), 0, LISTENERS_MAX, &value))
        return;
    for (size_t i = 0; i < (size_t)value; i++) {
        l->listeners[i] = FD_LISTEN + (int)i;
        fcntl(l->listeners[i], F_SETFD, FD_CLOEXEC);
    }
    l->n_listeners = (size_t)value;
}

static int agent_role(const struct config *c, const struct launch *l)
{
    struct arena a = ARENA(KIB(64));
    char installation[9];
    uid_t uid;
    gid_t gid;
    struct err e = { 0 };
    int rc = -1;

    if (geteuid() != 0) {
        fputs("brume: the agent role needs root: it makes namespaces, mounts and firewall rules\n",
              stderr);
        return EXIT_HOPELESS;
    }
    if (user_find(c->user, &uid, &gid, &e) == 0 && place_make(c, uid, gid, &e) == 0 &&
        place_installation(c->state_dir, installation, &e) == 0 && role_bind(l, &e) == 0) {
        struct agent_opts o = {
            .socket_path = place_agent_socket(&a, c),
            .edge_socket = place_edge_socket(&a, c),
            .state_dir = arena_printf(&a, "%s/agent", c->state_dir),
            .cache_dir = c->cache_dir,
            .installation = installation,
            .compute = config_values(c, &compute_settings),
            .net = config_values(c, &net_settings),
            .images = config_values(c, &image_settings),
            .api_uid = uid,
            .shim_path = place_shim(&a),
            .ready_fd = l->ready_fd,
        };

        if (!o.shim_path)
            err_set(&e, ERR_INVALID, "brume-shim is not installed beside brume");
        else
            rc = agent_run(&o, &e);
    }
    arena_free(&a);
    if (rc < 0)
        log_err(LOG_ERROR, "agent_failed", &e);
    return rc < 0 ? 1 : 0;
}

static int edge_role(const struct config *c, const struct launch *l)
{
    if (geteuid() == 0)
        return edge_run(c, l);
    fputs("brume: the edge role needs root for its start: it becomes its own user then\n", stderr);
    return EXIT_HOPELESS;
}

int role_main(const char *role, int argc, const char *const *argv, const char *const *env)
{
    struct launch l;
    struct config *c;
    struct err e = { 0 };
    int rc;

    inherit(env, &l);
    l.argc = argc;
    l.argv = argv;
    l.env = env;
    log_init(LOG_INFO, false, role);
    c = l.supervisor ? role_config(&e) : serve_config(argc, argv, env);
    if (!c) {
        if (l.supervisor)
            log_err(LOG_ERROR, "role_failed", &e);
        return EXIT_HOPELESS;
    }
    role_log(c, role);
    if (!strcmp(role, "agent")) {
        rc = agent_role(c, &l);
    } else if (!strcmp(role, "api")) {
        rc = api_run(c, &l);
    } else if (!strcmp(role, "edge")) {
        rc = edge_role(c, &l);
    } else {
        fprintf(stderr, "brume: there is no role \"%s\": api, agent or edge\n", role);
        rc = 2;
    }
    config_free(c);
    return rc;
}
