/* The next step on a host that does not resolve names of services, from files as the kernel writes them. */
#include <netdb.h>
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "client/core/resolver.h"
#include "tests/lib/scratch.h"

#define HEAD                                                                                                 \
        "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode " \
        "ref\n"
#define SOCKET(address, inode)                                                               \
        "  76: " address " 00000000:0000 07 00000000:00000000 00:00000000 00000000     0   " \
        "     0 " inode " 2 0000000000000000 0\n"

/* In the byte order of the host, as the kernel prints an address. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define OWN "4F17FEA9:0035"
#else
#define OWN "A9FE174F:0035"
#endif
#define ANY      "00000000:0035"
#define LOOPBACK "3500007F:0035" /* 127.0.0.53 */
#define ANY6     "00000000000000000000000000000000:0035"

static void write_below(const char *root, const char *name, const char *text) {
        _cleanup_free_ char *path = scratch_path(root, name);

        scratch_write(path, text);
}

static void the_next_step_is_what_the_host_lacks(void **state) {
        static const struct {
                const char *udp, *udp6, *conf, *next;
        } rows[] = {
                { NULL, NULL, NULL, "systemctl enable --now fleet-dns.socket" },
                { HEAD, HEAD, "nameserver 10.0.0.1\n", "systemctl enable --now fleet-dns.socket" },
                { HEAD SOCKET(LOOPBACK, "7"), HEAD SOCKET(ANY6 "0", "7"), "",
                  "systemctl enable --now fleet-dns.socket" },
                { HEAD SOCKET("00000000:0036", "7"), HEAD, "", "systemctl enable --now fleet-dns.socket" },
                { HEAD SOCKET(ANY, "7"), HEAD, "", "another program has port 53 (PORT 53 in fleet-dns(8))" },
                { HEAD SOCKET(ANY, "4711"), HEAD, "", "dnsmasq has port 53 (PORT 53 in fleet-dns(8))" },
                { HEAD, HEAD SOCKET(ANY6, "4711"), "", "dnsmasq has port 53 (PORT 53 in fleet-dns(8))" },
                { HEAD SOCKET(ANY, "4711") SOCKET(OWN, "8"), HEAD, "nameserver 10.0.0.1\n",
                  "the first line of /etc/resolv.conf has to be: nameserver 169.254.23.79" },
                { HEAD SOCKET(OWN, "8"), HEAD, NULL,
                  "the first line of /etc/resolv.conf has to be: nameserver 169.254.23.79" },
                { HEAD SOCKET(OWN, "8"), HEAD,
                  "# x\nsearch a\nnameserver 10.0.0.1\nnameserver 169.254.23.79\n",
                  "the first line of /etc/resolv.conf has to be: nameserver 169.254.23.79" },
                { HEAD SOCKET(OWN, "8"), HEAD, "search a\n  nameserver\t169.254.23.79\nnameserver 10.0.0.1\n",
                  "fleet-dns does not answer: systemctl status fleet-dns.service" },
                { HEAD SOCKET(OWN, "8"), HEAD, "nameserver 127.0.0.53\noptions edns0\n",
                  "systemd-resolved does not ask fleet-dns: systemctl restart fleet-dns-link.service" },
                { "\n 1: :0035\n\n  2: zz:0035 x\n", "", "nameserver",
                  "systemctl enable --now fleet-dns.socket" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char *root = scratch_new();
                static const char *const folders[] = { "etc",      "proc",        "proc/net", "proc/net.d",
                                                       "proc/300", "proc/300/fd", "proc/2" };
                _cleanup_text_ Text t = {};

                for (size_t k = 0; k < ELEMENTS(folders); k++) {
                        _cleanup_free_ char *path = scratch_path(root, folders[k]);

                        assert_int_equal(mkdir(path, 0700), 0);
                }
                if (rows[i].udp)
                        write_below(root, "proc/net/udp", rows[i].udp);
                if (rows[i].udp6)
                        write_below(root, "proc/net/udp6", rows[i].udp6);
                if (rows[i].conf)
                        write_below(root, "etc/resolv.conf", rows[i].conf);
                write_below(root, "proc/300/comm", "dnsmasq\n");
                {
                        _cleanup_free_ char *link = scratch_path(root, "proc/300/fd/5");

                        assert_int_equal(symlink("socket:[4711]", link), 0);
                }
                resolver_append_next(&t, root);
                assert_string_equal(t.chars, rows[i].next);
                scratch_free(root);
        }
}

/* Instead of that of the C library: the process that asks has a copy of the names. */
static const char *resolved;

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **ret) {
        return text_has_word(resolved, name) ? 0 : EAI_NONAME;
}

static void the_resolver_of_this_host_is_asked(void **state) {
        static const struct {
                const char *resolved, *answer;
        } rows[] = {
                { "shop.service.fleet", "this host resolves shop.service.fleet" },
                { "ns.fleet",
                  "this host does not resolve shop.service.fleet: fleet-dns answers, but /run/fleet/services "
                  "of this host does not have it: systemctl status fleetd (a restricted host has own "
                  "endpoints only)" },
                { "", "this host does not resolve shop.service.fleet: " },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_text_ Text t = {};

                resolved = rows[i].resolved;
                resolver_append(&t, "shop.service.fleet");
                assert_true(starts_with(t.chars, rows[i].answer));
                assert_int_equal(strstr(t.chars, "fleet-dns answers") != NULL, i == 1);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_next_step_is_what_the_host_lacks),
                cmocka_unit_test(the_resolver_of_this_host_is_asked),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
