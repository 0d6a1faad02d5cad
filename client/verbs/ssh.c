/* ssh, fd-forward, and --tunnel. OpenSSH handles keys, known hosts and agents; flags of fleet become its
 * options. */
#include "client/verbs/ssh.h"

#include <netinet/in.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "client/core/listing.h"
#include "client/core/machines.h"
#include "client/core/subprocess.h"
#include "client/core/temporary.h"
#include "client/core/unit.h"

extern char **environ;

enum { ARGUMENTS_MAX = 64, HOST_SIZE = 256, PORT_DEFAULT = 22, TUNNEL_POLL_MS = 20 };

/* -- The command line -- */

typedef struct Command {
        const char *argv[ARGUMENTS_MAX];
        size_t n;
        Names owned; /* formatted arguments */
        int error;
} Command;

static void command_done(Command *c) {
        names_done(&c->owned);
}

/* Add arguments; the last one is NULL. */
static void command_add(Command *c, ...) __attribute__((sentinel));
static void command_add(Command *c, ...) {
        const char *argument;
        va_list ap;

        va_start(ap, c);
        while ((argument = va_arg(ap, const char *)))
                if (c->n + 1 >= ARGUMENTS_MAX)
                        c->error = -E2BIG;
                else
                        c->argv[c->n++] = argument;
        va_end(ap);
}

/* Add a flag and its formatted value. */
static void command_printf(Command *c, const char *flag, const char *format, ...) _printf_(3, 4);
static void command_printf(Command *c, const char *flag, const char *format, ...) {
        _cleanup_text_ Text t = {};
        va_list ap;

        va_start(ap, format);
        text_vprintf(&t, format, ap);
        va_end(ap);
        if (t.error < 0 || names_add(&c->owned, t.chars, t.size) < 0)
                c->error = -ENOMEM;
        else
                command_add(c, flag, c->owned.items[c->owned.n - 1], NULL);
}

/* Add "ssh" and the options for --strict-host-key-checking, --known-hosts-file, --ssh-username and
 * --ssh-timeout. */
static void command_add_options(Command *c, const Options *o) {
        command_add(c, "ssh", NULL);
        if (*o->ssh_username)
                command_add(c, "-l", o->ssh_username, NULL);
        command_printf(c, "-o", "ConnectTimeout=%llu",
                       (unsigned long long) MAX(o->ssh_timeout_ms / 1000, (uint64_t) 1));
        if (!o->strict_host_keys) {
                command_add(c, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o",
                            "LogLevel=ERROR", NULL);
                return;
        }
        command_add(c, "-o", "StrictHostKeyChecking=ask", NULL);
        if (*o->known_hosts_file)
                command_printf(c, "-o", "UserKnownHostsFile=%s", o->known_hosts_file);
}

/* Split "HOST" or "HOST:PORT". An IPv6 address with a port needs brackets, which *ret_host does not contain.
 */
static int split_host(const char *s, char ret_host[static HOST_SIZE], unsigned *ret_port, Error *err) {
        bool brackets = *s == '[', address = !brackets && strchr(s, ':') != strrchr(s, ':');
        const char *host = s + brackets, *end = address ? "" : ":",
                   *rest = host + strcspn(host, brackets ? "]" : end);
        size_t size = (size_t) (rest - host);
        uint64_t port = PORT_DEFAULT;
        bool closed = !brackets || *rest == ']';

        rest += brackets && closed;
        if (!closed || size == 0 || size >= HOST_SIZE || *host == '-' || strcspn(host, "[]") < size ||
            (*rest && (*rest != ':' || parse_u64(rest + 1, &port) < 0 || port == 0 || port > 65535)))
                return error_set(err, -EINVAL, "--tunnel=%s: expected HOST or HOST:PORT", s);
        snprintf(ret_host, HOST_SIZE, "%.*s", (int) size, host);
        *ret_port = port;
        return 0;
}

/* Make fleetctl the program that ssh runs for questions without a terminal. */
static void set_askpass(void) {
        char self[512];
        ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

        if (isatty(STDIN_FILENO) || n <= 0 || getenv("SSH_ASKPASS_REQUIRE"))
                return;
        self[n] = 0;
        (void) setenv("SSH_ASKPASS", self, 1);
        (void) setenv("SSH_ASKPASS_REQUIRE", "force", 1);
        (void) setenv(SSH_ASKPASS_VARIABLE, "1", 1);
}

int ssh_askpass(const char *question) {
        char answer[256];
        size_t n = 0;

        fprintf(stderr, "%s", question ? question : "");
        /* Byte by byte: the rest of stdin belongs to the command that ssh runs. */
        while (n < sizeof(answer) - 1 && read(STDIN_FILENO, &answer[n], 1) == 1 && answer[n] != '\n')
                n++;
        answer[n] = 0;
        puts(answer);
        return fflush(stdout) == EOF ? EXIT_FAILED : EXIT_DONE;
}

/* -- ssh -- */

static int ssh_refuse(const char *reason) {
        fprintf(stderr, "Unable to proceed: %s\n", reason);
        return EXIT_FAILED;
}

/* Find the address of the machine or unit named by one flag, or without flags by 'argument' (else NULL).
 * The result is that of a verb. */
static int find_address(Client *c, const char *argument, char **ret, Error *err) {
        const char *machine = c->options.machine ?: argument, *unit_name = c->options.unit ?: argument;
        _cleanup_free_ char *name = unit_name ? unit_name_from_argument(unit_name) : NULL;
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_listing_ Listing machines = {};
        const ApiMachine *found = NULL;
        bool by_unit = false;
        size_t n = 0;
        int r;

        TRY_VERB(client_machines(c, &machines, err), err, "Unable to proceed: ");
        r = TRY_VERB(name ? client_unit(c, name, &unit, err) : 0, err, "Unable to proceed: ");
        by_unit = r > 0;
        if (machine)
                n = listing_find_machine(&machines, machine, &found);

        if (n > 0 && by_unit) {
                fprintf(stderr,
                        "Unable to proceed: ambiguous argument, both machine and unit found for `%s`.\n"
                        "Please use flag `--machine` or `--unit` to refine the search\n",
                        argument);
                return EXIT_FAILED;
        }
        if (n > 1 || (c->options.machine && n == 0)) {
                (void) ssh_refuse(n > 1 ? "found more than one machine" : "machine does not exist");
                client_note_machine(&machines, n, c->options.machine ? "--machine=" : "", machine);
                return EXIT_FAILED;
        }
        if (c->options.unit && !by_unit) {
                (void) ssh_refuse("unit does not exist");
                client_note("--unit=%s: the cluster has no such unit (fleetctl list-units)", c->options.unit);
                return EXIT_FAILED;
        }
        if (n == 0 && !by_unit) {
                (void) ssh_refuse("could not find matching unit or machine");
                client_note("no machine and no unit is named \"%s\" (fleetctl list-machines, fleetctl "
                            "list-units)",
                            argument);
                return EXIT_FAILED;
        }
        if (by_unit && unit.global)
                return ssh_refuse("global units unsupported");
        if (by_unit)
                found = listing_machine(&machines, unit.machine_id);
        if (!found || !found->primary_ip || !*found->primary_ip) {
                fputs("Could not determine address of machine.\n", stderr);
                return EXIT_FAILED;
        }
        /* The host itself chooses it, and ssh reads more forms. */
        if (!text_is_ip_address(found->primary_ip)) {
                fputs("Could not determine address of machine.\n", stderr);
                client_note(
                        "the address that the machine publishes is no IP address (fleetctl list-machines)");
                return EXIT_FAILED;
        }
        *ret = strdup(found->primary_ip);
        return *ret ? EXIT_DONE : -ENOMEM;
}

static int ssh_run(Client *c, char **args, size_t n, Error *err) {
        const Options *o = &c->options;
        _cleanup_(command_done) Command command = {};
        _cleanup_free_ char *address = NULL;
        bool by_flag = o->machine || o->unit;
        char bastion[HOST_SIZE];
        unsigned port;
        int r;

        if (o->machine && o->unit) {
                fputs("Both machine and unit flags provided, please specify only one.\n", stderr);
                return EXIT_FAILED;
        }
        if (!by_flag && n == 0)
                return ssh_refuse("one machine or unit must be provided");
        r = TRY_DONE(find_address(c, by_flag ? NULL : args[0], &address, err));

        command_add_options(&command, o);
        command_add(&command, "-p", *o->ssh_port ? o->ssh_port : "22", NULL);
        if (o->forward_agent)
                command_add(&command, "-A", NULL);
        if (*o->tunnel) {
                r = split_host(o->tunnel, bastion, &port, NULL);
                assert(r == 0); /* tunnel_open() has parsed it before */
                command_printf(&command, "-J", strchr(bastion, ':') ? "%s%s[%s]:%u" : "%s%s%s:%u",
                               o->ssh_username, *o->ssh_username ? "@" : "", bastion, port);
        }
        command_add(&command, "--", address, NULL);
        for (size_t i = by_flag ? 0 : 1; i < n; i++)
                command_add(&command, args[i], NULL);
        TRY(command.error);

        set_askpass();
        return subprocess_run(command.argv, NULL, NULL, NULL, NULL);
}

/* -- --tunnel -- */

struct Tunnel {
        pid_t pid;
        uint16_t port; /* 0: a socket */
        char folder[64], local[96], endpoint[128];
};

Tunnel *tunnel_close(Tunnel *t) {
        if (!t)
                return NULL;
        if (t->pid > 0) {
                (void) kill(t->pid, SIGTERM);
                while (waitpid(t->pid, NULL, 0) < 0 && errno == EINTR)
                        ;
        }
        if (t->port == 0)
                (void) unlink(t->local);
        (void) rmdir(t->folder);
        temporary_forget(t->folder);
        free(t);
        return NULL;
}

DEFINE_CLEANUP(Tunnel *, tunnel_close)

/* Return a port that is free at this moment, or 0. */
static uint16_t free_port(void) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(address);
        _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 ||
            getsockname(fd, (struct sockaddr *) &address, &size) < 0)
                return 0;
        return ntohs(address.sin_port);
}

/* Choose the local end: a socket for a socket, a port for a port, so that the Host header names a local host.
 */
static int tunnel_choose_ends(Tunnel *t, const char *endpoint, const char **ret_remote, Error *err) {
        const char *path = starts_with(endpoint, "unix:///") || starts_with(endpoint, "file:///") ?
                                   endpoint + 7 :
                                   NULL;
        const char *host = starts_with(endpoint, "http://") ? endpoint + 7 : NULL;

        if (!path && (!host || !*host))
                return error_set(err, -EINVAL, "--tunnel: expected a unix:// or http:// endpoint, not %s",
                                 endpoint);
        if (path) {
                snprintf(t->local, sizeof(t->local), "%s/socket", t->folder);
                snprintf(t->endpoint, sizeof(t->endpoint), "unix://%s", t->local);
        } else {
                t->port = free_port();
                if (t->port == 0)
                        return error_set(err, -EADDRNOTAVAIL, "--tunnel: no free local port");
                snprintf(t->local, sizeof(t->local), "127.0.0.1:%u", t->port);
                snprintf(t->endpoint, sizeof(t->endpoint), "http://%s", t->local);
        }
        *ret_remote = path ?: host;
        return 0;
}

/* Try to connect: ssh creates a socket before it listens. */
static bool tunnel_accepts(const Tunnel *t) {
        struct sockaddr_in port = { .sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                    .sin_port = htons(t->port) };
        struct sockaddr_un path = { .sun_family = AF_UNIX };
        const struct sockaddr *address = t->port == 0 ? (const struct sockaddr *) &path :
                                                        (const struct sockaddr *) &port;
        _cleanup_close_ int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

        snprintf(path.sun_path, sizeof(path.sun_path), "%s", t->local);
        return fd >= 0 && connect(fd, address, t->port == 0 ? sizeof(path) : sizeof(port)) == 0;
}

static int tunnel_wait(Tunnel *t, uint64_t timeout_ms, Error *err) {
        uint64_t end_ms = clock_monotonic_ms() + timeout_ms;
        int status;

        for (;;) {
                if (tunnel_accepts(t))
                        return 0;
                if (waitpid(t->pid, &status, WNOHANG) == t->pid) {
                        t->pid = 0;
                        return error_set(err, -ECONNREFUSED,
                                         "failed initializing SSH client: ssh ended with status %d",
                                         WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
                }
                if (clock_monotonic_ms() >= end_ms)
                        return error_set(err, -ETIMEDOUT,
                                         "failed initializing SSH client: no connection within %llu s",
                                         (unsigned long long) timeout_ms / 1000);
                (void) poll(NULL, 0, TUNNEL_POLL_MS);
        }
}

int tunnel_open(const Options *o, const char *endpoint, Tunnel **ret, const char **ret_endpoint, Error *err) {
        _cleanup_(tunnel_closep) Tunnel *t = NEW0(Tunnel, 1);
        _cleanup_(command_done) Command command = {};
        const char *remote = NULL;
        char bastion[HOST_SIZE];
        unsigned port;
        int r;

        if (!t)
                return -ENOMEM;
        TRY(split_host(o->tunnel, bastion, &port, err));
        snprintf(t->folder, sizeof(t->folder), "/tmp/fleetctl-XXXXXX");
        if (!mkdtemp(t->folder))
                return error_set(err, -errno, "%s: %s", t->folder, strerror(errno));
        temporary_add(t->folder);
        TRY(tunnel_choose_ends(t, endpoint, &remote, err));

        command_add_options(&command, o);
        command_add(&command, "-N", "-o", "ExitOnForwardFailure=yes", NULL);
        command_printf(&command, "-p", "%u", port);
        command_printf(&command, "-L", "%s:%s", t->local, remote);
        command_add(&command, "--", bastion, NULL);
        TRY(command.error);
        set_askpass();
        r = -posix_spawnp(&t->pid, command.argv[0], NULL, NULL, (char *const *) command.argv, environ);
        if (r < 0) {
                t->pid = 0;
                return error_set(err, r, "failed initializing SSH client: Failed to run ssh: %s",
                                 strerror(-r));
        }
        TRY(tunnel_wait(t, o->ssh_timeout_ms, err));
        *ret_endpoint = t->endpoint;
        *ret = TAKE_PTR(t);
        return 0;
}

/* -- fd-forward -- */

/* Copy available bytes. Return 1, or 0 at the end of file. */
static int copy_some(int from, int to) {
        char buffer[65536];
        ssize_t n = read(from, buffer, sizeof(buffer));

        if (n < 0)
                return errno == EINTR ? 1 : -errno;
        if (n == 0)
                return 0;
        TRY(write_all(to, buffer, (size_t) n));
        return 1;
}

static int fd_forward_run(Client *c, char **args, size_t n, Error *err) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        struct pollfd fds[2] = { { .fd = STDIN_FILENO, .events = POLLIN } };
        _cleanup_close_ int fd = -1;
        int r = 1;

        if (n != 1) {
                fputs("Provide a single argument\n", stderr);
                return EXIT_FAILED;
        }
        if (strlen(args[0]) >= sizeof(address.sun_path) || !*args[0]) {
                fprintf(stderr, "Unable to use \"%s\" as unix address: expected 1 to %zu bytes\n", args[0],
                        sizeof(address.sun_path) - 1);
                return EXIT_FAILED;
        }
        memcpy(address.sun_path, args[0], strlen(args[0]));
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0) {
                fprintf(stderr, "Failed dialing remote address: %s: %s\n", args[0], strerror(errno));
                return EXIT_FAILED;
        }
        fds[1] = (struct pollfd) { .fd = fd, .events = POLLIN };
        while (r > 0) {
                if (poll(fds, 2, -1) < 0 && errno != EINTR)
                        r = -errno;
                if (r > 0 && fds[0].revents)
                        r = copy_some(STDIN_FILENO, fd);
                if (r > 0 && fds[1].revents)
                        r = copy_some(fd, STDOUT_FILENO);
        }
        if (r < 0 && r != -EPIPE) {
                fprintf(stderr, "Encountered error during copy: %s\n", strerror(-r));
                return EXIT_FAILED;
        }
        return EXIT_DONE;
}

VERB(fd_forward, "fd-forward", "", "SOCKET", "Copy standard input and output to and from a socket",
     "The fleetctl of fleet runs this verb at the remote end of its tunnels.\n", fd_forward_run);

VERB(ssh, "ssh", "remote", "MACHINE|UNIT [CMD...]",
     "Log in to a machine, or to that of a unit, or run a command there",
     "Uses OpenSSH with its keys, agent and configuration. Options of the command follow --.\n\n"
     "fleetctl ssh web.service -- ps -ef\n",
     ssh_run);
