#include "fleetd/agent/publish.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"

enum { GAP_MS = 200, RETRY_MS = 1000, BURST = 5, REFILL_MS = 1000 };

typedef struct Budget {
        char unit[256];
        unsigned left;
        uint64_t refilled_ms;
        UT_hash_handle hh;
} Budget;

struct Publisher {
        Loop *loop;         /* borrowed */
        Registry *registry; /* borrowed */
        char machine_id[33];
        void (*idle)(void *userdata);
        void *userdata;
        Budget *budgets;
        Timer timer;
        bool sending;
        uint64_t next_ms; /* no transaction before */
};

static void publisher_on_timer(void *userdata) {
        Publisher *p = userdata;

        p->idle(p->userdata);
}

int publisher_new(Publisher **ret, Loop *loop, Registry *registry, const char *machine_id, void (*idle)(void *userdata), void *userdata) {
        Publisher *p = NEW0(Publisher, 1);

        if (!p)
                return -ENOMEM;
        *p = (Publisher) {
                .loop = loop, .registry = registry, .idle = idle, .userdata = userdata,
                .timer = { .fire = publisher_on_timer, .userdata = p },
        };
        snprintf(p->machine_id, sizeof(p->machine_id), "%s", machine_id);
        *ret = p;
        return 0;
}

Publisher *publisher_free(Publisher *p) {
        Budget *b, *next;

        if (!p)
                return NULL;

        timer_stop(&p->timer);
        HASH_ITER(hh, p->budgets, b, next) {
                HASH_DEL(p->budgets, b);
                free(b);
        }
        registry_forget(p->registry, p);
        free(p);
        return NULL;
}

static void publisher_later(Publisher *p, uint64_t due_ms) {
        uint64_t now_ms = loop_now_ms(p->loop);

        if (!timer_armed(&p->timer) || p->timer.due_ms > due_ms)
                (void) timer_start(&p->timer, p->loop, due_ms > now_ms ? due_ms - now_ms : 0);
}

bool publisher_ready(Publisher *p) {
        if (p->sending)
                return false;
        if (loop_now_ms(p->loop) >= p->next_ms)
                return true;
        publisher_later(p, p->next_ms);
        return false;
}

bool publisher_allows(Publisher *p, const char *unit) {
        uint64_t now_ms = loop_now_ms(p->loop), refill;
        Budget *b;

        HASH_FIND_STR(p->budgets, unit, b);
        if (!b)
                return true;

        refill = (now_ms - b->refilled_ms) / REFILL_MS;
        if (b->left + refill >= BURST) {
                HASH_DEL(p->budgets, b); /* as good as new: memory follows what changes, not what was */
                free(b);
                return true;
        }
        b->left += refill;
        b->refilled_ms += refill * REFILL_MS;
        if (b->left > 0)
                return true;
        publisher_later(p, b->refilled_ms + REFILL_MS);
        return false;
}

static void publisher_spend(Publisher *p, const char *unit) {
        Budget *b;

        HASH_FIND_STR(p->budgets, unit, b);
        if (!b) {
                b = NEW0(Budget, 1);
                if (!b)
                        return;
                snprintf(b->unit, sizeof(b->unit), "%s", unit);
                b->left = BURST;
                b->refilled_ms = loop_now_ms(p->loop);
                HASH_ADD_STR(p->budgets, unit, b);
                if (!TABLE_ADDED(b)) {
                        free(b);
                        return;
                }
        }
        if (b->left > 0)
                b->left--;
}

static void publisher_on_done(void *userdata, KvStatus status, const char *sentence, uint64_t index) {
        Publisher *p = userdata;

        p->sending = false;
        if (status != KV_OK && status != KV_COMPARE_FAILED) {
                log_debug(NO_FIELDS, "states not published: %s", sentence);
                p->next_ms = loop_now_ms(p->loop) + RETRY_MS;
        }
        publisher_later(p, p->next_ms);
}

int publisher_send(Publisher *p, const StateChange *changes, size_t n) {
        int r;

        r = registry_publish(p->registry, changes, n, publisher_on_done, p);
        if (r < 0)
                return r;

        p->sending = true;
        p->next_ms = loop_now_ms(p->loop) + GAP_MS;
        for (size_t i = 0; i < n; i++)
                publisher_spend(p, changes[i].unit);
        return 0;
}
