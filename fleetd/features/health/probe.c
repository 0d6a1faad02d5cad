#include "fleetd/features/health/probe.h"

#include <arpa/inet.h>
#include <ifaddrs.h>

enum {
        NAME_SIZE = 160,
        REASON_SIZE = 200,
        CLOSE_MS = 1000,
        ENDS_MS = 3000,      /* in which systemd kills a command at its timeout, and reports that */
        ADDRESSES_MS = 2000, /* a listing takes milliseconds on a host with hundreds of interfaces */
};

typedef struct ProbeIo ProbeIo;
typedef struct Probe Probe;

/* A command, until systemd reports its end; it may outlive its probe. */
typedef struct ProbeRun {
        Probe *probe; /* NULL: the result is not awaited any more */
} ProbeRun;

struct Probe {
        ProbeIo *io;
        ProbeDone *done; /* NULL: the result was reported, and the rest of the answer is awaited */
        void *userdata;
        UnitCheckKind kind;
        uint64_t timeout_ms;
        char name[NAME_SIZE];       /* of the check, for people */
        char address[ADDRESS_SIZE]; /* "127.0.0.1:8080" */
        char *path;                 /* of HTTP */
        char why[REASON_SIZE];      /* of a probe that failed at once */
        bool unknown;               /* the result of that */
        uint64_t late_ms;           /* of a command whose timeout is over */
        void *connecting;
        Stream *stream;
        Timer timeout;
        Deferred failed;
        char answer[PROBE_BYTES_MAX];
        size_t size;
        ProbeRun *run;
        bool waits;   /* for systemd, which has not begun the command */
        bool overdue; /* the timeout of the command is over: systemd is to report its end */
        LIST_ENTRY(Probe) probes;
};

struct ProbeIo {
        Prober base;
        Loop *loop; /* borrowed, as the next two */
        Network *network;
        Systemd *systemd;
        LIST_HEAD(, Probe) probes;
        struct ifaddrs *addresses; /* of this host, up to ADDRESSES_MS ago; NULL: not listed yet */
        uint64_t addresses_ms;     /* when they were listed */
};

/* -- The answer -- */

/* Return the length of a line at 'bytes', with its end; 0: incomplete. */
static size_t line_size(const char *bytes, size_t size) {
        const char *end = memchr(bytes, '\n', size);

        return end ? (size_t) (end - bytes) + 1 : 0;
}

/* Read "HTTP/1.1 200 OK". Return the status or -EBADMSG. */
static int status_of_line(const char *line, size_t size) {
        static const char version[] = "HTTP/1.";
        const char *digits = line + strlen("HTTP/1.1 ");
        int status = 0;

        if (size < strlen("HTTP/1.1 200\n") || memcmp(line, version, strlen(version)) != 0 ||
            line[strlen(version)] < '0' || line[strlen(version)] > '9' || digits[-1] != ' ')
                return -EBADMSG;
        for (size_t i = 0; i < 3; i++) {
                if (digits[i] < '0' || digits[i] > '9')
                        return -EBADMSG;
                status = status * 10 + (digits[i] - '0');
        }
        if (digits[3] != ' ' && digits[3] != '\r' && digits[3] != '\n')
                return -EBADMSG;
        return status >= 100 ? status : -EBADMSG;
}

int probe_read_status(const char *bytes, size_t size) {
        size_t at = 0, line;

        for (;;) {
                int status;

                line = line_size(bytes + at, size - at);
                if (line == 0)
                        return 0;
                status = status_of_line(bytes + at, line);
                if (status < 0 || status >= 200)
                        return status;
                do { /* the fields of an answer that precedes the last one, and the empty line */
                        at += line;
                        line = line_size(bytes + at, size - at);
                        if (line == 0)
                                return 0;
                } while (bytes[at] != '\n' && !(bytes[at] == '\r' && line == 2));
                at += line;
        }
}

/* -- One probe -- */

static void probe_ignore_close(void *userdata, int error, const char *reason) {}

static void probe_free(Probe *p) {
        static const StreamEvents none = { .on_close = probe_ignore_close, .name = "health check" };

        LIST_REMOVE(p, probes);
        timer_stop(&p->timeout);
        deferred_cancel(&p->failed);
        if (p->connecting)
                p->io->network->ops->cancel(p->io->network, p->connecting);
        if (p->stream) {
                stream_set_events(p->stream, &none, NULL);
                stream_close(p->stream);
        }
        if (p->run)
                p->run->probe = NULL;
        free(p->path);
        free(p);
}

static void probe_report(Probe *p, const HealthResult *result) {
        ProbeDone *done = p->done;

        p->done = NULL;
        if (done)
                done(p->userdata, result);
}

/* End the probe; 'why' of 'result' is completed with the name of the check. */
static void probe_end(Probe *p, HealthResult result) {
        char text[REASON_SIZE + NAME_SIZE];

        snprintf(text, sizeof(text), "%s from %s", result.why, p->name);
        result.why = text;
        probe_report(p, &result);
        probe_free(p);
}

static void probe_fail(Probe *p, const char *why, bool unknown) {
        probe_end(p, (HealthResult) { .why = why, .unknown = unknown });
}

static void probe_on_failed(void *userdata) {
        Probe *p = userdata;

        probe_report(p, &(HealthResult) { .why = p->why, .unknown = p->unknown });
        probe_free(p);
}

/* A lack of resources says nothing about the unit. */
static bool probe_is_of_host(int error) {
        return error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -ENOBUFS ||
               error == -EADDRNOTAVAIL; /* of the probe: all ports are in use */
}

static void probe_describe_timeout(const Probe *p, const char *what, char *ret, size_t size) {
        _cleanup_text_ Text span = {};

        span_describe(p->timeout_ms, &span);
        snprintf(ret, size, "%s within %s", what, span.chars ?: "");
}

static void probe_on_timeout(void *userdata) {
        Probe *p = userdata;
        uint64_t now_ms = loop_now_ms(p->io->loop), late_ms = now_ms - MIN(now_ms, p->timeout.due_ms);
        char why[64];

        if (!p->done) { /* the answer is longer than the timeout */
                probe_free(p);
                return;
        }
        if (p->kind != UNIT_CHECK_EXEC) {
                probe_describe_timeout(p, "no answer", why, sizeof(why));
                probe_end(p, (HealthResult) { .why = why, .late_ms = late_ms });
        } else if (p->waits) {
                probe_describe_timeout(p, "systemd has not begun it", why, sizeof(why));
                probe_fail(p, why, true);
        } else if (p->overdue || timer_start(&p->timeout, p->io->loop, ENDS_MS) < 0)
                probe_fail(p, "systemd has not reported its end", true);
        else { /* a systemd that stands still does not report the end of any command */
                p->overdue = true;
                p->late_ms = late_ms;
        }
}

static void probe_on_read(void *userdata, const void *bytes, size_t size) {
        Probe *p = userdata;
        size_t n = MIN(size, sizeof(p->answer) - p->size);
        int status;

        if (size == 0) {
                if (p->done)
                        probe_fail(p, "no HTTP answer", false);
                else
                        probe_free(p);
                return;
        }
        memcpy(p->answer + p->size, bytes, n);
        p->size += n;
        status = p->done ? probe_read_status(p->answer, p->size) : 0;
        if (status >= 200 && status <= 299)
                probe_report(p, &(HealthResult) { .passed = true });
        else if (status > 0) {
                char why[REASON_SIZE + NAME_SIZE];

                snprintf(why, sizeof(why), "HTTP %d from %s", status, p->name);
                probe_report(p, &(HealthResult) { .why = why });
        }
        /* The server may end its answer; such connections are in no limit. */
        if (status > 0 && !p->done && p->timeout.due_ms > loop_now_ms(p->io->loop) + CLOSE_MS)
                (void) timer_start(&p->timeout, p->io->loop, CLOSE_MS);
        if (p->done && (status < 0 || p->size == sizeof(p->answer)))
                probe_fail(p, "no HTTP answer", false);
        else if (p->size == sizeof(p->answer))
                probe_free(p);
}

static void probe_on_close(void *userdata, int error, const char *reason) {
        Probe *p = userdata;

        p->stream = NULL;
        if (p->done)
                probe_fail(p, error < 0 ? strerror(-error) : "no HTTP answer", probe_is_of_host(error));
        else
                probe_free(p);
}

static void probe_request(Probe *p) {
        static const StreamEvents events = { .on_read = probe_on_read,
                                             .on_close = probe_on_close,
                                             .name = "health check" };
        _cleanup_text_ Text t = {};

        text_printf(&t,
                    "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: fleetd\r\nAccept: */*\r\nConnection: "
                    "close\r\n\r\n",
                    p->path, p->address);
        stream_set_events(p->stream, &events, p);
        if (t.error < 0 || stream_write(p->stream, t.chars, t.size) < 0)
                stream_close(p->stream); /* on_close follows */
        else
                stream_pause(p->stream, false);
}

static void probe_on_connected(void *userdata, Stream *s, int error) {
        Probe *p = userdata;

        p->connecting = NULL;
        p->stream = s;
        if (!s)
                probe_fail(p, strerror(-error), probe_is_of_host(error));
        else if (p->kind == UNIT_CHECK_HTTP)
                probe_request(p);
        else {
                probe_report(p, &(HealthResult) { .passed = true });
                probe_free(p);
        }
}

static void probe_fail_soon(Probe *p, const char *why, bool unknown) {
        p->unknown = unknown;
        text_format(p->why, sizeof(p->why), "%s", why);
        loop_defer(p->io->loop, &p->failed);
}

/* -- Addresses -- */

static bool address_is_equal(const struct sockaddr *a, const char *address) {
        char text[INET6_ADDRSTRLEN];
        const void *bytes = NULL;

        if (a && a->sa_family == AF_INET)
                bytes = &((const struct sockaddr_in *) a)->sin_addr;
        else if (a && a->sa_family == AF_INET6)
                bytes = &((const struct sockaddr_in6 *) a)->sin6_addr;
        return bytes && inet_ntop(a->sa_family, bytes, text, sizeof(text)) && streq(text, address);
}

static int address_list(ProbeIo *io) {
        uint64_t now_ms = loop_now_ms(io->loop);
        struct ifaddrs *all;

        if (io->addresses && now_ms - io->addresses_ms < ADDRESSES_MS)
                return 0;
        if (getifaddrs(&all) < 0)
                return -errno;
        freeifaddrs(io->addresses);
        io->addresses = all;
        io->addresses_ms = now_ms;
        return 0;
}

/* Return 1 if this host has the address, 0 if not, or a negative errno: a check must not reach other hosts.
 */
static int address_is_own(ProbeIo *io, const char *address) {
        unsigned char parsed[sizeof(struct in6_addr)];
        char text[INET6_ADDRSTRLEN];
        int family = strchr(address, ':') ? AF_INET6 : AF_INET;
        bool own;

        if (inet_pton(family, address, parsed) != 1 || !inet_ntop(family, parsed, text, sizeof(text)))
                return false;
        own = family == AF_INET ? parsed[0] == 127 : streq(text, "::1");
        if (own)
                return true;
        TRY(address_list(io));
        for (struct ifaddrs *i = io->addresses; i && !own; i = i->ifa_next)
                own = address_is_equal(i->ifa_addr, text);
        return own;
}

/* -- Commands -- */

/* Only a command that ran says something about the unit: not a call that systemd has rejected or not
 * answered, because /run is full, for example. */
static void probe_on_run(void *userdata, int error, const char *message) {
        ProbeRun *run = userdata;
        Probe *p = run->probe;
        char why[REASON_SIZE];

        free(run);
        if (!p)
                return;
        p->run = NULL;
        if (error == 0) {
                probe_report(p, &(HealthResult) { .passed = true });
                probe_free(p);
                return;
        }
        text_format(why, sizeof(why), "%s", message && *message ? message : "failure");
        if (error == -EREMOTEIO && p->overdue)
                probe_describe_timeout(p, "no end", why, sizeof(why));
        else if (error == -EREMOTEIO)
                text_format(why, sizeof(why), "failure");
        probe_end(p, (HealthResult) { .why = why,
                                      .unknown = error != -EREMOTEIO && error != -ENOEXEC,
                                      .not_executed = error == -ENOEXEC,
                                      .late_ms = error == -EREMOTEIO ? p->late_ms : 0 });
}

static void probe_on_begun(void *userdata) {
        ProbeRun *run = userdata;

        if (!run->probe)
                return;
        run->probe->waits = false;
        (void) timer_start(&run->probe->timeout, run->probe->io->loop, run->probe->timeout_ms);
}

static void probe_run(Probe *p, const ProbeRequest *request) {
        Systemd *s = p->io->systemd;
        _cleanup_names_ Names argv = {};
        SystemdRun run = { .argv = &argv,
                           .user = request->user,
                           .timeout_ms = request->timeout_ms,
                           .on_begun = probe_on_begun };

        if (!s || !s->ops->run_check || names_split(request->check->target, &argv) < 0) {
                probe_fail_soon(p, "this host cannot execute HealthExec=", true);
                return;
        }
        p->run = NEW0(ProbeRun, 1);
        if (!p->run) {
                probe_fail_soon(p, "no memory for HealthExec=", true);
                return;
        }
        p->run->probe = p;
        p->waits = true;
        if (s->ops->run_check(s, &run, probe_on_run, p->run) < 0) {
                free(p->run);
                p->run = NULL;
                probe_fail_soon(p, "no memory for HealthExec=", true);
        }
}

/* -- The prober -- */

static void probe_connect(Probe *p, const UnitCheck *check) {
        const char *address = check->address ?: "127.0.0.1";
        char why[REASON_SIZE];
        int error = 0, own = address_is_own(p->io, address);

        if (own <= 0) {
                if (own < 0)
                        snprintf(why, sizeof(why), "failed to list the addresses of this host: %s",
                                 strerror(-own));
                else
                        snprintf(why, sizeof(why), "%.64s is no address of this host", address);
                probe_fail_soon(p, why, own < 0);
                return;
        }
        snprintf(p->address, sizeof(p->address), strchr(address, ':') ? "[%s]:%u" : "%s:%u", address,
                 check->port);
        p->connecting = p->io->network->ops->connect(p->io->network, p->address, p->timeout_ms + 1000,
                                                     probe_on_connected, p, &error);
        if (!p->connecting) {
                snprintf(why, sizeof(why), "%s from %s", strerror(-error), p->name);
                probe_fail_soon(p, why, probe_is_of_host(error));
        }
}

static void *probe_start(Prober *base, const ProbeRequest *request, ProbeDone *done, void *userdata) {
        ProbeIo *io = container_of(base, ProbeIo, base);
        const UnitCheck *check = request->check;
        _cleanup_text_ Text name = {};
        Probe *p = NEW0(Probe, 1);

        if (!p)
                return NULL;
        *p = (Probe) { .io = io,
                       .done = done,
                       .userdata = userdata,
                       .kind = check->kind,
                       .timeout_ms = request->timeout_ms,
                       .timeout = TIMER(probe_on_timeout, p),
                       .failed = DEFERRED(probe_on_failed, p) };
        LIST_INSERT_HEAD(&io->probes, p, probes);
        unit_check_describe(check, &name);
        text_format(p->name, sizeof(p->name), "%s", name.chars ?: "");
        p->path = strdup(check->target ?: "");
        if (!p->path || name.error < 0 || timer_start(&p->timeout, io->loop, p->timeout_ms) < 0) {
                probe_free(p);
                return NULL;
        }
        if (check->kind == UNIT_CHECK_EXEC)
                probe_run(p, request);
        else
                probe_connect(p, check);
        return p;
}

static void probe_cancel(Prober *base, void *handle) {
        probe_free(handle);
}

int probe_io_new(Prober **ret, Loop *loop, Network *network, Systemd *systemd) {
        static const ProberOps ops = { .start = probe_start, .cancel = probe_cancel };
        ProbeIo *io = NEW0(ProbeIo, 1);

        if (!io)
                return -ENOMEM;
        *io = (ProbeIo) { .base = { &ops }, .loop = loop, .network = network, .systemd = systemd };
        *ret = &io->base;
        return 0;
}

Prober *probe_io_free(Prober *base) {
        ProbeIo *io;

        if (!base)
                return NULL;
        io = container_of(base, ProbeIo, base);
        while (!LIST_EMPTY(&io->probes))
                probe_free(LIST_FIRST(&io->probes));
        freeifaddrs(io->addresses);
        free(io);
        return NULL;
}
