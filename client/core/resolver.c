#include "client/core/resolver.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <glob.h>
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

/* Append the name of the program that has a socket, or "another program": only root sees those of others.
 * /proc/PID/fd/N is a link to "socket:[INODE]". */
static void resolver_append_owner(Text *t, const char *root, unsigned long inode) {
        _cleanup_free_ char *pattern = NULL, *name = NULL;
        char socket[LINK_SIZE], target[LINK_SIZE];
        glob_t links = {};

        snprintf(socket, sizeof(socket), "socket:[%lu]", inode);
        if (asprintf(&pattern, "%s/proc/[0-9]*/fd/*", root) < 0) {
                t->error = -ENOMEM;
                return;
        }
        (void) glob(pattern, GLOB_NOSORT, NULL, &links);
        for (size_t i = 0; i < links.gl_pathc && !name; i++) {
                ssize_t n = readlink(links.gl_pathv[i], target, sizeof(target));

                if (n < 0 || strncmp(target, socket, (size_t) n) != 0 || socket[n])
                        continue;
                *strrchr(links.gl_pathv[i], '/') = 0;
                (void) resolver_read(links.gl_pathv[i], "/../comm", &name);
        }
        globfree(&links);
        if (name)
                text_append_printable_bytes(t, name, strcspn(name, "\n"), false);
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
        if (resolver_knows("ns.fleet"))
                text_append(t, "fleet-dns answers, but " SERVICES_FOLDER " of this host does not have it: "
                               "systemctl status fleetd (a restricted host has own endpoints only)");
        else
                resolver_append_next(t, "");
}
