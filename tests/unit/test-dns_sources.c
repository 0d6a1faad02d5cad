/* Who may ask: the pure decision, and the interfaces of this machine. */
#include "tests/lib/test.h"
#include "dns/sources.h"
#include "units/service.h"

#include <arpa/inet.h>

enum { LO = 1, ETH = 2, PODMAN = 3, DOCKER = 4, BR = 5, LINK = 6, OTHER = 7 };

static SourceList list;

static struct in_addr address(const char *text) {
        struct in_addr a = {};

        assert_int_equal(inet_pton(AF_INET, text, &a), 1);
        return a;
}

static void add(const char *name, unsigned index, const char *own, unsigned prefix) {
        SourceInterface i = { .index = index,
                              .network = { address(own), { htonl(UINT32_MAX << (32 - prefix)) } } };

        snprintf(i.name, sizeof(i.name), "%s", name);
        assert_int_equal(GROW(list.interfaces, list.capacity, list.n + 1), 0);
        list.interfaces[list.n++] = i;
}

static int setup(void **state) {
        add("lo", LO, "127.0.0.1", 8);
        add("lo", LO, "169.254.23.79", 32);
        add("eth0", ETH, "192.168.1.10", 24);
        add("podman0", PODMAN, "10.88.0.1", 16);
        add("docker0", DOCKER, "172.17.0.1", 16);
        add("br-0123456789ab", BR, "172.18.0.1", 20);
        add("br-lan", OTHER, "10.1.0.1", 16);
        add(SOURCES_LINK, LINK, "169.254.23.79", 32);
        return 0;
}

static int teardown(void **state) {
        source_list_done(&list);
        return 0;
}

static void a_source_counts_by_its_address_and_the_interface(void **state) {
        enum { UDP, TCP };
        static const struct {
                const char *source;
                int protocol;
                unsigned input, route; /* input: of UDP */
                SourceKind kind;
        } rows[] = {
                /* Own addresses by lo, or by the link of systemd-resolved. */
                { "127.0.0.1", UDP, LO, 0, SOURCE_HOST },
                { "127.9.8.7", UDP, LO, 0, SOURCE_HOST },
                { "169.254.23.79", UDP, LO, 0, SOURCE_HOST },
                { "192.168.1.10", UDP, LO, 0, SOURCE_HOST },
                { "10.88.0.1", UDP, LO, 0, SOURCE_HOST },
                { "169.254.23.79", UDP, LINK, 0, SOURCE_HOST },
                { "192.168.1.10", TCP, 0, LO, SOURCE_HOST },
                { "127.0.0.1", TCP, 0, LO, SOURCE_HOST },
                /* Networks of bridges by that bridge. */
                { "10.88.3.4", UDP, PODMAN, 0, SOURCE_CONTAINER },
                { "172.17.0.2", UDP, DOCKER, 0, SOURCE_CONTAINER },
                { "172.18.15.255", UDP, BR, 0, SOURCE_CONTAINER },
                { "10.88.3.4", TCP, 0, PODMAN, SOURCE_CONTAINER },
                /* Other hosts, and what is behind a network, or behind a bridge of other things. */
                { "192.168.1.140", UDP, ETH, ETH, SOURCE_FOREIGN },
                { "8.8.8.8", UDP, ETH, ETH, SOURCE_FOREIGN },
                { "192.168.1.140", TCP, 0, ETH, SOURCE_FOREIGN },
                { "172.18.16.0", UDP, BR, BR, SOURCE_FOREIGN },
                { "10.1.0.2", UDP, OTHER, OTHER, SOURCE_FOREIGN },
                /* Forged sources, one container as another one, and no information. */
                { "127.0.0.1", UDP, ETH, LO, SOURCE_FOREIGN },
                { "192.168.1.10", UDP, ETH, LO, SOURCE_FOREIGN },
                { "169.254.23.79", UDP, ETH, LO, SOURCE_FOREIGN },
                { "10.88.0.1", UDP, ETH, LO, SOURCE_FOREIGN },
                { "10.88.3.4", UDP, ETH, PODMAN, SOURCE_FOREIGN },
                { "10.88.3.4", UDP, DOCKER, PODMAN, SOURCE_FOREIGN },
                { "127.0.0.1", UDP, PODMAN, LO, SOURCE_FOREIGN },
                { "10.88.3.4", UDP, 0, 0, SOURCE_FOREIGN },
                { "127.0.0.1", UDP, 0, 0, SOURCE_FOREIGN },
                { "192.168.1.10", TCP, 0, ETH, SOURCE_FOREIGN }, /* a former address of this host */
                { "10.88.3.4", TCP, 0, ETH, SOURCE_FOREIGN },
                { "10.88.3.4", TCP, 0, 0, SOURCE_FOREIGN },
                /* --allow=192.168.1.0/25 --allow=10.7.7.7, by the route back. */
                { "192.168.1.11", UDP, ETH, ETH, SOURCE_ALLOWED },
                { "192.168.1.11", TCP, 0, ETH, SOURCE_ALLOWED },
                { "10.7.7.7", UDP, ETH, ETH, SOURCE_ALLOWED },
                { "10.7.7.8", UDP, ETH, ETH, SOURCE_FOREIGN },
                { "192.168.1.11", UDP, PODMAN, ETH, SOURCE_FOREIGN },
                { "192.168.1.11", UDP, ETH, 0, SOURCE_FOREIGN },
        };
        Error err = {};

        for (int allows = 0; allows < 2; allows++) {
                for (size_t i = 0; i < ELEMENTS(rows); i++) {
                        SourceKind kind = sources_decide(&list, address(rows[i].source),
                                                         rows[i].protocol == TCP, rows[i].input,
                                                         rows[i].route);

                        if (kind !=
                            (allows == 0 && rows[i].kind == SOURCE_ALLOWED ? SOURCE_FOREIGN : rows[i].kind))
                                fail_msg("row %zu: %d", i, kind);
                }
                assert_int_equal(sources_allow(&list, "192.168.1.0/25", &err), 0);
                assert_int_equal(sources_allow(&list, "10.7.7.7", &err), 0);
        }
}

static void only_these_names_are_bridges_of_containers(void **state) {
        static const char bridges[][16] = { "podman0", "podman12",        "cni-podman0",
                                            "docker0", "docker_gwbridge", "br-00ff00ff00ff" },
                          others[][16] = { "br-00ff00ff00f", "br-00FF00ff00ff",
                                           "docker1",        "br0",
                                           "virbr0",         "eth0" };

        for (size_t i = 0; i < ELEMENTS(bridges); i++) {
                assert_true(interface_is_of_containers(bridges[i]));
                assert_false(interface_is_of_containers(others[i]));
        }
}

static void wrong_networks_are_errors(void **state) {
        static const char *const rows[][2] = {
                { "0.0.0.0/0", "that is an open resolver; name your networks" },
                { "::/0", "that is an open resolver; name your networks" },
                { "10.0.0.0/33", "expected a prefix of 1 to 32" },
                { "10.0.0/8", "expected a network of IPv4, for example 192.168.1.0/24" },
                { "", "expected a network of IPv4, for example 192.168.1.0/24" },
                { "10.0.0.0/", "expected a prefix of 1 to 32" },
                { "fd00::/64", "expected a network of IPv4, for example 192.168.1.0/24" },
                { "lan", "expected a network of IPv4, for example 192.168.1.0/24" },
        };
        Error err = {};

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_int_equal(sources_allow(&list, rows[i][0], &err), -EINVAL);
                assert_string_equal(err.message, rows[i][1]);
        }
        for (int i = 0; i < SOURCES_ALLOWED_MAX; i++)
                assert_int_equal(sources_allow(&list, "10.0.0.0/8", &err), 0);
        assert_int_equal(sources_allow(&list, "10.0.0.0/8", &err), -EINVAL);
}

/* The list is read for the first and for each unknown source, at most once in a second. */
static void an_unknown_source_reads_the_interfaces_again(void **state) {
        SourceList real = {};
        struct in_addr own = address("127.0.0.1"), foreign = address("203.0.113.9");

        assert_int_equal(sources_check(&real, own, true, 0, 5000), SOURCE_HOST);
        assert_int_equal(real.read_ms, 5000);
        assert_int_equal(sources_check(&real, own, true, 0, 9000), SOURCE_HOST);
        assert_int_equal(real.read_ms, 5000);
        assert_int_equal(sources_check(&real, foreign, false, 1, 5999), SOURCE_FOREIGN);
        assert_int_equal(real.read_ms, 5000);
        assert_int_equal(sources_check(&real, foreign, false, 1, 6000), SOURCE_FOREIGN);
        assert_int_equal(real.read_ms, 6000);
        assert_true(real.n > 0);
        source_list_done(&real);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(a_source_counts_by_its_address_and_the_interface),
                cmocka_unit_test(only_these_names_are_bridges_of_containers),
                TEST(wrong_networks_are_errors),
                cmocka_unit_test(an_unknown_source_reads_the_interfaces_again),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
