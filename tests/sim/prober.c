#include "tests/sim/prober.h"

typedef struct SimRun {
        SimProber *prober;
        SimProbe outcome;
        ProbeDone *done;
        void *userdata;
        Timer timer;
        LIST_ENTRY(SimRun) runs;
} SimRun;

struct SimProber {
        Prober base;
        World *world;
        WorldLoop *loop;
        SimProberDecide *decide;
        void *userdata;
        LIST_HEAD(, SimRun) runs;
        size_t n;
};

static void run_free(SimRun *run) {
        timer_stop(&run->timer);
        LIST_REMOVE(run, runs);
        run->prober->n--;
        free(run);
}

static void run_end(void *userdata) {
        SimRun *run = userdata;
        HealthResult result = { .passed = run->outcome.passed,
                                .unknown = run->outcome.unknown,
                                .not_executed = run->outcome.not_executed,
                                .late_ms = run->outcome.late_ms,
                                .why = run->outcome.why ?: "no answer" };
        ProbeDone *done = run->done;
        void *of = run->userdata;

        run_free(run);
        done(of, &result);
}

static void *sim_start(Prober *base, const ProbeRequest *request, ProbeDone *done, void *userdata) {
        SimProber *p = container_of(base, SimProber, base);
        SimRun *run = world_is_short(p->world) ? NULL : NEW0(SimRun, 1);

        if (!run)
                return NULL;
        *run = (SimRun) { .prober = p,
                          .outcome = p->decide(p->userdata, request),
                          .done = done,
                          .userdata = userdata,
                          .timer = TIMER(run_end, run) };
        run->outcome.passed &= run->outcome.takes_ms <= request->timeout_ms;
        LIST_INSERT_HEAD(&p->runs, run, runs);
        p->n++;
        (void) timer_start(&run->timer, world_loop(p->loop), MIN(run->outcome.takes_ms, request->timeout_ms));
        return run;
}

static void sim_cancel(Prober *base, void *handle) {
        run_free(handle);
}

SimProber *sim_prober_new(World *w, WorldLoop *loop, SimProberDecide *decide, void *userdata) {
        static const ProberOps ops = { .start = sim_start, .cancel = sim_cancel };
        SimProber *p = NEW0(SimProber, 1);

        *p = (SimProber) {
                .base = { &ops }, .world = w, .loop = loop, .decide = decide, .userdata = userdata
        };
        return p;
}

SimProber *sim_prober_free(SimProber *p) {
        if (!p)
                return NULL;
        while (!LIST_EMPTY(&p->runs))
                run_free(LIST_FIRST(&p->runs));
        free(p);
        return NULL;
}

Prober *sim_prober(SimProber *p) {
        return &p->base;
}

size_t sim_prober_in_flight(const SimProber *p) {
        return p->n;
}
