/* The reader of the output of a command: a client of this host, or another host. The output comes from a
 * child (call_execute.c), or from the host that executes the command (call_ask.c). Within fleetd/api only. */
#pragma once

#include "fleetd/api/callers.h"
#include "fleetd/api/remote_command_spec.h"
#include "fleetd/api/request.h"
#include "peers/call.h"

typedef struct CallReader CallReader;

typedef struct CallReaderEvents {
        void (*on_room)(CallReader *r); /* it has taken output, or given credit */
        /* Once: it has left, or the command has ended or was refused, and the reader has all of it. */
        void (*on_gone)(CallReader *r);
} CallReaderEvents;

struct CallReader {
        const CallReaderEvents *events;
        Request *request;    /* NULL: another host */
        const char *machine; /* that executes the command, for the lines of a request; borrowed */
        Text held;           /* output that the client could not take yet */
        uint64_t taken;      /* bytes that the client has taken */
        bool ended;          /* nothing follows what is held, but the exit status */
        int status;
        Served served; /* of another host */
};

void call_reader_of_request(CallReader *r, Request *request, const char *machine,
                            const CallReaderEvents *events);
/* 0 or -ENOMEM. */
int call_reader_of_host(CallReader *r, Api *api, PeerSession *session, uint64_t number,
                        const CallReaderEvents *events);
void call_reader_done(CallReader *r);

/* The command has begun, and may be silent for long. */
void call_reader_begin(CallReader *r);
/* Send output, or hold it until the client can take it: 0. -ENOBUFS: the client fell too far behind, and is
 * gone. */
int call_reader_take(CallReader *r, const void *bytes, size_t size);
/* The command has ended, or is refused, with the status of an HTTP answer. */
void call_reader_end(CallReader *r, int status);
void call_reader_refuse(CallReader *r, unsigned status, const char *message);

/* Of a CallType. */
void call_reader_on_credit(Served *s);
void call_reader_on_gone(Served *s);

/* -- Frames -- */

/* Refuse a call of another host. */
void call_refuse(PeerSession *session, uint64_t number, unsigned status, const char *message);
#define CALL_FORBIDDEN "the other host rejected the request: this host is restricted or removed"
#define CALL_INVALID   "the other host rejected the request: its version may differ"
void call_reply_end(PeerSession *session, uint64_t number, uint32_t status);

/* -- Rights -- */

/* Return whether the other host may send the command for a machine: its requests have no more rights than an
 * operator on it. If these see units only, restrict the command to those of the cluster. */
bool call_is_permitted(const Api *api, const PeerSession *session, const char *machine,
                       RemoteCommandSpec *spec);
/* NULL: of another host. */
CallerTrust call_trust(const Request *request, const RemoteCommandSpec *spec);
/* Return the principal whose places the call of a request takes. */
Principal call_principal(const Request *request);
