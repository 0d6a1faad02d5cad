/* Logging: a message and its fields, passed to one sink: the journal for the service, stderr for users, a
 * transcript for the simulator. Levels: notice, the cluster changed; info, this daemon acted; debug, a check
 * without effect. */
#pragma once

#include <syslog.h>

#include "base/memory.h"

typedef struct LogFields {
        const char *unit;       /* FLEET_UNIT= */
        const char *machine;    /* FLEET_MACHINE= */
        uint64_t index, term;   /* FLEET_INDEX=, FLEET_TERM=; 0: absent */
        const char *principal;  /* FLEET_PRINCIPAL=: whose request it was; NULL or "": the cluster itself */
        int error;              /* negative errno for ERRNO=; 0: absent */
        const char *message_id; /* 32 hex digits, or NULL */
} LogFields;

typedef void (*LogSink)(void *userdata, int priority, const LogFields *fields, const char *message);

/* 'sink' NULL: stderr. 'max_priority' as syslog(3): LOG_INFO by default. */
void log_set_sink(LogSink sink, void *userdata);
void log_set_max_priority(int max_priority);

void log_write(int priority, LogFields fields, const char *format, ...) _printf_(3, 4);

#define log_error(fields, ...)   log_write(LOG_ERR, fields, __VA_ARGS__)
#define log_warning(fields, ...) log_write(LOG_WARNING, fields, __VA_ARGS__)
#define log_notice(fields, ...)  log_write(LOG_NOTICE, fields, __VA_ARGS__)
#define log_info(fields, ...)    log_write(LOG_INFO, fields, __VA_ARGS__)
#define log_debug(fields, ...)   log_write(LOG_DEBUG, fields, __VA_ARGS__)
#define NO_FIELDS                ((LogFields) {})
