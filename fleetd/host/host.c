#include "fleetd/host/host.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <systemd/sd-id128.h>

#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/text.h"
#include "kvstore/kvstore.h"

enum { DESCRIPTORS_OWN = 512, CONNECTIONS_MIN = 16, PROC_FILE_MAX = 4096, STAT_STARTTIME = 22 };

/* Return the start time of process 1 in clock ticks since boot: "starttime" in proc_pid_stat(5), after a name
 * of any characters. */
static int host_read_init_start(uint64_t *ret) {
        _cleanup_free_ char *stat = NULL;
        _cleanup_close_ int dir_fd = open("/proc/1", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        const char *p;
        char digits[24];

        if (dir_fd < 0)
                return -errno;
        TRY(read_file_at(dir_fd, "stat", PROC_FILE_MAX, &stat, NULL));
        p = strrchr(stat, ')');
        for (int field = 2; p && field < STAT_STARTTIME; field++)
                p = strchr(p + 1, ' ');
        if (!p)
                return -EBADMSG;
        snprintf(digits, sizeof(digits), "%.*s", (int) MIN(strcspn(p + 1, " "), sizeof(digits) - 1), p + 1);
        return parse_u64(digits, ret);
}

int host_read_boot_id(char ret[static BOOT_ID_SIZE], Error *err) {
        uint64_t started = 0;
        sd_id128_t id;
        int r;

        r = sd_id128_get_boot(&id);
        if (r < 0)
                return error_set(err, r, "Failed to read the boot ID: %s", strerror(-r));
        r = host_read_init_start(&started);
        if (r < 0)
                return error_set(err, r, "Failed to read the start time of process 1: %s", strerror(-r));
        id.qwords[1] ^= started;
        sd_id128_to_string(id, ret);
        return 0;
}

bool host_needs_reboot(void) {
        return access("/run/reboot-required", F_OK) == 0 || access("/run/reboot-needed", F_OK) == 0;
}

bool host_has_soft_reboot(void) {
        return access("/usr/lib/systemd/system/soft-reboot.target", F_OK) == 0 ||
               access("/lib/systemd/system/soft-reboot.target", F_OK) == 0;
}

int host_local_ports(uint16_t *ret_first, uint16_t *ret_last) {
        _cleanup_free_ char *text = NULL;

        TRY(read_file_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_local_port_range", PROC_FILE_MAX, &text, NULL));
        return sscanf(text, "%hu %hu", ret_first, ret_last) == 2 ? 0 : -EBADMSG;
}

void host_check_port_range(uint16_t first, uint16_t last) {
        uint16_t local_first, local_last;

        if (host_local_ports(&local_first, &local_last) == 0 && first <= local_last && local_first <= last)
                log_warning(NO_FIELDS,
                            "PortRange=%u-%u overlaps net.ipv4.ip_local_port_range, %u to %u: ports in both "
                            "ranges are not used for Port=NAME:auto, because connections of this host may "
                            "have them",
                            first, last, local_first, local_last);
}

void host_read_hardware_id(char ret[static HARDWARE_ID_SIZE]) {
        _cleanup_free_ char *text = NULL;
        size_t n = 0;

        ret[0] = 0;
        if (read_file_at(AT_FDCWD, "/sys/class/dmi/id/product_uuid", PROC_FILE_MAX, &text, NULL) < 0)
                return;
        for (const char *p = text; *p && *p != '\n' && n < HARDWARE_ID_SIZE - 1; p++)
                if (*p != '-')
                        ret[n++] = (char) tolower((unsigned char) *p);
        ret[n] = 0;
        if (parse_hex_id(ret, HARDWARE_ID_SIZE - 1) < 0)
                ret[0] = 0;
}

void host_reserve_descriptors(unsigned n_listeners, uint64_t sessions, uint64_t *connections) {
        uint64_t requested = *connections;
        struct rlimit l;

        if (n_listeners == 0 || getrlimit(RLIMIT_NOFILE, &l) < 0)
                return;
        if (l.rlim_max < DESCRIPTORS_OWN + n_listeners * requested)
                *connections = MAX((l.rlim_max - MIN(l.rlim_max, (rlim_t) DESCRIPTORS_OWN)) / n_listeners,
                                   (uint64_t) CONNECTIONS_MIN);
        if (*connections < requested)
                log_info(NO_FIELDS,
                         "LimitConnections= is %llu instead of %llu: the host allows %llu descriptors; "
                         "expected LimitNOFILE=%llu in fleetd.service, or a lower LimitConnections=",
                         (unsigned long long) *connections, (unsigned long long) requested,
                         (unsigned long long) l.rlim_max,
                         (unsigned long long) (DESCRIPTORS_OWN + n_listeners * requested));
        l.rlim_cur = MIN(l.rlim_max,
                         MAX(l.rlim_cur, (rlim_t) (DESCRIPTORS_OWN + n_listeners * *connections + sessions)));
        (void) setrlimit(RLIMIT_NOFILE, &l);
}

/* -- Addresses -- */

/* Return whether other hosts may reach the address: neither loopback nor link-local. */
static bool host_address_is_global(const struct sockaddr *address) {
        const struct sockaddr_in *in = (const struct sockaddr_in *) address;
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) address;

        if (address->sa_family == AF_INET)
                return (ntohl(in->sin_addr.s_addr) & 0xffff0000u) != 0xa9fe0000u; /* 169.254.0.0/16 */
        return address->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr) &&
               !IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

static int host_print_address(const struct sockaddr *address, char ret[static ADDRESS_SIZE]) {
        const void *bytes = address->sa_family == AF_INET ?
                                    (const void *) &((const struct sockaddr_in *) address)->sin_addr :
                                    &((const struct sockaddr_in6 *) address)->sin6_addr;

        return inet_ntop(address->sa_family, bytes, ret, ADDRESS_SIZE) ? 0 : -errno;
}

/* Collect the addresses of one family; *ret is the last one. Return their number or a negative errno. */
static int host_list_addresses(const struct ifaddrs *all, int family, Text *list,
                               char ret[static ADDRESS_SIZE]) {
        int n = 0;

        for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
                if (!i->ifa_addr || i->ifa_addr->sa_family != family || (i->ifa_flags & IFF_LOOPBACK) ||
                    !(i->ifa_flags & IFF_UP) || !host_address_is_global(i->ifa_addr))
                        continue;
                TRY(host_print_address(i->ifa_addr, ret));
                text_printf(list, "%s%s (%s)", list->size > 0 ? ", " : "", ret, i->ifa_name);
                n++;
        }
        return n;
}

int host_global_address(char ret[static ADDRESS_SIZE], Error *err) {
        static const int families[] = { AF_INET, AF_INET6 };
        _cleanup_text_ Text list = {};
        struct ifaddrs *all;
        int n = 0;

        if (getifaddrs(&all) < 0)
                return error_set(err, -errno, "Failed to list the addresses of this host: %s",
                                 strerror(errno));
        for (size_t i = 0; i < ELEMENTS(families) && n == 0; i++)
                n = host_list_addresses(all, families[i], &list, ret);
        freeifaddrs(all);
        if (n < 0 || list.error < 0)
                return n < 0 ? n : list.error;
        if (n == 0)
                return error_set(err, -ENXIO,
                                 "this host has no address that other hosts can reach; choose one "
                                 "with --listen=ADDR");
        return n == 1 ? 0 :
                        error_set(err, -ENOTUNIQ,
                                  "this host has several addresses: %s; choose one with --listen=ADDR",
                                  list.chars);
}

/* Connecting a datagram socket sends nothing, and selects the route. */
int host_address_towards(const char *endpoint, char ret[static ADDRESS_SIZE]) {
        struct sockaddr_in in = { .sin_family = AF_INET };
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
        struct sockaddr *address = (struct sockaddr *) &in;
        struct sockaddr_storage own;
        socklen_t size = sizeof(in), own_size = sizeof(own);
        _cleanup_close_ int fd = -1;
        char host[ADDRESS_SIZE];
        uint16_t port;

        TRY(parse_address(endpoint, host, sizeof(host), &port));
        in.sin_port = in6.sin6_port = htons(port);
        if (inet_pton(AF_INET, host, &in.sin_addr) != 1) {
                if (inet_pton(AF_INET6, host, &in6.sin6_addr) != 1)
                        return -EINVAL;
                address = (struct sockaddr *) &in6;
                size = sizeof(in6);
        }
        fd = socket(address->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, address, size) < 0 ||
            getsockname(fd, (struct sockaddr *) &own, &own_size) < 0)
                return -errno;
        return host_print_address((struct sockaddr *) &own, ret);
}

/* The folder of the tree, for the signal handler, which has no argument for it; -1: none. */
static int host_tree_fd = -1;

/* SA_RESETHAND: the access that failed is repeated, and ends the process. */
static void host_on_sigbus(int signal_number) {
        (void) unlinkat(host_tree_fd, KV_TREE_TRUSTED, 0);
}

int host_distrust_tree_on_sigbus(const char *state_directory, Error *err) {
        struct sigaction action = { .sa_handler = host_on_sigbus, .sa_flags = (int) SA_RESETHAND };
        _cleanup_free_ char *tree = NULL;

        if (asprintf(&tree, "%s/tree", state_directory) < 0)
                return -ENOMEM;
        host_tree_fd = open_dir(tree, 0700);
        if (host_tree_fd < 0)
                return error_set(err, host_tree_fd, "Failed to open %s: %s", tree, strerror(-host_tree_fd));
        return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}
