/* Other names: servers behind pairs of sockets, and time as an argument. */
#include "tests/lib/test.h"
#include "dns/forward.h"
#include "tests/dns/decoder.h"
#include "tests/dns/queries.h"

#include <sys/socket.h>

enum { OPENED_MAX = 4096, ANSWERS_MAX = 2048 };

/* What the code under test opened and answered. */
static struct {
        struct {
                int fd; /* our end */
                Address server;
                bool tcp;
        } opened[OPENED_MAX];
        size_t n_opened;
        int error; /* of the next open() */
        uint16_t next_id;
        struct {
                ForwardClient client;
                size_t size;
                unsigned rcode, id;
        } answers[ANSWERS_MAX];
        size_t n_answers;
        uint8_t last[65535];
} world;

static Forward *forward;
static uint64_t now_ms;

static int world_open(void *userdata, const Address *server, bool tcp) {
        int fds[2];

        if (world.error < 0)
                return world.error;
        assert_true(world.n_opened < OPENED_MAX);
        assert_int_equal(
                socketpair(AF_UNIX, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
                0);
        world.opened[world.n_opened].fd = fds[1];
        world.opened[world.n_opened].server = *server;
        world.opened[world.n_opened++].tcp = tcp;
        return fds[0];
}

static uint16_t world_id(void *userdata) {
        return ++world.next_id;
}

static void world_answer(void *userdata, const ForwardClient *client, const uint8_t *bytes, size_t size) {
        assert_true(world.n_answers < ANSWERS_MAX);
        world.answers[world.n_answers].client = *client;
        world.answers[world.n_answers].size = size;
        world.answers[world.n_answers].rcode = bytes[3] & 0xf;
        world.answers[world.n_answers++].id = decode_u16(bytes);
        memcpy(world.last, bytes, size);
}

static const ForwardOps ops = { world_open, world_id, world_answer };

static void servers(const char *text) {
        (void) forward_read_servers(forward, text, NULL, 0);
}

static int setup(void **state) {
        memset(&world, 0, sizeof(world));
        now_ms = 1000;
        assert_int_equal(forward_new(&ops, NULL, &forward), 0);
        servers("nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n");
        return 0;
}

static int teardown(void **state) {
        forward_free(forward);
        for (size_t i = 0; i < world.n_opened; i++)
                close(world.opened[i].fd);
        return 0;
}

/* A client: 0 to 255 a container, from 256 on the host. */
static ForwardClient client_of(unsigned n, bool tcp) {
        ForwardClient c = { .kind = n < 256 ? SOURCE_CONTAINER : SOURCE_HOST, .connection = tcp ? 1 + n : 0 };

        c.source.sin_family = AF_INET;
        c.source.sin_addr.s_addr = htonl(n < 256 ? 0x0a580000 + n : 0x7f000001);
        c.id[0] = 0x12;
        c.id[1] = 0x34;
        return c;
}

static ns_rcode ask_of(unsigned client, const char *name, bool tcp) {
        ForwardClient c = client_of(client, tcp);
        uint8_t bytes[4096];

        return forward_query(forward, &c, bytes, query_print(bytes, name, ns_t_a, 1232), now_ms);
}

static ns_rcode ask(const char *name) {
        return ask_of(1, name, false);
}

/* Time passes, and the loop runs. */
static void pass(uint64_t ms) {
        now_ms += ms;
        forward_process(forward, now_ms);
}

/* Read the query that came to our end of a socket. */
static size_t received(size_t socket, uint8_t ret[static 8192]) {
        ssize_t n = recv(world.opened[socket].fd, ret, 8192, 0);

        return n < 0 ? 0 : (size_t) n;
}

/* Answer it with a response code and 'more' bytes. */
static void answer_with(size_t socket, unsigned rcode, size_t more) {
        static uint8_t bytes[70000];
        size_t size = received(socket, bytes);

        assert_true(size > 12);
        bytes[2] |= 0x80;
        bytes[3] = (uint8_t) (0x80 | rcode);
        memset(bytes + size, 'x', more);
        assert_int_equal(send(world.opened[socket].fd, bytes, size + more, 0), size + more);
        pass(0);
}

static unsigned server_of(size_t socket) {
        assert_true(socket < world.n_opened);
        return ntohl(world.opened[socket].server.in.sin_addr.s_addr) & 0xff;
}

static void the_bytes_stay_but_for_the_id(void **state) {
        uint8_t query[4096], came[8192];
        ForwardClient c = client_of(1, false);
        size_t size = query_print(query, "WWW.example.com", ns_t_a, 1232);

        assert_int_equal(forward_query(forward, &c, query, size, now_ms), 0);
        assert_int_equal(received(0, came), size);
        assert_memory_equal(came + 2, query + 2, size - 2);
        assert_int_equal(came[0] | came[1] << 8, 1); /* the ID of world_id() */
        came[2] |= 0x80;
        came[3] = 0x80;
        memset(came + size, 'z', 700);
        assert_int_equal(send(world.opened[0].fd, came, size + 700, 0), size + 700);
        pass(0);
        assert_int_equal(world.n_answers, 1);
        assert_int_equal(world.answers[0].size, size + 700);
        assert_int_equal(world.answers[0].id, 0x1234);
        assert_memory_equal(world.last + 2, came + 2, size + 698);
        assert_int_equal(forward_process(forward, now_ms), UINT64_MAX);
}

/* test-dns_message has each byte that matters. */
static void an_answer_to_another_query_does_not_count(void **state) {
        uint8_t query[8192], other[8192];
        size_t size;

        ask("a.example");
        ask("b.example");
        size = received(0, query);
        assert_int_equal(received(1, other), size);
        query[2] |= 0x80;
        other[2] |= 0x80;
        assert_int_equal(send(world.opened[0].fd, other, size, 0), size);
        pass(0);
        memcpy(other, query, 2); /* the ID is right, and the question is not */
        assert_int_equal(send(world.opened[0].fd, other, size, 0), size);
        pass(0);
        assert_int_equal(world.n_answers, 0);
        assert_int_equal(send(world.opened[0].fd, query, size, 0), size);
        pass(0);
        assert_int_equal(world.n_answers, 1);
        assert_int_equal(world.n_opened, 2);
}

static void a_server_that_answers_nothing_is_followed_by_the_next_one(void **state) {
        ask("a.example");
        assert_int_equal(forward_process(forward, now_ms), now_ms + 1500);
        pass(1499);
        assert_int_equal(world.n_opened, 1);
        pass(1);
        assert_int_equal(server_of(1), 2);
        pass(1500);
        assert_int_equal(server_of(2), 3);
        pass(1499);
        assert_int_equal(world.n_answers, 0);
        pass(1); /* 4.5 s */
        assert_int_equal(world.n_answers, 1);
        assert_int_equal(world.answers[0].rcode, ns_r_servfail);
        assert_int_equal(world.answers[0].id, 0x1234);
        assert_int_equal(world.n_opened, 3);
}

static void one_server_is_asked_again_by_the_same_socket(void **state) {
        uint8_t first[8192], second[8192];
        size_t size;

        servers("nameserver 10.0.0.9\n");
        ask("a.example");
        size = received(0, first);
        pass(1500);
        assert_int_equal(received(0, second), size);
        assert_memory_equal(first, second, size);
        first[2] |= 0x80; /* the answer to the first one, late */
        assert_int_equal(send(world.opened[0].fd, first, size, 0), size);
        pass(100);
        assert_int_equal(world.n_answers, 1);
        ask("b.example");
        for (int i = 0; i < 3; i++)
                pass(1500);
        assert_int_equal(world.n_answers, 2);
        assert_int_equal(world.answers[1].rcode, ns_r_servfail);
}

static void servfail_and_refused_lead_to_the_next_server_and_the_last_failure_counts(void **state) {
        ask("a.example");
        answer_with(0, ns_r_servfail, 0);
        assert_int_equal(server_of(1), 2);
        answer_with(1, ns_r_refused, 0);
        assert_int_equal(server_of(2), 3);
        assert_int_equal(world.n_answers, 0);
        answer_with(2, ns_r_nxdomain, 0);
        assert_int_equal(world.n_answers, 1);
        assert_int_equal(world.answers[0].rcode, ns_r_nxdomain);

        now_ms += 30000; /* the third one is preferred until then */
        ask("b.example");
        answer_with(3, ns_r_servfail, 0);
        answer_with(4, ns_r_refused, 100);
        pass(1500); /* the third one answers nothing; none is left */
        assert_int_equal(world.n_answers, 2);
        assert_int_equal(world.answers[1].rcode, ns_r_refused);
        assert_true(world.answers[1].size > 100);

        servers("nameserver 10.0.0.9\n"); /* the only one: at once */
        ask("c.example");
        answer_with(6, ns_r_servfail, 10);
        assert_int_equal(world.n_answers, 3);
        assert_int_equal(world.answers[2].rcode, ns_r_servfail);
        assert_int_equal(world.n_opened, 7);
}

static void an_error_of_the_socket_leads_to_the_next_server(void **state) {
        ask("a.example");
        close(world.opened[0].fd); /* as an ICMP error: the next call fails */
        world.opened[0].fd = -1;
        pass(1500);
        assert_int_equal(server_of(world.n_opened - 1), 2);
        world.error = -ENETUNREACH;
        ask("b.example");
        assert_int_equal(world.n_answers, 1);
        assert_int_equal(world.answers[0].rcode, ns_r_servfail);
}

static void the_server_that_answered_last_is_first_for_30_seconds(void **state) {
        ask("a.example");
        pass(1500);
        answer_with(1, 0, 0);
        ask("b.example");
        assert_int_equal(server_of(2), 2);
        pass(1500); /* it does not answer: the others follow */
        assert_int_equal(server_of(3), 3);
        pass(1500);
        assert_int_equal(server_of(4), 1);
        pass(1500);
        now_ms += 30000;
        ask("c.example");
        assert_int_equal(server_of(5), 1);
}

static void equal_queries_share_one_for_64_clients(void **state) {
        for (unsigned i = 0; i < 65; i++)
                assert_int_equal(ask_of(i, "a.example", false), 0);
        assert_int_equal(world.n_opened, 2); /* the 65th has another one */
        ask_of(70, "A.example", false);      /* another byte */
        ask_of(71, "a.example", true);       /* over TCP */
        assert_int_equal(world.n_opened, 4);
        answer_with(0, 0, 0);
        assert_int_equal(world.n_answers, 64);
        for (unsigned i = 0; i < 64; i++)
                assert_int_equal(ntohl(world.answers[i].client.source.sin_addr.s_addr) & 0xff, i);
        assert_int_not_equal(forward_process(forward, now_ms), UINT64_MAX);
}

/* A server that forwards back to this program. */
static void a_loop_ends_by_itself(void **state) {
        ForwardClient c = client_of(256, false);
        uint8_t bytes[8192];
        size_t size;

        servers("nameserver 10.0.0.9\n");
        ask("a.example");
        size = received(0, bytes);
        assert_int_equal(forward_query(forward, &c, bytes, size, now_ms), 0);
        assert_int_equal(world.n_opened, 1);
        for (int i = 0; i < 3; i++)
                pass(1500);
        assert_int_equal(world.n_answers, 2);
        assert_int_equal(world.answers[0].rcode, ns_r_servfail);
}

static void clients_in_flight_are_limited(void **state) {
        char name[32];
        unsigned n = 0;

        for (; n < 128; n++) {
                snprintf(name, sizeof(name), "n%u.example", n);
                assert_int_equal(ask_of(1, name, false), 0);
        }
        assert_int_equal(ask_of(1, "more.example", false), ns_r_servfail);
        assert_int_equal(ask_of(1, "n5.example", false), ns_r_servfail); /* also of an equal query */
        assert_int_equal(ask_of(2, "n5.example", false), 0);             /* others go on */
        for (unsigned i = 0; i < 512; i++) {
                snprintf(name, sizeof(name), "h%u.example", i);
                assert_int_equal(ask_of(256, name, false), 0);
        }
        assert_int_equal(ask_of(256, "more.example", false), ns_r_servfail);
        for (n = 128 + 1 + 512; n < 1024; n++) {
                snprintf(name, sizeof(name), "m%u.example", n);
                assert_int_equal(ask_of(3 + n % 7, name, false), 0);
        }
        assert_int_equal(ask_of(20, "more.example", false), ns_r_servfail);
        assert_int_equal(world.n_answers, 0);
        /* Deadlines end all of them. */
        for (int i = 0; i < 3; i++)
                pass(1500);
        assert_int_equal(world.n_answers, 1024);
        assert_int_equal(forward_process(forward, now_ms), UINT64_MAX);
        assert_int_equal(ask_of(20, "more.example", false), 0);
}

/* Of clients 'first', first + 1, ..., 'n' of them in turn: queries of 4,096 bytes until one finds no room. */
static unsigned ask_large(unsigned first, unsigned n) {
        uint8_t query[4096];
        unsigned accepted = 0;

        query_print(query, "big.example", ns_t_a, 0);
        for (;; accepted++) {
                ForwardClient c = client_of(first + accepted % n, false);

                memcpy(query + 13, &world.n_opened, 2);
                if (forward_query(forward, &c, query, sizeof(query), now_ms) == ns_r_servfail)
                        return accepted;
        }
}

static void bytes_in_flight_have_shares(void **state) {
        for (int round = 0; round < 2; round++) {
                assert_int_equal(ask_large(1, 1), 12 / 4);
                assert_int_equal(ask_large(2, 200), (48 - 12) / 4);
                assert_int_equal(ask_large(256, 1), 48 / 4); /* this host */
                for (int i = 0; i < 3; i++)
                        pass(1500);
        }
}

static void queries_in_flight_keep_their_servers(void **state) {
        ask("a.example");
        servers("nameserver 10.0.0.77\n");
        pass(1500);
        assert_int_equal(server_of(1), 2);
        ask("b.example");
        assert_int_equal(server_of(2), 77);
}

static size_t read_servers(const char *text, const char *own) {
        struct sockaddr_in own_address = { .sin_family = AF_INET, .sin_port = htons(53) };

        inet_pton(AF_INET, own, &own_address.sin_addr);
        return forward_read_servers(forward, text, &own_address, 1);
}

static void servers_are_the_first_three_without_the_own_address(void **state) {
        static const struct {
                const char *text;
                size_t n;
                const char *first;
        } rows[] = {
                { "", 0, NULL },
                { "nameserver 169.254.23.79\n", 0, NULL },
                { "nameserver 169.254.23.79\nnameserver 192.168.1.1\n", 1, "192.168.1.1" },
                { "search lan\nnameserver\t 192.168.1.1 # router\noptions edns0\nnameserver 1.1.1.1", 2,
                  "192.168.1.1" },
                { "nameserver 1.0.0.1\nnameserver 169.254.23.79\nnameserver 1.0.0.2\nnameserver "
                  "1.0.0.3\nnameserver 1.0.0.4\n",
                  3, "1.0.0.1" },
                { "nameserver fd00::1\n", 1, "fd00::1" },
                { "nameserver fe80::1%lo\nnameserver fe80::1%7\n", 2, "fe80::1" },
                { "nameserver\nnameserver x\nnameservers 1.1.1.1\n#nameserver 1.1.1.1\n nameserver "
                  "1.1.1.1\nnameserver 1.1.1\n",
                  0, NULL },
                { "nameserver 1111111111111111111111111111111111111111111111111111111111111111111111111\n", 0,
                  NULL },
                { "nameserver 1.0.0.1\r\n", 1, "1.0.0.1" },
        };
        char text[64];

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const Address *first = &world.opened[world.n_opened].server;

                assert_int_equal(read_servers(rows[i].text, "169.254.23.79"), rows[i].n);
                if (rows[i].n == 0)
                        continue;
                snprintf(text, sizeof(text), "n%zu.example", i);
                ask(text);
                if (first->sa.sa_family == AF_INET)
                        inet_ntop(AF_INET, &first->in.sin_addr, text, sizeof(text));
                else
                        inet_ntop(AF_INET6, &first->in6.sin6_addr, text, sizeof(text));
                assert_string_equal(text, rows[i].first);
                assert_int_equal(first->in.sin_port, htons(53));
        }
        pass(10000);
        read_servers(rows[6].text, "169.254.23.79");
        ask("scope.example");
        pass(1500);
        assert_int_equal(world.opened[world.n_opened - 2].server.in6.sin6_scope_id, 1);
        assert_int_equal(world.opened[world.n_opened - 1].server.in6.sin6_scope_id, 7);
}

/* -- TCP -- */

/* Its size and its header come byte by byte. */
static void over_tcp_an_answer_of_64_kib_may_come_in_parts(void **state) {
        static uint8_t bytes[2 + 65535];
        size_t size, sent = 0;

        ask_of(1, "a.example", true);
        assert_true(world.opened[0].tcp);
        pass(0); /* connected: the query is sent */
        size = received(0, bytes);
        assert_true(size > 14);
        assert_int_equal(decode_u16(bytes), size - 2);
        bytes[0] = bytes[1] = 0xff;
        bytes[4] |= 0x80;
        while (sent < sizeof(bytes)) {
                ssize_t n = send(world.opened[0].fd, bytes + sent, sent < 20 ? 1 : sizeof(bytes) - sent, 0);

                assert_int_equal(world.n_answers, 0);
                if (n > 0)
                        sent += (size_t) n;
                pass(0);
        }
        for (int i = 0; i < 100; i++)
                pass(0);
        assert_int_equal(world.n_answers, 1);
        assert_int_equal(world.answers[0].size, 65535);
        assert_int_equal(world.answers[0].client.connection, 2);
}

static void over_tcp_errors_lead_to_the_next_server(void **state) {
        uint8_t bytes[8192];
        size_t size;

        ask_of(1, "a.example", true);
        pass(0);
        close(world.opened[0].fd); /* closed without an answer */
        world.opened[0].fd = -1;
        pass(0);
        assert_int_equal(server_of(1), 2);
        pass(0);
        size = received(1, bytes);
        bytes[2] ^= 1; /* another ID, of which a second message cannot come */
        assert_int_equal(send(world.opened[1].fd, bytes, size, 0), size);
        pass(0);
        pass(0);
        assert_int_equal(server_of(2), 3);
        pass(0);
        size = received(2, bytes);
        assert_int_equal(send(world.opened[2].fd, "\0\0", 2, 0), 2); /* an empty message */
        pass(0);
        pass(0);
        pass(1500);
        assert_int_equal(world.n_answers, 1);
        assert_int_equal(world.answers[0].rcode, ns_r_servfail);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(the_bytes_stay_but_for_the_id),
                TEST(an_answer_to_another_query_does_not_count),
                TEST(a_server_that_answers_nothing_is_followed_by_the_next_one),
                TEST(one_server_is_asked_again_by_the_same_socket),
                TEST(servfail_and_refused_lead_to_the_next_server_and_the_last_failure_counts),
                TEST(an_error_of_the_socket_leads_to_the_next_server),
                TEST(the_server_that_answered_last_is_first_for_30_seconds),
                TEST(equal_queries_share_one_for_64_clients),
                TEST(a_loop_ends_by_itself),
                TEST(clients_in_flight_are_limited),
                TEST(bytes_in_flight_have_shares),
                TEST(queries_in_flight_keep_their_servers),
                TEST(servers_are_the_first_three_without_the_own_address),
                TEST(over_tcp_an_answer_of_64_kib_may_come_in_parts),
                TEST(over_tcp_errors_lead_to_the_next_server),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
