/* SPDX-License-Identifier: Apache-2.0 */
/* Asks what listens in an instance whether it is well, from inside of its network: by a socket that
 * is made there and used from here. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "drivers/compute/oci_impl.h"
#include "os/ns.h"

enum { HEAD_BYTES = 12 }; /* "HTTP/1.1 200" */

static int check(const struct compute_probe *p, struct err *e)
{
    if (p->port < 1 || p->port > 65535 || p->timeout < 1 || p->timeout > COMPUTE_PROBE_MAX)
        return err_set(e, ERR_INVALID, "a probe's port or time is out of range");
    if (p->kind == COMPUTE_PROBE_HTTP &&
        (!p->path || p->path[0] != '/' || strpbrk(p->path, " \t\r\n") || strlen(p->path) > 1024))
        return err_set(e, ERR_INVALID, "a probe's path must begin with '/' and have no spaces");
    return 0;
}

/* Its network, and the address it has there: of the process that runs, not of a later one of the
 * same number. */
static int look_up(struct oci *o, struct inst *i, int *netns, struct sockaddr_in *to, struct err *e)
{
    char path[64];
    OCI_LOCK(o);

    if (i->state.status != COMPUTE_RUNNING || i->init_fd < 0)
        return err_set(e, ERR_INVALID_STATE, "the instance is not running");
    snprintf(path, sizeof(path), "/proc/%lld/ns/net", (long long)i->state.pid);
    *netns = open(path, O_RDONLY | O_CLOEXEC);
    if (*netns < 0 || pidfd_send_signal(i->init_fd, 0, NULL, 0) < 0)
        return err_set(e, ERR_INVALID_STATE, "the instance has just ended");
    if (!i->spec.ip || inet_pton(AF_INET, i->spec.ip, &to->sin_addr) != 1)
        to->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return 0;
}

static bool await(int fd, short what, int64_t until)
{
    struct pollfd p = { .fd = fd, .events = what };
    int64_t left;
    int n = 0;

    while ((left = until - clock_mono(clock_system())) > 0 && n == 0) {
        n = poll(&p, 1, (int)(left / 1000) + 1);
        if (n < 0 && errno == EINTR)
            n = 0;
    }
    return n > 0;
}

/* NULL: it accepted. */
static const char *reach(struct arena *a, int fd, const struct sockaddr_in *to, int64_t until)
{
    int port = ntohs(to->sin_port), why = 0;
    socklen_t n = sizeof(why);

    if (connect(fd, (const struct sockaddr *)(const void *)to, sizeof(*to)) < 0) {
        why = errno;
        if (why == EINPROGRESS) {
            if (!await(fd, POLLOUT, until))
                return arena_printf(a, "port %d does not answer in time", port);
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &n);
        }
    }
    return !why ? NULL
           : why == ECONNREFUSED
               ? arena_printf(a, "port %d refuses connections", port)
               : arena_printf(a, "port %d cannot be reached: %s", port, strerrordesc_np(why));
}

static const char *get(struct arena *a, int fd, const struct sockaddr_in *to, const char *path,
                       int64_t until)
{
    char ip[INET_ADDRSTRLEN], head[HEAD_BYTES + 1] = "";
    int port = ntohs(to->sin_port);
    size_t got = 0;

    inet_ntop(AF_INET, &to->sin_addr, ip, sizeof(ip));
    const char *ask = arena_printf(a,
                                   "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: brume\r\n"
                                   "Accept: */*\r\nConnection: close\r\n\r\n",
                                   path, ip, port);
    if (send(fd, ask, strlen(ask), MSG_NOSIGNAL) != (ssize_t)strlen(ask)) /* a fresh socket's
                                                                             room is more */
        return arena_printf(a, "port %d takes no request", port);
    while (got < HEAD_BYTES && await(fd, POLLIN, until)) {
        ssize_t n = recv(fd, head + got, HEAD_BYTES - got, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            break;
        got += n > 0 ? (size_t)n : 0;
    }
    if (got < HEAD_BYTES)
        return arena_printf(a, "port %d gives no answer to GET %s", port, path);
    if (strncmp(head, "HTTP/1.", 7) != 0 || head[8] != ' ')
        return arena_printf(a, "port %d does not speak HTTP", port);
    return head[9] == '2' || head[9] == '3' ? NULL
                                            : arena_printf(a, "GET %s answers %s", path, head + 9);
}

int oci_probe(struct compute *h, struct arena *a, const struct uuid *id,
              const struct compute_probe *p, const char **fault, struct err *e)
{
    struct oci *o = oci_of(h);
    struct sockaddr_in to = { .sin_family = AF_INET };
    int64_t until = clock_mono(clock_system()) + p->timeout;
    _cleanup_close_ int netns = -1;

    TRY(check(p, e));
    TRY(oci_must_run(o, id, e)); /* what is being started is not waited for */
    struct inst *i = oci_take(o, id);
    if (!i)
        return err_set(e, ERR_NOT_FOUND, "the host has no such instance");
    int r = look_up(o, i, &netns, &to, e);
    oci_release(o, i);
    TRY(r);
    to.sin_port = htons((uint16_t)p->port);
    _cleanup_close_ int fd =
        ns_socket(netns, AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, e);
    if (fd < 0)
        return -1;
    const char *wrong = reach(a, fd, &to, until);
    if (!wrong && p->kind == COMPUTE_PROBE_HTTP)
        wrong = get(a, fd, &to, p->path, until);
    *fault = wrong;
    return 0;
}
