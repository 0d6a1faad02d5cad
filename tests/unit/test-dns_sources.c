/* Who may ask: the pure decision, and the interfaces of this machine. */
#include "tests/lib/test.h"
#include "dns/sources.h"

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

static SourceKind udp(const char *source, unsigned arrived) {
        return sources_decide(&list, address(source), false, arrived, 0);
}

static SourceKind tcp(const char *source, unsigned route) {
        return sources_decide(&list, address(source), true, 0, route);
}

static void own_addresses_by_lo_are_the_host(void **state) {
        assert_int_equal(udp("127.0.0.1", LO), SOURCE_HOST);
        assert_int_equal(udp("127.9.8.7", LO), SOURCE_HOST);
        assert_int_equal(udp("169.254.23.79", LO), SOURCE_HOST);
        assert_int_equal(udp("192.168.1.10", LO), SOURCE_HOST);
        assert_int_equal(udp("10.88.0.1", LO), SOURCE_HOST);
        assert_int_equal(udp("169.254.23.79", LINK), SOURCE_HOST); /* systemd-resolved */
        assert_int_equal(tcp("192.168.1.10", ETH), SOURCE_HOST);
        assert_int_equal(tcp("127.0.0.1", LO), SOURCE_HOST);
}

static void networks_of_bridges_by_that_bridge_are_containers(void **state) {
        assert_int_equal(udp("10.88.3.4", PODMAN), SOURCE_CONTAINER);
        assert_int_equal(udp("172.17.0.2", DOCKER), SOURCE_CONTAINER);
        assert_int_equal(udp("172.18.15.255", BR), SOURCE_CONTAINER);
        assert_int_equal(tcp("10.88.3.4", PODMAN), SOURCE_CONTAINER);
}

static void sources_of_other_hosts_get_nothing(void **state) {
        assert_int_equal(udp("192.168.1.11", ETH), SOURCE_FOREIGN);
        assert_int_equal(udp("8.8.8.8", ETH), SOURCE_FOREIGN);
        assert_int_equal(tcp("192.168.1.11", ETH), SOURCE_FOREIGN);
        assert_int_equal(udp("172.18.16.0", BR), SOURCE_FOREIGN); /* behind the network */
        assert_int_equal(udp("10.1.0.2", OTHER), SOURCE_FOREIGN); /* a bridge of other things */
}

static void forged_sources_get_nothing(void **state) {
        assert_int_equal(udp("127.0.0.1", ETH), SOURCE_FOREIGN);
        assert_int_equal(udp("192.168.1.10", ETH), SOURCE_FOREIGN);
        assert_int_equal(udp("169.254.23.79", ETH), SOURCE_FOREIGN);
        assert_int_equal(udp("10.88.0.1", ETH), SOURCE_FOREIGN);
        assert_int_equal(udp("10.88.3.4", ETH), SOURCE_FOREIGN);
        assert_int_equal(udp("10.88.3.4", DOCKER), SOURCE_FOREIGN); /* one container as another one */
        assert_int_equal(udp("127.0.0.1", PODMAN), SOURCE_FOREIGN);
        assert_int_equal(udp("10.88.3.4", 0), SOURCE_FOREIGN); /* without information */
        assert_int_equal(udp("127.0.0.1", 0), SOURCE_FOREIGN);
        assert_int_equal(tcp("10.88.3.4", ETH), SOURCE_FOREIGN);
        assert_int_equal(tcp("10.88.3.4", 0), SOURCE_FOREIGN);
}

static void only_these_names_are_bridges_of_containers(void **state) {
        static const struct {
                const char *name;
                bool is_bridge;
        } rows[] = {
                { "podman0", true },         { "podman12", true },
                { "cni-podman0", true },     { "docker0", true },
                { "docker_gwbridge", true }, { "br-00ff00ff00ff", true },
                { "br-00ff00ff00f", false }, { "br-00FF00ff00ff", false },
                { "docker1", false },        { "br0", false },
                { "virbr0", false },         { "eth0", false },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                list.n = 0;
                add(rows[i].name, 9, "10.99.0.1", 24);
                assert_int_equal(udp("10.99.0.2", 9), rows[i].is_bridge ? SOURCE_CONTAINER : SOURCE_FOREIGN);
        }
}

static SourceKind allowed(const char *source, unsigned arrived, unsigned route) {
        return sources_decide(&list, address(source), false, arrived, route);
}

static void allowed_networks_by_the_route_back_may_ask_for_services(void **state) {
        Error err = {};

        assert_int_equal(sources_allow(&list, "192.168.1.0/25", &err), 0);
        assert_int_equal(sources_allow(&list, "10.7.7.7", &err), 0);
        assert_int_equal(allowed("192.168.1.11", ETH, ETH), SOURCE_ALLOWED);
        assert_int_equal(allowed("10.7.7.7", ETH, ETH), SOURCE_ALLOWED);
        assert_int_equal(allowed("10.7.7.8", ETH, ETH), SOURCE_FOREIGN);
        assert_int_equal(allowed("192.168.1.128", ETH, ETH), SOURCE_FOREIGN);
        assert_int_equal(allowed("192.168.1.11", PODMAN, ETH), SOURCE_FOREIGN);
        assert_int_equal(allowed("192.168.1.11", ETH, 0), SOURCE_FOREIGN);
        assert_int_equal(tcp("192.168.1.11", ETH), SOURCE_ALLOWED);
        assert_int_equal(udp("192.168.1.10", LO), SOURCE_HOST);
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
                TEST(own_addresses_by_lo_are_the_host),
                TEST(networks_of_bridges_by_that_bridge_are_containers),
                TEST(sources_of_other_hosts_get_nothing),
                TEST(forged_sources_get_nothing),
                TEST(only_these_names_are_bridges_of_containers),
                TEST(allowed_networks_by_the_route_back_may_ask_for_services),
                TEST(wrong_networks_are_errors),
                cmocka_unit_test(an_unknown_source_reads_the_interfaces_again),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
