/* SPDX-License-Identifier: Apache-2.0 */
/* The agent role: the drivers of this host behind a socket.  Wiring only. */
#include "roles/agent.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include "base/log.h"
#include "drivers/compute/oci.h"
#include "drivers/compute/server.h"
#include "drivers/image/image.h"
#include "drivers/net/net.h"
#include "os/file.h"
#include "roles/roles.h"

/* For orders that run. */
static const int64_t LEAVE = SECONDS(2);

struct parts {
    struct arena arena;
    struct net *net;
    struct image_store *images;
    struct compute *compute;
    struct compute_server *server;
};

static void parts_free(struct parts *p)
{
    compute_server_free(p->server);
    compute_free(p->compute);
    image_free(p->images);
    net_free(p->net);
    arena_free(&p->arena);
}

static const char *sub(struct parts *p, const struct agent_opts *o, const char *name)
{
    return arena_printf(&p->arena, "%s/%s", o->state_dir, name);
}

static int open_drivers(struct parts *p, const struct agent_opts *o, struct err *e)
{
    struct net_opts net = { .installation = o->installation,
                            .dir = sub(p, o, "net"),
                            .transit_cidr = o->net->transit_cidr,
                            .port_min = (int)o->net->port_min,
                            .port_max = (int)o->net->port_max,
                            .edge_socket = o->edge_socket };
    struct image_local_opts images = { .dir = sub(p, o, "images"),
                                       .cache_dir = o->cache_dir,
                                       .mirror = o->images->mirror,
                                       .registries = o->images->registries };
    struct compute_oci_opts oci = { .dir = sub(p, o, "instances"),
                                    .installation = o->installation,
                                    .runtime = o->compute->runtime,
                                    .shim_path = o->shim_path };

    const char *slash =
        strrchr(o->socket_path, '/'); /* where sockets lie, memory is all there is */

    oci.files_dir =
        arena_printf(&p->arena, "%.*s/files", (int)(slash - o->socket_path), o->socket_path);
    TRY(dir_make(o->state_dir, 0700, e));
    TRY(dir_make(net.dir, 0700, e));
    p->net = net_linux(&net, e);
    p->images = p->net ? image_local(&images, e) : NULL;
    oci.net = p->net;
    oci.images = p->images;
    p->compute = p->images ? compute_oci(&oci, e) : NULL;
    return p->compute ? 0 : -1;
}

static int serve(struct parts *p, const struct agent_opts *o, int signals, struct err *e)
{
    struct compute_server_opts s = { .socket_path = o->socket_path,
                                     .installation = o->installation,
                                     .api_uid = o->api_uid,
                                     .compute = p->compute,
                                     .images = p->images };
    struct signalfd_siginfo info;

    p->server = compute_server_new(&s, e);
    if (!p->server)
        return -1;
    log_event(LOG_INFO, "agent_ready", L_STR("socket", o->socket_path));
    if (o->ready_fd >= 0) {
        if (write(o->ready_fd, "1", 1) != 1)
            log_event(LOG_WARN, "agent_ready_unheard", L_INT("errno", errno));
        close(o->ready_fd);
    }
    while (read(signals, &info, sizeof(info)) != sizeof(info))
        if (errno != EINTR)
            return err_sys(e, errno, "signalfd");
    log_event(LOG_INFO, "agent_stopping", L_INT("signal", info.ssi_signo));
    role_leave_within(LEAVE);
    return 0;
}

int agent_run(const struct agent_opts *o, struct err *e)
{
    struct parts p = { .arena = ARENA(MIB(4)) };
    sigset_t set;

    umask(0022);
    role_raise_files(); /* three an instance and one a stream: the usual 1,024 are too few */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before the first thread, so that all inherit it */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN); /* nothing of what it was started with may change */
    _cleanup_close_ int signals = signalfd(-1, &set, SFD_CLOEXEC);
    if (signals < 0)
        return err_sys(e, errno, "signalfd");
    int r = open_drivers(&p, o, e);
    if (r == 0)
        r = serve(&p, o, signals, e);
    parts_free(&p);
    return r;
}
