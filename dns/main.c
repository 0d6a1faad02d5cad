/* fleet-dns: options, the sockets of systemd, and the loop. */
#include <arpa/inet.h>
#include <malloc.h>
#include <signal.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "base/log.h"
#include "base/parse.h"
#include "dns/server.h"

enum {
        EXIT_USAGE = 2,
        HEAP_BLOCK_MAX = 16384, /* bytes; larger ones have pages of their own, which are given back */
};

typedef struct Options {
        SourceList sources;
        const char *directory, *resolv_conf; /* borrowed */
        bool forwards;
        struct sockaddr_in listen; /* without a family: not set */
        const char *listen_text;   /* borrowed */
} Options;

static const char help[] =
        "Usage: fleet-dns [OPTION...]\n\n"
        "Answer DNS queries for names below \"fleet\", and forward others.\n\n"
        "  --allow=NETWORK       also answer this network, for names below \"fleet\" only\n"
        "  --forward=no          refuse other names\n"
        "  --directory=FOLDER    files of services instead of " SERVICES_FOLDER "\n"
        "  --resolv-conf=FILE    servers of other names instead of /etc/resolv.conf\n"
        "  --listen=ADDR:PORT    without systemd: listen there\n"
        "  -h, --help            print this text\n"
        "  --version             print the version";

/* systemd reads the priority of a line of standard error from its beginning: sd-daemon(3). */
static void log_to_systemd(void *userdata, int priority, const LogFields *fields, const char *message) {
        fprintf(stderr, "<%d>%s\n", priority, message);
}

/* Return the value if 'argument' is the option 'name', which ends in "=", or NULL. */
static const char *option_value(const char *argument, const char *name) {
        return starts_with(argument, name) ? argument + strlen(name) : NULL;
}

/* Return 0, 1 if the process is to end successfully, or -EINVAL with a message. */
static int option_take(Options *o, const char *argument, Error *err) {
        char host[ADDRESS_SIZE];
        const char *value;
        uint16_t port;

        if ((value = option_value(argument, "--allow=")))
                return sources_allow(&o->sources, value, err);
        if ((value = option_value(argument, "--directory=")))
                o->directory = value;
        else if ((value = option_value(argument, "--resolv-conf=")))
                o->resolv_conf = value;
        else if ((value = option_value(argument, "--forward="))) {
                if (parse_bool(value, &o->forwards) < 0)
                        return error_set(err, -EINVAL, "expected yes or no");
        } else if ((value = option_value(argument, "--listen="))) {
                if (parse_address(value, host, sizeof(host), &port) < 0 ||
                    inet_pton(AF_INET, host, &o->listen.sin_addr) != 1)
                        return error_set(err, -EINVAL, "expected ADDR:PORT, for example 127.0.0.1:5300");
                o->listen_text = value;
                o->listen.sin_port = htons(port);
                o->listen.sin_family = AF_INET;
        } else if (streq(argument, "--help") || streq(argument, "-h") || streq(argument, "--version")) {
                puts(streq(argument, "--version") ? "fleet-dns " PACKAGE_VERSION : help);
                return 1;
        } else {
                value = strstr(help, argument);
                return error_set(err, -EINVAL,
                                 value && value[strlen(argument)] == '=' ?
                                         "expected a value after \"=\"" :
                                         "no such option; fleet-dns --help lists them");
        }
        return 0;
}

static int listen_at(Server *s, const struct sockaddr_in *address, int type) {
        _cleanup_close_ int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
        int one = 1;

        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
            bind(fd, (const struct sockaddr *) address, sizeof(*address)) < 0 ||
            (type == SOCK_STREAM && listen(fd, SOMAXCONN) < 0))
                return -errno;
        return server_add_socket(s, TAKE_FD(fd));
}

static int take_sockets(Server *s, const Options *o, Error *err) {
        int n = sd_listen_fds(true), r = 0;

        if (n <= 0 && o->listen.sin_family == AF_UNSPEC)
                return error_set(err, -EINVAL,
                                 "no sockets from systemd; to start it: systemctl start fleet-dns.socket; "
                                 "for a trial: fleet-dns --listen=127.0.0.1:5300");
        for (int i = 0; i < n && r == 0; i++)
                r = server_add_socket(s, SD_LISTEN_FDS_START + i);
        if (n <= 0)
                r = listen_at(s, &o->listen, SOCK_DGRAM) ?: listen_at(s, &o->listen, SOCK_STREAM);
        if (r == -EAFNOSUPPORT)
                return error_set(err, r,
                                 "a socket of fleet-dns.socket is not of IPv4: remove its "
                                 "ListenStream= or ListenDatagram=");
        return r < 0 ? error_prefix(err, r, "Failed to listen%s%s", n > 0 ? "" : " at ",
                                    n > 0 ? "" : o->listen_text) :
                       0;
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata) {
        (void) sd_notify(0, "STOPPING=1");
        server_stop(userdata);
        return 0;
}

static int run(Options *o, Error *err) {
        _cleanup_(table_done) Table table = {};
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(table_watch_freep) TableWatch *watch = NULL;
        _cleanup_(server_freep) Server *server = NULL;

        TRY(sd_event_default(&event));
        TRY(sd_event_set_watchdog(event, true));
        TRY(server_new(event, &table, &o->sources, o->forwards ? o->resolv_conf : NULL, &server));
        TRY(take_sockets(server, o, err));
        TRY(table_watch_new(&table, event, o->directory, &watch));
        TRY(sd_event_add_signal(event, NULL, SIGTERM | SD_EVENT_SIGNAL_PROCMASK, on_signal, server));
        TRY(sd_event_add_signal(event, NULL, SIGINT | SD_EVENT_SIGNAL_PROCMASK, on_signal, server));
        (void) sd_notify(0, "READY=1");
        return sd_event_loop(event);
}

int main(int argc, char **argv) {
        Options o = { .directory = SERVICES_FOLDER, .resolv_conf = "/etc/resolv.conf", .forwards = true };
        Error err = {};
        int r = 0;

        if (getenv("JOURNAL_STREAM"))
                log_set_sink(log_to_systemd, NULL);
        mallopt(M_MMAP_THRESHOLD, HEAP_BLOCK_MAX);
        mallopt(M_TRIM_THRESHOLD, HEAP_BLOCK_MAX);
        for (int i = 1; i < argc && r == 0; i++) {
                r = option_take(&o, argv[i], &err);
                if (r < 0)
                        error_prefix(&err, r, "%s", argv[i]);
        }
        if (r == 0)
                r = run(&o, &err);
        source_list_done(&o.sources);
        if (r >= 0)
                return EXIT_SUCCESS;
        log_error(((LogFields) { .error = r }), "%s", error_text(&err, r));
        return r == -EINVAL ? EXIT_USAGE : EXIT_FAILURE;
}
