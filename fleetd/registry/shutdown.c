#include "fleetd/registry/shutdown.h"

static bool maintenance_begin(const MaintenanceRecord *now, const char *purpose, MaintenanceRecord *ret) {
        if (now && now->purpose[0])
                return false;
        *ret = now ? *now : (MaintenanceRecord) {};
        snprintf(ret->purpose, sizeof(ret->purpose), "%s", purpose);
        if (now)
                snprintf(ret->before, sizeof(ret->before), "%s", maintenance_mode_to_string(now->mode));
        ret->mode = MAINTENANCE_DRAINING;
        return true;
}

/* A mode of a later version is taken as a cordon, as a record that cannot be read. */
static int maintenance_end(const MaintenanceRecord *now, const char *purpose, MaintenanceRecord *ret) {
        MaintenanceMode mode;

        if (!now || !streq(now->purpose, purpose))
                return -ENOENT;
        if (!now->before[0])
                return 0;
        mode = maintenance_mode_from_string(now->before);
        *ret = *now;
        memset(ret->purpose, 0, sizeof(ret->purpose));
        memset(ret->before, 0, sizeof(ret->before));
        ret->mode = mode < 0 ? MAINTENANCE_CORDONED : mode;
        return 1;
}

bool shutdown_begin(const MaintenanceRecord *now, MaintenanceRecord *ret) {
        return maintenance_begin(now, CLUSTER_FOR_SHUTDOWN, ret);
}

int shutdown_end(const MaintenanceRecord *now, MaintenanceRecord *ret) {
        return maintenance_end(now, CLUSTER_FOR_SHUTDOWN, ret);
}

bool reboot_begin(const MaintenanceRecord *now, uint64_t deadline_ms, MaintenanceRecord *ret) {
        if (!maintenance_begin(now, CLUSTER_FOR_REBOOT, ret))
                return false;
        ret->deadline_ms = deadline_ms;
        ret->force = false;
        return true;
}

int reboot_end(const MaintenanceRecord *now, MaintenanceRecord *ret) {
        int r = maintenance_end(now, CLUSTER_FOR_REBOOT, ret);

        if (r <= 0)
                return r;
        ret->deadline_ms = 0;
        ret->force = false;
        if (ret->mode == MAINTENANCE_DRAINING)
                ret->mode = MAINTENANCE_CORDONED;
        return r;
}

bool shutdown_allows(const MaintenanceRecord *now, const MaintenanceRecord *next) {
        MaintenanceRecord expected;
        int r = shutdown_end(now, &expected);

        if (!next)
                return r == 0;
        if (r < 0) {
                if (!shutdown_begin(now, &expected))
                        return false;
                if (!now) {
                        memcpy(expected.by, next->by, sizeof(expected.by));
                        memcpy(expected.why, next->why, sizeof(expected.why));
                        expected.since_ms = next->since_ms;
                }
        } else if (r == 0)
                return false;
        return json_record_equal(&maintenance_record, &expected, next);
}
