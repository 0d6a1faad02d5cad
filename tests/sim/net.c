#include "tests/sim/net.h"

enum { HOSTS_MAX = 320, SILENCE_MS = 300, FIN_WAIT_MS = 5 };

typedef struct SimStream SimStream;

typedef struct Chunk {
        STAILQ_ENTRY(Chunk) of_stream;
        uint8_t *bytes;
        size_t size;
        bool fin;
        uint64_t due_ms;
} Chunk;

/* One end of a connection. Both ends know each other until one is reset. */
struct SimStream {
        Stream base;
        SimHost *host;
        SimStream *other; /* NULL: the other end is gone */
        SimHost *other_host;
        uint64_t id;
        STAILQ_HEAD(, Chunk) chunks; /* on their way to this end */
        bool paused, closing, finishing, scheduled, drain_due;
        uint64_t last_due_ms;
        LIST_ENTRY(SimStream) of_host;
};

typedef struct SimListener {
        SimHost *host;
        char address[ADDRESS_SIZE];
        void (*accepted)(void *userdata, Stream *s);
        void *userdata;
        LIST_ENTRY(SimListener) of_host;
} SimListener;

typedef struct SimConnect {
        SimHost *host;
        uint64_t id, incarnation;
        char address[ADDRESS_SIZE];
        void (*done)(void *userdata, Stream *s, int error);
        void *userdata;
        uint64_t give_up_ms;
        LIST_ENTRY(SimConnect) of_host;
} SimConnect;

struct SimHost {
        Network base;
        SimNet *net;
        WorldLoop *loop; /* NULL: no daemon */
        char address[48];
        bool power;
        bool addressless; /* its address cannot be listened on */
        uint64_t incarnation;
        LIST_HEAD(, SimStream) streams;
        LIST_HEAD(, SimListener) listeners;
        LIST_HEAD(, SimConnect) connects;
        unsigned index;
};

struct SimNet {
        World *world;
        uint64_t least_ms, most_ms, bytes_per_ms, ids;
        SimHost *hosts[HOSTS_MAX];
        unsigned n;
        /* All by sender and receiver. */
        bool cut[HOSTS_MAX][HOSTS_MAX];
        uint64_t bad_since_ms[HOSTS_MAX][HOSTS_MAX]; /* 0: the direction works */
        uint64_t was_bad_ms[HOSTS_MAX][HOSTS_MAX];   /* duration of the last failure */
        uint64_t good_since_ms[HOSTS_MAX][HOSTS_MAX];
};

static SimStream *of(const Stream *s) {
        return (SimStream *) container_of(s, SimStream, base);
}

static bool direction_works(const SimNet *net, const SimHost *from, const SimHost *to) {
        return from->power && to->power && (from == to || !net->cut[from->index][to->index]);
}

static void directions_update(SimNet *net) {
        for (unsigned i = 0; i < net->n; i++)
                for (unsigned k = 0; k < net->n; k++) {
                        bool good = direction_works(net, net->hosts[i], net->hosts[k]);

                        if (good && net->bad_since_ms[i][k] > 0) {
                                net->good_since_ms[i][k] = world_now_ms(net->world);
                                net->was_bad_ms[i][k] = net->good_since_ms[i][k] - net->bad_since_ms[i][k];
                                net->bad_since_ms[i][k] = 0;
                        } else if (!good && net->bad_since_ms[i][k] == 0)
                                net->bad_since_ms[i][k] = world_now_ms(net->world);
                }
}

static uint64_t delay(SimNet *net) {
        return net->least_ms + world_draw(net->world, net->most_ms - net->least_ms + 1);
}

/* An event names its stream by ID: the stream may be freed before the event is due. */
typedef struct Later {
        SimHost *host;
        uint64_t id;
} Later;

static SimStream *stream_of(const Later *later) {
        SimStream *s;

        LIST_FOREACH(s, &later->host->streams, of_host)
                if (s->id == later->id)
                        return s;
        return NULL;
}

static void stream_schedule(SimStream *s, uint64_t delay_ms, void (*run)(void *userdata)) {
        Later *later = NEW0(Later, 1);

        *later = (Later) { .host = s->host, .id = s->id };
        world_at_own(s->host->net->world, delay_ms, s->host->loop, run, later);
}

static void stream_free(SimStream *s) {
        LIST_REMOVE(s, of_host);
        if (s->other)
                s->other->other = NULL;
        while (!STAILQ_EMPTY(&s->chunks)) {
                Chunk *c = STAILQ_FIRST(&s->chunks);

                STAILQ_REMOVE_HEAD(&s->chunks, of_stream);
                free(c->bytes);
                free(c);
        }
        free(s);
}

static void stream_end(SimStream *s, int error, const char *reason) {
        const StreamEvents *events = s->base.events;
        void *userdata = s->base.userdata;

        stream_free(s);
        if (events && events->on_close)
                events->on_close(userdata, error, reason);
}

static void on_closed(void *userdata) {
        Later *later = userdata;
        SimStream *s = stream_of(later);

        free(later);
        if (s)
                stream_end(s, 0, "closed");
}

static void on_reset(void *userdata) {
        Later *later = userdata;
        SimStream *s = stream_of(later);

        if (s && !s->closing && !direction_works(s->host->net, s->other_host, s->host)) {
                /* A cut link delays the RST like data. */
                world_at_own(s->host->net->world, 100, s->host->loop, on_reset, later);
                return;
        }
        free(later);
        if (s && !s->closing) {
                s->closing = true;
                stream_end(s, -ECONNRESET, "connection reset");
        }
}

static void on_deliver(void *userdata);

static void deliver_later(SimStream *s, uint64_t delay_ms) {
        if (s->scheduled || s->closing)
                return;
        s->scheduled = true;
        stream_schedule(s, delay_ms, on_deliver);
}

static void on_drained(void *userdata) {
        Later *later = userdata;
        SimStream *s = stream_of(later);

        free(later);
        if (!s || s->closing)
                return;
        s->drain_due = false;
        if (s->base.held == 0 && s->base.events && s->base.events->on_drain)
                s->base.events->on_drain(s->base.userdata);
}

static void on_deliver(void *userdata) {
        Later *later = userdata;
        SimHost *host = later->host;
        uint64_t id = later->id, now_ms = world_now_ms(host->net->world);
        SimStream *s = stream_of(later);

        free(later);
        if (!s)
                return;
        s->scheduled = false;
        while (s && !STAILQ_EMPTY(&s->chunks) && !s->paused && !s->closing) {
                Chunk *c = STAILQ_FIRST(&s->chunks);

                if (!direction_works(host->net, s->other_host, host)) {
                        deliver_later(s, 50);
                        return;
                }
                if (c->due_ms > now_ms) {
                        deliver_later(s, c->due_ms - now_ms);
                        return;
                }
                STAILQ_REMOVE_HEAD(&s->chunks, of_stream);
                if (s->other) {
                        s->other->base.held -= c->size;
                        if (s->other->base.held == 0 && !s->other->drain_due) {
                                s->other->drain_due = true;
                                stream_schedule(s->other, 0, on_drained);
                        }
                }
                if (s->base.events && s->base.events->on_read)
                        s->base.events->on_read(s->base.userdata, c->bytes ?: (uint8_t *) "",
                                                c->fin ? 0 : c->size);
                free(c->bytes);
                free(c);
                s = stream_of(&(Later) { .host = host, .id = id });
        }
}

static void chunk_add(SimStream *to, const void *bytes, size_t size, bool fin) {
        Chunk *c = NEW0(Chunk, 1);
        SimNet *net = to->host->net;

        c->bytes = size > 0 ? malloc(size) : NULL;
        if (size > 0)
                memcpy(c->bytes, bytes, size);
        c->size = size;
        c->fin = fin;
        c->due_ms = MAX(world_now_ms(net->world) + delay(net), to->last_due_ms);
        if (net->bytes_per_ms > 0)
                c->due_ms += size / net->bytes_per_ms;
        to->last_due_ms = c->due_ms;
        STAILQ_INSERT_TAIL(&to->chunks, c, of_stream);
        if (!to->paused)
                deliver_later(to, c->due_ms - world_now_ms(net->world));
}

static int sim_write(Stream *stream, const void *bytes, size_t size, Shared *shared) {
        SimStream *s = of(stream);

        if (s->closing || s->finishing)
                return -EPIPE;
        if (shared) {
                bytes = shared->bytes;
                size = shared->size;
        }
        if (size == 0 || !s->other)
                return 0; /* lost: the reset is on its way */
        if (!shared && world_is_short(s->host->net->world))
                return -ENOMEM;
        s->base.held += size;
        chunk_add(s->other, bytes, size, false);
        return 0;
}

static void sim_pause(Stream *stream, bool paused) {
        SimStream *s = of(stream);

        s->paused = paused;
        if (!paused && !STAILQ_EMPTY(&s->chunks))
                deliver_later(s, 0);
}

static void sim_close(Stream *stream) {
        SimStream *s = of(stream);

        if (s->closing)
                return;
        s->closing = true;
        if (s->other)
                stream_schedule(s->other, delay(s->host->net), on_reset);
        stream_schedule(s, 0, on_closed);
}

static void sim_finish(Stream *stream) {
        SimStream *s = of(stream);

        if (s->closing || s->finishing)
                return;
        s->finishing = true;
        if (s->other)
                chunk_add(s->other, "", 0, true);
        s->closing = true;
        stream_schedule(s, 2 * s->host->net->most_ms + FIN_WAIT_MS, on_closed);
}

uint64_t sim_net_silent_ms(const SimNet *net, const SimHost *from, const SimHost *to, uint64_t ago_ms) {
        uint64_t bad = net->bad_since_ms[from->index][to->index],
                 good = net->good_since_ms[from->index][to->index], now = world_now_ms(net->world);

        if (bad > 0)
                return now - bad + SILENCE_MS;
        return good > 0 && now - good < ago_ms ? net->was_bad_ms[from->index][to->index] + SILENCE_MS :
                                                 SILENCE_MS;
}

static uint64_t sim_kernel_silent_ms(const Stream *stream) {
        const SimStream *s = of(stream);

        return sim_net_silent_ms(s->host->net, s->other_host, s->host, 0);
}

static int sim_peer_uid(const Stream *s, uid_t *ret) {
        *ret = 0;
        return 0;
}

static const StreamOps stream_ops = { .write = sim_write,
                                      .pause = sim_pause,
                                      .close = sim_close,
                                      .finish = sim_finish,
                                      .kernel_silent_ms = sim_kernel_silent_ms,
                                      .peer_uid = sim_peer_uid };

static SimStream *stream_new(SimHost *h, SimHost *other) {
        SimStream *s = NEW0(SimStream, 1);

        s->base.ops = &stream_ops;
        s->host = h;
        s->other_host = other;
        s->id = ++h->net->ids;
        STAILQ_INIT(&s->chunks);
        s->paused = true;
        snprintf(s->base.peer_address, sizeof(s->base.peer_address), "%s:1", other->address);
        LIST_INSERT_HEAD(&h->streams, s, of_host);
        return s;
}

/* -- Connecting: the SYN travels to the other host; a listener accepts it, the kernel refuses it, or it times
 * out -- */

static SimConnect *connect_of(const Later *later) {
        SimConnect *c;

        LIST_FOREACH(c, &later->host->connects, of_host)
                if (c->id == later->id)
                        return c;
        return NULL;
}

static void connect_end(SimConnect *c, Stream *s, int error) {
        void (*done)(void *userdata, Stream *s, int error) = c->done;
        void *userdata = c->userdata;

        LIST_REMOVE(c, of_host);
        free(c);
        done(userdata, s, error);
}

static SimHost *host_at(SimNet *net, const char *address) {
        size_t n = strcspn(address, ":");

        for (unsigned i = 0; i < net->n; i++)
                if (strlen(net->hosts[i]->address) == n && strncmp(net->hosts[i]->address, address, n) == 0)
                        return net->hosts[i];
        return NULL;
}

typedef struct Accepting {
        SimHost *host;
        uint64_t id;
        SimListener *listener;
} Accepting;

static void on_accept(void *userdata) {
        Accepting *a = userdata;
        SimStream *s = stream_of(&(Later) { .host = a->host, .id = a->id });
        SimListener *l;
        bool there = false;

        LIST_FOREACH(l, &a->host->listeners, of_host)
                there |= l == a->listener;
        if (s && there)
                a->listener->accepted(a->listener->userdata, &s->base);
        else if (s)
                sim_close(&s->base);
        free(a);
}

static void on_syn(void *userdata) {
        Later *later = userdata;
        SimHost *h = later->host;
        SimConnect *c = connect_of(later);
        SimListener *l, *listener = NULL;
        SimStream *near, *far;
        SimHost *other;
        Accepting *a;

        if (!c) {
                free(later);
                return;
        }
        other = host_at(h->net, c->address);
        if (!other || !direction_works(h->net, h, other) || !direction_works(h->net, other, h)) {
                uint64_t now_ms = world_now_ms(h->net->world);

                if (now_ms < c->give_up_ms) {
                        world_at_own(h->net->world, MIN(c->give_up_ms - now_ms, (uint64_t) 200), h->loop,
                                     on_syn, later);
                        return;
                }
                free(later);
                connect_end(c, NULL, -ETIMEDOUT);
                return;
        }
        free(later);
        LIST_FOREACH(l, &other->listeners, of_host)
                if (streq(l->address, c->address))
                        listener = l;
        if (!listener || !other->loop) {
                connect_end(c, NULL, -ECONNREFUSED);
                return;
        }
        near = stream_new(h, other);
        far = stream_new(other, h);
        near->other = far;
        far->other = near;
        a = NEW0(Accepting, 1);
        *a = (Accepting) { .host = other, .id = far->id, .listener = listener };
        world_at_own(h->net->world, delay(h->net), other->loop, on_accept, a);
        connect_end(c, &near->base, 0);
}

static SimHost *of_net(Network *net) {
        return container_of(net, SimHost, base);
}

static void *sim_connect(Network *net, const char *address, uint64_t timeout_ms,
                         void (*done)(void *userdata, Stream *s, int error), void *userdata, int *ret_error) {
        SimHost *h = of_net(net);
        SimConnect *c;
        Later *later;

        if (world_is_short(h->net->world)) {
                *ret_error = -ENOMEM;
                return NULL;
        }
        c = NEW0(SimConnect, 1);
        later = NEW0(Later, 1);
        *c = (SimConnect) { .host = h,
                            .id = ++h->net->ids,
                            .done = done,
                            .userdata = userdata,
                            .give_up_ms = world_now_ms(h->net->world) + timeout_ms };
        snprintf(c->address, sizeof(c->address), "%s", address);
        LIST_INSERT_HEAD(&h->connects, c, of_host);
        *later = (Later) { .host = h, .id = c->id };
        world_at_own(h->net->world, 2 * delay(h->net) + 1, h->loop, on_syn, later);
        return c;
}

static void sim_cancel(Network *net, void *handle) {
        SimConnect *c;

        LIST_FOREACH(c, &of_net(net)->connects, of_host)
                if (c == handle)
                        break;
        if (!c)
                return;
        LIST_REMOVE(c, of_host);
        free(c);
}

static int sim_listen(Network *net, const char *address, void (*accepted)(void *userdata, Stream *s),
                      void *userdata, Listener **ret, Error *err) {
        SimHost *h = of_net(net);
        SimListener *l;

        if (world_is_short(h->net->world))
                return -ENOMEM;
        if (h->addressless)
                return error_set(err, -EADDRNOTAVAIL,
                                 "Failed to listen on %s: this host does not have the address", address);
        l = NEW0(SimListener, 1);
        *l = (SimListener) { .host = h, .accepted = accepted, .userdata = userdata };
        snprintf(l->address, sizeof(l->address), "%s", address);
        LIST_INSERT_HEAD(&h->listeners, l, of_host);
        *ret = (Listener *) l;
        return 0;
}

static void sim_unlisten(Network *net, Listener *listener) {
        SimListener *l;

        LIST_FOREACH(l, &of_net(net)->listeners, of_host)
                if (l == (SimListener *) listener)
                        break;
        if (!l)
                return;
        LIST_REMOVE(l, of_host);
        free(l);
}

static const NetworkOps network_ops = {
        .connect = sim_connect, .cancel = sim_cancel, .listen = sim_listen, .unlisten = sim_unlisten
};

/* -- Hosts -- */

SimNet *sim_net_new(World *w, uint64_t least_ms, uint64_t most_ms) {
        SimNet *net = NEW0(SimNet, 1);

        net->world = w;
        net->least_ms = least_ms;
        net->most_ms = most_ms;
        return net;
}

SimNet *sim_net_free(SimNet *net) {
        for (unsigned i = 0; i < net->n; i++) {
                sim_host_reset(net->hosts[i], true);
                free(net->hosts[i]);
        }
        free(net);
        return NULL;
}

SimHost *sim_host_new(SimNet *net, const char *address) {
        SimHost *h = NEW0(SimHost, 1);

        assert(net->n < HOSTS_MAX);
        h->base.ops = &network_ops;
        h->net = net;
        h->power = true;
        h->index = net->n;
        snprintf(h->address, sizeof(h->address), "%s", address);
        net->hosts[net->n++] = h;
        return h;
}

Network *sim_host_network(SimHost *h, WorldLoop *loop) {
        h->loop = loop;
        h->base.loop = world_loop(loop);
        return &h->base;
}

void sim_host_addressless(SimHost *h, bool on) {
        h->addressless = on;
}

void sim_host_reset(SimHost *h, bool silent) {
        while (!LIST_EMPTY(&h->streams)) {
                SimStream *s = LIST_FIRST(&h->streams);

                if (s->other && s->other->host->loop && !silent)
                        stream_schedule(s->other, delay(h->net), on_reset);
                if (s->closing) /* its owner may be a TLS stream that nothing else waits for */
                        stream_end(s, 0, "closed");
                else
                        stream_free(s);
        }
        while (!LIST_EMPTY(&h->listeners))
                sim_unlisten(&h->base, (Listener *) LIST_FIRST(&h->listeners));
        while (!LIST_EMPTY(&h->connects))
                sim_cancel(&h->base, LIST_FIRST(&h->connects));
        h->loop = NULL;
}

void sim_host_dropped(SimHost *h) {
        SimStream *s;

        LIST_FOREACH(s, &h->streams, of_host)
                if (s->closing)
                        stream_schedule(s, 0, on_closed);
}

void sim_host_power(SimHost *h, bool on) {
        h->power = on;
        directions_update(h->net);
}

void sim_net_cut(SimNet *net, SimHost *a, SimHost *b, bool cut) {
        net->cut[a->index][b->index] = net->cut[b->index][a->index] = cut;
        directions_update(net);
}

void sim_net_cut_one_way(SimNet *net, SimHost *from, SimHost *to, bool cut) {
        net->cut[from->index][to->index] = cut;
        directions_update(net);
}

void sim_net_set_delay(SimNet *net, uint64_t least_ms, uint64_t most_ms) {
        net->least_ms = least_ms;
        net->most_ms = most_ms;
}

/* Let data that was sent at the old rate arrive at the new one. */
static void stream_hurry(SimStream *s) {
        SimNet *net = s->host->net;
        uint64_t due_ms = world_now_ms(net->world) + net->most_ms;
        Chunk *c;

        STAILQ_FOREACH(c, &s->chunks, of_stream)
                c->due_ms = MIN(c->due_ms, due_ms);
        s->last_due_ms = MIN(s->last_due_ms, due_ms);
        s->scheduled = false; /* a second call finds nothing to do */
        if (!STAILQ_EMPTY(&s->chunks) && !s->paused && s->host->loop)
                deliver_later(s, net->most_ms);
}

void sim_net_set_rate(SimNet *net, uint64_t bytes_per_ms) {
        SimStream *s;

        net->bytes_per_ms = bytes_per_ms;
        for (unsigned i = 0; i < net->n; i++)
                LIST_FOREACH(s, &net->hosts[i]->streams, of_host)
                        stream_hurry(s);
}

bool sim_net_is_cut(const SimNet *net, const SimHost *a, const SimHost *b) {
        return net->cut[a->index][b->index];
}
