#include "fleetd/guard_process.h"

#include <fcntl.h>
#include <poll.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"
#include "fleetd/service.h"

enum {
        LEASE_SIZE = 32,
        SIGN_MS = 1000, /* between two signs for the watchdog */
};

/* Return how long the lease is valid, in ms; 0: it is not. */
static uint64_t guard_left_ms(const char *lease) {
        _cleanup_free_ char *text = NULL;
        uint64_t until_ms, now_ms;
        size_t size;

        if (read_file_at(AT_FDCWD, lease, LEASE_SIZE, &text, &size) < 0 || size == 0 ||
            text[size - 1] != '\n')
                return 0;
        text[size - 1] = 0;
        if (parse_u64(text, &until_ms) < 0)
                return 0;
        now_ms = clock_boot_ms();
        return until_ms > now_ms ? until_ms - now_ms : 0;
}

int guard_run(const char *lease) {
        const char *name = strrchr(lease, '/') ? strrchr(lease, '/') + 1 : lease;
        uint64_t left_ms = guard_left_ms(lease);

        if (left_ms == 0) {
                fprintf(stderr, "%s: this host has no lease: not started\n", name);
                return 1;
        }
        service_notify("READY=1");
        for (; left_ms > 0; left_ms = guard_left_ms(lease)) {
                service_notify("WATCHDOG=1");
                (void) poll(NULL, 0, (int) MIN(left_ms, (uint64_t) SIGN_MS));
        }
        fprintf(stderr, "%s: the lease has ended: stopping\n", name);
        return 0;
}
