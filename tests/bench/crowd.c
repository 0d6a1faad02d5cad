/* A crowd of clients in one process: idle ones, some that wait for a key, some that send or read as slowly as
 * permitted, and ordinary ones, whose latency is measured. Execute lines from stdin, and answer each with a
 * line:
 *
 *   idle N ADDR:PORT
 *       send one request each, then stay idle: "ok N"
 *   watch N ADDR:PORT PATH
 *       wait for PATH: "ok N", when all waits have begun
 *   wake ADDR:PORT PATH
 *       put PATH, until all watches have it: MS until the first, half of them, the last; their number
 *   slowhead|slowbody N ADDR:PORT
 *       begin a request and send a byte a second: "ok N"
 *   slowread N ADDR:PORT PATH
 *       request PATH and read 64 bytes a second: "ok N"
 *   stranger N ADDR:PORT HEX
 *       send the bytes one by one, a byte a second, each from an address of its own in 127.0.0.0/8; every
 * second one sends nothing: "ok N" handshake N ADDR:PORT HEX likewise send all bytes at once, and begin again
 * each second: N handshakes a second: "ok N" ask get|put RATE SECONDS ADDR:PORT PATH RATE requests a second:
 * P50 P99 MAX in microseconds; their number; the number of failures count the number of open connections, of
 * all rejected ones, and of those by 408, by 503, by a cut answer leave close all: "ok 0"
 *
 * A slow client that is rejected connects again after five seconds. Latency is counted from the time at which
 * the request is due, so that a stalled server also delays the requests of that time. One thread; raises its
 * own limit of descriptors. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include "base/memory.h"
#include "base/sizes.h"
#include "base/parse.h"

enum {
        KEPT = 700,
        ASKERS = 16,
        SLICES = 20,
        SLICE_MS = 50,
        AGAIN_US = 5000000,
        PATIENCE_MS = 60000,
        SAMPLES_MAX = 1000000
};

typedef enum Kind { IDLE, WATCH, SLOW_HEAD, SLOW_BODY, SLOW_READ, STRANGER, HANDSHAKE, ASKER } Kind;

typedef struct Client {
        Kind kind;
        int fd;     /* -1: turned away */
        bool ready; /* connected and answered, as far as its kind goes */
        bool woken;
        char kept[KEPT]; /* the beginning of what came */
        size_t size;     /* of all that came */
        size_t sent;     /* of a stranger's bytes */
        uint64_t due_us; /* of an asker: when the question that it waits for should have left; 0: free. Of
                            others: when to come again */
} Client;

typedef struct Crowd {
        int epoll;
        Client *clients;
        size_t n, n_ready, n_woken;
        size_t n_turned_away, n_408, n_503, n_cut;
        struct sockaddr_in address;
        char path[1024], slow_path[1024], host[64]; /* slow_path: theirs who come again */
        struct sockaddr_in strangers_address;
        uint8_t handshake[512]; /* of strangers */
        size_t handshake_size;
        uint64_t begun_us, first_us, half_us, last_us; /* of a wake */
        unsigned slice;
        uint64_t slice_us;
        uint32_t *samples;
        size_t n_samples, n_failed;
} Crowd;

static uint64_t now_us(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

_Noreturn static void fail(const char *what) {
        fprintf(stderr, "crowd: %s: %s\n", what, strerror(errno));
        exit(1);
}

static void crowd_aim(Crowd *crowd, const char *address, const char *path) {
        char host[64];
        uint16_t port;

        crowd->address = (struct sockaddr_in) { .sin_family = AF_INET };
        if (parse_address(address, host, sizeof(host), &port) < 0 ||
            inet_pton(AF_INET, host, &crowd->address.sin_addr) != 1) {
                fprintf(stderr, "crowd: expected ADDR:PORT, not '%s'\n", address);
                exit(2);
        }
        crowd->address.sin_port = htons(port);
        snprintf(crowd->host, sizeof(crowd->host), "%s", address);
        snprintf(crowd->path, sizeof(crowd->path), "%s", path);
}

static void say(Crowd *crowd, Client *c, const char *bytes, size_t size) {
        if (send(c->fd, bytes, size, MSG_NOSIGNAL) != (ssize_t) size && errno != EPIPE && errno != ECONNRESET)
                fail("send");
}

/* Connect from an address of the client's own. A full queue of the listener must not block the others. */
static void stranger_connect(Crowd *crowd, Client *c) {
        size_t i = (size_t) (c - crowd->clients);
        struct sockaddr_in from = { .sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(0x7f010001u + (uint32_t) i) };
        struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
        int one = 1;

        c->size = c->sent = 0;
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (c->fd < 0)
                fail("socket");
        (void) setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
        if (bind(c->fd, (struct sockaddr *) &from, sizeof(from)) < 0)
                fail("bind");
        if ((connect(c->fd, (struct sockaddr *) &crowd->strangers_address, sizeof(crowd->strangers_address)) <
                     0 &&
             errno != EINPROGRESS) ||
            epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, c->fd, &e) < 0)
                fail("connect");
        if (c->kind == HANDSHAKE)
                (void) send(c->fd, crowd->handshake, crowd->handshake_size, MSG_NOSIGNAL);
        c->ready = true;
        crowd->n_ready++;
}

static void client_connect(Crowd *crowd, Client *c) {
        struct epoll_event e = { .events = c->kind == SLOW_READ ? EPOLLRDHUP : EPOLLIN, .data.ptr = c };
        char request[1400];
        int one = 1, small = 4096, n;

        c->size = 0;
        c->kept[0] = 0;
        c->ready = c->woken = false;
        if (c->kind == STRANGER || c->kind == HANDSHAKE) {
                stranger_connect(crowd, c);
                return;
        }
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (c->fd < 0)
                fail("socket");
        if (c->kind == SLOW_READ)
                (void) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
        if (connect(c->fd, (struct sockaddr *) &crowd->address, sizeof(crowd->address)) < 0)
                fail("connect");
        (void) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0 || epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, c->fd, &e) < 0)
                fail("epoll");
        switch (c->kind) {
        case IDLE:
        case WATCH:
        case SLOW_READ:
                n = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n",
                             c->kind == SLOW_READ ? crowd->slow_path : crowd->path, crowd->host);
                say(crowd, c, request, n);
                break;
        case SLOW_HEAD:
                n = snprintf(request, sizeof(request),
                             "PUT /v2/keys/slow HTTP/1.1\r\nHost: %s\r\nX-Slow: ", crowd->host);
                say(crowd, c, request, n);
                break;
        case SLOW_BODY:
                n = snprintf(request, sizeof(request),
                             "PUT /v2/keys/slow HTTP/1.1\r\nHost: %s\r\nContent-Length: 100000\r\n"
                             "Content-Type: application/x-www-form-urlencoded\r\n\r\nvalue=",
                             crowd->host);
                say(crowd, c, request, n);
                break;
        case STRANGER:
        case HANDSHAKE:
        case ASKER:
                break;
        }
        if (c->kind != IDLE && c->kind != WATCH) {
                c->ready = true;
                crowd->n_ready++;
        }
}

static void client_turned_away(Crowd *crowd, Client *c) {
        if (c->kind == ASKER) {
                fprintf(stderr, "crowd: the server closed a connection of one who only asks\n");
                exit(1);
        }
        crowd->n_turned_away++;
        crowd->n_408 += c->size > 12 && memcmp(c->kept + 9, "408", 3) == 0;
        crowd->n_503 += c->size > 12 && memcmp(c->kept + 9, "503", 3) == 0;
        crowd->n_cut += c->kind == SLOW_READ;
        close(c->fd);
        c->fd = -1;
        c->due_us = now_us() + AGAIN_US;
        crowd->n_ready -= c->ready;
        c->ready = false;
}

/* Is an answer with a length whole? */
static bool client_answered(const Client *c) {
        const char *end = strstr(c->kept, "\r\n\r\n"), *length = strcasestr(c->kept, "\r\nContent-Length:");

        return end && (!length || length > end ||
                       c->size >= (size_t) (end + 4 - c->kept) + strtoul(length + 17, NULL, 10));
}

static void client_got(Crowd *crowd, Client *c) {
        const char *end = strstr(c->kept, "\r\n\r\n");
        uint64_t now = now_us();

        switch (c->kind) {
        case IDLE:
                if (!c->ready && client_answered(c)) {
                        c->ready = true;
                        crowd->n_ready++;
                }
                return;
        case WATCH:
                if (end && !c->ready) {
                        c->ready = true;
                        crowd->n_ready++;
                }
                if (end && c->size > (size_t) (end + 4 - c->kept) && !c->woken) {
                        c->woken = true;
                        crowd->n_woken++;
                        crowd->first_us = crowd->first_us ?: now;
                        if (crowd->n_woken == (crowd->n_ready + 1) / 2)
                                crowd->half_us = now;
                        crowd->last_us = now;
                }
                return;
        case ASKER:
                if (c->due_us > 0 && client_answered(c)) {
                        if (c->kept[9] != '2')
                                crowd->n_failed++;
                        if (crowd->n_samples < SAMPLES_MAX)
                                crowd->samples[crowd->n_samples++] = now - c->due_us;
                        c->due_us = 0;
                        c->size = 0;
                        c->kept[0] = 0;
                }
                return;
        case SLOW_HEAD:
        case SLOW_BODY:
        case SLOW_READ:
        case STRANGER:
        case HANDSHAKE:
                return;
        }
}

static void client_on_event(Crowd *crowd, Client *c, uint32_t events) {
        char rest[16384];
        ssize_t n;

        if (c->fd < 0)
                return;
        if (c->kind == SLOW_READ) {
                if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
                        client_turned_away(crowd, c);
                return;
        }
        n = recv(c->fd, rest, sizeof(rest), 0);
        if (n < 0 && errno == EAGAIN)
                return;
        if (n <= 0) {
                client_turned_away(crowd, c);
                return;
        }
        if (c->size < KEPT - 1)
                memcpy(c->kept + c->size, rest, MIN((size_t) n, KEPT - 1 - c->size));
        c->size += n;
        c->kept[MIN(c->size, (size_t) KEPT - 1)] = 0;
        client_got(crowd, c);
}

/* A part of those that are slow has its turn; in a second, all. */
static void crowd_tick(Crowd *crowd) {
        char bytes[64];
        uint64_t now = now_us();

        if (now < crowd->slice_us + SLICE_MS * 1000)
                return;
        crowd->slice_us = now;
        crowd->slice = (crowd->slice + 1) % SLICES;
        for (size_t i = crowd->slice; i < crowd->n; i += SLICES) {
                Client *c = &crowd->clients[i];

                if (c->kind < SLOW_HEAD || c->kind > HANDSHAKE)
                        continue;
                if (c->kind == HANDSHAKE) {
                        if (c->fd >= 0)
                                client_turned_away(crowd, c);
                        client_connect(crowd, c);
                        continue;
                }
                if (c->fd < 0 && c->due_us > now)
                        continue;
                if (c->fd < 0)
                        client_connect(crowd, c);
                else if (c->kind == SLOW_READ) {
                        ssize_t n = recv(c->fd, c->size == 0 ? c->kept : bytes, sizeof(bytes), 0);

                        if (n > 0)
                                c->size += n;
                        else if (n == 0 || errno != EAGAIN)
                                client_turned_away(crowd, c);
                } else if (c->kind == STRANGER) {
                        if (i % 2 == 0 && c->sent < crowd->handshake_size &&
                            send(c->fd, crowd->handshake + c->sent, 1, MSG_NOSIGNAL) == 1)
                                c->sent++;
                } else
                        say(crowd, c, "x", 1);
        }
}

static void crowd_turn(Crowd *crowd, int timeout_ms) {
        struct epoll_event events[512];
        int n = epoll_wait(crowd->epoll, events, ELEMENTS(events), timeout_ms);

        for (int i = 0; i < n; i++)
                if (events[i].data.ptr)
                        client_on_event(crowd, events[i].data.ptr, events[i].events);
        crowd_tick(crowd);
}

/* Take the target and the bytes of strangers. */
static void crowd_aim_strangers(Crowd *crowd) {
        crowd->strangers_address = crowd->address;
        for (crowd->handshake_size = 0; crowd->handshake_size < sizeof(crowd->handshake);
             crowd->handshake_size++)
                if (sscanf(crowd->path + 2 * crowd->handshake_size, "%2hhx",
                           crowd->handshake + crowd->handshake_size) != 1)
                        break;
}

/* Adds 'n' of a kind and turns until they are as they should be. */
static void crowd_add(Crowd *crowd, Kind kind, size_t n) {
        size_t wanted = crowd->n_ready + n, first = crowd->n;
        uint64_t until_us = now_us() + PATIENCE_MS * 1000ull;

        for (size_t i = 0; i < n; i++) {
                crowd->clients[first + i] = (Client) { .kind = kind, .fd = -1 };
                client_connect(crowd, &crowd->clients[first + i]);
                crowd->n++;
                if (i % 64 == 63)
                        crowd_turn(crowd, 0);
        }
        while (crowd->n_ready < wanted && now_us() < until_us && (kind == IDLE || kind == WATCH))
                crowd_turn(crowd, SLICE_MS);
        printf("ok %zu\n", crowd->n_ready + n - wanted);
}

static void crowd_leave(Crowd *crowd) {
        for (size_t i = 0; i < crowd->n; i++)
                if (crowd->clients[i].fd >= 0)
                        close(crowd->clients[i].fd);
        crowd->n = crowd->n_ready = crowd->n_woken = 0;
        printf("ok 0\n");
}

static int request_put(const Crowd *crowd, char *request, size_t size) {
        return snprintf(request, size,
                        "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                        "Content-Length: 13\r\n\r\nvalue=%07llu",
                        crowd->path, crowd->host, (unsigned long long) now_us() % 10000000);
}

static void crowd_wake(Crowd *crowd) {
        Client *putter = &crowd->clients[crowd->n];
        uint64_t until_us = now_us() + PATIENCE_MS * 1000ull;
        char request[1400];
        int n = request_put(crowd, request, sizeof(request));

        *putter = (Client) { .kind = ASKER, .fd = -1 };
        client_connect(crowd, putter);
        crowd->n_ready--; /* it is none of those that wait */
        crowd->n_woken = 0;
        crowd->first_us = crowd->half_us = crowd->last_us = 0;
        crowd->begun_us = now_us();
        say(crowd, putter, request, n);
        while (crowd->n_woken < crowd->n_ready && now_us() < until_us)
                crowd_turn(crowd, SLICE_MS);
        close(putter->fd);
        printf("%.1f %.1f %.1f %zu\n", (crowd->first_us - crowd->begun_us) / 1e3,
               (crowd->half_us - crowd->begun_us) / 1e3, (crowd->last_us - crowd->begun_us) / 1e3,
               crowd->n_woken);
}

static int by_size(const void *a, const void *b) {
        uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

        return x < y ? -1 : x > y;
}

static void crowd_ask(Crowd *crowd, bool put, uint64_t rate, uint64_t seconds) {
        Client *askers = &crowd->clients[crowd->n];
        uint64_t begun_us, asked = 0, all = rate * seconds, until_us;
        char request[1400];
        int n;

        for (size_t i = 0; i < ASKERS; i++) {
                askers[i] = (Client) { .kind = ASKER, .fd = -1 };
                client_connect(crowd, &askers[i]);
        }
        crowd->n_samples = crowd->n_failed = 0;
        begun_us = now_us();
        until_us = begun_us + seconds * 1000000 + PATIENCE_MS * 1000ull;
        while (crowd->n_samples < all && now_us() < until_us) {
                for (size_t i = 0; i < ASKERS && asked < all; i++) {
                        uint64_t due_us = begun_us + asked * 1000000 / rate;

                        if (due_us > now_us())
                                break;
                        if (askers[i].due_us > 0)
                                continue;
                        askers[i].due_us = due_us;
                        n = put ? request_put(crowd, request, sizeof(request)) :
                                  snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n",
                                           crowd->path, crowd->host);
                        say(crowd, &askers[i], request, n);
                        asked++;
                }
                crowd_turn(crowd, 1);
        }
        for (size_t i = 0; i < ASKERS; i++)
                close(askers[i].fd);
        crowd->n_ready -= ASKERS;
        qsort(crowd->samples, crowd->n_samples, sizeof(*crowd->samples), by_size);
        if (crowd->n_samples == 0)
                printf("0 0 0 0 %llu\n", (unsigned long long) all);
        else
                printf("%u %u %u %zu %zu\n", crowd->samples[crowd->n_samples / 2],
                       crowd->samples[crowd->n_samples * 99 / 100], crowd->samples[crowd->n_samples - 1],
                       crowd->n_samples, crowd->n_failed + (size_t) (all - crowd->n_samples));
}

static void crowd_execute(Crowd *crowd, char *line) {
        static const struct {
                const char *name;
                Kind kind;
        } kinds[] = { { "idle", IDLE },          { "watch", WATCH },        { "slowhead", SLOW_HEAD },
                      { "slowbody", SLOW_BODY }, { "slowread", SLOW_READ }, { "stranger", STRANGER },
                      { "handshake", HANDSHAKE } };
        char word[16] = "", address[ADDRESS_SIZE] = "", path[1024] = "/v2/keys/", verb[8] = "";
        unsigned long long n = 0, seconds = 0;

        (void) sscanf(line, "%15s", word);
        if (streq(word, "leave"))
                crowd_leave(crowd);
        else if (streq(word, "count"))
                printf("%zu %zu %zu %zu %zu\n", crowd->n_ready, crowd->n_turned_away, crowd->n_408,
                       crowd->n_503, crowd->n_cut);
        else if (sscanf(line, "wake %63s %1023s", address, path) == 2) {
                crowd_aim(crowd, address, path);
                crowd_wake(crowd);
        } else if (sscanf(line, "ask %7s %llu %llu %63s %1023s", verb, &n, &seconds, address, path) == 5) {
                crowd_aim(crowd, address, path);
                crowd_ask(crowd, streq(verb, "put"), n, seconds);
        } else {
                size_t i = 0;

                while (i < ELEMENTS(kinds) && !streq(kinds[i].name, word))
                        i++;
                if (i == ELEMENTS(kinds) || sscanf(line, "%*s %llu %63s %1023s", &n, address, path) < 2) {
                        fprintf(stderr, "crowd: no command: %s\n", line);
                        exit(2);
                }
                crowd_aim(crowd, address, path);
                if (kinds[i].kind == STRANGER || kinds[i].kind == HANDSHAKE)
                        crowd_aim_strangers(crowd);
                if (kinds[i].kind == SLOW_READ)
                        memcpy(crowd->slow_path, crowd->path, sizeof(crowd->path));
                crowd_add(crowd, kinds[i].kind, n);
        }
        fflush(stdout);
}

int main(int argc, char *argv[]) {
        Crowd crowd = { .epoll = epoll_create1(EPOLL_CLOEXEC), .samples = NEW0(uint32_t, SAMPLES_MAX) };
        struct epoll_event e = { .events = EPOLLIN };
        struct rlimit l;
        char line[1200];
        size_t size = 0;
        ssize_t n;

        if (crowd.epoll < 0 || !crowd.samples || getrlimit(RLIMIT_NOFILE, &l) < 0)
                fail("setup");
        l.rlim_cur = l.rlim_max;
        (void) setrlimit(RLIMIT_NOFILE, &l);
        crowd.clients = NEW0(Client, 70000);
        if (!crowd.clients || fcntl(0, F_SETFL, O_NONBLOCK) < 0 ||
            epoll_ctl(crowd.epoll, EPOLL_CTL_ADD, 0, &e) < 0)
                fail("setup");
        while ((n = read(0, line + size, sizeof(line) - 1 - size)) != 0) {
                char *end;

                size += MAX(n, 0);
                line[size] = 0;
                end = strchr(line, '\n');
                if (end) {
                        *end = 0;
                        crowd_execute(&crowd, line);
                        size -= end + 1 - line;
                        memmove(line, end + 1, size);
                } else
                        crowd_turn(&crowd, SLICE_MS);
        }
        return 0;
}
