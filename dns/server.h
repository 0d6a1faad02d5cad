/* The server: sockets of UDP and TCP, what each source may use of them, and deadlines.
 *
 * A query comes from a socket, its source is checked, and zone.c answers it or forward.c forwards it. Nothing
 * that a sender does makes the server grow beyond the constants below.
 *
 * Source: RFC 7766 (TCP); fleet-dns(8), LIMITS. */
#pragma once

#include "dns/forward.h"

enum {
        SERVER_QUERY_MAX = 4096, /* bytes of a query */
        SERVER_SOCKETS_MAX = 64, /* listening */
        SERVER_CONNECTIONS_MAX = 64,
        SERVER_SOURCE_CONNECTIONS_MAX = 8,
        SERVER_HOST_CONNECTIONS_MAX = 32,
        SERVER_OUTPUT_MAX = 512 * 1024, /* bytes of answers that wait to be written */
        SERVER_BUFFER = 64 * 1024, /* of the kernel for each connection and direction, which it doubles */
        SERVER_FIRST_MS = 5000,    /* until the first query of a connection */
        SERVER_NEXT_MS = 10000,    /* until the next one, or until its answer is written */
        SERVER_STOPPING_MS = 500,  /* for answers in flight */
        SERVER_LOOK_MS = 1000,     /* between two looks at resolv.conf */
        SERVER_LOG_MS = 60000,     /* between two messages about a limit */
        SERVER_TURN = 64,          /* packets of one socket, until others have their turn */
};

typedef struct Server Server;

/* 'table' and 'sources' are borrowed. Return 0 or a negative errno. */
int server_new(sd_event *event, const Table *table, SourceList *sources, const char *resolv_conf,
               Server **ret);
Server *server_free(Server *s);
DEFINE_CLEANUP(Server *, server_free)

/* Serve a bound socket of UDP, or a listening one of TCP, and take it over. Return 0 or a negative errno. */
int server_add_socket(Server *s, int fd);

/* Read nothing more, and leave the loop when the answers in flight are sent, or after SERVER_STOPPING_MS. */
void server_stop(Server *s);
