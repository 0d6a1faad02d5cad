/* What systemd expects of a good service: ready, status, watchdog, sockets handed over, and the journal (the
 * one home of sd-daemon.h and sd-journal's sending half). Harmless when we were not started by systemd. */
#pragma once

#include "base/log.h"
#include "io/loop.h"

typedef struct Service Service;

int service_new(Service **ret,
                Loop *loop); /* sends WATCHDOG=1 at a third of the interval that systemd asks for */
Service *service_free(Service *s);
void service_ready(void);
void service_status(const char *format, ...) _printf_(1, 2);
void service_reloading(void); /* until service_ready() */
void service_stopping(void);
void service_extend(uint64_t more_ms); /* start-up goes on: EXTEND_TIMEOUT_USEC= */

/* Sends to the journal with fields when stderr is its stream, else to stderr: log_set_sink(service_log,
 * NULL). */
void service_log(void *userdata, int priority, const LogFields *fields, const char *sentence);
