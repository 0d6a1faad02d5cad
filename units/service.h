/* Services: the names that clients look up, the ports at which a unit listens, and endpoints, which are
 * running instances of both. Values of Service=, Port= and WithdrawSec= of [X-Fleet] (a member of Placement),
 * and the files that list the endpoints of a service on each host. Pure.
 *
 * Source: fleet.unit(5), fleet-dns(8); the names of ports are those of RFC 6335. */
#pragma once

#include "base/error.h"
#include "base/parse.h"
#include "base/text.h"
#include "units/lists.h"

enum {
        SERVICE_NAME_MAX = 63, /* bytes: a label of DNS */
        PORT_NAME_MAX = 15,
        SERVICES_MAX = 4, /* of one unit, as the next */
        PORTS_MAX = 8,
        PORT_DYNAMIC_MIN = 1024,
        PORT_RANGE_FIRST = 20000, /* the default of PortRange=: dynamic ports */
        PORT_RANGE_LAST = 31999,
        WITHDRAW_MS = 1000, /* the default of WithdrawSec= */
        WITHDRAW_MAX_MS = 600000,
        ENDPOINT_ADDRESS_SIZE = IP_ADDRESS_SIZE,
        ENDPOINTS_MAX = 700,    /* of one machine */
        ENDPOINT_HOST_MAX = 40, /* bytes of the part of an endpoint's name that is the machine's */
        ENDPOINT_NAME_SIZE = ENDPOINT_HOST_MAX + 1 + 8 + 1,
        ENDPOINT_LINE_MAX = 4096,            /* bytes of a line; longer ones are not read */
        SERVICE_FILE_MAX = 16 * 1024 * 1024, /* bytes of one file */
};

#define SERVICES_FOLDER "/run/fleet/services" /* a file for each service with endpoints, and this one: */
#define SERVICES_HOST   ".host"
#define SERVICES_DNS    "169.254.23.79" /* the address of fleet-dns on each host */

typedef enum PortProtocol {
        PORT_TCP,
        PORT_UDP,
        _PORT_PROTOCOL_MAX,
        _PORT_PROTOCOL_INVALID = -EINVAL,
} PortProtocol;

ENUM_NAMES(port_protocol, PortProtocol, _PORT_PROTOCOL_MAX)

typedef struct ServicePort {
        char name[PORT_NAME_MAX + 1];
        uint64_t number;    /* 0: auto, the host selects a free one */
        uint64_t container; /* the port of the container that is published at 'number'; 0: none */
        PortProtocol protocol;
} ServicePort;

typedef struct ServicePolicy {
        Names names;        /* Service=; with ports and without that option, the prefix of the unit's name */
        ServicePort *ports; /* Port=; their names differ. Room for PORTS_MAX */
        size_t n_ports;
        uint64_t withdraw_ms; /* WithdrawSec=; 0: the default; a span of 0 is 1 ms */
} ServicePolicy;

void service_policy_done(ServicePolicy *policy);
/* Return the time in ms from the withdrawal of an endpoint to an assigned stop (WithdrawSec=). */
uint64_t service_withdraw_ms(const ServicePolicy *policy);

/* A value of Service= or Port=. */
typedef struct ServiceItem {
        const char *option, *value;
        const char *unit;      /* the name; NULL: specifiers are kept, and rules of its type do not apply */
        bool is_part;          /* nothing is known about the other options */
        unsigned line, *lines; /* lines of the services or ports before this one; room for PORTS_MAX */
} ServiceItem;

/* Add a service, or a port "NAME:NUMBER|auto[:CONTAINER][/tcp|/udp]" after all services. Return 0, -EINVAL
 * with the message, or -ENOMEM. */
int service_policy_add_name(ServicePolicy *policy, const ServiceItem *item, Error *err);
int service_policy_add_port(ServicePolicy *policy, const ServiceItem *item, Error *err);
/* Add the ports with a number as "8080/tcp". 0 or -ENOMEM. */
int service_policy_list_ports(const ServicePolicy *policy, Names *ret);
/* Add the host port of a value of PublishPort=, "[[ADDR:]PORT:]CONTAINER[/PROTOCOL]", the same. A range, a
 * port that podman selects, and a protocol that Port= does not have, add nothing. 0 or -ENOMEM. */
int service_list_published(const char *value, Names *ret);
/* Return the port of that name and protocol, borrowed; NULL: none. */
const ServicePort *service_port(const ServicePolicy *policy, const char *name, PortProtocol protocol);

/* Return whether a label of DNS: a-z, 0-9 and '-', no '-' at either end, at most 'max' bytes. */
bool service_label_is_valid(const char *s, size_t max);

/* Return whether a numeric address by which other hosts can reach one: not unspecified, loopback, link-local
 * or multicast. */
bool endpoint_address_is_valid(const char *address);
/* Return 'address' if it is one, else "". NULL: there is none. */
const char *endpoint_address(const char *address);

/* Return whether containers are behind an interface of this name: podman's and Docker's bridges. */
bool interface_is_of_containers(const char *name);

/* -- The files of a host -- */

/* One line: an endpoint and one of its ports. Strings are borrowed. */
typedef struct EndpointLine {
        const char *endpoint; /* a label, unique in the cluster */
        const char *address;  /* numeric */
        uint16_t port;        /* 0: the endpoint has no ports */
        PortProtocol protocol;
        const char *port_name;  /* "-": none */
        const char *machine_id; /* 32 hex digits */
        const char *zone;       /* "-": none. Bytes other than '!' to '~', and '%', are "%XX" */
        const char *unit;
} EndpointLine;

/* Append the line with its newline. */
void endpoint_line_print(Text *t, const EndpointLine *line);
/* Split a line in place, without its newline; members point into it. Return 0 or -EINVAL: not a line of this
 * form, with a name, address, port or ID that is invalid. */
int endpoint_line_parse(char *line, EndpointLine *ret);

/* The host whose files these are: ".host". Strings are borrowed. */
typedef struct EndpointHost {
        uint64_t index; /* of the cluster view that the files show: the serial number of the zone */
        const char *machine_id;
        const char *name; /* of the machine; coded as 'zone' is */
        const char *zone; /* "-": none */
        bool complete;    /* the endpoints of other hosts are known, since this boot */
} EndpointHost;

void endpoint_host_print(Text *t, const EndpointHost *host);
/* As endpoint_line_parse(). */
int endpoint_host_parse(char *line, EndpointHost *ret);

/* Write the name of an endpoint: of the machine name up to the first dot, and a hash of both. Machines with
 * one name differ, and so do instances whose names are no labels. Return 'ret'. */
const char *endpoint_name(char ret[static ENDPOINT_NAME_SIZE], const char *machine_name,
                          const char *machine_id, const char *unit);
