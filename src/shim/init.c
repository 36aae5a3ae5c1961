/* SPDX-License-Identifier: Apache-2.0 */
/* brume-init: the first process of a command that is run inside of an instance.
 *
 *     brume-init FD DIR COMMAND ARG…
 *
 * Runs COMMAND (looked for in PATH) in DIR, and says at FD (3 to 9) how that went: "D <errno>" if
 * DIR cannot be entered, "X <errno>" if COMMAND cannot be run, "E <status>" at its end (128 +
 * signal).  What the command leaves running becomes its own and is waited for: the first process of
 * an instance may be one that never asks for its children's ends.  Linked statically, for the
 * instance's own files say nothing about ours; it is handed in as a descriptor and has no name
 * there. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static void say(int fd, char what, unsigned number)
{
    char text[16], *p = text + sizeof(text);

    *--p = '\n';
    do
        *--p = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    *--p = ' ';
    *--p = what;
    while (write(fd, p, (size_t)(text + sizeof(text) - p)) < 0 && errno == EINTR)
        ;
}

/* Where it is found, or errno. */
static int run_from(const char *dir, size_t n, char **argv)
{
    char path[PATH_BYTES];
    size_t name = strlen(argv[0]);

    if (n + 1 + name >= sizeof(path))
        return ENAMETOOLONG;
    memcpy(path, dir, n);
    path[n] = '/';
    memcpy(path + n + 1, argv[0], name + 1);
    execv(path, argv);
    return errno;
}

/* Only returns if it cannot be run. */
static int run(char **argv)
{
    const char *list = getenv("PATH");
    int why = ENOENT;

    if (strchr(argv[0], '/')) {
        execv(argv[0], argv);
        return errno;
    }
    if (!list)
        list = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    while (*list && argv[0][0]) {
        size_t n = strcspn(list, ":");
        int error = n ? run_from(list, n, argv) : run_from(".", 1, argv);
        if (error != ENOENT && error != ENOTDIR)
            why = error;
        list += n + (list[n] == ':');
    }
    return why;
}

/* What it was started with is the command's, and nobody else's to find in a list of processes. */
static void rename_self(int argc, char **argv)
{
    static const char name[] = "exec-init";

    prctl(PR_SET_NAME, name, 0L, 0L, 0L);
    for (int i = 0; i < argc; i++)
        memset(argv[i], 0, strlen(argv[i]));
    memcpy(argv[0], name, sizeof(name));
}

int main(int argc, char **argv)
{
    int fd =
        argc > 3 && argv[1][0] > '2' && argv[1][0] <= '9' && !argv[1][1] ? argv[1][0] - '0' : -1;
    int status, code = 125;

    if (fd < 0 || strlen(argv[0]) < sizeof("exec-init"))
        return 125;
    for (int i = 3; i <= fd; i++)
        fcntl(i, F_SETFD, FD_CLOEXEC);
    if (chdir(argv[2]) < 0) {
        say(fd, 'D', (unsigned)errno);
        return 125;
    }
    prctl(PR_SET_PDEATHSIG, 0L, 0L, 0L, 0L);
    prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L);
    pid_t pid = fork(), ended;
    if (pid <= 0) {
        say(fd, 'X', (unsigned)(pid < 0 ? errno : run(argv + 3)));
        _exit(127);
    }
    for (int i = 0; i < fd; i++) /* the command's alone */
        close(i);
    rename_self(argc, argv);
    while ((ended = waitpid(-1, &status, 0)) > 0 || errno == EINTR)
        if (ended == pid) {
            code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
            say(fd, 'E', (unsigned)code);
            close(fd);
        }
    return code;
}
