#include "fleetd/service.h"

#include <stdarg.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>

struct Service {
        Loop *loop; /* borrowed */
        Timer watchdog;
        uint64_t watchdog_ms; /* 0: no watchdog */
};

static void service_on_watchdog(void *userdata) {
        Service *s = userdata;

        (void) sd_notify(0, "WATCHDOG=1");
        (void) timer_start_with_slack(&s->watchdog, s->loop, s->watchdog_ms / 3 - s->watchdog_ms / 12,
                                      s->watchdog_ms / 12);
}

int service_new(Service **ret, Loop *loop) {
        Service *s = NEW0(Service, 1);
        uint64_t usec;

        if (!s)
                return -ENOMEM;

        s->loop = loop;
        s->watchdog = TIMER(service_on_watchdog, s);
        if (sd_watchdog_enabled(0, &usec) > 0) {
                s->watchdog_ms = MAX(usec / 1000, 3u);
                service_on_watchdog(s);
        }
        *ret = s;
        return 0;
}

Service *service_free(Service *s) {
        if (s)
                timer_stop(&s->watchdog);
        free(s);
        return NULL;
}

void service_notify(const char *format, ...) {
        char message[512];
        va_list ap;

        va_start(ap, format);
        vsnprintf(message, sizeof(message), format, ap);
        va_end(ap);
        (void) sd_notify(0, message);
}

/* JOURNAL_STREAM in systemd.exec(5): device and inode of the stream to the journal. */
static int service_stderr_is_journal(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat st;

        return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
               fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void service_log(void *userdata, int priority, const LogFields *f, const char *message) {
        struct iovec fields[10];
        char text[10][2200];
        int n = 0;

        if (!service_stderr_is_journal()) {
                fprintf(stderr, "%s\n", message);
                return;
        }

#define ADD(...)                                                                                  \
        do {                                                                                      \
                fields[n].iov_len = MIN((size_t) snprintf(text[n], sizeof(text[n]), __VA_ARGS__), \
                                        sizeof(text[n]) - 1);                                     \
                fields[n].iov_base = text[n];                                                     \
                n++;                                                                              \
        } while (0)
        ADD("MESSAGE=%s", message);
        ADD("PRIORITY=%d", priority);
        ADD("SYSLOG_IDENTIFIER=fleetd");
        if (f->unit)
                ADD("FLEET_UNIT=%s", f->unit);
        if (f->machine)
                ADD("FLEET_MACHINE=%s", f->machine);
        if (f->index > 0)
                ADD("FLEET_INDEX=%llu", (unsigned long long) f->index);
        if (f->term > 0)
                ADD("FLEET_TERM=%llu", (unsigned long long) f->term);
        if (f->principal && *f->principal)
                ADD("FLEET_PRINCIPAL=%s", f->principal);
        if (f->error < 0)
                ADD("ERRNO=%d", -f->error);
        if (f->message_id)
                ADD("MESSAGE_ID=%s", f->message_id);
#undef ADD
        (void) sd_journal_sendv(fields, n);
}
