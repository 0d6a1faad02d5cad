#include "fleetd/systemd/bus_poll.h"

#include "base/memory.h"

int bus_poll(sd_bus *bus, uint64_t now_ms, int *ret_fd, short *ret_events, uint64_t *ret_timeout_ms) {
        int fd = sd_bus_get_fd(bus), events = sd_bus_get_events(bus);
        uint64_t deadline_us;

        if (fd < 0 || events < 0)
                return -ENOTCONN;
        TRY(sd_bus_get_timeout(bus, &deadline_us));
        *ret_fd = fd;
        *ret_events = (short) events;
        *ret_timeout_ms = UINT64_MAX;
        if (deadline_us != UINT64_MAX)
                *ret_timeout_ms = deadline_us / 1000 < now_ms ? 0 : deadline_us / 1000 + 1 - now_ms;
        return 0;
}
