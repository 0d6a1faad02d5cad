/* Service of systemd: readiness, status, watchdog, journal. The only user of sd-daemon, and of the sending
 * half of sd-journal. Without effect if systemd did not start this process. */
#pragma once

#include "base/log.h"
#include "io/loop.h"

typedef struct Service Service;

int service_new(Service **ret, Loop *loop); /* sends WATCHDOG=1 three times per interval */
Service *service_free(Service *s);
/* Send a notification of sd_notify(3), such as "READY=1". */
void service_notify(const char *format, ...) _printf_(1, 2);

/* Send a message with fields if stderr is a stream to the journal, or write it to stderr:
 * log_set_sink(service_log, NULL). */
void service_log(void *userdata, int priority, const LogFields *fields, const char *message);
