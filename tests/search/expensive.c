/* A search for the requests that cause most work on a host for each of their bytes.
 *
 * A scene (scene.h) is a state of the store and a request that some clients send at once. Scenes are drawn
 * from a seed; the most expensive of each kind of request are changed in part and tried again. Each runs on a
 * host of real parts: loop, store, API over a socket. Work is counted, not timed, so that a run finds the
 * same on every machine (tests/search/work.h). Only the loop's thread counts: a worker delays no other
 * request.
 *
 *   expensive --seed N --scenes N [--rows N] [--only KIND]
 *           Search; print the most expensive scenes. With one kind, stop at the first scene that fails.
 *   expensive --play FILE...
 *           Run scenes again: "KIND name=number ...", one in each line.
 *
 * A scene fails when a turn of the loop costs more than WORK_TURN_MAX, and more than WORK_PER_BYTE for each
 * byte of the requests. */
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/lib/test.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/text.h"
#include "fleetd/api/api.h"
#include "tests/lib/host.h"
#include "tests/lib/scratch.h"
#include "tests/search/scene.h"
#include "tests/search/work.h"

enum {
        WORK_TURN_MAX = 64 * 1024 * 1024, /* an entry of COST_ENTRY_MAX, with its copies and answers */
        WORK_PER_BYTE = 64,               /* for each byte of all requests that arrive together */
        STATE_MAX = 24 * 1024 * 1024,     /* bytes of a scene's keys and values */
        REQUEST_MAX = 250 * 1024,
        ELITES = 6, /* of each kind */
        PLAY_MS = 20000,
};

/* -- Work: what the loop's thread does -- */

static pthread_t loop_thread;
static bool counts;

static bool loop_counts(void) {
        return counts && pthread_equal(pthread_self(), loop_thread);
}

/* -- Its keys -- */

static char value[240001];

/* What all keys of the scene are below. */
static size_t put_base(const Scene *s, unsigned number, char *ret) {
        size_t n = (size_t) sprintf(ret, "/s%u", number);

        if (s->genes[SHAPE] == LONG_SHARED) {
                ret[n++] = '/';
                memset(ret + n, 'd', 485);
                n += 485;
        }
        ret[n] = 0;
        return n;
}

static size_t put_key(const Scene *s, unsigned number, uint64_t i, char *ret) {
        size_t n = put_base(s, number, ret);

        if (s->genes[SHAPE] == DEEP)
                for (uint64_t k = 0; k < 120; k++)
                        n += (size_t) sprintf(ret + n, "/%llu", (unsigned long long) (k + 1 < 120 ? 0 : i));
        else if (s->genes[SHAPE] == LONG) {
                n += (size_t) sprintf(ret + n, "/%06llu", (unsigned long long) i);
                memset(ret + n, 'k', 500);
                n += 500;
        } else
                n += (size_t) sprintf(ret + n, "/%06llu", (unsigned long long) i);
        ret[n] = 0;
        return n;
}

static uint64_t n_nodes(const Scene *s) {
        char key[KV_KEY_MAX];

        return MAX(MIN(s->genes[NODES], STATE_MAX / (put_key(s, 0, 0, key) + s->genes[VALUE] + 300)),
                   (uint64_t) 1);
}

/* -- The host -- */

typedef struct Place {
        Host *host;
        Api *api;
        char *socket;
        unsigned n_scenes;
        bool answered;
        KvStatus status;
} Place;

static void on_done(void *userdata, const KvResult *result) {
        Place *p = userdata;

        p->answered = true;
        p->status = result->status;
}

static KvStatus propose(Place *p, const KvCommand *cmd) {
        p->answered = false;
        assert_int_equal(kv_propose(p->host->store, cmd, on_done, p, NULL), 0);
        HOST_UNTIL(p->host, p->answered);
        return p->status;
}

static void place_open(Place *p) {
        Error err = {};

        *p = (Place) { .host = host_new(false) };
        p->socket = scratch_path(p->host->scratch, "socket");
        assert_int_equal(api_new(&p->api, &p->host->components), 0);
        if (api_listen(p->api, API_SOCKET, p->socket, &err) < 0)
                fail_msg("%s", err.message);
        host_machine(p->host);
        assert_int_equal(propose(p, &(KvCommand) { .op = KV_RAISE,
                                                   .key = kv_string("/"),
                                                   .internal = true,
                                                   .limit = KV_LEVEL_MAX }),
                         KV_OK);
}

static void place_close(Place *p) {
        p->api = api_free(p->api);
        p->host = host_free(p->host);
        free(TAKE_PTR(p->socket));
}

/* -- Texts of units -- */

/* Line 'i' of the many ones of unit 'unit'. */
static void append_line(Text *t, const Scene *s, uint64_t unit, uint64_t i) {
        unsigned long long u = unit, n = i;
        int size = (int) MIN(s->genes[SIZE], (uint64_t) 1900);

        switch ((Form) s->genes[FORM]) {
        case SECTION:
                text_append(t, "=\n");
                break;
        case PATTERNS:
                text_printf(t, "Conflicts=*%llu-%llu\n", u, n);
                break;
        case NAMES:
                text_printf(t, "MachineOf=%.*s%llu\nConflicts=*%.*sx%llu\n", size / 10, value, n, size / 20,
                            value, n);
                break;
        case ALIASES:
                text_append(t, "Alias=a b c d e f g h i j k l m n o p\n");
                break;
        case UNKNOWN:
                text_printf(t, "Machinemetadata%.*s=%llu\n", size, value, n);
                break;
        case EMPTY:
                text_printf(t, "MachineOf=\"\"%*s\"\"\n", size, "");
                break;
        default:
                text_printf(t, "Conflicts=a%llu*b*c*\n", n);
        }
}

static void append_text(Text *t, const Scene *s, uint64_t unit, size_t max) {
        static const char *const sections[_FORM_MAX] = {
                [COMMENTS] = "X-Fleet", [PATTERNS] = "X-Fleet", [NAMES] = "X-Fleet",
                [ALIASES] = "Install",  [UNKNOWN] = "X-Fleet",  [EMPTY] = "X-Fleet",
        };
        Form form = s->genes[FORM];

        max = MIN(max, (size_t) UNIT_SIZE_MAX - 5000);
        text_append(t, "[Service]\nExecStart=/bin/one\n");
        if (form == COMMENTS)
                for (size_t left = MIN(s->genes[SIZE], max / 2); left > 0; left -= MIN(left, (size_t) 1900))
                        text_printf(t, "#%.*s\n", (int) MIN(left, (size_t) 1900), value);
        if (form == SECTION)
                text_printf(t, "[X-%.*s]\n", (int) MIN(s->genes[SIZE], (uint64_t) 1900), value);
        else
                text_printf(t, "[%s]\n", sections[form]);
        for (uint64_t i = 0; i < s->genes[RULES] && t->size < max; i++)
                append_line(t, s, unit, i);
}

enum { SET_UP_ITEMS = 200 };

/* The state of the scene; its own numbers are not counted. */
static void set_up(Place *p, const Scene *s) {
        static char keys[SET_UP_ITEMS][KV_KEY_MAX];
        KvCommand writes[SET_UP_ITEMS], txn = { .op = KV_TXN, .writes = writes };
        uint64_t n = n_nodes(s), bytes = 0;

        for (uint64_t i = 0; i < n; i++) {
                size_t size = put_key(s, p->n_scenes, i, keys[txn.n_writes]);

                writes[txn.n_writes] = (KvCommand) { .op = KV_SET,
                                                     .key = { keys[txn.n_writes], size },
                                                     .value = { value, s->genes[VALUE] },
                                                     .has_ttl = s->genes[TTL],
                                                     .ttl_ms = 3600000 };
                bytes += size + s->genes[VALUE] + 64;
                txn.n_writes++;
                if (txn.n_writes < SET_UP_ITEMS && i + 1 < n &&
                    bytes + KV_KEY_MAX + s->genes[VALUE] < KV_COMMAND_MAX)
                        continue;
                (void) propose(p, &txn); /* a limit of the store may refuse it: the state is smaller then */
                txn.n_writes = 0;
                bytes = 0;
        }
        for (uint64_t i = 0; i < MIN(s->genes[UNITS_THERE], (uint64_t) SCENE_UNITS_MAX) && s->kind >= UNIT;
             i++) {
                _cleanup_text_ Text t = {};
                _cleanup_unit_ Unit *unit = NULL;
                char name[64];

                snprintf(name, sizeof(name), "u%u-%llu.service", p->n_scenes, (unsigned long long) i);
                append_text(&t, s, i, STATE_MAX / 200);
                if (s->kind == DESTROY && unit_parse(name, t.chars, t.size, &unit, NULL) >= 0)
                        host_unit(p->host, name, t.chars, TARGET_INACTIVE);
                else
                        host_unit(p->host, name, "[Service]\nExecStart=/bin/one\n[X-Fleet]\nConflicts=x*\n",
                                  TARGET_LAUNCHED);
        }
}

/* -- Its request -- */

static void append_json_key(Text *t, const char *name, const char *key) {
        text_printf(t, "\"%s\":\"%s\"", name, key);
}

static void append_write(Text *t, const Scene *s, unsigned number, uint64_t i, Action action) {
        static const char *const words[_ACTION_MAX] = {
                [SET_SAME] = "set",     [SET_EACH] = "set",       [REFRESH_SAME] = "set",
                [REFRESH_EACH] = "set", [UPDATE_EACH] = "update", [DELETE_EACH] = "delete",
                [CREATE] = "create",    [REMOVE_ALL] = "delete",  [CHECK_VALUE] = "set",
        };
        bool same = action == SET_SAME || action == REFRESH_SAME || action == CHECK_VALUE;
        uint64_t of_key = same ? 0 : i % n_nodes(s);
        char key[KV_KEY_MAX];

        if (action == REMOVE_ALL)
                put_base(s, number, key);
        else
                put_key(s, number, action == CREATE ? 500000 + i : of_key, key);
        text_printf(t, "%s{\"action\":\"%s\",", i > 0 ? "," : "", words[action]);
        append_json_key(t, "key", key);
        if (action == REMOVE_ALL)
                text_append(t, ",\"recursive\":true");
        else if (action == REFRESH_SAME || action == REFRESH_EACH)
                text_append(t, ",\"refresh\":true,\"ttl\":1000");
        else if (action != DELETE_EACH)
                text_printf(t, ",\"value\":\"%.*s\"",
                            (int) MIN(s->genes[SIZE], (uint64_t) REQUEST_MAX / (s->genes[ITEMS] + 1)), value);
        text_append(t, "}");
}

static void append_txn(Text *t, const Scene *s, unsigned number) {
        Action action = s->genes[ACTION];

        if (action == CHECK_VALUE) {
                text_append(t, "{\"checks\":[");
                for (uint64_t i = 0; i <= s->genes[ITEMS] && t->size < REQUEST_MAX; i++) {
                        char key[KV_KEY_MAX];

                        put_key(s, number, i % n_nodes(s), key);
                        text_printf(t, "%s{\"key\":\"%s\",\"exists\":true}", i > 0 ? "," : "", key);
                }
                text_append(t, "],\"writes\":[");
                append_write(t, s, number, 0, action);
        } else {
                text_append(t, "{\"writes\":[");
                for (uint64_t i = 0; i <= s->genes[ITEMS] && i < 4096 && t->size < REQUEST_MAX - 9000; i++)
                        append_write(t, s, number, i, action);
        }
        text_append(t, "]}");
}

static void append_unit(Text *t, const Scene *s, uint64_t i, const char *name, size_t max) {
        _cleanup_text_ Text text = {};

        append_text(&text, s, i, max);
        text_printf(t, "{\"name\":\"%s\",\"desiredState\":\"launched\",\"text\":\"", name);
        text_append_json(t, text.chars, text.size);
        text_append(t, "\"}");
}

static void append_units(Text *t, const Scene *s, unsigned number) {
        uint64_t n = MIN(s->genes[ITEMS], (uint64_t) 200) + 1;

        text_append(t, "{\"units\":[");
        for (uint64_t i = 0; i < n && t->size < REQUEST_MAX - 10000; i++) {
                char name[64];

                snprintf(name, sizeof(name), "%c%u-%llu.service", s->kind == DESTROY ? 'u' : 'n', number,
                         (unsigned long long) i);
                if (i > 0)
                        text_append(t, ",");
                if (s->kind == DESTROY)
                        text_printf(t, "{\"name\":\"%s\",\"destroy\":true}", name);
                else
                        append_unit(t, s, i, name, REQUEST_MAX / 2 / n);
        }
        text_append(t, "]}");
}

static void build(const Scene *s, unsigned number, unsigned client, Text *t) {
        const char *method = "GET", *type = "application/x-www-form-urlencoded";
        _cleanup_text_ Text body = {}, target = {};
        char key[KV_KEY_MAX], base[KV_KEY_MAX];

        put_base(s, number, base);
        put_key(s, number, client % n_nodes(s), key);
        switch (s->kind) {
        case PUT:
                method = "PUT";
                text_printf(&target, "/v2/keys%s", key);
                text_printf(&body, "value=%.*s", (int) MIN(s->genes[SIZE], (uint64_t) 240000), value);
                break;
        case REFRESH:
                method = "PUT";
                text_printf(&target, "/v2/keys%s", key);
                text_append(&body, "refresh=true&prevExist=true&ttl=1000");
                break;
        case COMPARE:
                method = "PUT";
                text_printf(&target, "/v2/keys%s", key);
                text_append(&body, "value=b&prevValue=a");
                break;
        case POST:
                method = "POST";
                text_printf(&target, "/v2/keys%s/q", base);
                text_printf(&body, "value=%.*s", (int) MIN(s->genes[SIZE], (uint64_t) 240000), value);
                break;
        case DELETE_DIR:
        case DELETE_ALL:
                method = "DELETE";
                text_printf(&target, "/v2/keys%s?%s=true", base, s->kind == DELETE_DIR ? "dir" : "recursive");
                break;
        case GET_DIR:
        case GET_ALL:
                text_printf(&target, "/v2/keys%s?sorted=true%s", base,
                            s->kind == GET_ALL ? "&recursive=true" : "");
                break;
        case WAIT:
                text_printf(&target, "/v2/keys%s?wait=true&recursive=true", key);
                break;
        case TXN:
                method = "POST";
                type = "application/json";
                text_append(&target, "/fleet/v1/kv/txn");
                append_txn(&body, s, number);
                break;
        case LIST:
                text_printf(&target, "/fleet/v1/kv/list?prefix=%s/&limit=%llu%s", base,
                            (unsigned long long) s->genes[ITEMS] + 1,
                            s->genes[ACTION] % 2 ? "&recursive=false" : "");
                break;
        case UNIT:
                method = "PUT";
                type = "application/json";
                snprintf(key, sizeof(key), "n%u-%u.service", number, client);
                text_printf(&target, "/fleet/v1/units/%s", key);
                append_unit(&body, s, client, key, REQUEST_MAX / 2);
                break;
        case BATCH:
        case PLAN:
        case DESTROY:
                method = "POST";
                type = "application/json";
                text_append(&target, s->kind == PLAN ? "/fleet/v1/plan" : "/fleet/v1/batch");
                append_units(&body, s, number);
                break;
        case UNITS:
                text_append(&target, s->genes[ACTION] % 2 ? "/fleet/v1/units" : "/fleet/v1/machines");
                break;
        default:
                break;
        }
        text_printf(t, "%s %s HTTP/1.1\r\nHost: fleet\r\nConnection: close\r\n", method, target.chars);
        if (body.size > 0)
                text_printf(t, "Content-Type: %s\r\nContent-Length: %zu\r\n", type, body.size);
        text_append(t, "\r\n");
        text_append_bytes(t, body.chars ?: "", body.size);
        assert_true(t->error >= 0 && target.error >= 0 && body.error >= 0);
}

/* -- Playing -- */

typedef struct Caller {
        int fd;
        Text request;
        size_t sent, received;
        char head[64]; /* the answer begins with its status */
} Caller;

static void caller_open(Caller *c, const Place *p) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        snprintf(address.sun_path, sizeof(address.sun_path), "%s", p->socket);
        c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_int_equal(connect(c->fd, (struct sockaddr *) &address, sizeof(address)), 0);
}

/* True while there is more to come. */
static bool caller_go_on(Caller *c) {
        static char bytes[256 * 1024];
        ssize_t n;

        if (c->fd < 0)
                return false;
        while (c->sent < c->request.size &&
               (n = send(c->fd, c->request.chars + c->sent, c->request.size - c->sent, MSG_NOSIGNAL)) > 0)
                c->sent += (size_t) n;
        while ((n = recv(c->fd, bytes, sizeof(bytes), 0)) > 0) {
                if (c->received < sizeof(c->head) - 1)
                        memcpy(c->head + c->received, bytes,
                               MIN((size_t) n, sizeof(c->head) - 1 - c->received));
                c->received += (size_t) n;
        }
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return true;
        close(c->fd);
        c->fd = -1;
        return false;
}

static void caller_done(Caller *c) {
        if (c->fd >= 0)
                close(c->fd);
        text_done(&c->request);
}

/* One turn of the loop, whether there is something to do in it or not. */
static void turn(Place *p, Scene *s) {
        Deferred stop = { .run = (void (*)(void *)) loop_uv_stop, .userdata = p->host->uv };
        uint64_t before = work_done;

        loop_defer(p->host->loop, &stop);
        counts = true;
        loop_uv_run(p->host->uv);
        counts = false;
        deferred_cancel(&stop);
        s->turn = MAX(s->turn, work_done - before);
}

static void play(Place *p, Scene *s) {
        static Caller watchers[WATCHERS_MAX], callers[CLIENTS_MAX];
        size_t n_watchers = MIN(s->genes[WATCHERS], (uint64_t) WATCHERS_MAX),
               n = MAX(MIN(s->genes[CLIENTS], (uint64_t) CLIENTS_MAX), (uint64_t) 1);
        Host *h = p->host;
        uint64_t end_ms;
        bool more;

        set_up(p, s);
        s->request = s->work = s->turn = 0;
        for (size_t i = 0; i < n_watchers; i++) {
                Scene watch = *s;

                watchers[i] = (Caller) { .fd = -1 };
                watch.kind = WAIT;
                caller_open(&watchers[i], p);
                build(&watch, p->n_scenes, (unsigned) i, &watchers[i].request);
                (void) caller_go_on(&watchers[i]);
        }
        host_pause(h, 5);

        work_done = 0;
        for (size_t i = 0; i < n; i++) {
                callers[i] = (Caller) { .fd = -1 };
                caller_open(&callers[i], p);
                build(s, p->n_scenes, (unsigned) i, &callers[i].request);
                s->request += callers[i].request.size;
                (void) caller_go_on(&callers[i]);
        }
        end_ms = loop_now_ms(h->loop) + (s->kind == WAIT ? 20 : PLAY_MS);
        do {
                turn(p, s);
                more = false;
                for (size_t i = 0; i < n; i++)
                        more = caller_go_on(&callers[i]) || more;
                for (size_t i = 0; i < n_watchers; i++)
                        (void) caller_go_on(&watchers[i]);
        } while (more && loop_now_ms(h->loop) < end_ms);
        s->work = work_done;
        (void) sscanf(callers[n - 1].head, "HTTP/1.1 %u", &s->status);

        for (size_t i = 0; i < n; i++)
                caller_done(&callers[i]);
        for (size_t i = 0; i < n_watchers; i++)
                caller_done(&watchers[i]);
        host_pause(h, 2);
        p->n_scenes++;
}

/* Each on a host of its own: the state that one leaves would add to the cost of another. */
static void play_again(Scene *s) {
        Place place;

        place_open(&place);
        play(&place, s);
        place_close(&place);
}

/* -- Searching -- */

static Scene elites[_KIND_MAX][ELITES];
static size_t n_elites[_KIND_MAX];

static void keep(const Scene *s) {
        Scene *list = elites[s->kind];
        size_t at = n_elites[s->kind];

        while (at > 0 && scene_ratio(&list[at - 1]) < scene_ratio(s))
                at--;
        if (at == ELITES)
                return;
        n_elites[s->kind] = MIN(n_elites[s->kind] + 1, (size_t) ELITES);
        memmove(&list[at + 1], &list[at], (n_elites[s->kind] - at - 1) * sizeof(Scene));
        list[at] = *s;
}

static int by_ratio(const void *a, const void *b) {
        double x = scene_ratio(a), y = scene_ratio(b);

        return x > y ? -1 : x < y;
}

/* Whether it is within the bound; says so if it is not. */
static bool judge(const Scene *s) {
        if (s->turn <= WORK_TURN_MAX + WORK_PER_BYTE * s->request)
                return true;
        printf("too expensive: one turn of %llu KiB, for %llu bytes of requests: ",
               (unsigned long long) s->turn / 1024, (unsigned long long) s->request);
        scene_print(stdout, s);
        putchar('\n');
        return false;
}

static void print_row(const Scene *s) {
        printf("%10.0f  %8llu  %10llu  %10llu  %3u  ", scene_ratio(s), (unsigned long long) s->request,
               (unsigned long long) s->work / 1024, (unsigned long long) s->turn / 1024, s->status);
        scene_print(stdout, s);
        putchar('\n');
}

static void print_head(void) {
        puts("work/byte   request    work KiB    turn KiB  ans  scene");
}

static bool search(uint64_t seed, uint64_t scenes, size_t rows, Kind only) {
        Scene best[_KIND_MAX * ELITES];
        Random random;
        bool good = true;
        size_t n = 0;

        random_seed(&random, seed);
        for (uint64_t i = 0; i < scenes; i++) {
                Kind kind = only != _KIND_MAX ? only : (Kind) random_below(&random, _KIND_MAX);
                Scene s;

                scene_draw(&random, kind, &s);
                if (n_elites[kind] > 0 && random_below(&random, 3) > 0) {
                        s = elites[kind][random_below(&random, n_elites[kind])];
                        scene_change(&random, &s);
                }
                play_again(&s);
                keep(&s);
                if (judge(&s))
                        continue;
                good = false;
                if (only != _KIND_MAX) {
                        printf("found after %llu scenes\n", (unsigned long long) i + 1);
                        break;
                }
        }
        for (size_t kind = 0; kind < _KIND_MAX; kind++)
                for (size_t i = 0; i < n_elites[kind]; i++)
                        best[n++] = elites[kind][i];
        qsort(best, n, sizeof(*best), by_ratio);
        print_head();
        for (size_t i = 0; i < MIN(n, rows); i++)
                print_row(&best[i]);
        return good;
}

static bool play_file(const char *path) {
        FILE *f = fopen(path, "re");
        char line[1024];
        bool good = true;

        if (!f) {
                fprintf(stderr, "expensive: %s: %s\n", path, strerror(errno));
                return false;
        }
        while (fgets(line, sizeof(line), f)) {
                Scene s;

                if (line[0] == '#' || line[0] == '\n')
                        continue;
                if (!scene_read(line, &s)) {
                        fprintf(stderr, "expensive: %s: no scene: %s", path, line);
                        good = false;
                        continue;
                }
                play_again(&s);
                print_row(&s);
                good = judge(&s) && good;
        }
        fclose(f);
        return good;
}

static void no_log(void *userdata, int level, const LogFields *fields, const char *message) {}

int main(int argc, char **argv) {
        static const struct option options[] = {
                { "seed", required_argument, NULL, 's' }, { "scenes", required_argument, NULL, 'n' },
                { "rows", required_argument, NULL, 'r' }, { "only", required_argument, NULL, 'o' },
                { "play", no_argument, NULL, 'p' },       {},
        };
        uint64_t seed = 1, scenes = 100, rows = 10;
        bool plays = false, good = true;
        Kind only = _KIND_MAX;
        int c;

        while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
                if (c == 'p')
                        plays = true;
                else if (c == 'o' && (only = scene_kind_from_name(optarg)) != _KIND_MAX)
                        continue;
                else if (c == 'o' || c == '?' ||
                         parse_u64(optarg, c == 's' ? &seed :
                                           c == 'n' ? &scenes :
                                                      &rows) < 0)
                        return 2;
        }
        loop_thread = pthread_self();
        work_counts = loop_counts;
        memset(value, 'x', sizeof(value) - 1);
        log_set_sink(no_log, NULL);
        if (!plays)
                return search(seed, scenes, rows, only) ? 0 : 1;
        print_head();
        for (; optind < argc; optind++)
                good = play_file(argv[optind]) && good;
        return good ? 0 : 1;
}
