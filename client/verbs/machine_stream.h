/* A remote command on one of several machines, whose output has lines: for verbs that show many machines at
 * once. A machine that does not answer has a reason, and the others go on. */
#pragma once

#include "client/core/client.h"
#include "client/core/listing.h"

typedef struct MachineStream {
        Client *client; /* borrowed, as the next */
        const ApiMachine *machine;
        StreamLine line; /* takes a line, which ends with a newline, or returns 1: it is a message */
        void *userdata;
        Stream *stream;    /* NULL: closed */
        uint64_t retry_ms; /* when a closed one is opened again; 0: never */
        int status;        /* -1: the answer has not ended */
        Text partial;      /* the beginning of a line */
        Text said;         /* the last message: the reason of a failure */
        Error err;
} MachineStream;

void machine_stream_done(MachineStream *s);
/* Send the request. 0 or an error of it. */
int machine_stream_open(MachineStream *s, const Text *path, Error *err);
/* Receive for at most 'ms'. Return 1 after some lines, else 0. At its end the stream is closed, and
 * *ret_reason is why before the end of the output, borrowed until the next call; NULL: it has ended, or goes
 * on. With 'again', 'retry_ms' is set if the reason may pass. -ENOMEM. */
int machine_stream_read(MachineStream *s, uint64_t ms, bool again, const char **ret_reason);

/* Call 'add' for each machine of --machine=NAME[,NAME...], or for all that are not gone. The result is that
 * of a verb. */
int machine_stream_select(Client *c, const Listing *machines,
                          int (*add)(void *userdata, const ApiMachine *machine), void *userdata);
