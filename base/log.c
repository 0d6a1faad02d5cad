#include "base/log.h"

#include <stdarg.h>

static struct {
        LogSink sink;
        void *userdata;
        int max_priority;
} log_to = { .max_priority = LOG_INFO };

void log_set_sink(LogSink sink, void *userdata) {
        log_to.sink = sink;
        log_to.userdata = userdata;
}

void log_set_max_priority(int max_priority) {
        log_to.max_priority = max_priority;
}

void log_write(int priority, LogFields fields, const char *format, ...) {
        char message[2048];
        va_list ap;

        if (priority > log_to.max_priority)
                return;

        va_start(ap, format);
        vsnprintf(message, sizeof(message), format, ap);
        va_end(ap);

        if (log_to.sink)
                log_to.sink(log_to.userdata, priority, &fields, message);
        else
                fprintf(stderr, "%s\n", message);
}
