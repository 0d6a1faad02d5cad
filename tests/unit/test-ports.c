/* Ports of units: which number is chosen, what the unit gets of it, and how the host is tested. */
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/lib/test.h"
#include "fleetd/features/services/port_prober.h"
#include "fleetd/features/services/ports.h"
#include "fleetd/systemd/drop_in.h"
#include "tests/lib/scratch.h"

/* -- Choice -- */

static bool is_in_list(void *userdata, uint16_t number, PortProtocol protocol) {
        for (const uint16_t *taken = userdata; *taken; taken++)
                if (*taken == number)
                        return true;
        return false;
}

static void the_first_free_number_of_the_range_is_chosen(void **state) {
        static const struct {
                uint16_t first, last, local_first, local_last, taken[8], expected; /* 0: none */
        } cases[] = {
                { 20000, 20000, .expected = 20000 },
                { 20000, 20000, .taken = { 20000 } },
                { 20000, 20001, .taken = { 20000 }, .expected = 20001 },
                { 20000, 20001, .taken = { 20001 }, .expected = 20000 },
                { 20000, 20003, 20001, 20003, .expected = 20000 },
                { 20000, 20003, 20000, 20002, .expected = 20003 },
                { 20000, 20003, 19000, 60000 },
                { 20000, 20003, 20001, 20002, { 20000, 20003 } },
                { 65535, 65535, .expected = 65535 },
        };
        static const ServicePort port = { "http" };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                PortChoice choice = { cases[i].first,      cases[i].last, cases[i].local_first,
                                      cases[i].local_last, is_in_list,    (void *) cases[i].taken };

                assert_int_equal(ports_choose(&choice, "shop@1.service", &port), cases[i].expected);
        }
}

/* The same names lead to the same number; other ones are spread, so that a start rarely changes a number. */
static void a_unit_that_returns_gets_its_former_number(void **state) {
        static const ServicePort http = { "http" }, admin = { "admin" };
        uint16_t none[1] = {};
        PortChoice choice = { 20000, 31999, .is_taken = is_in_list, .userdata = none };
        uint16_t first = ports_choose(&choice, "shop@1.service", &http);
        size_t n_equal = 0;

        assert_int_equal(ports_choose(&choice, "shop@1.service", &http), first);
        assert_int_not_equal(ports_choose(&choice, "shop@1.service", &admin), first);
        for (unsigned i = 2; i < 102; i++) {
                char name[32];

                snprintf(name, sizeof(name), "shop@%u.service", i);
                n_equal += ports_choose(&choice, name, &http) == first;
        }
        assert_in_range(n_equal, 0, 2);
}

/* -- Delivery -- */

/* Without address and numbers, an empty Environment= would delete that of the unit's file. */
static void numbers_are_delivered_by_type(void **state) {
#define HEAD "# Written by fleetd: Port=. Numbers that it selected:\n# admin=20018\n# web=20017\n"
#define ENV \
        "Environment=FLEET_ADDRESS=10.0.0.2 FLEET_PORT_WEB=20017 FLEET_PORT_ADMIN=20018 FLEET_PORT_A_B=8080"
        static const struct {
                const char *unit, *text, *expected; /* NULL: no drop-in */
        } cases[] = {
                { "shop@1.service", "[X-Fleet]\nPort=web:auto\nPort=admin:auto/udp\nPort=a-b:8080\n",
                  HEAD "[Service]\n" ENV "\n" },
                { "shop@1.container",
                  "[Container]\nImage=a\n[X-Fleet]\nPort=web:auto:80\nPort=admin:auto:53/"
                  "udp\nPort=a-b:8080\n",
                  HEAD "[Container]\n" ENV "\nPublishPort=20017:80/tcp\nPublishPort=20018:53/udp\n" },
                { "shop.pod", "[Pod]\n[X-Fleet]\nPort=web:auto:80\nPort=admin:auto\nPort=a-b:8080:90\n",
                  HEAD "[Pod]\nPublishPort=20017:80/tcp\nPublishPort=8080:90/tcp\n" },
                { "shop.kube", "[Kube]\nYaml=a\n[X-Fleet]\nPort=web:auto:80\n",
                  HEAD "[Kube]\nPublishPort=20017:80/tcp\n" },
                { "bare.service", "[X-Fleet]\nPort=web:auto\n",
                  "# Written by fleetd: Port=. Numbers that it selected:\n[Service]\n" },
                { "shop.pod", "[Pod]\n[X-Fleet]\nPort=web:auto\n" },
                { "shop.socket", "[Socket]\nListenStream=80\n[X-Fleet]\nPort=a-b:80\n" },
                { "shop.service", "[X-Fleet]\nService=web\n" },
        };
        static const RecordPorts selected = { { { "admin", 20018 }, { "web", 20017 } }, 2 };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                bool bare = starts_with(cases[i].unit, "bare"); /* neither address nor numbers */
                _cleanup_unit_ Unit *unit = NULL;
                _cleanup_text_ Text t = {};
                Error err = {};

                if (unit_read(cases[i].unit, cases[i].text, strlen(cases[i].text), &unit, &err) < 0)
                        fail_msg("%s", err.message);
                assert_int_equal(drop_in_wanted(unit) >> DROP_IN_PORTS & 1, cases[i].expected != NULL);
                if (!cases[i].expected)
                        continue;
                ports_append_drop_in(&t, unit, bare ? "" : "10.0.0.2", bare ? &(RecordPorts) {} : &selected);
                assert_string_equal(t.chars, cases[i].expected);
                assert_int_equal(ports_read_drop_in(t.chars, "web"), bare ? 0 : 20017);
                assert_int_equal(ports_read_drop_in(t.chars, "admin"), bare ? 0 : 20018);
        }
}

static void a_number_is_read_from_a_line_of_a_drop_in_only(void **state) {
        static const struct {
                const char *drop_in;
                uint16_t expected;
        } cases[] = {
                { "", 0 },
                { "# web=20017\n", 0 }, /* the first line has no number */
                { "\n# web=20017", 20017 },
                { "\n# web=20017\n# web=20018\n", 20017 },
                { "\n# xweb=20017\n", 0 },
                { "\n# web=\n", 0 },
                { "\n# web=80\n", 0 },
                { "\n# web=65536\n", 0 },
                { "\n# web=-1\n", 0 },
                { "\n# web=99999999999999999999999\n", 0 },
                { "\n[Service]\nEnvironment=web=20017\n", 0 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++)
                assert_int_equal(ports_read_drop_in(cases[i].drop_in, "web"), cases[i].expected);
}

/* -- The real tests of ports -- */

/* Return a socket that has the port, as a program would; *ret_address is to be freed by freeaddrinfo(). */
static int take(const char *address, int type, uint16_t number, struct addrinfo **ret_address) {
        struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = type }, *a;
        char port[8];
        int fd, on = 1;

        snprintf(port, sizeof(port), "%u", number);
        assert_int_equal(getaddrinfo(address, port, &hints, &a), 0);
        fd = socket(a->ai_family, type | SOCK_CLOEXEC, 0);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
        if (a->ai_family == AF_INET6)
                assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)), 0);
        assert_int_equal(bind(fd, a->ai_addr, a->ai_addrlen), 0);
        if (type == SOCK_STREAM)
                assert_int_equal(listen(fd, 1), 0);
        *ret_address = a;
        return fd;
}

static void a_port_that_any_socket_has_is_not_free(void **state) {
        static const char *const addresses[] = { "0.0.0.0", "127.0.0.1", "::", "::1" };

        for (size_t i = 0; i < 2 * ELEMENTS(addresses); i++) {
                PortProtocol protocol = i % 2 ? PORT_UDP : PORT_TCP, other = i % 2 ? PORT_TCP : PORT_UDP;
                uint16_t number = (uint16_t) scratch_port();
                struct addrinfo *address;
                int fd = take(addresses[i / 2], i % 2 ? SOCK_DGRAM : SOCK_STREAM, number, &address);

                assert_false(port_prober.is_free(&port_prober, number, protocol));
                assert_true(port_prober.is_free(&port_prober, number, other));
                close(fd);
                assert_true(port_prober.is_free(&port_prober, number, protocol));
                freeaddrinfo(address);
        }
}

/* The server ends first, so that its side of the connection waits for late packets. */
static void a_port_whose_connections_have_ended_is_free(void **state) {
        uint16_t number = (uint16_t) scratch_port();
        struct addrinfo *address;
        int server = take("127.0.0.1", SOCK_STREAM, number, &address), client, accepted;
        char byte;

        client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(client, address->ai_addr, address->ai_addrlen), 0);
        accepted = accept(server, NULL, NULL);
        assert_true(accepted >= 0);
        close(accepted);
        assert_int_equal(read(client, &byte, 1), 0);
        close(client);
        close(server);
        freeaddrinfo(address);
        assert_true(port_prober.is_free(&port_prober, number, PORT_TCP));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_first_free_number_of_the_range_is_chosen),
                cmocka_unit_test(a_unit_that_returns_gets_its_former_number),
                cmocka_unit_test(numbers_are_delivered_by_type),
                cmocka_unit_test(a_number_is_read_from_a_line_of_a_drop_in_only),
                cmocka_unit_test(a_port_that_any_socket_has_is_not_free),
                cmocka_unit_test(a_port_whose_connections_have_ended_is_free),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
