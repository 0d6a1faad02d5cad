/* Other names: queries that the servers of /etc/resolv.conf answer.
 *
 * The bytes of a query and of its answer stay as they are, but for the ID. Each query to a server has a
 * socket of its own, and a deadline. Equal queries in flight share one. The caller supplies time, IDs and
 * sockets; the sockets are in one epoll descriptor, which is readable when there is work.
 *
 * Source: RFC 5452 (which answers count), RFC 7766 (TCP), resolv.conf(5). */
#pragma once

#include "dns/message.h"
#include "dns/sources.h"

enum {
        FORWARD_SERVERS_MAX = 3,
        FORWARD_ATTEMPT_MS = 1500,    /* for one server */
        FORWARD_ATTEMPTS_MAX = 3,     /* 4.5 s in all: clients give up after 5 s */
        FORWARD_PREFERRED_MS = 30000, /* the server that answered last is asked first */
        /* Queries of clients in flight, and their bytes: of this host, and the same of all others. */
        FORWARD_HALF_CLIENTS_MAX = 512,
        FORWARD_HALF_BYTES_MAX = 48 * 1024,
        FORWARD_SOURCE_CLIENTS_MAX = 128, /* of another source */
        FORWARD_SOURCE_BYTES_MAX = 12 * 1024,
        FORWARD_SHARED_MAX = 64,     /* clients of one query to a server */
        FORWARD_HEAD_SIZE = 2,       /* bytes of the size before a message over TCP */
        RESOLV_CONF_MAX = 64 * 1024, /* bytes */
};

/* Of a server. */
typedef union Address {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
} Address;

/* From whom a query came, and where its answer goes. */
typedef struct ForwardClient {
        struct sockaddr_in source;
        SourceKind kind;
        int fd;              /* UDP: the socket, borrowed */
        uint64_t connection; /* TCP: its serial number, with one query in flight; 0: UDP */
        uint8_t id[2];
} ForwardClient;

/* Return whether two clients are one source: the host has many addresses. */
bool forward_is_same_source(const ForwardClient *a, const ForwardClient *b);

typedef struct ForwardOps {
        /* Return a socket that is connected or connects to this server, and does not block; or a negative
         * errno. */
        int (*open)(void *userdata, const Address *server, bool tcp);
        /* Return 16 bits that no other host can guess. */
        uint16_t (*id)(void *userdata);
        /* Send an answer to a client. */
        void (*answer)(void *userdata, const ForwardClient *client, const uint8_t *bytes, size_t size);
} ForwardOps;

typedef struct Forward Forward;

int forward_new(const ForwardOps *ops, void *userdata, Forward **ret);
Forward *forward_free(Forward *f);
DEFINE_CLEANUP(Forward *, forward_free)

/* Take the servers of a resolv.conf: its nameserver lines, without the 'n_own' addresses of this program.
 * Queries in flight keep those that they have. Return the number of servers, at most FORWARD_SERVERS_MAX. */
size_t forward_read_servers(Forward *f, const char *text, const struct sockaddr_in *own, size_t n_own);

/* Forward a query, whose question is valid. Return ns_r_noerror if its answer follows, or ns_r_refused
 * without servers, or ns_r_servfail above a limit. */
ns_rcode forward_query(Forward *f, const ForwardClient *client, const uint8_t *bytes, size_t size,
                       uint64_t now_ms);

/* Return the epoll descriptor. */
int forward_fd(const Forward *f);
/* Read answers, and end queries whose time has passed. Return the time until which it is not needed again
 * unless the descriptor is readable; UINT64_MAX: no query is in flight. */
uint64_t forward_process(Forward *f, uint64_t now_ms);

/* Read a part of a message over TCP, its size before it, and not a byte more: *n bytes were read before into
 * *bytes, which the caller frees; NULL at first. Return 1 if it is complete, 0 if not, and a negative errno
 * if the connection has ended or the message is larger than 'max'. */
int forward_read_tcp(int fd, size_t max, uint8_t **bytes, size_t *n);
/* Write a part of a message with its size: *n bytes were written before. Return as forward_read_tcp(). */
int forward_write_tcp(int fd, const uint8_t *bytes, size_t size, size_t *n);
