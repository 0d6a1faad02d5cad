/* fleet-web: serves the page, and documents for it, at a loopback address or on the socket of systemd. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/base64.h"
#include "base/file.h"
#include "base/parse.h"
#include "client/core/client.h"
#include "client/core/subprocess.h"
#include "client/verbs/ssh.h"
#include "client/web/loader.h"
#include "io/loop_uv.h"

#define WEB_LISTEN "127.0.0.1:2381" /* fleet-web.socket has it, too */
enum {
        WEB_PASSED_FD = 3, /* the first descriptor that systemd passes, sd_listen_fds(3) */
        WEB_READ_MS = 3000,
        WEB_HEAP_BLOCK_MAX = 64 * 1024, /* larger ones, as documents, are mapped, and given back at once */
};

typedef union WebAddress {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
} WebAddress;

typedef struct Web {
        UvLoop *loop;
        Network *net;
        Listener *listener;
        WebLoader *loader;
        WebServer *server;
        Tunnel *tunnel;
        ConnectionSettings settings;
        char key[WEB_KEY_SIZE];
        bool is_service; /* systemd starts it again for the next request */
} Web;

/* -- The key -- */

static int web_random(char ret[static WEB_KEY_SIZE]) {
        _cleanup_text_ Text t = {};
        uint8_t bytes[16];

        if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
                return -EIO;
        text_append_base64(&t, bytes, sizeof(bytes), true);
        snprintf(ret, WEB_KEY_SIZE, "%s", text_chars(&t));
        return t.error;
}

/* Set the key of this run, or that of the service, which keeps it. */
static int web_set_key(Web *web, Error *err) {
        const char *folder = getenv("STATE_DIRECTORY");
        _cleanup_free_ char *text = NULL;
        _cleanup_close_ int fd = -1;
        size_t size = 0;
        int r;

        TRY(web_random(web->key));
        if (!folder)
                return 0;
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return error_set(err, -errno, "%s: %s", folder, strerror(errno));
        r = read_file_at(fd, "key", WEB_KEY_SIZE, &text, &size);
        if (r == 0 && size == WEB_KEY_SIZE - 1) {
                memcpy(web->key, text, WEB_KEY_SIZE);
                return 0;
        }
        if (r < 0 && r != -ENOENT)
                return error_set(err, r, "%s/key: %s", folder, strerror(-r));
        return write_file_at(fd, "key", web->key, WEB_KEY_SIZE - 1, 0600);
}

/* -- Listening -- */

static void web_on_accepted(void *userdata, Stream *stream) {
        web_server_accept(((Web *) userdata)->server, stream);
}

/* Parse "ADDR:PORT", of which the address is that of this host alone. */
static int web_parse_address(const char *s, WebAddress *ret, socklen_t *ret_size, Error *err) {
        const char *colon = strrchr(s, ':'), *begin = s + (*s == '[');
        size_t size = colon ? (size_t) (colon - begin) : 0;
        char host[IP_ADDRESS_SIZE] = "";
        uint64_t port;

        *ret = (WebAddress) {};
        if (*s == '[' && size > 0 && begin[size - 1] == ']')
                size--;
        if (size > 0 && size < sizeof(host))
                memcpy(host, begin, size);
        if (!text_is_ip_address(host) || parse_u64(colon + 1, &port) < 0 || port > UINT16_MAX)
                return error_set(err, -EINVAL,
                                 "--listen=%s: expected an address of this host and a port, for example "
                                 "127.0.0.1:2381",
                                 s);
        if (inet_pton(AF_INET, host, &ret->in.sin_addr) == 1) {
                ret->in.sin_family = AF_INET;
                ret->in.sin_port = htons((uint16_t) port);
                *ret_size = sizeof(ret->in);
        } else {
                (void) inet_pton(AF_INET6, host, &ret->in6.sin6_addr);
                ret->in6.sin6_family = AF_INET6;
                ret->in6.sin6_port = htons((uint16_t) port);
                *ret_size = sizeof(ret->in6);
        }
        if (ret->any.sa_family == AF_INET ? ntohl(ret->in.sin_addr.s_addr) >> 24 != IN_LOOPBACKNET :
                                            !IN6_IS_ADDR_LOOPBACK(&ret->in6.sin6_addr))
                return error_set(
                        err, -EINVAL,
                        "%s: the page is not encrypted; use ssh -L, or a proxy with TLS on this host", host);
        return 0;
}

/* Describe why the address is taken. */
static int web_fail_taken(const char *address, Error *err) {
        static const char *const command[] = { "systemctl", "--quiet", "is-active", "fleet-web.socket",
                                               NULL };

        if (streq(address, WEB_LISTEN) && subprocess_run(command, NULL, NULL, NULL, NULL) == 0)
                return error_set(err, -EADDRINUSE,
                                 "%s is the page of this host: fleetctl web --url as root, or "
                                 "--listen=127.0.0.1:0",
                                 address);
        return error_set(err, -EADDRINUSE, "%s is in use; a free port: --listen=127.0.0.1:0", address);
}

static int web_bind(const char *address, int *ret_fd, Error *err) {
        _cleanup_close_ int fd = -1;
        socklen_t size = 0;
        WebAddress a;
        int on = 1;

        TRY(web_parse_address(address, &a, &size, err));
        fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
            bind(fd, &a.any, size) < 0 || listen(fd, SOMAXCONN) < 0)
                return errno == EADDRINUSE ?
                               web_fail_taken(address, err) :
                               error_set(err, -errno, "--listen=%s: %s", address, strerror(errno));
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* Print where the page is. The address has the key: the service prints it to root only, by fleetctl. */
static int web_print_address(const Web *web, int fd) {
        char host[INET6_ADDRSTRLEN];
        socklen_t size = sizeof(WebAddress);
        WebAddress a;
        bool is_ipv6;

        if (getsockname(fd, &a.any, &size) < 0)
                return -errno;
        is_ipv6 = a.any.sa_family == AF_INET6;
        (void) inet_ntop(a.any.sa_family,
                         is_ipv6 ? (const void *) &a.in6.sin6_addr : (const void *) &a.in.sin_addr, host,
                         sizeof(host));
        printf("http://%s%s%s:%u/#key=%s\n", is_ipv6 ? "[" : "", host, is_ipv6 ? "]" : "",
               ntohs(is_ipv6 ? a.in6.sin6_port : a.in.sin_port), web->key);
        return fflush(stdout) == EOF ? -EIO : 0;
}

/* Return whether systemd has passed a socket. */
static bool web_has_socket(void) {
        const char *pid = getenv("LISTEN_PID"), *number = getenv("LISTEN_FDS");
        uint64_t n = 0;

        return pid && number && parse_u64(pid, &n) >= 0 && n == (uint64_t) getpid() && streq(number, "1");
}

static int web_listen(Web *web, const char *address, Error *err) {
        int fd = WEB_PASSED_FD;

        web->is_service = web_has_socket();
        if (web->is_service)
                (void) fcntl(fd, F_SETFD, FD_CLOEXEC);
        else {
                TRY(web_bind(address, &fd, err));
                TRY(web_print_address(web, fd));
        }
        return net_uv_listen_fd(web->net, fd, web_on_accepted, web, &web->listener);
}

/* -- Running -- */

static void web_on_asked(void *userdata, WebDocument document) {
        web_loader_on_asked(((Web *) userdata)->loader, document);
}

static void web_on_why(void *userdata, uint64_t question, bool of_machine, const char *name) {
        web_loader_on_why(((Web *) userdata)->loader, question, of_machine, name);
}

static void web_on_idle(void *userdata) {
        Web *web = userdata;

        if (web->is_service)
                loop_uv_stop(web->loop);
}

static void web_on_signal(void *userdata, int signal_number) {
        loop_uv_stop(((Web *) userdata)->loop);
}

static int web_open(Web *web, const Options *o, Error *err) {
        static const WebEvents events = { .on_asked = web_on_asked,
                                          .on_why = web_on_why,
                                          .on_idle = web_on_idle };
        static const int signals[] = { SIGHUP, SIGINT, SIGTERM };
        Loop *loop = loop_uv_base(web->loop);
        char program[WEB_KEY_SIZE];

        web->settings = (ConnectionSettings) { .endpoint = o->endpoint,
                                               .debug = o->debug,
                                               .plain = true,
                                               .ca_file = o->ca_file,
                                               .cert_file = o->cert_file,
                                               .key_file = o->key_file,
                                               .read_ms = o->request_timeout_ms ?: WEB_READ_MS };
        if (*o->tunnel)
                TRY(tunnel_open(o, o->endpoint, &web->tunnel, &web->settings.endpoint, err));
        TRY(web_set_key(web, err));
        TRY(web_random(program));
        TRY(net_uv_new(&web->net, loop));
        TRY(web_loader_new(&web->loader, loop, &web->settings, err));
        TRY(web_server_new(&web->server, loop, web->key, program, &events, web));
        web_loader_serve(web->loader, web->server);
        for (size_t i = 0; i < ELEMENTS(signals); i++)
                TRY(loop_uv_on_signal(web->loop, signals[i], web_on_signal, web));
        return web_listen(web, o->listen ?: WEB_LISTEN, err);
}

static void web_close(Web *web) {
        tunnel_close(web->tunnel);
        /* Work in flight may wait for the daemon; no one waits for it. */
        if (web->loader && web_loader_stop(web->loader))
                _exit(EXIT_DONE);
        if (web->listener)
                web->net->ops->unlisten(web->net, web->listener);
        web_server_free(web->server);
        net_uv_free(web->net);
        web_loader_free(web->loader);
        loop_uv_free(web->loop);
}

static int web_run(const Options *o, Error *err) {
        Web web = {};
        int r;

        TRY(loop_uv_new(&web.loop));
        r = web_open(&web, o, err);
        if (r >= 0)
                r = loop_uv_run(web.loop);
        web_close(&web);
        return r;
}

int main(int argc, char **argv) {
        size_t n = argc > 0 ? (size_t) argc - 1 : 0;
        Options options;
        Error err = {};
        int r;

        open_standard_descriptors();
        (void) prctl(PR_SET_DUMPABLE, 0); /* no core file: memory has the key */
        (void) signal(SIGPIPE, SIG_IGN);
        (void) mallopt(M_ARENA_MAX, 1); /* not one for each thread of the loop, each as large as a state */
        (void) mallopt(M_MMAP_THRESHOLD, WEB_HEAP_BLOCK_MAX);
        (void) mallopt(M_TRIM_THRESHOLD, WEB_HEAP_BLOCK_MAX);
        if (getenv(SSH_ASKPASS_VARIABLE) && n == 1)
                return ssh_askpass(argv[1]);
        options_init(&options);
        if (options_parse(&options, "global web", argv + 1, &n, &err) < 0 || n > 0) {
                client_note("%s (fleetctl help web)",
                            n > 0 && !err.code ? "web has no arguments" : err.message);
                return EXIT_USAGE;
        }
        r = web_run(&options, &err);
        if (r < 0)
                client_note("%s", error_text(&err, r));
        return r == -EINVAL ? EXIT_USAGE : r < 0 ? EXIT_FAILED : EXIT_DONE;
}
