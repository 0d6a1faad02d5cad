#include "fleetd/problems/daemon.h"

#include "fleetd/engine/engine.h"
#include "fleetd/identity/securing.h"

enum {
        LOOP_MS = 120000, /* a unit restarts in a loop if its last restart is not older, */
        LOOP_COUNT = 5,   /* and this was one of as many */
        HISTORY_MAX = 1000,
        COUNT_WORK = 1000,     /* objects in one turn, for figures */
        COUNT_PAUSE_MS = 5000, /* between two searches for figures */
};

static int loops_on_row(void *userdata, const KvHistoryRow *row) {
        ProblemSearch *s = userdata;
        ProblemLoop loop = { .count = row->count, .first_ms = row->first_ms, .last_ms = row->last_ms };

        if (row->last_ms + LOOP_MS < s->wall_ms || ++s->visits > HISTORY_MAX)
                return 0;
        if (row->count < LOOP_COUNT || history_decode(row->body, &loop.event) < 0 ||
            (loop.event.verdict.code != VERDICT_UNIT_RESTARTS &&
             loop.event.verdict.code != VERDICT_UNIT_RESTARTS_FAILED))
                return 1;
        TRY(GROW(s->loops, s->loops_capacity, s->n_loops + 1));
        s->loops[s->n_loops++] = loop;
        return 1;
}

void problems_append_rejection(const Peers *peers, Text *t) {
        const char *reason, *address;
        Rejection cause;

        address = peers ? peers_rejection(peers, &cause, &reason) : NULL;
        if (!address)
                return;
        text_printf(t, "%s: %s", address, reason);
        if (cause == REJECTION_CLUSTER)
                text_append(t, "; to give up the cluster of this host: stop fleetd, run fleetd --reset, "
                               "start fleetd");
        else if (cause == REJECTION_LINEAGE)
                text_append(t, ": to let this host join: stop fleetd, run fleetd --reset, start fleetd");
}

int problems_begin(ProblemSearch *s, const ComponentHost *host) {
        const char *problem;
        int r;

        kv_state(host->store, &s->state);
        s->cluster = registry_cluster(host->registry);
        s->components = host->components;
        s->wall_ms = loop_wall_ms(host->io.loop);
        s->brake_ms = host->engine ? engine_brake(host->engine) : 0;
        problem = securing_problem(s->cluster, host->peers, &s->what);
        if (problem || s->state.leader_id != 0 || s->state.removed || s->state.attached ||
            s->state.n_members == 0)
                text_append(&s->replica, problem ?: s->state.problem);
        text_clear(&s->what);
        problems_append_rejection(host->peers, &s->rejection);
        r = s->state.attached ? 0 : kv_local_history(host->store, 0, true, loops_on_row, s);
        return MIN(r, MIN(s->replica.error, s->rejection.error));
}

/* -- Figures -- */

struct Problems {
        const ComponentHost *host; /* borrowed */
        Deferred slice;
        bool searches, known;
        uint64_t ended_ms;
        size_t row;
        char after[UNIT_NAME_MAX + 1];
        size_t counts[PROBLEM_ROWS_MAX], next[PROBLEM_ROWS_MAX];
};

static void problems_on_slice(void *userdata) {
        struct Problems *p = userdata;
        Loop *loop = p->host->io.loop;
        ProblemSearch s = { .self = p->host->settings->machine_id,
                            .name = p->host->settings->name,
                            .counts = p->next,
                            .row = p->row };
        int r;

        memcpy(s.after, p->after, sizeof(s.after));
        r = problems_begin(&s, p->host);
        if (r >= 0)
                r = problems_search(&s, SIZE_MAX, COUNT_WORK);
        loop_count(loop, s.visits, 0);
        p->row = s.row;
        memcpy(p->after, s.after, sizeof(s.after));
        problems_done(&s);
        if (r > 0) {
                loop_defer(loop, &p->slice);
                return;
        }
        p->searches = false;
        p->ended_ms = loop_now_ms(loop);
        p->known = r == 0;
        memcpy(p->counts, p->next, sizeof(p->counts));
}

const size_t *problems_counts(struct Problems *p) {
        if (!p->searches && (!p->known || loop_now_ms(p->host->io.loop) >= p->ended_ms + COUNT_PAUSE_MS)) {
                memset(p->next, 0, sizeof(p->next));
                p->row = p->after[0] = 0;
                p->searches = true;
                loop_defer(p->host->io.loop, &p->slice);
        }
        return p->known ? p->counts : NULL;
}

static int problems_open(ComponentHost *host, const Settings *s, void **ret, Error *err) {
        struct Problems *p = NEW0(struct Problems, 1);

        if (!p)
                return -ENOMEM;
        p->host = host;
        p->slice = DEFERRED(problems_on_slice, p);
        *ret = host->problems = p;
        return 0;
}

static void *problems_close(void *self) {
        struct Problems *p = self;

        deferred_cancel(&p->slice);
        free(p);
        return NULL;
}

const Component problems_component = { "problems", problems_open, problems_close };
