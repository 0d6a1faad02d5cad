#include "tests/lib/scratch.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/file.h"
#include "base/memory.h"

enum { PORT_MIN = 10000, PORT_MAX = 32000 };

char *scratch_new(void) {
        const char *base = getenv("TMPDIR") ?: "/tmp";
        char *path = NULL;

        if (asprintf(&path, "%s/fleetd-test-XXXXXX", base) < 0 || !mkdtemp(path))
                abort();
        return path;
}

char *scratch_free(char *path) {
        if (path) {
                int r = remove_tree_at(AT_FDCWD, path);

                assert(r == 0);
                free(path);
        }
        return NULL;
}

char *scratch_path(const char *scratch, const char *name) {
        char *path = NULL;

        if (asprintf(&path, "%s/%s", scratch, name) < 0)
                abort();
        return path;
}

void scratch_write(const char *path, const char *text) {
        FILE *f = fopen(path, "we");

        if (!f || fputs(text, f) < 0 || fclose(f) != 0)
                abort();
}

int scratch_port(void) {
        for (int i = 0; i < 1000; i++) {
                struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
                uint16_t n;
                int fd, r;

                if (getrandom(&n, sizeof(n), 0) != sizeof(n))
                        continue;
                a.sin_port = htons(PORT_MIN + n % (PORT_MAX - PORT_MIN + 1));
                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                r = fd < 0 ? -1 : bind(fd, (struct sockaddr *) &a, sizeof(a));
                if (fd >= 0)
                        close(fd);
                if (r == 0)
                        return ntohs(a.sin_port);
        }
        abort();
}
