/* The entries of fleetd's journal on one machine, for log. */
#pragma once

#include <sys/queue.h>

#include "client/verbs/machine_stream.h"

typedef enum LogOutput { LOG_SHORT, LOG_JSON, LOG_CAT, _LOG_OUTPUT_MAX } LogOutput;

typedef struct LogEntry {
        TAILQ_ENTRY(LogEntry) all;
        struct LogSource *source;
        uint64_t at_us, arrived_ms;
        unsigned priority;
        char *text; /* owned: the message, or the line of JSON */
        size_t size;
} LogEntry;

TAILQ_HEAD(Entries, LogEntry);

typedef struct LogSource {
        struct Log *log;
        MachineStream in;
        struct Entries entries;
        size_t held, n_entries; /* bytes and number of 'entries' */
        uint64_t last_us;       /* time of the last entry that was received; 0: none */
        bool noted;             /* the present problem of this machine was printed */
        bool awaited;           /* it was printed that this machine has not answered */
} LogSource;

typedef struct Log {
        Client *client;
        LogOutput output;
        Listing machines;
        LogSource *sources;
        size_t n_sources;
        Text filters;             /* parameters of all requests */
        uint64_t since_ms, lines; /* LINES_ALL: no limit */
        bool sends_lines;         /* the limit is also that of each machine */
        struct Entries last;
        size_t n_last, n_printed;
        int name_width;
        bool begun;  /* with --follow: past entries were printed */
        bool failed; /* a machine has not sent its log */
} Log;

void log_entry_free(struct Entries *list, LogEntry *e);
void log_source_drop_first(LogSource *s);
void log_append_name(Text *t, const LogSource *s);
int log_source_open(LogSource *s, Error *err);
/* Report once that a machine does not answer. */
void log_source_note(LogSource *s, const char *reason, bool again);
/* Receive for at most 'ms'. Return 1 after some output, else 0; the stream is closed at its end. */
int log_source_read(LogSource *s, uint64_t ms);
