#include "units/service.h"

#include <arpa/inet.h>

#include "base/table.h"
#include "units/machine.h"
#include "units/name.h"
#include "units/quadlet.h"

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

/* Reject a name that is no label, with a label like it as an example. */
static int label_check(const char *what, const char *name, size_t max, Error *err) {
        char example[SERVICE_NAME_MAX + 1];
        size_t n = 0;

        if (service_label_is_valid(name, max))
                return 0;
        for (const char *s = name; *s && n < max; s++) {
                char c = *s >= 'A' && *s <= 'Z' ? (char) (*s - 'A' + 'a') : *s;

                if (is_label_char(c))
                        example[n++] = c;
                else if (n > 0 && example[n - 1] != '-')
                        example[n++] = '-';
        }
        while (n > 0 && example[n - 1] == '-')
                n--;
        return error_set(err, -EINVAL,
                         "invalid %s name; use up to %zu of a-z, 0-9 and \"-\", for example %.*s", what, max,
                         n > 0 ? (int) n : 4, n > 0 ? example : "http");
}

static bool service_is_reserved(const char *name) {
        static const char *const reserved[] = { "near", "ns", "service" };

        return IS_AMONG(name, reserved);
}

/* Check the service that a unit with ports and without Service= has. */
static int service_check_default(const char *name, Error *err) {
        if (service_label_is_valid(name, SERVICE_NAME_MAX) && !service_is_reserved(name))
                return 0;
        return error_set(err, -EINVAL,
                         "the service would be named \"%s\"%s; add Service= with a-z, 0-9 and \"-\"", name,
                         service_is_reserved(name) ? ", a reserved name" : "");
}

/* Read a number up to the next ':' or '/', and advance *s to that. */
static int port_number_read(const char **s, uint64_t *ret) {
        size_t size = strcspn(*s, ":/");
        char digits[8];

        if (size >= sizeof(digits))
                return -EINVAL;
        snprintf(digits, sizeof(digits), "%.*s", (int) size, *s);
        *s += size;
        TRY(parse_u64(digits, ret));
        return *ret > 0 && *ret <= UINT16_MAX ? 0 : -EINVAL;
}

static int port_parse(const char *s, ServicePort *ret, Error *err) {
        char name[SERVICE_NAME_MAX + 1];
        size_t size = strcspn(s, ":");
        int protocol;

        if (!s[size])
                return error_set(err, -EINVAL, "expected NAME:NUMBER or NAME:auto, for example http:8080");
        snprintf(name, sizeof(name), "%.*s", (int) MIN(size, sizeof(name) - 1), s);
        TRY(label_check("port", name, PORT_NAME_MAX, err));
        snprintf(ret->name, sizeof(ret->name), "%s", name);

        s += size + 1;
        if (strcspn(s, ":/") == 4 && starts_with(s, "auto"))
                s += 4;
        else if (port_number_read(&s, &ret->number) < 0)
                return error_set(err, -EINVAL, "expected 1 to 65535 or auto");
        if (*s == ':') {
                s++;
                if (port_number_read(&s, &ret->container) < 0)
                        return error_set(err, -EINVAL, "expected 1 to 65535 as the port of the container");
        }
        if (!*s)
                return 0;
        protocol = *s == '/' ? port_protocol_from_string(s + 1) : -EINVAL;
        if (protocol < 0)
                return error_set(err, -EINVAL, "expected /tcp, /udp or the end after the number");
        ret->protocol = (PortProtocol) protocol;
        return 0;
}

/* Check what depends on the type of the unit. */
static int port_check_type(const ServicePort *port, const char *unit, Error *err) {
        if (port->container > 0 && !quadlet_is(unit))
                return error_set(
                        err, -EINVAL,
                        "only Quadlet files publish ports; in a service the program listens at the port");
        return port->number == 0 && ends_with(unit, ".socket") ?
                       error_set(err, -EINVAL, "a .socket unit needs a number") :
                       0;
}

/* 'service': the default of Service=; NULL: the unit has one, or nothing is known about that. */
static int port_read(const ServiceItem *item, const char *service, ServicePort *ret, Error *err) {
        TRY(port_parse(item->value, ret, err));
        TRY(item->unit ? port_check_type(ret, item->unit, err) : 0);
        return service ? service_check_default(service, err) : 0;
}

static int service_check_type(const ServiceItem *item, Error *err) {
        if (!item->unit || text_has_word("service socket container pod kube", unit_name_type(item->unit)))
                return 0;
        return error_set(err, -EINVAL, "%s= is for .service, .socket, .container, .pod and .kube files",
                         item->option);
}

/* Check that the name is not the i-th of 'n' that the unit has, and that there are fewer than 'max'. */
static int service_check_number(const ServiceItem *item, const char *name, size_t i, size_t n, size_t max,
                                Error *err) {
        if (i < n)
                return error_set(err, -EINVAL, "%s=%s: duplicate of line %u", item->option, name,
                                 item->lines[i]);
        if (n == max)
                return error_set(err, -EINVAL, "more than %zu %s", max,
                                 max == PORTS_MAX ? "ports" : "services");
        item->lines[n] = item->line;
        return 0;
}

int service_policy_add_name(ServicePolicy *policy, const ServiceItem *item, Error *err) {
        Names *names = &policy->names;
        size_t i = 0;
        int r;

        TRY(service_check_type(item, err));
        r = label_check("service", item->value, SERVICE_NAME_MAX, err);
        if (r >= 0 && service_is_reserved(item->value))
                r = error_set(err, -EINVAL, "reserved name");
        if (r < 0)
                return error_prefix(err, r, "%s=%.128s", item->option, item->value);
        while (i < names->n && !streq(names->items[i], item->value))
                i++;
        TRY(service_check_number(item, item->value, i, names->n, SERVICES_MAX, err));
        return names_add(names, item->value, strlen(item->value));
}

int service_policy_add_port(ServicePolicy *policy, const ServiceItem *item, Error *err) {
        _cleanup_free_ char *service = NULL;
        ServicePort port = {};
        size_t i = 0;
        int r;

        TRY(service_check_type(item, err));
        if (item->unit && policy->names.n == 0 && !item->is_part) {
                service = unit_name_prefix(item->unit);
                if (!service)
                        return -ENOMEM;
        }
        r = port_read(item, service, &port, err);
        if (r < 0)
                return error_prefix(err, r, "%s=%.128s", item->option, item->value);
        if (port.number >= PORT_RANGE_FIRST && port.number <= PORT_RANGE_LAST)
                return error_set(err, -EINVAL,
                                 "%s=%.128s is in the range of dynamic ports (%d to %d): choose another "
                                 "number, or auto",
                                 item->option, item->value, PORT_RANGE_FIRST, PORT_RANGE_LAST);
        for (; i < policy->n_ports && !streq(policy->ports[i].name, port.name); i++)
                if (port.number > 0 && port.container > 0 && policy->ports[i].container > 0 &&
                    policy->ports[i].number == port.number && policy->ports[i].protocol == port.protocol)
                        return error_set(err, -EINVAL, "%s=%.128s: line %u publishes %u/%s", item->option,
                                         item->value, item->lines[i], (unsigned) port.number,
                                         port_protocol_to_string(port.protocol));
        TRY(service_check_number(item, port.name, i, policy->n_ports, PORTS_MAX, err));
        if (!policy->ports)
                policy->ports = NEW0(ServicePort, PORTS_MAX);
        if (!policy->ports)
                return -ENOMEM;
        policy->ports[policy->n_ports++] = port;
        return service ? names_add(&policy->names, service, strlen(service)) : 0;
}

static int port_list(uint64_t number, PortProtocol protocol, Names *ret) {
        char port[16];
        int size = snprintf(port, sizeof(port), "%u/%s", (unsigned) number,
                            port_protocol_to_string(protocol));

        return names_add(ret, port, (size_t) size);
}

int service_policy_list_ports(const ServicePolicy *policy, Names *ret) {
        for (size_t i = 0; i < policy->n_ports; i++)
                if (policy->ports[i].number > 0)
                        TRY(port_list(policy->ports[i].number, policy->ports[i].protocol, ret));
        return 0;
}

int service_list_published(const char *value, Names *ret) {
        const char *end = value + strcspn(value, "/"),
                   *container = memrchr(value, ':', (size_t) (end - value)), *host;
        int protocol = *end ? port_protocol_from_string(end + 1) : PORT_TCP;
        uint64_t number;

        if (!container || protocol < 0)
                return 0;
        host = memrchr(value, ':', (size_t) (container - value));
        host = host ? host + 1 : value;
        return port_number_read(&host, &number) >= 0 ? port_list(number, (PortProtocol) protocol, ret) : 0;
}

const ServicePort *service_port(const ServicePolicy *policy, const char *name, PortProtocol protocol) {
        for (size_t i = 0; i < policy->n_ports; i++)
                if (streq(policy->ports[i].name, name) && policy->ports[i].protocol == protocol)
                        return &policy->ports[i];
        return NULL;
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

const char *endpoint_address(const char *address) {
        return address && endpoint_address_is_valid(address) ? address : "";
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
