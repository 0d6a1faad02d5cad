/* kv lock: one holder at a time. A client puts an in-order key below the lock's directory, waits until the
 * key just before its own is gone, and runs the command. All the while it refreshes its key.
 *
 * Signals that end fleetctl are blocked from before the key is made until it is removed: an interrupt at any
 * moment leaves no key behind, unless the answer that names the key does not come.
 *
 * The cluster may remove the key, and the next client may begin, one time to live after the last refresh that
 * succeeded was sent. By then the command has ended, with all that descends from it: they get SIGTERM one
 * sixth of that time before, and SIGKILL at that moment. No request outlasts the SIGTERM. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "client/subprocess.h"
#include "client/client.h"
#include "client/kv.h"

enum {
        TTL_S = 30,
        TTL_MAX_S = 86400,
        LOOK_MS = 1000,
        INTERRUPTED_MS = 3000,
        KILL_AGAIN_MS = 100,
        CODE_NOT_FOUND = 100
};

/* -- The lock -- */

typedef struct Lock {
        Client *client;
        Text directory, key;   /* of the lock, and ours below it */
        uint64_t ttl;          /* s */
        uint64_t refreshed_ms; /* when the last request that renewed the key was sent */
        uint64_t asked_ms;     /* when the last one was sent, renewed or not */
        bool lost;
        sigset_t signals; /* that end fleetctl */
        bool interrupted; /* one of them came, before the command began */
        bool stopped;     /* the command got SIGTERM for a lost lock */
} Lock;

/* A suspended machine counts: the cluster's clock goes on meanwhile. */
static uint64_t now_ms(void) {
        struct timespec now;

        (void) clock_gettime(CLOCK_BOOTTIME, &now);
        return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

static uint64_t lock_ends_ms(const Lock *lock) {
        return lock->refreshed_ms + lock->ttl * 1000;
}

/* When the command has to be stopped, so that it has ended when the lock ends. */
static uint64_t lock_stop_ms(const Lock *lock) {
        return lock_ends_ms(lock) - lock->ttl * 1000 / 6;
}

/* When the key is to be refreshed next: a third of its time after the last success, a sixth after a failure.
 */
static uint64_t lock_due_ms(const Lock *lock) {
        return MAX(lock->refreshed_ms + lock->ttl * 1000 / 3, lock->asked_ms + lock->ttl * 1000 / 6);
}

/* True while the lock is ours, or our place in the queue. */
static bool lock_refresh(Lock *lock) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text path = {}, form = {};
        uint64_t code = 0;
        const JsonValue *node;
        Error err = {};
        int r;

        lock->asked_ms = now_ms();
        if (lock->asked_ms >= lock_stop_ms(lock)) {
                if (!lock->lost)
                        fprintf(stderr, "fleetctl: the lock is lost: it was not refreshed for %llu s\n",
                                (unsigned long long) (lock->asked_ms - lock->refreshed_ms) / 1000);
                lock->lost = true;
                return false;
        }
        kv_append_key(&path, lock->key.chars);
        kv_add_field(&form, "refresh", "true");
        kv_add_field(&form, "prevExist", "true");
        kv_add_number(&form, "ttl", lock->ttl);
        connection_limit(lock->client->connection, lock_stop_ms(lock) - lock->asked_ms);
        r = kv_ask(lock->client, "PUT", &path, &form, &root, &node, NULL, &code, &err);
        connection_limit(lock->client->connection, 0);
        if (r == 0)
                lock->refreshed_ms = lock->asked_ms;
        else if ((r == -EREMOTEIO && code == CODE_NOT_FOUND) || now_ms() >= lock_stop_ms(lock)) {
                fprintf(stderr, "fleetctl: the lock is lost: %s\n", error_text(&err, r));
                lock->lost = true;
        }
        return !lock->lost;
}

static bool lock_refresh_if_due(Lock *lock) {
        return now_ms() < lock_due_ms(lock) || lock_refresh(lock);
}

/* While the command runs, and what it has begun is to end (subprocess_run()). */
static uint64_t lock_on_tick(void *userdata, int *ret_signal) {
        Lock *lock = userdata;
        uint64_t now;

        if (!lock->lost && lock_refresh_if_due(lock)) {
                now = now_ms();
                return MAX(MIN(lock_due_ms(lock), lock_stop_ms(lock)), now + 1) - now;
        }
        now = now_ms();
        if (now >= lock_ends_ms(lock))
                *ret_signal = SIGKILL; /* again and again: a process may have been forked meanwhile */
        else if (!lock->stopped)
                *ret_signal = SIGTERM;
        lock->stopped = true;
        return now < lock_ends_ms(lock) ? lock_ends_ms(lock) - now : KILL_AGAIN_MS;
}

/* Has a signal come that ends fleetctl? Wait for one for at most 'wait_ms'. What fleetd is asked after that
 * gets little time. */
static bool lock_interrupted(Lock *lock, uint64_t wait_ms) {
        if (!lock->interrupted && subprocess_wait_signal(&lock->signals, wait_ms) != 0) {
                lock->interrupted = true;
                connection_limit(lock->client->connection, INTERRUPTED_MS);
        }
        return lock->interrupted;
}

static int lock_queue(Lock *lock) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text path = {}, form = {};
        char host[64] = "", holder[96];
        const JsonValue *node = NULL;
        uint64_t code = 0;
        Error err = {};
        int r;

        (void) gethostname(host, sizeof(host) - 1);
        snprintf(holder, sizeof(holder), "%s %ld", host, (long) getpid());
        kv_append_key(&path, lock->directory.chars);
        kv_add_field(&form, "value", holder);
        kv_add_number(&form, "ttl", lock->ttl);
        lock->refreshed_ms = lock->asked_ms = now_ms();
        r = kv_ask(lock->client, "POST", &path, &form, &root, &node, NULL, &code, &err);
        if (r < 0) {
                (void) client_fail(r, &err, "Error:  ");
                if (r == -EINTR || r == -ETIMEDOUT || r == -ECONNRESET)
                        fprintf(stderr,
                                "fleetctl: a place in the queue may be left; it ends by itself in %llu s\n",
                                (unsigned long long) lock->ttl);
                return EXIT_FAILED;
        }
        text_append(&lock->key, kv_text_of(node, "key"));
        r = lock->key.error;
        if (r >= 0 && lock->key.size == 0)
                r = error_set(&err, -EBADMSG, "fleetd's answer names no key");
        return r < 0 ? client_fail(r, &err, "%s", "") : EXIT_DONE;
}

/* 1: it is our turn; 0: 'before' is who holds it, or waits just before us, as of *ret_index; negative: it
 * cannot be told. */
static int lock_look(Lock *lock, Text *before, uint64_t *ret_index, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text path = {};
        const JsonValue *node = NULL, *nodes;
        uint64_t code = 0;
        bool seen = false;
        int r;

        text_clear(before);
        kv_append_key(&path, lock->directory.chars);
        text_append(&path, "?sorted=true&quorum=true");
        r = kv_ask(lock->client, "GET", &path, NULL, &root, &node, ret_index, &code, err);
        if (r < 0)
                return r;
        nodes = json_value_member(node, "nodes");
        for (size_t i = 0; i < json_value_count(nodes) && !seen; i++) {
                const char *key = kv_text_of(json_value_item(nodes, i), "key");

                seen = streq(key, lock->key.chars);
                if (!seen) {
                        text_clear(before);
                        text_append(before, key);
                }
        }
        if (!seen)
                return error_set(err, -ESTALE,
                                 "our place in the queue is gone: this machine was too slow for %llu s",
                                 (unsigned long long) lock->ttl);
        return before->error < 0 ? before->error : before->size == 0;
}

static int on_gone(void *userdata, const char *line, size_t size) {
        *(bool *) userdata = true;
        return 0;
}

/* Waits until something happens at 'before', or the wait ends by itself. False: we were interrupted, or lost
 * our place. */
static bool lock_wait(Lock *lock, const char *before, uint64_t index) {
        _cleanup_stream_ Stream *stream = NULL;
        _cleanup_text_ Text path = {};
        bool changed = false;
        Error err = {};
        int r;

        kv_append_key(&path, before);
        text_printf(&path, "?wait=true&waitIndex=%llu", (unsigned long long) index + 1);
        r = path.error < 0 ?
                    path.error :
                    stream_new(lock->client->connection, path.chars, on_gone, &changed, &stream, &err);
        while (r >= 0 && !changed) {
                r = stream_wait(stream, LOOK_MS, &err);
                if (lock_interrupted(lock, 0) || !lock_refresh_if_due(lock))
                        return false;
        }
        /* An answer that is an error, or none, is looked into by asking again; not at once. */
        return changed || r == -ENODATA || !lock_interrupted(lock, LOOK_MS);
}

static int lock_acquire(Lock *lock) {
        _cleanup_text_ Text before = {};
        uint64_t index = 0;
        bool goes_on = true;
        Error err = {};
        int r = 0;

        while (goes_on && !lock_interrupted(lock, 0) && (r = lock_look(lock, &before, &index, &err)) <= 0 &&
               r != -ESTALE) {
                if (r < 0)
                        goes_on = !lock_interrupted(lock, LOOK_MS) && lock_refresh_if_due(lock);
                else
                        goes_on = lock_wait(lock, before.chars, index);
        }
        if (r > 0) /* the answer may have been long on its way */
                return lock_refresh_if_due(lock) && !lock_interrupted(lock, 0) ? EXIT_DONE : EXIT_FAILED;
        if (r == -ESTALE)
                fprintf(stderr, "fleetctl: %s\n", err.message);
        return EXIT_FAILED;
}

static void lock_release(Lock *lock) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text path = {};
        const JsonValue *node;
        uint64_t code = 0;
        Error err = {};
        int r;

        kv_append_key(&path, lock->key.chars);
        r = kv_ask(lock->client, "DELETE", &path, NULL, &root, &node, NULL, &code, &err);
        if (r < 0 && code != CODE_NOT_FOUND)
                fprintf(stderr, "fleetctl: the lock ends by itself in %llu s: %s\n",
                        (unsigned long long) lock->ttl, error_text(&err, r));
}

int kv_lock(Client *c, char **args, size_t n) {
        Lock lock = { .client = c, .ttl = c->options.ttl_given ? c->options.ttl : TTL_S };
        sigset_t mask;
        int status;

        if (n < 2 || !*args[0])
                return kv_usage("kv lock takes a name and a command: fleetctl kv lock backup -- "
                                "/usr/bin/backup --all");
        if (lock.ttl < 3 || lock.ttl > TTL_MAX_S)
                return kv_usage("kv lock --ttl: expected 3 to 86400 seconds");
        subprocess_signals(&lock.signals);
        sigdelset(&lock.signals, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &lock.signals, &mask);
        connection_interrupt(c->connection, &lock.signals);
        text_printf(&lock.directory, "%s%s", args[0][0] == '/' ? "" : "/_lock/", args[0]);
        status = lock.directory.error < 0 ? client_fail(-ENOMEM, NULL, "%s", "") : lock_queue(&lock);
        if (status == EXIT_DONE) {
                status = lock_acquire(&lock);
                if (status == EXIT_DONE)
                        status = subprocess_run((const char *const *) args + 1, NULL, lock_on_tick, &lock,
                                                NULL);
                if (lock.lost)
                        status = EXIT_FAILED;
                else
                        lock_release(&lock);
        }
        (void) lock_interrupted(&lock, 0); /* a late one does not take the place of the exit status */
        connection_limit(c->connection, 0);
        connection_interrupt(c->connection, NULL);
        (void) sigprocmask(SIG_SETMASK, &mask, NULL);
        text_done(&lock.directory);
        text_done(&lock.key);
        return status;
}
