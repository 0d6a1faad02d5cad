#include "fleetd/registry/presence.h"

static uint64_t presence_penalty_ms(uint64_t losses) {
        uint64_t ms = HOLD_OFF_MS;

        if (losses < 2)
                return 0;
        for (uint64_t i = 2; i < losses && ms < HOLD_OFF_MAX_MS; i++)
                ms *= 2;
        return MIN(ms, (uint64_t) HOLD_OFF_MAX_MS);
}

static bool presence_was_announced(const ClusterMachine *was) {
        return was->announced || cluster_machine_is_stopping(was) ||
               (was->reboot && (was->reboot->state == REBOOT_REBOOTING || was->reboot->state == REBOOT_DOWN));
}

PresenceRecord presence_next(const ClusterMachine *was, Presence presence, bool planned, bool announced,
                             uint64_t now_ms) {
        PresenceRecord record = { .presence = presence, .since_ms = now_ms };

        if (presence == PRESENCE_AWAY || presence == PRESENCE_LOST)
                record.announced = announced || (was && presence_was_announced(was));
        if (was) {
                record.losses = was->losses;
                record.lost_ms = was->lost_ms;
                record.hold_off_until_ms = was->hold_off_until_ms;
        }
        if (presence == PRESENCE_LOST && !planned) {
                /* The hold-off does not count as time without a loss. */
                bool is_old = now_ms > MAX(record.lost_ms, record.hold_off_until_ms) + FLAP_WINDOW_MS;

                record.losses = record.lost_ms == 0 || is_old ? 1 : record.losses + 1;
                record.lost_ms = now_ms;
                /* The hold-off starts again when the machine is up. */
                record.hold_off_until_ms = MIN(record.hold_off_until_ms, now_ms);
        } else if (presence == PRESENCE_UP && record.hold_off_until_ms <= record.lost_ms &&
                   presence_penalty_ms(record.losses) > 0)
                /* The machine is up for the first time since its last loss. */
                record.hold_off_until_ms = now_ms + presence_penalty_ms(record.losses);
        return record;
}

bool presence_is_omitted(const ClusterMachine *m, uint64_t now_ms) {
        return (m->presence == PRESENCE_LOST && now_ms >= m->since_ms + LONG_LOST_MS) ||
               cluster_machine_successor(m);
}

uint64_t presence_hold_off_ms(const ClusterMachine *m, uint64_t now_ms) {
        return m->presence == PRESENCE_UP && m->hold_off_until_ms > now_ms ? m->hold_off_until_ms - now_ms :
                                                                             0;
}
