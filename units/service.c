#include "units/service.h"

#include <arpa/inet.h>

#include "base/table.h"
#include "units/machine.h"
#include "units/name.h"

const char *const port_protocol_names[_PORT_PROTOCOL_MAX] = { [PORT_TCP] = "tcp", [PORT_UDP] = "udp" };

void service_policy_done(ServicePolicy *policy) {
        names_done(&policy->names);
        free(policy->ports);
        *policy = (ServicePolicy) {};
}

uint64_t service_withdraw_ms(const ServicePolicy *policy) {
        return policy->withdraw_ms ?: WITHDRAW_MS;
}

static bool is_label_char(char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool service_label_is_valid(const char *s, size_t max) {
        size_t size = strlen(s);

        if (size == 0 || size > max || s[0] == '-' || s[size - 1] == '-')
                return false;
        for (; *s; s++)
                if (!is_label_char(*s) && *s != '-')
                        return false;
        return true;
}

bool endpoint_address_is_valid(const char *address) {
        struct in6_addr six;
        struct in_addr four;
        uint32_t host;

        if (inet_pton(AF_INET, address, &four) == 1) {
                host = ntohl(four.s_addr);
                return host != INADDR_ANY && !IN_MULTICAST(host) && host >> 24 != IN_LOOPBACKNET &&
                       host >> 16 != 0xa9fe && host != INADDR_BROADCAST; /* 169.254.0.0/16 */
        }
        return inet_pton(AF_INET6, address, &six) == 1 && !IN6_IS_ADDR_UNSPECIFIED(&six) &&
               !IN6_IS_ADDR_LOOPBACK(&six) && !IN6_IS_ADDR_LINKLOCAL(&six) && !IN6_IS_ADDR_MULTICAST(&six) &&
               !IN6_IS_ADDR_V4MAPPED(&six);
}

bool interface_is_of_containers(const char *name) {
        return starts_with(name, "podman") || starts_with(name, "cni-podman") || streq(name, "docker0") ||
               streq(name, "docker_gwbridge") ||
               (starts_with(name, "br-") && parse_hex_id(name + 3, 12) == 0);
}

/* -- The files of a host -- */

/* Append a field: "-" for none. */
static void field_print(Text *t, const char *s, char end) {
        if (!s || !*s)
                s = "-";
        for (; *s; s++)
                if (*s > ' ' && *s <= '~' && *s != '%')
                        text_append_char(t, *s);
                else
                        text_printf(t, "%%%02X", (unsigned char) *s);
        text_append_char(t, end);
}

/* Split 'n' fields, each followed by one space, but for the last one. */
static int fields_split(char *line, const char *ret[], size_t n) {
        for (size_t i = 0; i < n; i++) {
                ret[i] = line;
                while (*line > ' ' && *line <= '~')
                        line++;
                if (line == ret[i] || *line != (i + 1 < n ? ' ' : 0))
                        return -EINVAL;
                *line++ = 0;
        }
        return 0;
}

void endpoint_line_print(Text *t, const EndpointLine *line) {
        field_print(t, line->endpoint, ' ');
        field_print(t, line->address, ' ');
        text_printf(t, "%u %s ", line->port, port_protocol_to_string(line->protocol));
        field_print(t, line->port_name, ' ');
        field_print(t, line->machine_id, ' ');
        field_print(t, line->zone, ' ');
        field_print(t, line->unit, '\n');
}

int endpoint_line_parse(char *line, EndpointLine *ret) {
        const char *f[8];
        uint64_t port;
        int protocol;

        TRY(fields_split(line, f, ELEMENTS(f)));
        protocol = TRY(port_protocol_from_string(f[3]));
        TRY(parse_u64(f[2], &port));
        if (port > UINT16_MAX || !service_label_is_valid(f[0], ENDPOINT_NAME_SIZE - 1) ||
            !text_is_ip_address(f[1]) || !machine_id_is_valid(f[5]) ||
            !(streq(f[4], "-") || service_label_is_valid(f[4], PORT_NAME_MAX)))
                return -EINVAL;
        *ret = (EndpointLine) {
                f[0], f[1], (uint16_t) port, (PortProtocol) protocol, f[4], f[5], f[6], f[7]
        };
        return 0;
}

void endpoint_host_print(Text *t, const EndpointHost *host) {
        text_printf(t, "%llu ", (unsigned long long) host->index);
        field_print(t, host->machine_id, ' ');
        field_print(t, host->name, ' ');
        field_print(t, host->zone, ' ');
        field_print(t, host->complete ? "complete" : "partial", '\n');
}

int endpoint_host_parse(char *line, EndpointHost *ret) {
        static const char *const words[] = { "partial", "complete" };
        const char *f[5];
        uint64_t index;
        int complete;

        TRY(fields_split(line, f, ELEMENTS(f)));
        TRY(parse_u64(f[0], &index));
        complete = TRY(parse_name(f[4], words, ELEMENTS(words)));
        if (!machine_id_is_valid(f[1]))
                return -EINVAL;
        *ret = (EndpointHost) { index, f[1], f[2], f[3], complete };
        return 0;
}

const char *endpoint_name(char ret[static ENDPOINT_NAME_SIZE], const char *machine_name,
                          const char *machine_id, const char *unit) {
        char key[UNIT_NAME_MAX + 1 + MACHINE_ID_SIZE];
        int size = snprintf(key, sizeof(key), "%s%c%s", unit, 0, machine_id);
        size_t n = 0;

        assert(size > 0 && size < (int) sizeof(key));
        for (const char *s = machine_name; *s && *s != '.' && n < ENDPOINT_HOST_MAX; s++) {
                char c = *s >= 'A' && *s <= 'Z' ? (char) (*s - 'A' + 'a') : *s;

                ret[n++] = is_label_char(c) ? c : '-';
        }
        /* A label begins and ends with a letter or a digit. */
        if (n == 0 || ret[0] == '-')
                ret[0] = 'm', n = MAX(n, (size_t) 1);
        snprintf(ret + n, ENDPOINT_NAME_SIZE - n, "-%08x", (unsigned) XXH3_64bits(key, (size_t) size));
        return ret;
}
