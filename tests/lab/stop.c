/* Stop the daemon of one host of a lab at a step: a library for LD_PRELOAD.
 *
 * The file FLEETD_LAB_STOP has the step, "rename GLOB" or "unlink GLOB", of the path of a file. When a file
 * has got such a name, or is about to be removed, that file becomes FLEETD_LAB_STOP.reached, and the process
 * stops by SIGSTOP. The scenario kills it, cuts the power of its host, or sends SIGCONT. */
#define _GNU_SOURCE
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void step(const char *kind, int dir_fd, const char *name) {
        char pattern[PATH_MAX] = "", link[32], folder[PATH_MAX] = "", line[2 * PATH_MAX], reached[PATH_MAX];
        const char *path = getenv("FLEETD_LAB_STOP");
        FILE *file = path ? fopen(path, "re") : NULL;

        if (!file)
                return;
        if (fscanf(file, "%4095[^\n]", pattern) != 1)
                abort();
        fclose(file);
        snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
        (void) !readlink(link, folder, sizeof(folder) - 1);
        snprintf(line, sizeof(line), "%s %s/%s", kind, folder, name);
        snprintf(reached, sizeof(reached), "%s.reached", path);
        if (fnmatch(pattern, line, 0) == 0 && rename(path, reached) == 0)
                raise(SIGSTOP); /* all threads */
}

int renameat(int from_fd, const char *from, int to_fd, const char *to) {
        int r = (int) syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);

        if (r == 0)
                step("rename", to_fd, to);
        return r;
}

int unlinkat(int dir_fd, const char *name, int flags) {
        step("unlink", dir_fd, name);
        return (int) syscall(SYS_unlinkat, dir_fd, name, flags);
}
