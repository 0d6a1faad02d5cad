#include "tests/sim/history.h"

enum { STEPS_MAX = 400000 };

#define EXPIRES_UNKNOWN UINT64_MAX

Op *history_call(History *h, OpKind kind, uint64_t at) {
        Op *op = h->n < HISTORY_OPS ? &h->ops[h->n++] : NULL;

        if (op)
                *op = (Op) {
                        .kind = kind, .called = at, .returned = UINT64_MAX, .compare_op = -1, .found = -1
                };
        return op;
}

int history_number(const History *h, const Op *op) {
        return (int) (op - h->ops);
}

static bool writes_value(const Op *op) {
        return op->kind <= OP_SWAP_VALUE || op->kind == OP_POST;
}

int history_seen(History *h, int number, uint64_t modified) {
        Op *op;

        if (number < 0 || (unsigned) number >= h->n || modified == 0)
                return -EUCLEAN;
        op = &h->ops[number];
        if (!writes_value(op) || op->outcome == OP_REFUSED || (op->effect != 0 && op->effect != modified))
                return -EUCLEAN;
        op->effect = modified;
        return 0;
}

/* -- The model -- */

typedef struct State {
        uint64_t index, now_ms; /* at least */
        int writer; /* of a key: the writer of its value, -1: absent; directory: 0 it exists, -1 it does not
                     */
        uint64_t modified, created, expires_ms; /* 0: not known; of expiry 0: never */
        uint64_t children[HISTORY_WORDS];
} State;

/* Compare with a number that a client saw; an unknown one becomes known. */
static bool agrees(uint64_t *known, uint64_t seen) {
        if (*known == 0)
                *known = seen;
        return *known == seen;
}

static bool finds(State *s, const Op *op) {
        if (op->found != s->writer)
                return false;
        if (s->writer < 0)
                return true;
        if (s->expires_ms == EXPIRES_UNKNOWN)
                s->expires_ms = op->found_expires_ms;
        return agrees(&s->modified, op->found_modified) && agrees(&s->created, op->found_created) &&
               s->expires_ms == op->found_expires_ms;
}

static bool may_happen(const State *s, const Op *op) {
        switch (op->kind) {
        case OP_CREATE:
                return s->writer < 0;
        case OP_UPDATE:
        case OP_DELETE:
                return s->writer >= 0;
        case OP_SWAP_INDEX:
        case OP_DELETE_INDEX:
                return s->writer >= 0 && (s->modified == 0 || s->modified == op->compare_index);
        case OP_SWAP_VALUE:
        case OP_DELETE_VALUE:
                return s->writer >= 0 && s->writer == op->compare_op;
        default:
                return true;
        }
}

/* A refusal has to have its reason. */
static bool is_refused(const State *s, const Op *op) {
        switch (op->status) {
        case KV_NOT_FOUND:
                return op->kind != OP_SET && op->kind != OP_CREATE && s->writer < 0;
        case KV_EXISTS:
                return op->kind == OP_CREATE && s->writer >= 0;
        case KV_COMPARE_FAILED:
                return s->writer >= 0 && (((op->kind == OP_SWAP_INDEX || op->kind == OP_DELETE_INDEX) &&
                                           s->modified != op->compare_index) ||
                                          ((op->kind == OP_SWAP_VALUE || op->kind == OP_DELETE_VALUE) &&
                                           s->writer != op->compare_op));
        default:
                return false;
        }
}

static void write_key(State *s, const Op *op, int number) {
        bool stays = op->kind == OP_UPDATE || op->kind == OP_SWAP_INDEX || op->kind == OP_SWAP_VALUE;
        bool removes = op->kind == OP_DELETE || op->kind == OP_DELETE_INDEX || op->kind == OP_DELETE_VALUE;

        s->writer = removes ? -1 : number;
        s->modified = removes ? 0 : op->effect;
        if (!stays)
                s->created = removes ? 0 : op->effect;
        if (removes || op->ttl_ms == 0)
                s->expires_ms = 0;
        else
                s->expires_ms = op->outcome == OP_ANSWERED ? op->now_ms + op->ttl_ms : EXPIRES_UNKNOWN;
}

static bool step_key(State *s, const Op *op, int number) {
        if (op->outcome == OP_UNKNOWN) {
                if (!may_happen(s, op))
                        return false;
                write_key(s, op, number);
                return true;
        }
        if (op->kind == OP_READ)
                return finds(s, op);
        if (op->status != KV_OK)
                return is_refused(s, op);
        if (!finds(s, op) || !may_happen(s, op))
                return false;
        write_key(s, op, number);
        return true;
}

static bool has_bit(const uint64_t *bits, int i) {
        return bits[i / 64] >> (i % 64) & 1;
}

static bool step_dir(State *s, const Op *op, int number) {
        bool there = op->kind == OP_DELETE_CHILD ? s->writer >= 0 && has_bit(s->children, op->compare_op) :
                                                   s->writer >= 0;

        if (op->kind == OP_READ)
                return there == (op->status == KV_OK) &&
                       (!there || memcmp(s->children, op->children, sizeof(s->children)) == 0);
        if (op->kind == OP_POST) {
                if (op->outcome == OP_ANSWERED && op->status != KV_OK)
                        return false;
                s->writer = 0;
                s->children[number / 64] |= 1ull << (number % 64);
                return true;
        }
        if (op->outcome == OP_ANSWERED && op->status != KV_OK)
                return op->status == KV_NOT_FOUND && !there;
        if (!there)
                return false;
        if (op->kind == OP_CLEAR) {
                memset(s->children, 0, sizeof(s->children));
                s->writer = -1;
        } else {
                s->children[op->compare_op / 64] &= ~(1ull << (op->compare_op % 64));
        }
        return true;
}

/* An answered operation has its place by index and cluster time; an expiry that is due may come before it. */
static bool step(const History *h, State *s, const Op *op, int number) {
        bool writes = op->kind != OP_READ && op->outcome == OP_ANSWERED && op->status == KV_OK;
        State before;

        if (op->outcome == OP_ANSWERED) {
                if (op->index < s->index + writes || op->now_ms < s->now_ms)
                        return false;
                s->index = op->index;
                s->now_ms = op->now_ms;
        } else if (op->effect > 0) {
                if (op->effect <= s->index)
                        return false;
                s->index = op->effect;
        }
        if (h->dir)
                return step_dir(s, op, number);
        before = *s;
        if (step_key(s, op, number))
                return true;
        *s = before;
        if (s->writer < 0 || s->expires_ms == 0)
                return false;
        if (s->expires_ms != EXPIRES_UNKNOWN)
                s->now_ms = MAX(s->now_ms, s->expires_ms);
        if (op->outcome == OP_ANSWERED && s->now_ms > op->now_ms)
                return false;
        s->writer = -1;
        s->modified = s->created = s->expires_ms = 0;
        return step_key(s, op, number);
}

/* -- The search -- */

typedef struct Mark {
        uint64_t a, b;
} Mark;

typedef struct Judge {
        const History *history;
        uint64_t done[HISTORY_WORDS];
        unsigned n_left, n_steps, n_most; /* n_most: as far as any order came */
        State most;
        Mark *marks; /* open addressing, power of two; a = b = 0 is free */
        size_t n_marks, capacity;
} Judge;

static uint64_t mix(uint64_t x) {
        x ^= x >> 31;
        x *= 0x9e3779b97f4a7c15;
        return x ^ x >> 29;
}

static Mark mark_of(const Judge *j, const State *s) {
        Mark m = { 1, 2 };
        uint64_t words[] = {
                s->index, s->now_ms, (uint64_t) s->writer, s->modified, s->created, s->expires_ms
        };

        for (size_t i = 0; i < ELEMENTS(words); i++) {
                m.a = mix(m.a + words[i]);
                m.b = mix(m.b ^ words[i] * 0xd6e8feb86659fd93);
        }
        for (size_t i = 0; i < HISTORY_WORDS; i++) {
                m.a = mix(mix(m.a + j->done[i]) + s->children[i]);
                m.b = mix(mix(m.b ^ j->done[i] * 0xd6e8feb86659fd93) ^ s->children[i] * 0xa0761d6478bd642f);
        }
        m.b |= 1;
        return m;
}

static bool mark_put(Mark *marks, size_t capacity, Mark m) {
        for (size_t i = m.a & (capacity - 1);; i = (i + 1) & (capacity - 1)) {
                if (marks[i].b == 0) {
                        marks[i] = m;
                        return true;
                }
                if (marks[i].a == m.a && marks[i].b == m.b)
                        return false;
        }
}

/* True when it was not there. */
static bool remember(Judge *j, Mark m) {
        if (2 * (j->n_marks + 1) > j->capacity) {
                size_t capacity = j->capacity ? 2 * j->capacity : 1024;
                Mark *marks = NEW0(Mark, capacity);

                if (!marks)
                        abort();
                for (size_t i = 0; i < j->capacity; i++)
                        if (j->marks[i].b != 0)
                                (void) mark_put(marks, capacity, j->marks[i]);
                free(j->marks);
                j->marks = marks;
                j->capacity = capacity;
        }
        if (!mark_put(j->marks, j->capacity, m))
                return false;
        j->n_marks++;
        return true;
}

static bool is_judged(const Op *op) {
        return op->kind != OP_PLAIN_READ && op->outcome != OP_REFUSED &&
               !(op->kind == OP_READ && op->outcome == OP_UNKNOWN);
}

static bool search(Judge *j, const State *s);

static bool try(Judge *j, const State *s, unsigned i) {
        const Op *op = &j->history->ops[i];
        bool known = op->outcome == OP_ANSWERED, found;
        State next = *s;

        if (!step(j->history, &next, op, (int) i))
                return false;
        j->done[i / 64] |= 1ull << (i % 64);
        j->n_left -= known;
        found = search(j, &next);
        j->n_left += known;
        j->done[i / 64] &= ~(1ull << (i % 64));
        return found;
}

/* Candidates are the operations that were called before any remaining one had returned. Answered ones are
 * first, in order of index; the others only when no order is possible without them. */
static bool search(Judge *j, const State *s) {
        const History *h = j->history;
        uint64_t first_return = UINT64_MAX;
        unsigned candidates[HISTORY_OPS], n = 0, n_known;

        if (j->n_left == 0)
                return true;
        if (j->n_steps == 0 || j->n_left < j->n_most) {
                j->n_most = j->n_left;
                j->most = *s;
        }
        if (++j->n_steps > STEPS_MAX || !remember(j, mark_of(j, s)))
                return false;

        for (unsigned i = 0; i < h->n; i++) {
                const Op *op = &h->ops[i];

                if (op->outcome != OP_ANSWERED || !is_judged(op) || has_bit(j->done, (int) i))
                        continue;
                if (op->index < s->index)
                        return false; /* its place is behind us already */
                first_return = MIN(first_return, op->returned);
        }
        for (unsigned i = 0; i < h->n && h->ops[i].called < first_return; i++) {
                unsigned at = n;

                if (h->ops[i].outcome != OP_ANSWERED || !is_judged(&h->ops[i]) || has_bit(j->done, (int) i))
                        continue;
                for (n++; at > 0 && h->ops[candidates[at - 1]].index > h->ops[i].index; at--)
                        candidates[at] = candidates[at - 1];
                candidates[at] = i;
        }
        n_known = n;
        for (unsigned i = 0; i < h->n && h->ops[i].called < first_return; i++)
                if (h->ops[i].outcome == OP_UNKNOWN && is_judged(&h->ops[i]) && !has_bit(j->done, (int) i))
                        candidates[n++] = i;

        for (unsigned k = 0; k < n; k++)
                if ((k < n_known || j->n_steps <= STEPS_MAX) && try(j, s, candidates[k]))
                        return true;
        return false;
}

int history_judge(const History *h, Error *err) {
        State begin = { .writer = -1 };
        Judge j = { .history = h };
        bool found;

        for (unsigned i = 0; i < h->n; i++)
                j.n_left += h->ops[i].outcome == OP_ANSWERED && is_judged(&h->ops[i]);
        found = search(&j, &begin);
        free(j.marks);
        if (found)
                return 0;
        if (j.n_steps > STEPS_MAX)
                return -E2BIG;
        return error_set(err, -EUCLEAN,
                         "no order explains %u operations: %u are left behind index %" PRIu64 ", writer %d",
                         h->n, j.n_most, j.most.index, j.most.writer);
}
