#include "client/web/loader.h"

#include <stdatomic.h>

#include "client/core/machines.h"
#include "client/core/times.h"
#include "client/verbs/machine_stream.h"
#include "client/web/view.h"
#include "client/web/why.h"

enum {
        LOADER_POLL_MS = 500,    /* a piece of work waits for events for so long */
        LOADER_SILENT_MS = 4000, /* without a line for so long, figures are not current */
        LOADER_AGAIN_MS = 10000, /* until a host that has ended its figures is asked again */
        LOADER_READS = 64,       /* of the lines of one host at a time */
        LOADER_WHY_MAX = 4,      /* questions in flight */
        LOADER_WHY_ROWS = 1000,  /* of the history are searched for a machine */
};

/* A host whose figures are read. */
typedef struct LoaderHost {
        WebUsage usage;
        MachineStream in;
        uint64_t heard_ms; /* the last line, or the begin or the end of the stream; of the monotonic clock */
        bool is_there;     /* the last answer has the machine */
} LoaderHost;

struct WebLoader {
        Loop *loop;
        WebServer *server;                      /* borrowed */
        const ConnectionSettings *settings;     /* borrowed */
        uint64_t watched_ms[_WEB_DOCUMENT_MAX]; /* until then, of the loop; 0: never */
        Timer pause;
        unsigned n_why;
        bool working;
        atomic_bool stops;

        /* Of the work in flight; the loop reads the documents when it has ended. */
        Work work;
        bool wants_usage;
        Client client;
        Stream *events;
        bool changed;       /* an event has come since the last load */
        uint64_t loaded_ms; /* begin of the last load, of the monotonic clock; 0: there was none */
        WebAnswers answers; /* of the last load without an error */
        bool has_answers;
        uint64_t failed_ms;                /* wall clock of the first failure since then; 0: there is none */
        Text documents[_WEB_DOCUMENT_MAX]; /* to publish; empty: as before */
        LoaderHost *hosts;
        size_t n_hosts, hosts_capacity;
};

/* -- Figures -- */

static void loader_host_done(LoaderHost *h) {
        machine_stream_done(&h->in);
        web_usage_done(&h->usage);
}

static void loader_forget_hosts(WebLoader *l) {
        for (size_t i = 0; i < l->n_hosts; i++)
                loader_host_done(&l->hosts[i]);
        l->n_hosts = 0;
}

static int loader_on_line(void *userdata, const char *line, size_t size) {
        LoaderHost *h = userdata;
        UsageSample *sample;
        int r = usage_parse(line, size, &sample);

        if (r < 0) /* the message of a daemon that cannot read them */
                return r == -ENOMEM ? r : 1;
        h->heard_ms = clock_monotonic_ms();
        text_clear(&h->usage.note);
        usage_free(h->usage.former);
        h->usage.former = h->usage.now;
        h->usage.now = sample;
        return 0;
}

/* Begin the stream of a host. The figures of a former one have another begin. */
static int loader_begin_host(LoaderHost *h) {
        _cleanup_text_ Text path = {};

        usage_free(h->usage.former);
        usage_free(h->usage.now);
        h->usage.former = h->usage.now = NULL;
        text_printf(&path, "/fleet/v1/usage?interval=2s&machine=%s", h->usage.id);
        return machine_stream_open(&h->in, &path, NULL);
}

/* Take what a host has sent. One that sends without a pause does not keep the others from being read. */
static void loader_hear(LoaderHost *h) {
        uint64_t now_ms = clock_monotonic_ms();
        const char *reason = NULL;
        int r = 1;

        if (!h->in.stream) {
                if (h->heard_ms > 0 && now_ms - h->heard_ms < LOADER_AGAIN_MS)
                        return;
                h->heard_ms = now_ms;
                r = loader_begin_host(h) < 0 ? -ENOMEM : 1;
        }
        for (unsigned i = 0; h->in.stream && r > 0 && i < LOADER_READS; i++)
                r = machine_stream_read(&h->in, 0, false, &reason);
        if (r < 0)
                h->in.stream = stream_free(h->in.stream);
        if (h->in.stream && now_ms < h->heard_ms + LOADER_SILENT_MS)
                return;
        text_clear(&h->usage.note);
        if (h->in.stream) {
                text_append(&h->usage.note, "no answer for ");
                append_span(&h->usage.note, now_ms - h->heard_ms);
        } else {
                text_printf(&h->usage.note, "no figures%s%s", reason ? ": " : "", reason ?: "");
                h->heard_ms = now_ms;
        }
}

/* Return the host with this ID, a new one if there is none, or NULL without memory. */
static LoaderHost *loader_host(WebLoader *l, const char *id) {
        for (size_t i = 0; i < l->n_hosts; i++)
                if (streq(l->hosts[i].usage.id, id))
                        return &l->hosts[i];
        l->hosts[l->n_hosts] = (LoaderHost) {
                .usage.id = strdup(id),
                .in = { .client = &l->client, .line = loader_on_line, .userdata = &l->hosts[l->n_hosts] }
        };
        return l->hosts[l->n_hosts].usage.id ? &l->hosts[l->n_hosts++] : NULL;
}

/* Have exactly the machines that are up, in the order of the list. The hosts do not move: their streams point
 * to them. */
static int loader_choose_hosts(WebLoader *l) {
        const Listing *machines = &l->answers.view.machines;
        size_t n = 0;

        if (l->n_hosts + machines->n > l->hosts_capacity) {
                loader_forget_hosts(l);
                TRY(GROW(l->hosts, l->hosts_capacity, 2 * machines->n));
        }
        for (size_t i = 0; i < l->n_hosts; i++)
                l->hosts[i].is_there = false;
        for (size_t i = 0; i < machines->n; i++) {
                const ApiMachine *m = &machines->machines[i];
                LoaderHost *h;

                if (!m->id || m->agentless || (m->presence && !streq(m->presence, "up")))
                        continue;
                h = loader_host(l, m->id);
                if (!h)
                        return -ENOMEM;
                h->is_there = true;
        }
        for (size_t i = 0; i < l->n_hosts; i++)
                n += l->hosts[i].is_there;
        if (n < l->n_hosts)
                loader_forget_hosts(l); /* the others begin again */
        return 0;
}

static void loader_read_usage(WebLoader *l) {
        Text *t = &l->documents[WEB_USAGE];

        t->error = loader_choose_hosts(l);
        json_open(t, "machines", '[');
        for (size_t i = 0; i < l->n_hosts; i++) {
                loader_hear(&l->hosts[i]);
                web_usage_append(t, &l->hosts[i].usage);
        }
        json_close(t, ']');
        json_close(t, '}');
}

/* -- The state -- */

static int loader_read_answers(WebLoader *l, WebAnswers *ret, Error *err) {
        Client *c = &l->client;

        TRY(view_read(c, &ret->view, err));
        if (l->stops)
                return -ECANCELED;
        TRY(view_read_history(c, &ret->view, NULL, UINT64_MAX, 100, err));
        TRY(client_units(c, &ret->units, err));
        TRY(client_states(c, NULL, &ret->states, err));
        if (l->stops)
                return -ECANCELED;
        TRY(client_refresh_json(c, "/fleet/v1/rollouts", &ret->rollouts, err));
        TRY(client_refresh_json(c, "/fleet/v1/reboots", &ret->reboots, err));
        ret->now_ms = clock_real_ms();
        web_answers_set_clock(ret, l->answers.clock_ms);
        return 0;
}

/* Append the text of the banner while the daemon does not answer, or not with the state. */
static void loader_append_failure(const WebLoader *l, Text *t, int r, const Error *err) {
        const char *host = member_text(l->answers.view.cluster, "name");

        if (!connection_is_lost(r)) {
                text_append(t, client_answer_text(err));
                return;
        }
        text_printf(t, "fleetd %s %s does not answer since ", *host ? "on" : "at",
                    *host ? host : l->settings->endpoint);
        append_clock(t, l->failed_ms, clock_real_ms(), true);
        text_append(t, ": systemctl status fleetd. Units are not affected.");
}

static void loader_read(WebLoader *l) {
        _cleanup_web_answers_ WebAnswers answers = {};
        _cleanup_text_ Text notice = {};
        Error err = {};
        int r;

        l->loaded_ms = clock_monotonic_ms();
        l->changed = false;
        r = loader_read_answers(l, &answers, &err);
        if (r < 0) {
                l->failed_ms = l->failed_ms ?: clock_real_ms();
                (void) error_set(err.code ? NULL : &err, r, "%s", strerror(-r));
                loader_append_failure(l, &notice, r, &err);
        } else {
                WebAnswers former = l->answers;

                l->answers = answers;
                l->has_answers = true;
                l->failed_ms = 0;
                answers = former;
        }
        web_view_append(&l->documents[WEB_VIEW], l->has_answers ? &l->answers : NULL,
                        r < 0 ? text_chars(&notice) : NULL);
}

/* -- Events -- */

static int loader_on_event(void *userdata, const char *line, size_t size) {
        ((WebLoader *) userdata)->changed = true;
        return 0;
}

/* Return for how long the state need not be read. What is in doubt is read often: no event reports its end.
 */
static uint64_t loader_rest_ms(const WebLoader *l) {
        bool doubt = l->failed_ms > 0 || member_number(l->answers.view.cluster, "staleSec") > 0;
        uint64_t since_ms = clock_monotonic_ms() - l->loaded_ms,
                 due_ms = doubt || l->changed ? WEB_PAUSE_MS : WEB_LOAD_MS;

        return l->loaded_ms == 0 || since_ms >= due_ms ? 0 : due_ms - since_ms;
}

/* Wait for an event. The end of the stream is one, too: what follows it is not known. */
static void loader_wait(WebLoader *l) {
        uint64_t wait_ms = MIN(loader_rest_ms(l), (uint64_t) LOADER_POLL_MS);
        int r = 0;

        if (!l->events)
                r = stream_new(l->client.connection, "GET", "/fleet/v1/events", loader_on_event, l,
                               &l->events, NULL);
        if (r >= 0)
                r = stream_wait(l->events, wait_ms, NULL);
        if (r < 0) {
                l->changed = true;
                l->events = stream_free(l->events);
        }
}

/* -- Work -- */

static void loader_on_pause(void *userdata);
static void loader_work(void *userdata);
static void loader_on_done(void *userdata);

static void loader_start(WebLoader *l) {
        if (l->working || timer_armed(&l->pause) || l->stops)
                return;
        l->wants_usage = l->watched_ms[WEB_USAGE] > loop_now_ms(l->loop);
        l->work = WORK(loader_work, loader_on_done, l);
        l->working = loop_work(l->loop, &l->work) >= 0;
        if (!l->working)
                (void) timer_start(&l->pause, l->loop, WEB_PAUSE_MS);
}

static void loader_on_pause(void *userdata) {
        loader_start(userdata);
}

/* Off the loop. */
static void loader_work(void *userdata) {
        WebLoader *l = userdata;

        loader_wait(l);
        if (!l->stops && loader_rest_ms(l) == 0)
                loader_read(l);
        if (l->wants_usage && !l->stops)
                loader_read_usage(l);
        else
                loader_forget_hosts(l);
}

static void loader_on_done(void *userdata) {
        WebLoader *l = userdata;
        bool watched = false;

        l->working = false;
        for (WebDocument d = 0; d < _WEB_DOCUMENT_MAX; d++) {
                bool shown = l->watched_ms[d] > loop_now_ms(l->loop);

                watched |= shown;
                if (l->documents[d].size > 0 && shown)
                        (void) web_server_publish(l->server, d, &l->documents[d]);
                if (!shown)
                        web_server_forget(l->server, d);
                text_clear(&l->documents[d]);
        }
        if (!watched) {
                l->events = stream_free(l->events);
                l->loaded_ms = 0;
                loader_forget_hosts(l);
        } else if (l->events)
                loader_start(l);
        else
                (void) timer_start(&l->pause, l->loop, WEB_PAUSE_MS);
}

void web_loader_on_asked(void *loader, WebDocument document) {
        WebLoader *l = loader;

        l->watched_ms[document] = loop_now_ms(l->loop) + WEB_WATCHED_MS;
        loader_start(l);
}

/* -- Why -- */

typedef struct LoaderWhy {
        WebLoader *loader;
        Work work;
        uint64_t question;
        bool of_machine;
        char *name;
        Client client;
        unsigned status;
        Text answer;
} LoaderWhy;

static void loader_why_free(LoaderWhy *w) {
        connection_free(w->client.connection);
        text_done(&w->answer);
        free(w->name);
        free(w);
}

/* Return 0; -ENOENT: there is no such unit or machine; or another error. */
static int loader_why_read(LoaderWhy *w, Error *err) {
        _cleanup_(view_done) View v = {};
        _cleanup_json_ JsonValue *why = NULL;
        _cleanup_text_ Text path = {};
        Client *c = &w->client;
        const ApiMachine *m;

        if (w->of_machine) {
                TRY(view_read(c, &v, err));
                m = listing_machine(&v.machines, w->name);
                if (!m)
                        return error_set(err, -ENOENT, "there is no such machine");
                TRY(view_read_history(c, &v, NULL, UINT64_MAX, LOADER_WHY_ROWS, err));
                web_why_append_machine(&w->answer, m, &v);
                return w->answer.error;
        }
        if (TRY(client_refresh_json(c, client_path_of(&path, "/fleet/v1/why/", w->name, ""), &why, err)) == 0)
                return error_set(err, -ENOENT, "there is no such unit");
        TRY(client_all_machines(c, &v.machines, err));
        TRY(view_read_history(c, &v, w->name, UINT64_MAX, 20, err));
        web_why_append_unit(&w->answer, why, &v);
        return w->answer.error;
}

/* Off the loop. */
static void loader_why_work(void *userdata) {
        LoaderWhy *w = userdata;
        Error err = {};
        int r = loader_why_read(w, &err);

        w->status = r == -ENOENT ? 404 : r < 0 ? 502 : 200;
        if (r >= 0)
                return;
        text_clear(&w->answer);
        text_append(&w->answer, err.code ? client_answer_text(&err) : strerror(-r));
}

static void loader_why_on_done(void *userdata) {
        LoaderWhy *w = userdata;
        WebLoader *l = w->loader;

        l->n_why--;
        web_server_answer(l->server, w->question, w->status, text_chars(&w->answer));
        loader_why_free(w);
}

void web_loader_on_why(void *loader, uint64_t question, bool of_machine, const char *name) {
        WebLoader *l = loader;
        LoaderWhy *w = l->n_why < LOADER_WHY_MAX ? NEW0(LoaderWhy, 1) : NULL;

        if (w) {
                *w = (LoaderWhy) { .loader = l,
                                   .question = question,
                                   .of_machine = of_machine,
                                   .name = strdup(name),
                                   .work = WORK(loader_why_work, loader_why_on_done, w) };
                if (w->name && connection_new(l->settings, &w->client.connection, NULL) >= 0 &&
                    loop_work(l->loop, &w->work) >= 0) {
                        l->n_why++;
                        return;
                }
                loader_why_free(w);
        }
        web_server_answer(l->server, question, 503, "too many questions at a time");
}

/* -- The loader -- */

int web_loader_new(WebLoader **ret, Loop *loop, const ConnectionSettings *settings, Error *err) {
        _cleanup_(web_loader_freep) WebLoader *l = NEW0(WebLoader, 1);

        if (!l)
                return -ENOMEM;
        l->loop = loop;
        l->settings = settings;
        l->pause = TIMER(loader_on_pause, l);
        TRY(connection_new(settings, &l->client.connection, err));
        *ret = TAKE_PTR(l);
        return 0;
}

void web_loader_serve(WebLoader *l, WebServer *server) {
        l->server = server;
}

bool web_loader_stop(WebLoader *l) {
        l->stops = true;
        return l->working || l->n_why > 0;
}

WebLoader *web_loader_free(WebLoader *l) {
        if (!l)
                return NULL;
        timer_stop(&l->pause);
        stream_free(l->events);
        loader_forget_hosts(l);
        free(l->hosts);
        web_answers_done(&l->answers);
        for (WebDocument d = 0; d < _WEB_DOCUMENT_MAX; d++)
                text_done(&l->documents[d]);
        connection_free(l->client.connection);
        free(l);
        return NULL;
}
