/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets.  Ours share their port by SO_REUSEPORT, which lets a second brume of the same
 * user in without a word; so the port is first asked for without it. */

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "codec/cidr.h"
#include "codec/text.h"
#include "http/server.h"
#include "roles/roles.h"

enum { BACKLOG = 4096 };

/* Whether one who listens at 'hex' (words in the machine's order, as in /proc/net/tcp) and one who
 * would at 'host' get the same connections: the addresses are one, or one of them is every one. */
static bool meets(const char *hex, const char *host)
{
    struct ip a = { .family = strlen(hex) == 8 ? 4 : 6 }, b;
    static const struct ip every;

    for (size_t i = 0; i < (a.family == 4 ? 1U : 4U); i++) {
        uint32_t word;

        if (sscanf(hex + 8 * i, "%8x", &word) != 1)
            return false;
        memcpy(a.b + 4 * i, &word, sizeof(word));
    }
    if (!ip_parse(str_of(host), &b))
        return false;
    return memcmp(a.b, every.b, sizeof(a.b)) == 0 || memcmp(b.b, every.b, sizeof(b.b)) == 0 ||
           (a.family == b.family && memcmp(a.b, b.b, a.family == 4 ? 4 : 16) == 0);
}

/* The inode in a line of /proc/net/tcp, tcp6 or unix, if it is of a socket that listens at 'at'; 0
 * if not. */
static unsigned long inode_of(const char *line, const struct listen_address *at)
{
    char path[sizeof(at->host)];
    char address[33];
    unsigned p, state;
    unsigned long inode;

    if (!strncmp(at->host, "unix:", 5))
        return sscanf(line, "%*s %*s %*s %*s %*s %*s %lu %107s", &inode, path) == 2 &&
                       !strcmp(path, at->host + 5)
                   ? inode
                   : 0;
    return sscanf(line, " %*d: %32[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*s %*s %lu",
                  address, &p, &state, &inode) == 4 &&
                   (int)p == at->port && state == 10 && meets(address, at->host)
               ? inode
               : 0;
}

static bool has_socket(const char *pid, const char *wanted)
{
    char path[300], target[64];
    DIR *d;
    struct dirent *f;
    bool found = false;

    snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
    d = opendir(path);
    while (d && !found && (f = readdir(d))) {
        ssize_t n = readlinkat(dirfd(d), f->d_name, target, sizeof(target) - 1);

        if (n > 0) {
            target[n] = '\0';
            found = !strcmp(target, wanted);
        }
    }
    if (d)
        closedir(d);
    return found;
}

/* True if 'fn' says so of one of the sockets that listen there, as "socket:[INODE]". */
static bool any_listener(const struct listen_address *at, bool (*fn)(void *ctx, const char *socket),
                         void *ctx)
{
    static const char *const tables[] = { "/proc/net/tcp", "/proc/net/tcp6", "/proc/net/unix" };
    bool found = false;

    for (size_t i = 0; i < ARRAY_LEN(tables) && !found; i++) {
        FILE *f = fopen(tables[i], "re");
        char line[512], name[64];

        if (!f || (i == 2) != !strncmp(at->host, "unix:", 5)) {
            if (f)
                fclose(f);
            continue;
        }
        while (!found && fgets(line, sizeof(line), f)) {
            unsigned long inode = inode_of(line, at);

            snprintf(name, sizeof(name), "socket:[%lu]", inode);
            found = inode && fn(ctx, name);
        }
        fclose(f);
    }
    return found;
}

static bool held(void *ctx, const char *socket)
{
    return has_socket(ctx, socket);
}

bool listen_held(const struct listen_address *at, pid_t pid)
{
    char text[24];

    snprintf(text, sizeof(text), "%d", (int)pid);
    return any_listener(at, held, text);
}

static void describe(const char *pid, char *out, size_t n)
{
    char path[64], comm[64] = "?";
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
    f = fopen(path, "re");
    if (f) {
        if (fgets(comm, sizeof(comm), f))
            comm[strcspn(comm, "\n")] = '\0';
        fclose(f);
    }
    snprintf(out, n, "%s (pid %.20s)", comm, pid);
}

struct owner {
    char *out;
    size_t n;
};

static bool name_owner(void *ctx, const char *socket)
{
    const struct owner *o = ctx;
    DIR *d = opendir("/proc");
    bool found = false;
    struct dirent *p;

    while (d && !found && (p = readdir(d))) {
        found = p->d_name[0] >= '1' && p->d_name[0] <= '9' && has_socket(p->d_name, socket);
        if (found)
            describe(p->d_name, o->out, o->n);
    }
    if (d)
        closedir(d);
    return found;
}

void listen_owner(const struct listen_address *at, char *out, size_t n)
{
    struct owner o = { out, n };

    snprintf(out, n, "another process");
    any_listener(at, name_owner, &o);
}

/* Is the port ours for the asking? */
static int probe(const struct listen_address *at, struct err *e)
{
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)at->port) };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)at->port) };
    bool six = strchr(at->host, ':') != NULL;
    _cleanup_close_ int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr *sa = six ? (const void *)&v6 : (const void *)&v4;
    char who[128];
    int yes = 1;

    if (fd < 0 || inet_pton(six ? AF_INET6 : AF_INET, at->host,
                            six ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr) != 1)
        return err_set(e, ERR_INVALID, "cannot listen on %s", at->host);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (bind(fd, sa, six ? sizeof(v6) : sizeof(v4)) == 0 && listen(fd, 1) == 0)
        return 0;
    if (errno != EADDRINUSE)
        return err_set(e, ERR_INVALID, "cannot listen on %s:%d: %s", at->host, at->port,
                       strerror(errno));
    listen_owner(at, who, sizeof(who));
    return err_set(e, ERR_ALREADY_EXISTS,
                   "port %d is used by %s: stop it, or take another port with --listen %s:PORT",
                   at->port, who, at->host);
}

int listen_open(const struct listen_address *at, size_t n, int *out, struct err *e)
{
    int port = at->port;

    if (!strncmp(at->host, "unix:", 5)) {
        out[0] = http_listen(at->host, 0, BACKLOG, e);
        for (size_t i = 1; out[0] >= 0 && i < n; i++)
            out[i] = fcntl(out[0], F_DUPFD_CLOEXEC, 3);
        return out[0] < 0 ? -1 : 0;
    }
    if (port)
        TRY(probe(at, e));
    for (size_t i = 0; i < n; i++) {
        out[i] = http_listen(at->host, port, BACKLOG, e);
        if (out[i] < 0) {
            while (i--)
                close(out[i]);
            return -1;
        }
        if (!port)
            port = http_listen_port(out[i]);
    }
    return 0;
}

int serve_io_threads(const struct config *c)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (c->io_threads > 0)
        return (int)MIN(c->io_threads, (int64_t)LISTENERS_MAX);
    return (int)MAX(1L, MIN(cores, 4L));
}
