/* Probes over real sockets, against servers that answer well, badly, slowly or for ever; and the reader of
 * HTTP answers. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "tests/lib/test.h"
#include "fleetd/features/health/probe.h"
#include "io/net_uv_internal.h"

enum { CONNECTIONS = 16, TIMEOUT_MS = 300, TEXT_SIZE = 256 };

/* A server that answers each request with the same bytes. */
typedef struct Server {
        UvLoop *uv;
        Network *network;
        Listener *listener;
        Prober *prober;
        unsigned port;
        uint64_t timeout_ms; /* of probes; 0: TIMEOUT_MS */
        const char *answer;  /* NULL: none */
        bool closes;         /* after the answer */
        bool endless;        /* repeat the answer for ever */
        char request[512];
        Stream *streams[CONNECTIONS];
        size_t n_open;
        unsigned n_done;
        bool passed;
        char why[256];
        bool unknown, not_executed;
} Server;

static Server *server;
static unsigned n_listings;

int __real_getifaddrs(struct ifaddrs **ret);
int __wrap_getifaddrs(struct ifaddrs **ret);

int __wrap_getifaddrs(struct ifaddrs **ret) {
        n_listings++;
        return __real_getifaddrs(ret);
}

static void send_answer(Stream *s) {
        for (size_t size = 0; server->answer && size < (server->endless ? 2 * PROBE_BYTES_MAX : 1);
             size += strlen(server->answer) + 1)
                (void) stream_write(s, server->answer, strlen(server->answer));
        if (server->closes)
                stream_finish(s);
}

static void on_read(void *userdata, const void *bytes, size_t size) {
        Stream **s = userdata;

        if (size == 0) {
                stream_close(*s);
                return;
        }
        snprintf(server->request, sizeof(server->request), "%.*s", (int) size, (const char *) bytes);
        send_answer(*s);
}

static void on_drain(void *userdata) {
        Stream **s = userdata;

        if (server->endless)
                send_answer(*s);
}

static void on_close(void *userdata, int error, const char *reason) {
        Stream **s = userdata;

        *s = NULL;
        server->n_open--;
}

static void on_accepted(void *userdata, Stream *s) {
        static const StreamEvents events = { .on_read = on_read, .on_drain = on_drain, .on_close = on_close };
        size_t i = 0;

        while (server->streams[i])
                i++;
        assert_true(i < CONNECTIONS);
        server->streams[i] = s;
        server->n_open++;
        stream_set_events(s, &events, &server->streams[i]);
        stream_pause(s, false);
}

static void on_done(void *userdata, const HealthResult *result) {
        server->n_done++;
        server->passed = result->passed;
        server->unknown = result->unknown;
        server->not_executed = result->not_executed;
        snprintf(server->why, sizeof(server->why), "%s", result->why ?: "");
}

static void stop_turn(void *userdata) {
        loop_uv_stop(userdata);
}

static void turn(void) {
        Timer tick = TIMER(stop_turn, server->uv);

        assert_int_equal(timer_start(&tick, loop_uv_base(server->uv), 1), 0);
        assert_true(loop_uv_run(server->uv) >= 0);
        timer_stop(&tick);
}

static int setup(void **state) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(a);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        server = NEW0(Server, 1);
        assert_int_equal(bind(fd, (struct sockaddr *) &a, size), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &a, &size), 0);
        server->port = ntohs(a.sin_port);
        assert_int_equal(loop_uv_new(&server->uv), 0);
        assert_int_equal(net_uv_new(&server->network, loop_uv_base(server->uv)), 0);
        assert_int_equal(net_uv_listen_fd(server->network, fd, on_accepted, NULL, &server->listener), 0);
        assert_int_equal(probe_io_new(&server->prober, loop_uv_base(server->uv), server->network, NULL), 0);
        return 0;
}

static int teardown(void **state) {
        probe_io_free(server->prober);
        server->network->ops->unlisten(server->network, server->listener);
        net_uv_free(server->network);
        loop_uv_free(server->uv);
        free(server);
        return 0;
}

static void until_ended(unsigned n_done) {
        uint64_t end_ms = loop_now_ms(loop_uv_base(server->uv)) + 10000;

        while (server->n_done < n_done || server->n_open > 0) {
                assert_true(loop_now_ms(loop_uv_base(server->uv)) < end_ms);
                turn();
        }
}

/* Replace "PORT" by the port of the server. */
static const char *with_port(const char *text, char ret[static TEXT_SIZE]) {
        const char *at = strstr(text, "PORT");

        if (at)
                snprintf(ret, TEXT_SIZE, "%.*s%u%s", (int) (at - text), text, server->port,
                         at + strlen("PORT"));
        return at ? ret : text;
}

static void *start(UnitCheckKind kind, const char *text) {
        HealthPolicy policy = {};
        char check[TEXT_SIZE];
        void *handle;

        assert_int_equal(health_policy_add(&policy, kind, with_port(text, check)), 0);
        handle = server->prober->ops->start(server->prober,
                                            &(ProbeRequest) { .check = policy.checks,
                                                              .timeout_ms = server->timeout_ms ?: TIMEOUT_MS,
                                                              .user = "" },
                                            on_done, NULL);
        health_policy_done(&policy);
        assert_non_null(handle);
        assert_int_equal(server->n_done, 0); /* never from inside the call */
        return handle;
}

static void assert_result(bool passed, const char *why) {
        char expected[TEXT_SIZE];

        assert_int_equal(server->n_done, 1);
        assert_string_equal(server->why, with_port(why, expected));
        assert_int_equal(server->passed, passed);
}

static void http_answers(void **state) {
        static const struct {
                const char *answer, *why; /* 'why' NULL: it passes */
                bool closes, endless;
        } rows[] = {
                { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", NULL, true },
                { "HTTP/1.1 204 No Content\r\n\r\n", NULL, false },
                { "HTTP/1.0 299\n\n", NULL, true },
                { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", NULL, true },
                { "HTTP/1.1 200 OK\r\n", NULL, false, true },
                { "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", NULL, true },
                { "HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", "HTTP 302 from 127.0.0.1:PORT/ready", true },
                { "HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP 503 from 127.0.0.1:PORT/ready", true },
                { "HTTP/1.1 404\r\n", "HTTP 404 from 127.0.0.1:PORT/ready", false, true },
                { "SSH-2.0-OpenSSH\r\n", "no HTTP answer from 127.0.0.1:PORT/ready", false },
                { "HTTP/1.1 2", "no HTTP answer from 127.0.0.1:PORT/ready", true },
                { "", "no HTTP answer from 127.0.0.1:PORT/ready", true },
                { "x", "no HTTP answer from 127.0.0.1:PORT/ready", false, true },
                { "HTTP/1.1 103 Early\r\n\r\n", "no HTTP answer from 127.0.0.1:PORT/ready", false, true },
                { NULL, "no answer within 300ms from 127.0.0.1:PORT/ready", false },
                { "HTTP/1.1 20", "no answer within 300ms from 127.0.0.1:PORT/ready", false },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                server->answer = rows[i].answer;
                server->closes = rows[i].closes;
                server->endless = rows[i].endless;
                server->n_done = 0;
                start(UNIT_CHECK_HTTP, "PORT/ready");
                until_ended(1);
                assert_result(!rows[i].why, rows[i].why ?: "");
                assert_int_equal(strncmp(server->request, "GET /ready HTTP/1.1\r\nHost: 127.0.0.1:", 37), 0);
                assert_non_null(strstr(server->request, "\r\nConnection: close\r\n\r\n"));
        }
}

static void a_connection_is_closed_soon_after_its_result(void **state) {
        uint64_t begin_ms = loop_now_ms(loop_uv_base(server->uv));

        server->answer = "HTTP/1.1 503 Service Unavailable\r\n\r\n"; /* and the server does not close */
        server->timeout_ms = 8000;
        start(UNIT_CHECK_HTTP, "PORT/ready");
        until_ended(1);
        assert_result(false, "HTTP 503 from 127.0.0.1:PORT/ready");
        assert_true(loop_now_ms(loop_uv_base(server->uv)) - begin_ms < 4000);
}

static void tcp_passes_if_the_port_accepts(void **state) {
        start(UNIT_CHECK_TCP, "PORT");
        until_ended(1);
        assert_result(true, "");

        server->n_done = 0;
        start(UNIT_CHECK_TCP, "127.0.0.1:1");
        until_ended(1);
        assert_result(false, "Connection refused from 127.0.0.1:1");
        server->n_done = 0;
        start(UNIT_CHECK_HTTP, "[::1]:1/x");
        until_ended(1);
        assert_false(server->passed);
        assert_non_null(strstr(server->why, " from [::1]:1/x"));
}

static void another_host_is_not_probed(void **state) {
        start(UNIT_CHECK_TCP, "192.0.2.1:80");
        until_ended(1);
        assert_result(false, "192.0.2.1 is no address of this host");
        server->n_done = 0;
        start(UNIT_CHECK_HTTP, "127.8.7.6:PORT/"); /* loopback: nothing listens there */
        until_ended(1);
        assert_non_null(strstr(server->why, "Connection refused"));
}

/* A listing reads all interfaces of the host, on the loop. */
static void the_addresses_of_the_host_are_not_listed_for_each_probe(void **state) {
        Loop *loop = loop_uv_base(server->uv);
        uint64_t begun_ms = loop_now_ms(loop);

        n_listings = 0;
        for (unsigned i = 0; i < 200; i++) {
                server->n_done = 0;
                start(UNIT_CHECK_TCP, "192.0.2.1:80");
                until_ended(1);
                assert_result(false, "192.0.2.1 is no address of this host");
        }
        assert_in_range(n_listings, 1, 1 + (loop_now_ms(loop) - begun_ms) / 1000);
}

/* An address may come or go at any time. */
static void the_addresses_of_the_host_are_listed_again(void **state) {
        Loop *loop = loop_uv_base(server->uv);
        uint64_t end_ms;

        start(UNIT_CHECK_TCP, "192.0.2.1:80");
        until_ended(1);
        n_listings = 0;
        end_ms = loop_now_ms(loop) + 20000;
        while (n_listings == 0) {
                assert_true(loop_now_ms(loop) < end_ms);
                server->n_done = 0;
                start(UNIT_CHECK_TCP, "192.0.2.1:80");
                until_ended(1);
                turn();
        }
}

/* The limit of open files is that of the host: it says nothing about the unit. */
static void without_a_descriptor_the_result_is_unknown(void **state) {
        static const char *const checks[] = { "127.0.0.1:PORT", "192.0.2.1:80" };
        struct rlimit limit, none;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        for (size_t i = 0; i < ELEMENTS(checks); i++) {
                none = (struct rlimit) { .rlim_cur = 3, .rlim_max = limit.rlim_max };
                server->n_done = 0;
                assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
                start(UNIT_CHECK_TCP, checks[i]);
                assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
                until_ended(1);
                assert_true(!server->passed && server->unknown);
        }
}

/* -- Commands: a systemd that ends them as a test decides -- */

typedef struct Command {
        Systemd base;
        SystemdDone done; /* of the command under way; NULL: none */
        void *userdata;
        char argv[TEXT_SIZE], user[32];
        int refuses;
        void (*on_begun)(void *userdata); /* of the command under way */
        bool stuck;                       /* systemd does not begin it */
} Command;

static Command command;

static int run_check(Systemd *s, const SystemdRun *run, SystemdDone done, void *userdata) {
        command.argv[0] = 0;
        for (size_t i = 0; i < run->argv->n; i++)
                snprintf(command.argv + strlen(command.argv), TEXT_SIZE - strlen(command.argv), "%s|",
                         run->argv->items[i]);
        snprintf(command.user, sizeof(command.user), "%s", run->user);
        assert_int_equal(run->timeout_ms, TIMEOUT_MS);
        if (!command.refuses) {
                command.done = done;
                command.userdata = userdata;
                command.on_begun = run->on_begun;
        }
        if (!command.refuses && !command.stuck)
                command.on_begun(userdata);
        return command.refuses;
}

static void end_command(int error, const char *message) {
        SystemdDone done = command.done;

        command.done = NULL;
        done(command.userdata, error, message);
}

static int command_setup(void **state) {
        static const SystemdOps ops = { .run_check = run_check };

        command = (Command) { .base = { &ops } };
        setup(state);
        probe_io_free(server->prober);
        return probe_io_new(&server->prober, loop_uv_base(server->uv), server->network, &command.base);
}

static void commands(void **state) {
        static const struct {
                int error;
                const char *message, *why; /* 'why' NULL: it passes */
                bool unknown, not_executed;
        } rows[] = {
                { 0, "", NULL },
                { -EREMOTEIO, "", "failure from /bin/check 'a b'" },
                { -ENOEXEC, "exit status 203", "exit status 203 from /bin/check 'a b'", false, true },
                { -EINVAL, "systemd rejected it", "systemd rejected it from /bin/check 'a b'", true },
                { -ENOSPC, "/run is full", "/run is full from /bin/check 'a b'", true },
                { -ETIMEDOUT, "no reply", "no reply from /bin/check 'a b'", true },
                { -ECONNRESET, "lost the connection", "lost the connection from /bin/check 'a b'", true },
                { -ECANCELED, "it was canceled", "it was canceled from /bin/check 'a b'", true },
                { -ENOTCONN, "", "failure from /bin/check 'a b'", true },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                server->n_done = 0;
                start(UNIT_CHECK_EXEC, "/bin/check 'a b'");
                assert_string_equal(command.argv, "/bin/check|a b|");
                end_command(rows[i].error, rows[i].message);
                until_ended(1);
                assert_result(!rows[i].why, rows[i].why ?: "");
                assert_int_equal(server->unknown, rows[i].unknown);
                assert_int_equal(server->not_executed, rows[i].not_executed);
        }
}

/* Begin a command, and return when its timeout is over. */
static void await_timeout(const char *check) {
        Loop *loop = loop_uv_base(server->uv);
        uint64_t due_ms = loop_now_ms(loop) + TIMEOUT_MS;

        start(UNIT_CHECK_EXEC, check);
        while (loop_now_ms(loop) <= due_ms)
                turn();
        assert_int_equal(server->n_done, 0);
}

static void a_hanging_check_ends_at_its_timeout(void **state) {
        await_timeout("/bin/hang");
        end_command(-EREMOTEIO, ""); /* killed by systemd */
        assert_int_equal(server->n_done, 1);
        assert_result(false, "no end within 300ms from /bin/hang");
        assert_false(server->unknown);

        server->n_done = 0;
        command.refuses = -ENOMEM;
        start(UNIT_CHECK_EXEC, "/bin/hang");
        until_ended(1);
        assert_result(false, "no memory for HealthExec=");
        assert_true(server->unknown);

        server->n_done = 0;
        command.refuses = 0;
        server->prober->ops->cancel(server->prober, start(UNIT_CHECK_EXEC, "/bin/hang"));
        end_command(0, "");
        start(UNIT_CHECK_EXEC, "/bin/hang");
        server->prober = probe_io_free(server->prober);
        end_command(-ECANCELED, ""); /* as systemd_bus_free() */
        assert_int_equal(server->n_done, 0);
}

/* The time that systemd needs is not that of the command. */
static void a_command_that_systemd_does_not_begin_or_end_is_unknown(void **state) {
        uint64_t begun_ms;

        command.stuck = true;
        start(UNIT_CHECK_EXEC, "/bin/check");
        until_ended(1);
        assert_result(false, "systemd has not begun it within 300ms from /bin/check");
        assert_true(server->unknown);
        command.on_begun(command.userdata); /* later */
        end_command(0, "");
        assert_int_equal(server->n_done, 1);

        server->n_done = 0;
        start(UNIT_CHECK_EXEC, "/bin/check");
        begun_ms = loop_now_ms(loop_uv_base(server->uv)) + TIMEOUT_MS / 2;
        while (loop_now_ms(loop_uv_base(server->uv)) < begun_ms)
                turn();
        command.on_begun(command.userdata);
        begun_ms = loop_now_ms(loop_uv_base(server->uv));
        until_ended(1);
        assert_result(false, "systemd has not reported its end from /bin/check");
        assert_true(server->unknown);
        assert_true(loop_now_ms(loop_uv_base(server->uv)) >= begun_ms + TIMEOUT_MS);
        end_command(-EREMOTEIO, "");
}

static void a_probe_that_is_cancelled_reports_nothing(void **state) {
        server->prober->ops->cancel(server->prober, start(UNIT_CHECK_HTTP, "PORT/"));
        server->prober->ops->cancel(server->prober, start(UNIT_CHECK_TCP, "192.0.2.1:80"));
        for (unsigned turns = 1; turns < 6; turns++) {
                void *handle = start(UNIT_CHECK_HTTP, "PORT/");

                for (unsigned i = 0; i < turns; i++)
                        turn();
                server->prober->ops->cancel(server->prober, handle);
        }
        until_ended(0);
        assert_int_equal(server->n_done, 0);
        start(UNIT_CHECK_HTTP, "PORT/"); /* ends with the prober */
        turn();
        turn();
        probe_io_free(server->prober);
        server->prober = NULL;
        until_ended(0);
        assert_int_equal(server->n_done, 0);
}

/* Each prefix of an answer is incomplete, or has the result of the answer. */
static void the_status_is_read_of_any_prefix(void **state) {
        static const struct {
                const char *answer;
                int status;
        } rows[] = {
                { "HTTP/1.1 200 OK\r\nA: b\r\n\r\n", 200 },
                { "HTTP/1.1 200\n", 200 },
                { "HTTP/1.0 999 \r\n", 999 },
                { "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204\r\n", 204 },
                { "HTTP/1.1 103 E\nLink: x\nB: c\n\nHTTP/1.1 102\n\nHTTP/1.1 500 x\n", 500 },
                { "HTTP/2 200\r\n", -EBADMSG },
                { "HTTP/1.1 2000\r\n", -EBADMSG },
                { "HTTP/1.1 099 x\r\n", -EBADMSG },
                { "HTTP/1.1  200 x\r\n", -EBADMSG },
                { "http/1.1 200 x\r\n", -EBADMSG },
                { "HTTP/1.1 20x OK\r\n", -EBADMSG },
                { "\r\nHTTP/1.1 200 OK\r\n", -EBADMSG },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                size_t size = strlen(rows[i].answer);

                assert_int_equal(probe_read_status(rows[i].answer, size), rows[i].status);
                for (size_t n = 0; n < size; n++) {
                        _cleanup_free_ char *copy = malloc(n + 1); /* reads beyond it are detected */
                        int status;

                        memcpy(copy, rows[i].answer, n);
                        status = probe_read_status(copy, n);
                        assert_true(status == 0 || status == rows[i].status);
                }
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define ROW(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                ROW(http_answers),
                ROW(a_connection_is_closed_soon_after_its_result),
                ROW(tcp_passes_if_the_port_accepts),
                ROW(another_host_is_not_probed),
                ROW(the_addresses_of_the_host_are_not_listed_for_each_probe),
                ROW(the_addresses_of_the_host_are_listed_again),
                ROW(without_a_descriptor_the_result_is_unknown),
                cmocka_unit_test_setup_teardown(commands, command_setup, teardown),
                cmocka_unit_test_setup_teardown(a_hanging_check_ends_at_its_timeout, command_setup, teardown),
                cmocka_unit_test_setup_teardown(a_command_that_systemd_does_not_begin_or_end_is_unknown,
                                                command_setup, teardown),
                ROW(a_probe_that_is_cancelled_reports_nothing),
                cmocka_unit_test(the_status_is_read_of_any_prefix),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
