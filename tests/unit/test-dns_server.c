/* The server on 127.0.0.1: connections, limits and deadlines. Time passes by an offset, not by waiting. */
#include "tests/lib/test.h"
#include "dns/server.h"
#include "base/log.h"
#include "tests/dns/decoder.h"
#include "tests/dns/queries.h"
#include "tests/lib/scratch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

enum { CLIENTS_MAX = 200 };

typedef struct Fixture {
        sd_event *event;
        Table table;
        SourceList sources;
        Server *server;
        Address udp, tcp;
        int clients[CLIENTS_MAX];
        char *scratch, *resolv_conf;
        Text log;
        Decoded decoded;
        uint8_t out[65537];
} Fixture;

static uint64_t passed_us;

int __real_sd_event_now(sd_event *e, clockid_t clock, uint64_t *ret);
int __wrap_sd_event_now(sd_event *e, clockid_t clock, uint64_t *ret);
int __wrap_sd_event_now(sd_event *e, clockid_t clock, uint64_t *ret) {
        int r = __real_sd_event_now(e, clock, ret);

        *ret += passed_us;
        return r;
}

int __real_sd_event_source_set_time(sd_event_source *s, uint64_t usec);
int __wrap_sd_event_source_set_time(sd_event_source *s, uint64_t usec);
int __wrap_sd_event_source_set_time(sd_event_source *s, uint64_t usec) {
        return __real_sd_event_source_set_time(s, usec > passed_us ? usec - passed_us : 0);
}

static void take_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        text_printf(userdata, "%s\n", message);
}

static int open_socket(int type, Address *ret) {
        int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
        socklen_t size = sizeof(*ret);

        *ret = (Address) { .in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) } };
        assert_int_equal(bind(fd, &ret->sa, sizeof(ret->in)), 0);
        if (type == SOCK_STREAM)
                assert_int_equal(listen(fd, 200), 0);
        assert_int_equal(getsockname(fd, &ret->sa, &size), 0);
        return fd;
}

static int setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);
        _cleanup_text_ Text big = {};

        passed_us = 0;
        f->scratch = scratch_new();
        f->resolv_conf = scratch_path(f->scratch, "resolv.conf");
        scratch_write(f->resolv_conf, "# none\n");
        log_set_sink(take_log, &f->log);
        for (size_t i = 0; i < CLIENTS_MAX; i++)
                f->clients[i] = -1;
        table_file(&f->table, ".host", "77 " THIS_HOST " here a complete\n");
        table_file(&f->table, "shop", "a-00000001 10.0.0.1 80 tcp http " THIS_HOST " a shop@1.service\n");
        for (int i = 0; i < 900; i++)
                text_printf(&big, "h%04d-00000001 10.0.%d.%d 80 tcp http %s a big@%d.service\n", i, i / 250,
                            i % 250, OTHER_HOST, i);
        table_file(&f->table, "big", big.chars);
        assert_int_equal(sd_event_new(&f->event), 0);
        assert_int_equal(server_new(f->event, &f->table, &f->sources, f->resolv_conf, &f->server), 0);
        assert_int_equal(server_add_socket(f->server, open_socket(SOCK_DGRAM, &f->udp)), 0);
        assert_int_equal(server_add_socket(f->server, open_socket(SOCK_STREAM, &f->tcp)), 0);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        for (size_t i = 0; i < CLIENTS_MAX; i++)
                if (f->clients[i] >= 0)
                        close(f->clients[i]);
        server_free(f->server);
        sd_event_unref(f->event);
        table_done(&f->table);
        source_list_done(&f->sources);
        free(f->resolv_conf);
        scratch_free(f->scratch);
        log_set_sink(NULL, NULL);
        text_done(&f->log);
        free(f);
        return 0;
}

/* Dispatch what is pending. */
static void run(Fixture *f) {
        while (sd_event_get_state(f->event) != SD_EVENT_FINISHED && sd_event_run(f->event, 0) > 0)
                ;
}

/* The kernel takes a part of a large answer only. */
static int connect_to(const Address *to, int type) {
        int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), small = 2048;

        if (type == SOCK_STREAM)
                assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
        assert_int_equal(connect(fd, &to->sa, sizeof(to->in)), 0);
        assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
        return fd;
}

/* Open a connection as client 'n'. */
static void client(Fixture *f, size_t n) {
        f->clients[n] = connect_to(&f->tcp, SOCK_STREAM);
        run(f);
}

/* Return whether the server has closed the connection. */
static bool is_closed(Fixture *f, size_t n) {
        uint8_t byte;
        ssize_t r = recv(f->clients[n], &byte, 1, MSG_PEEK);

        return r == 0 || (r < 0 && errno != EAGAIN);
}

/* Return whether the server has a socket whose peer is this client: it is in the same process. */
static bool is_served(Fixture *f, size_t n) {
        Address own = {}, peer;
        socklen_t size = sizeof(own);

        assert_int_equal(getsockname(f->clients[n], &own.sa, &size), 0);
        for (int fd = 3; fd < 1024; fd++) {
                size = sizeof(peer);
                if (getpeername(fd, &peer.sa, &size) == 0 && peer.sa.sa_family == AF_INET &&
                    peer.in.sin_port == own.in.sin_port)
                        return true;
        }
        return false;
}

static size_t tcp_query(uint8_t *ret, const char *name, unsigned type) {
        size_t size = query_print(ret + 2, name, type, 0);

        ret[0] = (uint8_t) (size >> 8);
        ret[1] = (uint8_t) size;
        return 2 + size;
}

static void send_bytes(Fixture *f, size_t n, const void *bytes, size_t size) {
        assert_int_equal(send(f->clients[n], bytes, size, MSG_NOSIGNAL), size);
        run(f);
}

static void send_query(Fixture *f, size_t n, const char *name, unsigned type) {
        uint8_t bytes[4096];

        send_bytes(f, n, bytes, tcp_query(bytes, name, type));
}

/* Read one answer; 0 if there is none. The kernel sends the next part of an answer when it pleases (a
 * window of the size of the small buffer may open with a probe): an answer that has begun, and the first
 * one with 'wait', is waited for. */
static size_t receive_answer(Fixture *f, size_t n, bool wait) {
        struct pollfd input = { .fd = f->clients[n], .events = POLLIN };
        size_t size = 2, done = 0;

        for (int turns = 0; done < size && turns < 2000; turns++) {
                ssize_t r = recv(f->clients[n], f->out + done, size - done, 0);

                if (r == 0 || (r < 0 && errno != EAGAIN) || (r < 0 && !wait && done == 0))
                        return 0;
                if (r > 0)
                        done += (size_t) r;
                else
                        (void) !poll(&input, 1, 10);
                if (done == 2)
                        size = 2 + decode_u16(f->out);
                run(f);
        }
        assert_int_equal(done, size);
        assert_null(decode(f->out + 2, size - 2, &f->decoded));
        return size - 2;
}

static size_t read_answer(Fixture *f, size_t n) {
        return receive_answer(f, n, false);
}

/* Time passes; a query makes the server look. */
static void pass(Fixture *f, uint64_t ms) {
        int fd = connect_to(&f->udp, SOCK_DGRAM);
        uint8_t bytes[4096];
        size_t size = query_print(bytes, "fleet", ns_t_soa, 0);

        passed_us += ms * 1000;
        assert_int_equal(send(fd, bytes, size, 0), size);
        run(f);
        run(f);
        close(fd);
}

static unsigned ask_udp(Fixture *f, const void *bytes, size_t size) {
        int fd = connect_to(&f->udp, SOCK_DGRAM);
        ssize_t n;

        assert_int_equal(send(fd, bytes, size, 0), size);
        run(f);
        n = recv(fd, f->out, sizeof(f->out), 0);
        close(fd);
        if (n < 0)
                return 99;
        assert_null(decode(f->out, (size_t) n, &f->decoded));
        return f->decoded.rcode;
}

static void udp_is_answered(void **state) {
        Fixture *f = *state;
        uint8_t bytes[4096];
        static const uint8_t zeros[65000];
        size_t size;

        assert_int_equal(ask_udp(f, bytes, query_print(bytes, "shop.service.fleet", ns_t_a, 0)), 0);
        assert_string_equal(f->decoded.records[0].text, "10.0.0.1");
        assert_true(f->decoded.flags & FLAG_RA);
        assert_int_equal(ask_udp(f, zeros, sizeof(zeros)), ns_r_formerr);
        assert_int_equal(ask_udp(f, zeros, 11), 99);
        bytes[2] |= 0x80;
        assert_int_equal(ask_udp(f, bytes, 40), 99);
        size = query_print(bytes, "shop.service.fleet", ns_t_a, 1232);
        bytes[size - 5] = 1; /* the version of EDNS */
        assert_int_equal(ask_udp(f, bytes, size), ns_r_badvers);
}

static void other_names_are_refused_without_servers_and_logged_once(void **state) {
        Fixture *f = *state;
        uint8_t bytes[4096];
        size_t size = query_print(bytes, "www.example.com", ns_t_a, 0);

        for (int i = 0; i < 3; i++) {
                assert_int_equal(ask_udp(f, bytes, size), ns_r_refused);
                pass(f, 2000);
        }
        assert_non_null(strstr(f->log.chars, "names no other server"));
        assert_null(strchr(strchr(f->log.chars, '\n') + 1, '\n'));
        size = query_print(bytes, "example.com", ns_t_axfr, 0);
        assert_int_equal(ask_udp(f, bytes, size), ns_r_refused);
}

static void queries_over_tcp_are_pipelined(void **state) {
        Fixture *f = *state;
        uint8_t bytes[4096];
        size_t size = tcp_query(bytes, "shop.service.fleet", ns_t_a), first = size;

        size += tcp_query(bytes + size, "big.service.fleet", ns_t_srv);
        size += tcp_query(bytes + size, "ns.fleet", ns_t_a);
        client(f, 0);
        for (size_t i = 0; i < first; i++) /* the first one byte by byte */
                send_bytes(f, 0, bytes + i, 1);
        send_bytes(f, 0, bytes + first, size - first);
        assert_true(receive_answer(f, 0, true) > 0);
        assert_int_equal(f->decoded.counts[1], 1);
        assert_true(receive_answer(f, 0, true) > 40000);
        assert_int_equal(f->decoded.counts[1], 900);
        assert_true(receive_answer(f, 0, true) > 0);
        assert_string_equal(f->decoded.records[0].text, ZONE_ADDRESS);
        assert_false(is_closed(f, 0));
        send_query(f, 0, "shop.service.fleet", ns_t_a);
        shutdown(f->clients[0], SHUT_WR); /* a client that has sent all */
        run(f);
        assert_true(receive_answer(f, 0, true) > 0);
        assert_true(is_closed(f, 0));
}

static void messages_that_are_no_queries_close_the_connection(void **state) {
        static const struct {
                const char *bytes;
                size_t size;
        } rows[] = { { "\x10\x01", 2 },
                     { "\xff\xff", 2 },
                     { "\0\0", 2 },
                     { "\0\x0b"
                       "12345678901",
                       13 } };
        Fixture *f = *state;
        uint8_t bytes[4096];
        size_t size;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                client(f, i);
                send_bytes(f, i, rows[i].bytes, rows[i].size);
                if (i == 2) /* the size alone: the next byte decides */
                        send_bytes(f, i, "x", 1);
                assert_true(is_closed(f, i));
        }
        client(f, 10);
        size = tcp_query(bytes, "shop.service.fleet", ns_t_a);
        bytes[4] |= 0x80; /* an answer */
        send_bytes(f, 10, bytes, size);
        assert_true(is_closed(f, 10));
        client(f, 11);
        send_bytes(f, 11, bytes, 20);
        shutdown(f->clients[11], SHUT_WR); /* within a query */
        run(f);
        assert_true(is_closed(f, 11));
}

static void the_first_query_has_5_seconds_and_the_next_ones_10(void **state) {
        Fixture *f = *state;
        uint8_t bytes[4096];

        client(f, 0);
        client(f, 1);
        send_query(f, 1, "shop.service.fleet", ns_t_a);
        assert_true(read_answer(f, 1) > 0);
        pass(f, 4900);
        assert_false(is_closed(f, 0));
        send_bytes(f, 0, bytes, tcp_query(bytes, "shop.service.fleet", ns_t_a) - 1); /* slow: not all of it */
        pass(f, 150);
        assert_true(is_closed(f, 0));
        pass(f, 4850);
        assert_false(is_closed(f, 1));
        pass(f, 150);
        assert_true(is_closed(f, 1));
}

static void the_host_has_32_connections_and_the_one_idle_longest_is_closed(void **state) {
        Fixture *f = *state;
        unsigned n_open = 0;

        for (size_t i = 0; i < 32; i++)
                client(f, i);
        send_query(f, 0, "shop.service.fleet", ns_t_a); /* not idle any more */
        for (size_t i = 32; i < 40; i++)
                client(f, i);
        assert_false(is_closed(f, 0) && read_answer(f, 0) == 0);
        for (size_t i = 1; i < 9; i++)
                assert_true(is_closed(f, i));
        for (size_t i = 0; i < 40; i++)
                n_open += i == 0 || !is_closed(f, i);
        assert_int_equal(n_open, 32);
}

/* Clients that never read: each has an answer of 47 KiB, of which the kernel takes a part. */
static void answers_that_wait_are_limited_and_the_longest_is_closed(void **state) {
        Fixture *f = *state;
        unsigned n_closed = 0;

        client(f, 100); /* idle, and no reason to be closed */

        for (size_t i = 0; i < 30; i++) {
                passed_us += 2000;
                client(f, i);
                for (int k = 0; k < 100; k++) { /* until the buffers of the kernel are full */
                        uint8_t bytes[4096];
                        size_t size = tcp_query(bytes, "big.service.fleet", ns_t_srv);

                        (void) !send(f->clients[i], bytes, size, MSG_NOSIGNAL);
                        run(f);
                }
        }
        for (size_t i = 0; i < 30; i++) {
                if (!is_served(f, i)) {
                        assert_int_equal(n_closed, i); /* the oldest ones */
                        n_closed++;
                }
        }
        assert_in_range(n_closed, 30 - SERVER_OUTPUT_MAX / 40000, 30 - SERVER_OUTPUT_MAX / 62000);
        /* Others are served. */
        assert_true(is_served(f, 100));
        client(f, 50);
        send_query(f, 50, "big.service.fleet", ns_t_srv);
        assert_true(receive_answer(f, 50, true) > 40000);
}

static void a_client_that_does_not_read_is_closed_after_10_seconds(void **state) {
        Fixture *f = *state;

        client(f, 0);
        for (int k = 0; k < 200; k++)
                send_query(f, 0, "big.service.fleet", ns_t_srv);
        pass(f, 9900);
        assert_false(is_closed(f, 0) && read_answer(f, 0) == 0);
        pass(f, 150);
        while (read_answer(f, 0) > 0)
                ;
        assert_true(is_closed(f, 0));
}

static void a_socket_of_ip6_is_an_error(void **state) {
        Fixture *f = *state;

        assert_int_equal(server_add_socket(f->server, socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0)),
                         -EAFNOSUPPORT);
}

static void a_stop_reads_nothing_more_and_leaves_the_loop(void **state) {
        Fixture *f = *state;
        uint8_t bytes[4096];
        int fd = connect_to(&f->udp, SOCK_DGRAM);
        size_t size = query_print(bytes, "fleet", ns_t_soa, 0);

        client(f, 0);
        run(f);
        assert_int_equal(send(fd, bytes, size, 0), size);
        server_stop(f->server);
        for (int i = 0; i < 5 && sd_event_get_state(f->event) != SD_EVENT_FINISHED; i++)
                (void) sd_event_run(f->event, 0);
        assert_int_equal(recv(fd, bytes, sizeof(bytes), 0), -1);
        close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(udp_is_answered),
                TEST(other_names_are_refused_without_servers_and_logged_once),
                TEST(queries_over_tcp_are_pipelined),
                TEST(messages_that_are_no_queries_close_the_connection),
                TEST(the_first_query_has_5_seconds_and_the_next_ones_10),
                TEST(the_host_has_32_connections_and_the_one_idle_longest_is_closed),
                TEST(answers_that_wait_are_limited_and_the_longest_is_closed),
                TEST(a_client_that_does_not_read_is_closed_after_10_seconds),
                TEST(a_socket_of_ip6_is_an_error),
                TEST(a_stop_reads_nothing_more_and_leaves_the_loop),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
