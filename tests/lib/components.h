/* Settings of a host in tests: no files, no listeners. */
#pragma once

#include "fleetd/host/component.h"

/* 'machine_id' is borrowed. */
static inline Settings settings_of_test(char *machine_id) {
        static char name[] = "alpha", none[] = "";

        return (Settings) { .machine_id = machine_id,
                            .name = name,
                            .unit_directory = none,
                            .cluster_file = none,
                            .listen_peer = none,
                            .advertise_client = none,
                            .agent = true,
                            .engine = true,
                            .client_access = CLIENT_READ_WRITE,
                            .limits = api_limits_default,
                            .http = http_limits_default };
}
