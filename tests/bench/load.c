/* A load of key requests: some connections, each asking again as soon as it was answered, for some seconds.
 * One thread, so that it takes the same from either server's cores.
 *
 *   load put|get|quorum CONNECTIONS SECONDS[@RATE] ADDR:PORT...
 *   load fill CONNECTIONS KEYS ADDR:PORT...
 *
 * 'quorum' are gets with quorum=true. With a rate, requests are due at even intervals whether or not the last
 * ones were answered in time, and their latency counts from when they were due. 'fill' writes so many keys of
 * its own, in folders of a thousand.
 *
 * Prints "RATE P50 P99 MAX ERRORS": requests a second, latencies in microseconds, answers that were no
 * success. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "base/memory.h"
#include "base/parse.h"

enum {
        KEYS = 1000,
        VALUE_SIZE = 128,
        FILL_VALUE_SIZE = 32,
        CONNECTIONS_MAX = 4096,
        ANSWER_MAX = 4096,
        SAMPLES_MAX = 4 * 1024 * 1024
};

typedef struct Connection {
        int fd;
        const char *address;
        unsigned next_key;
        uint64_t due_us; /* 0: waits for an answer, or asks when answered */
        char answer[ANSWER_MAX];
        size_t size;
        uint64_t asked_us;
} Connection;

typedef struct Load {
        enum { PUT, GET, QUORUM, FILL } verb;
        uint64_t interval_us; /* of one connection's requests; 0: when answered */
        unsigned to_fill, filling;
        char value[VALUE_SIZE + 1];
        uint32_t *samples; /* microseconds */
        size_t n_samples, errors;
} Load;

static uint64_t now_us(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int fail(const char *what) {
        fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
        exit(1);
}

static void connection_open(Connection *c, int epoll, unsigned first_key) {
        struct sockaddr_in a = { .sin_family = AF_INET };
        struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
        char host[64];
        uint16_t port;
        int one = 1;

        if (parse_address(c->address, host, sizeof(host), &port) < 0 ||
            inet_pton(AF_INET, host, &a.sin_addr) != 1) {
                fprintf(stderr, "load: expected ADDR:PORT, not '%s'\n", c->address);
                exit(2);
        }
        a.sin_port = htons(port);
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        c->next_key = first_key;
        if (c->fd < 0 || connect(c->fd, (struct sockaddr *) &a, sizeof(a)) < 0)
                fail(c->address);
        (void) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e) < 0)
                fail("epoll");
}

static int print_put(char *request, size_t size, const Connection *c, const char *key, const char *value) {
        return snprintf(request, size,
                        "PUT /v2/keys/%s HTTP/1.1\r\nHost: %s\r\nContent-Type: "
                        "application/x-www-form-urlencoded\r\nContent-Length: %zu\r\n\r\nvalue=%s",
                        key, c->address, 6 + strlen(value), value);
}

/* Asks for what is due at 'due_us'. */
static void connection_ask(Load *l, Connection *c, uint64_t due_us) {
        char request[512], key[64];
        int n;

        if (l->verb == FILL) {
                if (l->filling == l->to_fill)
                        return;
                snprintf(key, sizeof(key), "many/d%u/k%u", l->filling / 1000, l->filling % 1000);
                l->filling++;
        } else {
                snprintf(key, sizeof(key), "bench/k%u", c->next_key);
                c->next_key = (c->next_key * 7 + 1) % KEYS;
        }
        if (l->verb == PUT || l->verb == FILL)
                n = print_put(request, sizeof(request), c, key, l->value);
        else
                n = snprintf(request, sizeof(request), "GET /v2/keys/%s%s HTTP/1.1\r\nHost: %s\r\n\r\n", key,
                             l->verb == QUORUM ? "?quorum=true" : "", c->address);
        c->size = 0;
        c->due_us = 0;
        c->asked_us = due_us;
        if (send(c->fd, request, n, MSG_NOSIGNAL) != n)
                fail("send");
}

/* Whether the answer is there in full. */
static bool connection_answered(const Connection *c, unsigned *ret_status) {
        const char *end = memmem(c->answer, c->size, "\r\n\r\n", 4), *length;

        if (!end || sscanf(c->answer, "HTTP/1.1 %u", ret_status) != 1)
                return false;
        length = strcasestr(c->answer, "\r\nContent-Length:");
        return length && length < end &&
               c->size >= (size_t) (end + 4 - c->answer) + strtoul(length + 17, NULL, 10);
}

static void connection_read(Load *l, Connection *c) {
        ssize_t n = recv(c->fd, c->answer + c->size, sizeof(c->answer) - 1 - c->size, 0);
        unsigned status;

        if (n < 0 && errno == EAGAIN)
                return;
        if (n <= 0)
                fail("the server closed a connection");
        c->size += n;
        c->answer[c->size] = 0;
        if (!connection_answered(c, &status))
                return;
        if (status / 100 != 2)
                l->errors++;
        if (l->n_samples < SAMPLES_MAX)
                l->samples[l->n_samples++] = now_us() - c->asked_us;
        if (l->interval_us > 0)
                c->due_us = c->asked_us + l->interval_us;
        else
                connection_ask(l, c, now_us());
}

/* Asks what is due by now. Returns in how many microseconds the next is. */
static uint64_t ask_due(Load *l, Connection *connections, uint64_t n) {
        uint64_t now = now_us(), next_us = 100000;

        for (uint64_t i = 0; i < n; i++) {
                Connection *c = &connections[i];

                if (c->due_us > 0 && c->due_us <= now)
                        connection_ask(l, c, c->due_us);
                if (c->due_us > 0)
                        next_us = MIN(next_us, c->due_us - now);
        }
        return next_us;
}

static int parse_span(const char *s, uint64_t *ret_seconds, uint64_t *ret_rate) {
        char seconds[24];
        const char *at = strchr(s, '@');
        size_t size = at ? (size_t) (at - s) : strlen(s);

        if (size >= sizeof(seconds) || (at && parse_u64(at + 1, ret_rate) < 0))
                return -EINVAL;
        memcpy(seconds, s, size);
        seconds[size] = 0;
        return parse_u64(seconds, ret_seconds);
}

static int parse_verb(const char *s) {
        static const char *const verbs[] = {
                [PUT] = "put", [GET] = "get", [QUORUM] = "quorum", [FILL] = "fill"
        };

        for (size_t i = 0; i < ELEMENTS(verbs); i++)
                if (streq(s, verbs[i]))
                        return i;
        return -EINVAL;
}

static int by_size(const void *a, const void *b) {
        uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

        return x < y ? -1 : x > y;
}

int main(int argc, char *argv[]) {
        Load l = { .samples = NEW0(uint32_t, SAMPLES_MAX) };
        struct epoll_event events[256];
        uint64_t n, seconds, rate = 0, begun_us, end_us;
        Connection *connections;
        int epoll = epoll_create1(EPOLL_CLOEXEC), verb = argc > 1 ? parse_verb(argv[1]) : -EINVAL;

        if (verb < 0 || argc < 5 || parse_u64(argv[2], &n) < 0 || n == 0 || n > CONNECTIONS_MAX ||
            parse_span(argv[3], &seconds, &rate) < 0) {
                fprintf(stderr, "usage: load put|get|quorum CONNECTIONS SECONDS[@RATE] ADDR:PORT...\n"
                                "       load fill CONNECTIONS KEYS ADDR:PORT...\n");
                return 2;
        }
        l.verb = verb;
        memset(l.value, 'v', verb == FILL ? FILL_VALUE_SIZE : VALUE_SIZE);
        if (verb == FILL) {
                l.to_fill = seconds;
                seconds = UINT32_MAX;
        } else if (rate > 0)
                l.interval_us = 1000000 * n / rate;
        connections = NEW0(Connection, n);
        if (!connections || !l.samples || epoll < 0)
                fail("setup");
        for (uint64_t i = 0; i < n; i++) {
                connections[i].address = argv[4 + i % (argc - 4)];
                connection_open(&connections[i], epoll, i * 37 % KEYS);
        }

        begun_us = now_us();
        end_us = begun_us + seconds * 1000000;
        for (uint64_t i = 0; i < n; i++)
                if (l.interval_us > 0)
                        connections[i].due_us = begun_us + l.interval_us * i / n;
                else
                        connection_ask(&l, &connections[i], begun_us);
        while (now_us() < end_us && (verb != FILL || l.n_samples < l.to_fill)) {
                uint64_t wait_us = l.interval_us > 0 ? ask_due(&l, connections, n) : 100000;
                int ready = epoll_pwait2(epoll, events, ELEMENTS(events),
                                         &(struct timespec) { .tv_nsec = wait_us * 1000 }, NULL);

                for (int i = 0; i < ready; i++)
                        connection_read(&l, events[i].data.ptr);
        }

        if (l.n_samples == 0) {
                fprintf(stderr, "load: no answer at all\n");
                return 1;
        }
        qsort(l.samples, l.n_samples, sizeof(*l.samples), by_size);
        printf("%.0f %u %u %u %zu\n", l.n_samples * 1e6 / (now_us() - begun_us), l.samples[l.n_samples / 2],
               l.samples[l.n_samples * 99 / 100], l.samples[l.n_samples - 1], l.errors);
        return 0;
}
