/* Limits of what a host without a replica may use of this one. */
#include "peers/session.h"

static const struct {
        uint64_t per_second, burst;
        uint64_t pause_max_ms; /* sent bytes count, too: other hosts' writes must not silence the host */
} limits[_PEER_COST_MAX] = {
        [PEER_COST_COMMANDS] = { PEER_COMMANDS_PER_SECOND, PEER_COMMANDS_BURST, UINT64_MAX },
        [PEER_COST_BYTES] = { PEER_BYTES_PER_SECOND, PEER_FRAME_MAX, 250 },
};

static void session_on_pace(void *userdata) {
        PeerSession *s = userdata;

        s->paced = false;
        session_read_on(s);
}

/* Replicas send logs and checkpoints. A joining host has limits of its own (strangers.h). */
static bool session_is_paced(const PeerSession *s) {
        return !s->dialed && s->state == SESSION_OPEN && !session_is_joining(s) &&
               (!s->is_replica || s->handshake.raft_id == 0);
}

static uint64_t session_wait_ms(PeerSession *s, PeerCost cost) {
        uint64_t wait_ms = pace_wait_ms(&s->used[cost], limits[cost].per_second, limits[cost].burst,
                                        loop_now_ms(s->context->loop));

        return MIN(wait_ms, limits[cost].pause_max_ms);
}

void peer_charge(PeerSession *s, PeerCost cost, uint64_t n) {
        uint64_t wait_ms;

        if (!session_is_paced(s))
                return;
        (void) session_wait_ms(s, cost); /* drains */
        pace_take(&s->used[cost], n);
        wait_ms = session_wait_ms(s, cost);
        if (wait_ms == 0 || s->paced)
                return;
        s->pace = TIMER(session_on_pace, s);
        if (timer_start(&s->pace, s->context->loop, wait_ms) < 0)
                return; /* without memory for a timer, nothing would end the pause */
        s->paced = true;
        stream_pause(s->stream, true);
}
