/* kv lock: one holder at a time. A client adds an in-order key below the directory of the lock, waits until
 * the key before its own is removed, and runs the command. Meanwhile it refreshes its key.
 *
 * Signals that end fleetctl are blocked while its key exists: an interrupt leaves no key, unless the answer
 * with the name of the key was lost.
 *
 * The key expires one TTL after the last successful refresh was sent; then the next client may start. By then
 * the command and its descendants have ended: they get SIGTERM one sixth of the TTL before the expiry, and
 * SIGKILL at the expiry. All requests end before the SIGTERM. */
#include <limits.h>
#include "base/clock.h"
#include "client/verbs/kv.h"
#include "client/core/subprocess.h"

enum {
        TTL_S = 30,
        TTL_MAX_S = 86400,
        LOCK_REFRESH_MS = 1000,
        LOCK_INTERRUPTED_MS = 3000,
        KILL_AGAIN_MS = 100,
        CODE_NOT_FOUND = 100
};

/* -- The lock -- */

typedef struct Lock {
        Client *client;
        Text directory, key;   /* of the lock, and of this client below it */
        uint64_t ttl;          /* s */
        uint64_t refreshed_ms; /* when the last successful refresh was sent */
        uint64_t asked_ms;     /* when the last refresh was sent */
        bool lost;
        sigset_t signals; /* those that end fleetctl */
        bool interrupted; /* one of them arrived before the command started */
        bool stopped;     /* the command got SIGTERM for a lost lock */
} Lock;

static uint64_t lock_ends_ms(const Lock *lock) {
        return lock->refreshed_ms + lock->ttl * 1000;
}

/* Return when the command gets SIGTERM, to end before the lock. */
static uint64_t lock_stop_ms(const Lock *lock) {
        return lock_ends_ms(lock) - lock->ttl * 1000 / 6;
}

/* Return when the next refresh is due: a third of the TTL after a success, a sixth after a failure. */
static uint64_t lock_due_ms(const Lock *lock) {
        return MAX(lock->refreshed_ms + lock->ttl * 1000 / 3, lock->asked_ms + lock->ttl * 1000 / 6);
}

/* Refresh the key. Return false if the lock, or the place in the queue, is lost. */
static bool lock_refresh(Lock *lock) {
        _cleanup_kv_request_ KvRequest request = { .method = "PUT" };
        Error err = {};
        int r;

        lock->asked_ms = clock_boot_ms();
        if (lock->asked_ms >= lock_stop_ms(lock)) {
                if (!lock->lost)
                        client_note("lock lost: not refreshed for %llu s",
                                    (unsigned long long) (lock->asked_ms - lock->refreshed_ms) / 1000);
                lock->lost = true;
                return false;
        }
        kv_append_key(&request.path, lock->key.chars);
        kv_add_field(&request.form, "refresh", "true");
        kv_add_field(&request.form, "prevExist", "true");
        kv_add_number(&request.form, "ttl", lock->ttl);
        connection_limit(lock->client->connection, lock_stop_ms(lock) - lock->asked_ms);
        r = kv_send(lock->client, &request, &err);
        connection_limit(lock->client->connection, 0);
        if (r == 0)
                lock->refreshed_ms = lock->asked_ms;
        else if ((r == -EREMOTEIO && request.code == CODE_NOT_FOUND) ||
                 clock_boot_ms() >= lock_stop_ms(lock)) {
                client_note("lock lost: %s", error_text(&err, r));
                lock->lost = true;
        }
        return !lock->lost;
}

static bool lock_refresh_if_due(Lock *lock) {
        return clock_boot_ms() < lock_due_ms(lock) || lock_refresh(lock);
}

/* The tick of subprocess_run(): refresh the lock, or stop the command and its descendants. */
static uint64_t lock_on_tick(void *userdata, int *ret_signal) {
        Lock *lock = userdata;
        uint64_t now;

        if (!lock->lost && lock_refresh_if_due(lock)) {
                now = clock_boot_ms();
                return MAX(MIN(lock_due_ms(lock), lock_stop_ms(lock)), now + 1) - now;
        }
        now = clock_boot_ms();
        if (now >= lock_ends_ms(lock))
                *ret_signal = SIGKILL; /* repeated: a process may have been forked meanwhile */
        else if (!lock->stopped)
                *ret_signal = SIGTERM;
        lock->stopped = true;
        return now < lock_ends_ms(lock) ? lock_ends_ms(lock) - now : KILL_AGAIN_MS;
}

/* Wait for a signal that ends fleetctl for at most 'wait_ms'. Return whether one has arrived. Later requests
 * have a short timeout. */
static bool lock_interrupted(Lock *lock, uint64_t wait_ms) {
        if (!lock->interrupted && subprocess_wait_signal(&lock->signals, wait_ms) != 0) {
                lock->interrupted = true;
                connection_limit(lock->client->connection, LOCK_INTERRUPTED_MS);
        }
        return lock->interrupted;
}

static int lock_queue(Lock *lock) {
        _cleanup_kv_request_ KvRequest request = { .method = "POST" };
        char host[HOST_NAME_MAX] = "", holder[HOST_NAME_MAX + 32];
        Error err = {};
        int r;

        (void) gethostname(host, sizeof(host) - 1);
        snprintf(holder, sizeof(holder), "%s %ld", host, (long) getpid());
        kv_append_key(&request.path, lock->directory.chars);
        kv_add_field(&request.form, "value", holder);
        kv_add_number(&request.form, "ttl", lock->ttl);
        lock->refreshed_ms = lock->asked_ms = clock_boot_ms();
        r = kv_send(lock->client, &request, &err);
        if (r < 0) {
                (void) client_fail_after(r, &err, "Error:  ");
                if (r == -EINTR || r == -ETIMEDOUT || r == -ECONNRESET)
                        client_note("a key may remain in the queue; it expires in %llu s",
                                    (unsigned long long) lock->ttl);
                return EXIT_FAILED;
        }
        text_append(&lock->key, member_text(request.node, "key"));
        if (lock->key.error < 0)
                return client_fail(lock->key.error, NULL);
        if (lock->key.size == 0)
                return client_fail(error_set(&err, -EBADMSG, "fleetd's answer contains no key"), &err);
        return EXIT_DONE;
}

/* Read the queue. Return 1 if the own key is the first, or 0 and in 'before' the key before it, as of
 * *ret_index. */
static int lock_read_queue(Lock *lock, Text *before, uint64_t *ret_index, Error *err) {
        _cleanup_kv_request_ KvRequest request = { .method = "GET" };
        const JsonValue *nodes;
        bool seen = false;
        int r;

        text_clear(before);
        kv_append_key(&request.path, lock->directory.chars);
        text_append(&request.path, "?sorted=true&quorum=true");
        r = kv_send(lock->client, &request, err);
        *ret_index = request.index;
        if (r < 0)
                return r;
        nodes = json_value_member(request.node, "nodes");
        for (size_t i = 0; i < json_value_count(nodes) && !seen; i++) {
                const char *key = member_text(json_value_item(nodes, i), "key");

                seen = streq(key, lock->key.chars);
                if (!seen) {
                        text_clear(before);
                        text_append(before, key);
                }
        }
        if (!seen)
                return error_set(err, -ESTALE,
                                 "the key of this command has expired: not refreshed within %llu s",
                                 (unsigned long long) lock->ttl);
        return before->error < 0 ? before->error : before->size == 0;
}

static int on_gone(void *userdata, const char *line, size_t size) {
        *(bool *) userdata = true;
        return 0;
}

/* Wait for a change of the key 'before', or the end of the watch. Return false after an interrupt, or if the
 * place in the queue is lost. */
static bool lock_wait(Lock *lock, const char *before, uint64_t index) {
        _cleanup_stream_ Stream *stream = NULL;
        _cleanup_text_ Text path = {};
        bool changed = false;
        Error err = {};
        int r;

        kv_append_key(&path, before);
        text_printf(&path, "?wait=true&waitIndex=%llu", (unsigned long long) index + 1);
        r = stream_new(lock->client->connection, "GET", client_path(&path), on_gone, &changed, &stream, &err);
        while (r >= 0 && !changed) {
                r = stream_wait(stream, LOCK_REFRESH_MS, &err);
                if (lock_interrupted(lock, 0) || !lock_refresh_if_due(lock))
                        return false;
        }
        /* After an error, read the queue again, but not at once. */
        return changed || r == -ENODATA || !lock_interrupted(lock, LOCK_REFRESH_MS);
}

static int lock_acquire(Lock *lock) {
        _cleanup_text_ Text before = {};
        uint64_t index = 0;
        bool waiting = true;
        Error err = {};
        int r = 0;

        while (waiting && !lock_interrupted(lock, 0) &&
               (r = lock_read_queue(lock, &before, &index, &err)) <= 0 && r != -ESTALE) {
                if (r < 0)
                        waiting = !lock_interrupted(lock, LOCK_REFRESH_MS) && lock_refresh_if_due(lock);
                else
                        waiting = lock_wait(lock, before.chars, index);
        }
        if (r > 0) /* the answer may have been delayed */
                return lock_refresh_if_due(lock) && !lock_interrupted(lock, 0) ? EXIT_DONE : EXIT_FAILED;
        if (r == -ESTALE)
                (void) client_fail(r, &err);
        return EXIT_FAILED;
}

static void lock_release(Lock *lock) {
        _cleanup_kv_request_ KvRequest request = { .method = "DELETE" };
        Error err = {};
        int r;

        kv_append_key(&request.path, lock->key.chars);
        r = kv_send(lock->client, &request, &err);
        if (r < 0 && request.code != CODE_NOT_FOUND)
                client_note("Failed to release the lock, it expires in %llu s: %s",
                            (unsigned long long) lock->ttl, error_text(&err, r));
}

static int kv_lock(Client *c, char **args, size_t n, Error *err) {
        Lock lock = { .client = c, .ttl = c->options.ttl_given ? c->options.ttl : TTL_S };
        sigset_t mask;
        int status;

        if (n < 2 || !*args[0])
                return client_usage("kv lock: expected a name and a command: fleetctl kv lock backup -- "
                                    "/usr/bin/backup --all");
        if (lock.ttl < 3 || lock.ttl > TTL_MAX_S)
                return client_usage("kv lock --ttl: expected 3 to 86400 seconds");
        subprocess_signals(&lock.signals);
        sigdelset(&lock.signals, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &lock.signals, &mask);
        connection_interrupt(c->connection, &lock.signals);
        text_printf(&lock.directory, "%s%s", args[0][0] == '/' ? "" : "/_lock/", args[0]);
        status = lock.directory.error < 0 ? -ENOMEM : lock_queue(&lock);
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
        (void) lock_interrupted(&lock, 0); /* a late signal must not replace the exit status */
        connection_limit(c->connection, 0);
        connection_interrupt(c->connection, NULL);
        (void) sigprocmask(SIG_SETMASK, &mask, NULL);
        text_done(&lock.directory);
        text_done(&lock.key);
        return status;
}

VERB(kv_lock, "lock", "kv", "NAME -- CMD...", "Run a command at most once at a time in the cluster", NULL,
     kv_lock);
