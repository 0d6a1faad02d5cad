#include "client/core/resolver.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/parse.h"
#include "units/service.h"

enum { RESOLVE_S = 2, TABLE_MAX = 16 * 1024 * 1024, LINK_SIZE = 64 };

/* Another process asks: getaddrinfo() has no limit of time. */
static bool resolver_knows(const char *name) {
        int status = -1;
        pid_t child = fork();

        if (child == 0) {
                struct addrinfo *all;

                (void) signal(SIGALRM, SIG_DFL);
                (void) alarm(RESOLVE_S);
                _exit(getaddrinfo(name, NULL, NULL, &all) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
        }
        while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
                ;
        return status == 0;
}

static int resolver_read(const char *root, const char *file, char **ret) {
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s%s", root, file) < 0)
                return -ENOMEM;
        return read_file_at(AT_FDCWD, path, TABLE_MAX, ret, NULL);
}

/* -- Port 53 -- */

/* Return the inode of a UDP socket at port 53, whose address fleet-dns needs: its own one (*ret_own), or the
 * wildcard address. 0: there is none.
 *
 * Source: proc_net_udp(5); an address is printed as numbers of the host's byte order. */
static unsigned long resolver_find_socket(const char *root, const char *file, bool *ret_own) {
        _cleanup_free_ char *table = NULL;
        unsigned long found = 0, inode;
        char address[33], port[5];

        if (resolver_read(root, file, &table) < 0)
                return 0;
        for (const char *line = table; *line; line += strcspn(line, "\n"), line += *line == '\n') {
                if (sscanf(line, " %*u: %32[0-9A-F]:%4[0-9A-F] %*s %*s %*s %*s %*s %*s %*s %lu", address,
                           port, &inode) != 3 ||
                    !streq(port, "0035"))
                        continue;
                if (strlen(address) == 8 && strtoul(address, NULL, 16) == inet_addr(SERVICES_DNS)) {
                        *ret_own = true;
                        return inode;
                }
                if (address[strspn(address, "0")] == 0)
                        found = inode;
        }
        return found;
}

/* Return whether the process has the socket: /proc/PID/fd/N is a link to "socket:[INODE]". */
static bool resolver_has_socket(const char *root, const char *pid, const char *socket) {
        char path[PATH_MAX], target[LINK_SIZE];
        const struct dirent *d;
        bool found = false;
        DIR *dir;

        snprintf(path, sizeof(path), "%s/proc/%s/fd", root, pid);
        dir = opendir(path);
        while (dir && !found && (d = readdir(dir))) {
                ssize_t n = readlinkat(dirfd(dir), d->d_name, target, sizeof(target));

                found = n == (ssize_t) strlen(socket) && memcmp(target, socket, (size_t) n) == 0;
        }
        if (dir)
                (void) closedir(dir);
        return found;
}

/* Append the name of the program that has a socket, or "another program": only root sees those of others. */
static void resolver_append_owner(Text *t, const char *root, unsigned long inode) {
        _cleanup_free_ char *path = NULL, *name = NULL, *comm = NULL;
        const struct dirent *d;
        char socket[LINK_SIZE];
        DIR *dir;

        snprintf(socket, sizeof(socket), "socket:[%lu]", inode);
        if (asprintf(&path, "%s/proc", root) < 0) {
                t->error = -ENOMEM;
                return;
        }
        dir = opendir(path);
        while (dir && !name && (d = readdir(dir)))
                if (isdigit((unsigned char) d->d_name[0]) && resolver_has_socket(root, d->d_name, socket) &&
                    asprintf(&name, "/proc/%s/comm", d->d_name) < 0)
                        name = NULL;
        if (dir)
                (void) closedir(dir);
        if (name && resolver_read(root, name, &comm) == 0)
                text_append_printable_bytes(t, comm, strcspn(comm, "\n"), false);
        else
                text_append(t, "another program");
}

/* -- resolv.conf -- */

/* Append what is wrong with the way to fleet-dns, which listens. */
static void resolver_append_way(Text *t, const char *root) {
        _cleanup_free_ char *conf = NULL;
        const char *first;
        char server[64] = "";

        first = resolver_read(root, "/etc/resolv.conf", &conf) == 0 ? conf : "";
        while (*first && sscanf(first, " nameserver %63s", server) != 1) {
                first += strcspn(first, "\n");
                first += *first == '\n';
        }
        if (streq(server, SERVICES_DNS))
                text_append(t, "fleet-dns does not answer: systemctl status fleet-dns.service");
        else if (streq(server, "127.0.0.53"))
                text_append(t, "systemd-resolved does not ask fleet-dns: systemctl restart "
                               "fleet-dns-link.service");
        else
                text_append(t, "the first line of /etc/resolv.conf has to be: nameserver " SERVICES_DNS);
}

void resolver_append_next(Text *t, const char *root) {
        bool own = false;
        unsigned long inode = resolver_find_socket(root, "/proc/net/udp", &own);

        if (inode == 0)
                inode = resolver_find_socket(root, "/proc/net/udp6", &own);
        if (own)
                resolver_append_way(t, root);
        else if (inode > 0) {
                resolver_append_owner(t, root, inode);
                text_append(t, " has port 53 (PORT 53 in fleet-dns(8))");
        } else
                text_append(t, "systemctl enable --now fleet-dns.socket");
}

void resolver_append(Text *t, const char *name) {
        if (resolver_knows(name)) {
                text_printf(t, "this host resolves %s", name);
                return;
        }
        text_printf(t, "this host does not resolve %s: ", name);
        resolver_append_next(t, "");
}
