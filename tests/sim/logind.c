#include "tests/sim/logind.h"

enum {
        CALL_MS = 10,
        DELAY_MS = 5000, /* InhibitDelayMaxSec= */
        STOP_MS = 100,   /* after the release */
        EARLY_MS = 500,
};

struct SimLogind {
        Logind base;
        World *world;
        SimLogindHooks hooks;
        WorldLoop *loop; /* of the daemon; NULL: none runs */
        void (*on_changed)(void *userdata);
        void *userdata;
        uint64_t until_ms; /* end of the delay; 0: no shutdown is announced */
        bool ending;       /* the delay is over */
        unsigned boot;
        RebootKind kind;
        /* The call that waits for an answer. */
        SystemdDone done;
        void *done_userdata;
        RebootKind wanted;
};

static SimLogind *sim_of(Logind *l) {
        return container_of(l, SimLogind, base);
}

/* -- A shutdown -- */

typedef struct SimShutdown {
        SimLogind *logind;
        unsigned boot;
} SimShutdown;

static void sim_on_down(void *userdata) {
        SimShutdown *s = userdata;
        SimLogind *l = s->logind;
        bool current = s->boot == l->boot && l->until_ms > 0;

        free(s);
        if (!current)
                return;
        l->boot++;
        l->until_ms = 0;
        l->hooks.on_down(l->hooks.userdata, l->kind);
}

static void sim_after(SimLogind *l, uint64_t ms) {
        SimShutdown *s = NEW0(SimShutdown, 1);

        if (!s)
                abort();
        *s = (SimShutdown) { l, l->boot };
        world_at_own(l->world, ms, NULL, sim_on_down, s);
}

static void sim_release(SimLogind *l) {
        if (l->until_ms == 0 || l->ending)
                return;
        l->ending = true;
        sim_after(l, STOP_MS);
}

bool sim_logind_shut_down(SimLogind *l, RebootKind kind) {
        bool early;

        if (l->until_ms > 0)
                return false;
        early = l->hooks.is_early && l->hooks.is_early(l->hooks.userdata);
        l->kind = kind;
        l->ending = false;
        /* The daemon learns the configured delay, of which logind need not wait for the end. */
        l->until_ms = world_now_ms(l->world) + DELAY_MS;
        sim_after(l, STOP_MS + (early ? world_draw(l->world, EARLY_MS) : DELAY_MS));
        if (!l->loop)
                sim_release(l);
        else if (l->on_changed)
                l->on_changed(l->userdata);
        return true;
}

/* -- The interface -- */

static void sim_set_observer(Logind *base, void (*on_changed)(void *userdata), void *userdata) {
        SimLogind *l = sim_of(base);

        l->on_changed = on_changed;
        l->userdata = userdata;
}

static LogindState sim_state(Logind *base) {
        return sim_of(base)->until_ms > 0 ? LOGIND_STOPPING : LOGIND_RUNNING;
}

static uint64_t sim_delay_left_ms(Logind *base) {
        const SimLogind *l = sim_of(base);
        uint64_t now_ms = world_now_ms(l->world);

        return l->ending || l->until_ms <= now_ms ? 0 : l->until_ms - now_ms;
}

static void sim_on_release(Logind *base) {
        sim_release(sim_of(base));
}

static void sim_on_call(void *userdata) {
        SimLogind *l = userdata;
        SystemdDone done = l->done;

        if (!done)
                return;
        l->done = NULL;
        if (l->until_ms > 0 || l->hooks.rejects(l->hooks.userdata)) {
                done(l->done_userdata, -EBUSY, "an operation is in progress");
                return;
        }
        done(l->done_userdata, 0, NULL);
        (void) sim_logind_shut_down(l, l->wanted);
}

static int sim_reboot(Logind *base, RebootKind kind, SystemdDone done, void *userdata) {
        SimLogind *l = sim_of(base);

        l->wanted = kind;
        l->done = done;
        l->done_userdata = userdata;
        world_at(l->world, CALL_MS, l->loop, sim_on_call, l);
        return 0;
}

static void sim_forget(Logind *base) {
        sim_of(base)->done = NULL;
}

static const LogindOps sim_ops = {
        .set_observer = sim_set_observer,
        .state = sim_state,
        .delay_left_ms = sim_delay_left_ms,
        .release = sim_on_release,
        .reboot = sim_reboot,
        .forget = sim_forget,
};

/* -- The host -- */

SimLogind *sim_logind_new(World *w, const SimLogindHooks *hooks) {
        SimLogind *l = NEW0(SimLogind, 1);

        if (l)
                *l = (SimLogind) { .base = { &sim_ops }, .world = w, .hooks = *hooks };
        return l;
}

SimLogind *sim_logind_free(SimLogind *l) {
        free(l);
        return NULL;
}

Logind *sim_logind_attach(SimLogind *l, WorldLoop *loop) {
        l->loop = loop;
        l->on_changed = NULL;
        l->done = NULL;
        return &l->base;
}

void sim_logind_detach(SimLogind *l) {
        l->loop = NULL;
        l->on_changed = NULL;
        l->done = NULL;
        sim_release(l);
}

void sim_logind_power_on(SimLogind *l) {
        l->boot++;
        l->until_ms = 0;
        l->ending = false;
}
