#include "fleetd/agent/publish.h"

#include "base/log.h"
#include "units/named.h"

/* Two in a row, then one each quarter of a second: five in the first second, then four. */
enum {
        GAP_MS = 250,
        PUBLISH_RETRY_MS = 1000,
        UNIT_GAP_MS = 1000,
        REJECTED_MIN_MS = 2000,
        REJECTED_MAX_MS = 60000,
};

/* A unit that was published less than UNIT_GAP_MS ago. */
typedef struct Published {
        Named unit;
        uint64_t when_ms;
} Published;

/* An endpoint in the batch under way, or in one that was rejected: which of them caused that is not known. */
typedef struct PublishedEndpoint {
        Named unit;
        bool sent;        /* in the batch under way */
        uint64_t wait_ms; /* since the last rejection; 0: none */
        uint64_t due_ms;  /* not before this time */
} PublishedEndpoint;

struct Publisher {
        Loop *loop;         /* borrowed */
        Registry *registry; /* borrowed */
        Named *published;   /* Published, oldest first */
        Timer timer;
        bool sending, refused; /* refused: the last one, by its rights or limits */
        Named *endpoints;      /* PublishedEndpoint */
        uint64_t next_ms;      /* no transaction before this time */
        uint64_t spent_ms; /* rate limit: the time at which the gaps of all transactions so far have passed */
};

int publisher_new(Publisher **ret, Loop *loop, Registry *registry, void (*idle)(void *userdata),
                  void *userdata) {
        Publisher *p = NEW0(Publisher, 1);

        if (!p)
                return -ENOMEM;
        *p = (Publisher) { .loop = loop, .registry = registry, .timer = TIMER(idle, userdata) };
        *ret = p;
        return 0;
}

Publisher *publisher_free(Publisher *p) {
        if (!p)
                return NULL;

        timer_stop(&p->timer);
        named_clear(&p->published);
        named_clear(&p->endpoints);
        registry_cancel(p->registry, p);
        free(p);
        return NULL;
}

void publisher_wake_at(Publisher *p, uint64_t due_ms) {
        (void) timer_start_by(&p->timer, p->loop, due_ms, 0);
}

bool publisher_ready(Publisher *p) {
        if (p->sending)
                return false;
        if (loop_now_ms(p->loop) >= p->next_ms)
                return true;
        publisher_wake_at(p, p->next_ms);
        return false;
}

bool publisher_allows(Publisher *p, const char *unit) {
        uint64_t now_ms = loop_now_ms(p->loop);
        const Published *published;

        while (p->published && now_ms - ((Published *) p->published)->when_ms >= UNIT_GAP_MS)
                named_remove(&p->published, p->published->name);
        published = named_find(p->published, unit);
        if (!published)
                return true;
        publisher_wake_at(p, published->when_ms + UNIT_GAP_MS);
        return false;
}

bool publisher_takes_endpoint(Publisher *p, const char *unit) {
        uint64_t now_ms = loop_now_ms(p->loop), wait_ms = registry_endpoint_wait_ms(p->registry);
        const PublishedEndpoint *endpoint = named_find(p->endpoints, unit);
        uint64_t due_ms = endpoint ? endpoint->due_ms : 0;

        if (wait_ms == 0 && now_ms >= due_ms)
                return true;
        if (wait_ms != UINT64_MAX) /* else it changes with a key */
                publisher_wake_at(p, MAX(due_ms, now_ms + wait_ms));
        return false;
}

void publisher_expedite(Publisher *p, const char *unit) {
        p->spent_ms = p->next_ms = 0;
        named_remove(&p->published, unit);
}

/* The batch has ended. Return whether it was rejected with endpoints: the next one of each is alone. */
static bool publisher_end_endpoints(Publisher *p, KvStatus status) {
        uint64_t now_ms = loop_now_ms(p->loop), due_ms = now_ms;

        for (Named *n = p->endpoints, *next; n; n = next) {
                PublishedEndpoint *e = (PublishedEndpoint *) n;
                bool sent = e->sent;

                next = n->hh.next;
                e->sent = false;
                if (sent && status == KV_FORBIDDEN) {
                        due_ms += GAP_MS;
                        e->wait_ms = MIN(MAX(2 * e->wait_ms, (uint64_t) REJECTED_MIN_MS),
                                         (uint64_t) REJECTED_MAX_MS);
                        e->due_ms = due_ms + e->wait_ms;
                } else if (sent ? status == KV_OK || e->wait_ms == 0 : now_ms > e->due_ms + REJECTED_MAX_MS)
                        named_remove(&p->endpoints, n->name); /* it has ended, or is not offered any more */
        }
        return due_ms > now_ms;
}

static void publisher_on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Publisher *p = userdata;
        bool without = publisher_end_endpoints(p, status);

        p->sending = false;
        if (status == KV_FORBIDDEN && !p->refused)
                log_warning(NO_FIELDS, "Failed to report the states of units: %s; trying again", message);
        p->refused = status == KV_FORBIDDEN || (p->refused && p->endpoints);
        if (without)
                named_clear(&p->published);
        else if (status != KV_OK && status != KV_COMPARE_FAILED) {
                log_debug(NO_FIELDS, "states not published: %s", message);
                p->next_ms = loop_now_ms(p->loop) + PUBLISH_RETRY_MS;
        }
        publisher_wake_at(p, p->next_ms);
}

int publisher_send(Publisher *p, const StateChange *changes, size_t n) {
        TRY(registry_publish(p->registry, changes, n, publisher_on_done, p));

        p->sending = true;
        p->spent_ms = MAX(p->spent_ms, loop_now_ms(p->loop)) + GAP_MS;
        p->next_ms = p->spent_ms - GAP_MS;
        for (size_t i = 0; i < n; i++) {
                Published *published;

                if (changes[i].endpoint_write == ENDPOINT_SET) {
                        PublishedEndpoint *e = named_get(&p->endpoints, changes[i].unit, sizeof(*e));

                        if (e) /* without memory, it is offered again in a second */
                                e->sent = true;
                }
                named_remove(&p->published, changes[i].unit); /* the newest one is the last */
                published = named_get(&p->published, changes[i].unit, sizeof(*published));
                if (published) /* without memory, the next state of the unit is not delayed */
                        published->when_ms = loop_now_ms(p->loop);
        }
        return 0;
}
