/* Probes: single executions of a health check. Real over sockets and systemd, or simulated.
 *
 * 'done' is called exactly once, later, from the loop, unless the probe is cancelled first. The handle is
 * valid until then. */
#pragma once

#include "fleetd/features/health/health.h"
#include "fleetd/systemd/systemd.h"
#include "io/stream.h"
#include "units/update.h"

enum { PROBE_BYTES_MAX = 4096 }; /* of an answer, that are read */

typedef void ProbeDone(void *userdata, const HealthResult *result);

typedef struct ProbeRequest {
        const UnitCheck *check; /* copied as far as needed */
        uint64_t timeout_ms;
        const char *user; /* of HealthExec=; "": root */
} ProbeRequest;

typedef struct Prober Prober;

typedef struct ProberOps {
        /* Return a handle, or NULL without memory. */
        void *(*start)(Prober *p, const ProbeRequest *request, ProbeDone *done, void *userdata);
        void (*cancel)(Prober *p, void *handle); /* 'done' is not called any more */
} ProberOps;

struct Prober {
        const ProberOps *ops;
};

/* The real one. 'network' and 'systemd' are borrowed. 'systemd' NULL: HealthExec= fails. */
int probe_io_new(Prober **ret, Loop *loop, Network *network, Systemd *systemd);
/* Cancel all probes; return NULL. */
Prober *probe_io_free(Prober *p);

/* Find the status of an HTTP answer that begins with 'bytes'. Answers of 1xx precede the answer, and are
 * skipped. Return the status (200 to 999), 0 if more bytes are needed, or -EBADMSG: this is no HTTP answer.
 * Pure. */
int probe_read_status(const char *bytes, size_t size);
