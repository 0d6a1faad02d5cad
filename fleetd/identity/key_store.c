#include "fleetd/identity/key_store.h"

#include <sys/mman.h>

#include "base/log.h"

enum {
        KEY_STORE_SLOTS = 16,       /* a host has one key, and two while the key is replaced */
        KEY_STORE_RETRY_MS = 60000, /* after a failure */
};

typedef enum KeyState {
        KEY_NONE,
        KEY_SEALED, /* the file is to be opened */
        KEY_OPEN,   /* 'key' is that of the file */
        KEY_NEW,    /* 'key' is not on disk yet */
} KeyState;

typedef struct KeySlot {
        KeyState state;
        ClusterKey key;  /* of KEY_SEALED its number only */
        FileStamp stamp; /* of the file; not of KEY_NEW */
        bool rewrite;    /* of KEY_OPEN: the file has another form */
        bool failed;     /* the last attempt */
        uint64_t retry_ms;
        char message[ERROR_MESSAGE_MAX + 1];
} KeySlot;

/* In a mapping of its own, which is locked, and in no core file. */
struct KeyStore {
        KeySlot slots[KEY_STORE_SLOTS];
        Loop *loop;
        Sealer *sealer;
        SealWith form;
        void (*changed)(void *userdata);
        void *userdata;
        KeySlot *busy;               /* of the call in flight; NULL: none */
        Text sealed;                 /* of 'busy': it is opened again for comparison */
        const char *state_directory; /* borrowed */
};

static void key_store_next(KeyStore *s);

static KeySlot *key_store_find(KeyStore *s, uint64_t number) {
        for (size_t i = 0; i < KEY_STORE_SLOTS; i++)
                if (s->slots[i].state != KEY_NONE && s->slots[i].key.number == number)
                        return &s->slots[i];
        return NULL;
}

static void key_store_end_call(KeyStore *s) {
        s->busy = NULL;
        text_done(&s->sealed);
        s->sealed = (Text) {};
}

static void key_store_drop(KeyStore *s, KeySlot *slot) {
        if (s->busy == slot) {
                s->sealer->ops->cancel(s->sealer);
                key_store_end_call(s);
        }
        explicit_bzero(slot, sizeof(*slot));
}

/* Return a slot in use that can end: its file can be opened again, or it failed, the longest ago, and is
 * read, or received, again. NULL: none. */
static KeySlot *key_store_spare(KeyStore *s) {
        KeySlot *failed = NULL;

        for (size_t i = 0; i < KEY_STORE_SLOTS; i++) {
                KeySlot *slot = &s->slots[i];

                if (s->busy == slot)
                        continue;
                if (slot->state == KEY_OPEN)
                        return slot;
                if (slot->failed && (!failed || slot->retry_ms < failed->retry_ms))
                        failed = slot;
        }
        return failed;
}

/* Return a slot for the key, without content; NULL: all are at work. */
static KeySlot *key_store_take(KeyStore *s, uint64_t number) {
        KeySlot *slot = key_store_find(s, number);

        for (size_t i = 0; !slot && i < KEY_STORE_SLOTS; i++)
                if (s->slots[i].state == KEY_NONE)
                        slot = &s->slots[i];
        if (!slot)
                slot = key_store_spare(s);
        if (slot) {
                key_store_drop(s, slot);
                slot->key.number = number;
        }
        return slot;
}

static bool key_store_is_equal(const FileStamp *a, const FileStamp *b) {
        return memcmp(a, b, sizeof(*a)) == 0;
}

/* -- Sealing and opening -- */

static void key_store_fail(KeyStore *s, KeySlot *slot, int error, const char *action, const char *message) {
        char former[sizeof(slot->message)];

        memcpy(former, slot->message, sizeof(former));
        slot->failed = true;
        slot->retry_ms = loop_now_ms(s->loop) + KEY_STORE_RETRY_MS;
        snprintf(slot->message, sizeof(slot->message),
                 "Failed to %s %s/secrets/key.%llu: %s; the next step is in fleet-security(7), SEALED "
                 "CLUSTER KEY",
                 action, s->state_directory, (unsigned long long) slot->key.number, message);
        if (!same_string(former, slot->message))
                log_warning(((LogFields) { .error = error }), "%s", slot->message);
}

/* End the call of a slot, with a message after a failure. */
static void key_store_end(KeyStore *s, int error, const char *action, const char *message) {
        KeySlot *slot = s->busy;

        if (error < 0)
                key_store_fail(s, slot, error, action, message);
        key_store_end_call(s);
        key_store_next(s);
        s->changed(s->userdata);
}

/* Whether the file is the one that was opened: a person may have replaced it meanwhile. */
static bool key_store_is_unchanged(const KeyStore *s, const KeySlot *slot) {
        FileStamp now = {};

        return slot->state == KEY_NEW ||
               (cluster_key_stamp(s->state_directory, slot->key.number, &now, NULL) >= 0 &&
                key_store_is_equal(&now, &slot->stamp));
}

/* Write the key of the slot in the form of the store, sealed if it has one. */
static int key_store_write_file(KeyStore *s, KeySlot *slot, Error *err) {
        TRY(s->form == SEAL_WITH_NO ? cluster_key_write(s->state_directory, &slot->key, err) :
                                      cluster_key_write_sealed(s->state_directory, slot->key.number, s->form,
                                                               s->sealed.bytes, s->sealed.size, err));
        TRY(cluster_key_stamp(s->state_directory, slot->key.number, &slot->stamp, err));
        log_info(NO_FIELDS, "cluster key %llu is on disk: SealWith=%s", (unsigned long long) slot->key.number,
                 seal_with_to_string(s->form));
        slot->state = KEY_OPEN;
        slot->rewrite = false;
        slot->failed = false;
        return 0;
}

static void key_store_on_compared(void *userdata, int error, const char *message, const void *bytes,
                                  size_t size) {
        KeyStore *s = userdata;
        KeySlot *slot = s->busy;
        _cleanup_cluster_key_ ClusterKey key = {};
        Error err = {};
        int r = error;

        if (r >= 0 && (!cluster_key_parse(bytes, size, key.bytes) ||
                       memcmp(key.bytes, slot->key.bytes, sizeof(key.bytes)) != 0))
                r = error_set(&err, -EBADMSG, "what was sealed does not open again");
        if (r >= 0 && !key_store_is_unchanged(s, slot))
                key_store_drop(s, slot);
        else if (r >= 0)
                r = key_store_write_file(s, slot, &err);
        if (!s->busy) { /* dropped: the next reader opens the file */
                key_store_next(s);
                s->changed(s->userdata);
                return;
        }
        key_store_end(s, r, "seal", error < 0 ? message : error_text(&err, r));
}

static void key_store_on_sealed(void *userdata, int error, const char *message, const void *bytes,
                                size_t size) {
        KeyStore *s = userdata;
        char name[CLUSTER_KEY_SEALED_NAME];
        Error err = {};
        int r = error;

        if (r >= 0 && size > SEALED_MAX)
                r = error_set(&err, -EFBIG, "the sealed key is too large");
        if (r >= 0) {
                text_append_bytes(&s->sealed, bytes, size);
                cluster_key_sealed_name(s->busy->key.number, name);
                r = s->sealed.error ?:
                                      s->sealer->ops->open(s->sealer,
                                                           &(SealerCall) { .name = name,
                                                                           .bytes = s->sealed.bytes,
                                                                           .size = s->sealed.size,
                                                                           .done = key_store_on_compared,
                                                                           .userdata = s },
                                                           &err);
        }
        if (r < 0)
                key_store_end(s, r, "seal", error < 0 ? message : error_text(&err, r));
}

static void key_store_on_opened(void *userdata, int error, const char *message, const void *bytes,
                                size_t size) {
        KeyStore *s = userdata;
        KeySlot *slot = s->busy;

        if (error >= 0 && !cluster_key_parse(bytes, size, slot->key.bytes)) {
                error = -EBADMSG;
                message = "its content is not a cluster key";
        }
        if (error >= 0) {
                slot->state = KEY_OPEN;
                slot->failed = false;
                slot->message[0] = 0;
        }
        key_store_end(s, error, "open the sealed", message);
}

static int key_store_begin_seal(KeyStore *s, KeySlot *slot, Error *err) {
        char name[CLUSTER_KEY_SEALED_NAME], text[CLUSTER_KEY_TEXT + 1];
        int r;

        cluster_key_sealed_name(slot->key.number, name);
        cluster_key_print(&slot->key, text);
        r = s->sealer->ops->seal(s->sealer,
                                 &(SealerCall) { .form = s->form,
                                                 .name = name,
                                                 .bytes = text,
                                                 .size = CLUSTER_KEY_TEXT,
                                                 .done = key_store_on_sealed,
                                                 .userdata = s },
                                 err);
        explicit_bzero(text, sizeof(text));
        return r;
}

static int key_store_begin_open(KeyStore *s, KeySlot *slot, Error *err) {
        _cleanup_cluster_key_file_ ClusterKeyFile file = {};
        char name[CLUSTER_KEY_SEALED_NAME];

        TRY(cluster_key_file_read(s->state_directory, slot->key.number, &file, err));
        if (file.form == SEAL_WITH_NO || !key_store_is_equal(&file.stamp, &slot->stamp))
                return error_set(err, -EAGAIN, "it has changed meanwhile");
        cluster_key_sealed_name(slot->key.number, name);
        return s->sealer->ops->open(s->sealer,
                                    &(SealerCall) { .name = name,
                                                    .bytes = file.text + file.head_size,
                                                    .size = file.size - file.head_size,
                                                    .done = key_store_on_opened,
                                                    .userdata = s },
                                    err);
}

/* Return whether a call for this slot is in flight now. */
static bool key_store_begin(KeyStore *s, KeySlot *slot) {
        Error err = {};
        int r;

        if (slot->state == KEY_NONE || (slot->state == KEY_OPEN && !slot->rewrite) ||
            (slot->failed && loop_now_ms(s->loop) < slot->retry_ms))
                return false;
        if (slot->state == KEY_SEALED)
                r = key_store_begin_open(s, slot, &err);
        else if (s->form != SEAL_WITH_NO)
                r = key_store_begin_seal(s, slot, &err);
        else if (!key_store_is_unchanged(s, slot)) {
                key_store_drop(s, slot); /* the next reader opens the file */
                return false;
        } else {
                r = key_store_write_file(s, slot, &err);
                if (r >= 0)
                        return false;
        }
        if (r < 0)
                key_store_fail(s, slot, r, slot->state == KEY_SEALED ? "open the sealed" : "write",
                               error_text(&err, r));
        return r >= 0;
}

static void key_store_next(KeyStore *s) {
        for (size_t i = 0; i < KEY_STORE_SLOTS && !s->busy; i++)
                if (key_store_begin(s, &s->slots[i]))
                        s->busy = &s->slots[i];
}

/* -- Keys -- */

/* Read a file that the store does not know, or that has changed. */
static int key_store_load(KeyStore *s, uint64_t number, ClusterKey *ret, Error *err) {
        _cleanup_cluster_key_file_ ClusterKeyFile file = {};
        KeySlot *slot;

        TRY(cluster_key_file_read(s->state_directory, number, &file, err));
        if (file.form == SEAL_WITH_NO)
                *ret = file.key;
        if (file.form == SEAL_WITH_NO && s->form == SEAL_WITH_NO)
                return 0;
        if (!s->sealer)
                return error_set(err, -ENOKEY, "%s/secrets/key.%llu is sealed", s->state_directory,
                                 (unsigned long long) number);
        slot = key_store_take(s, number);
        if (!slot)
                return error_set(err, -ENOSPC, "%s/secrets has more than %d files of keys",
                                 s->state_directory, KEY_STORE_SLOTS);
        slot->key = file.key;
        slot->stamp = file.stamp;
        slot->state = file.form == SEAL_WITH_NO ? KEY_OPEN : KEY_SEALED;
        slot->rewrite = file.form != s->form;
        key_store_next(s);
        return file.form == SEAL_WITH_NO ? 0 : error_set(err, -EAGAIN, "the cluster key is being opened");
}

int key_store_read(KeyStore *s, uint64_t number, ClusterKey *ret, Error *err) {
        KeySlot *slot = key_store_find(s, number);
        FileStamp now = {};
        int r;

        if (slot && slot->state != KEY_NEW) {
                r = cluster_key_stamp(s->state_directory, number, &now, err);
                if (r < 0 || !key_store_is_equal(&now, &slot->stamp)) {
                        key_store_drop(s, slot);
                        slot = NULL;
                }
        }
        if (!slot)
                return key_store_load(s, number, ret, err);
        key_store_next(s);
        if (slot->state == KEY_OPEN) {
                *ret = slot->key;
                return 0;
        }
        if (slot->failed && s->busy != slot)
                return error_set(err, -ENOKEY, "%s", slot->message);
        return error_set(err, -EAGAIN, "the cluster key is being %s",
                         slot->state == KEY_NEW ? "sealed" : "opened");
}

int key_store_write(KeyStore *s, const ClusterKey *key, Error *err) {
        KeySlot *slot = key_store_find(s, key->number);

        if (s->form == SEAL_WITH_NO) {
                if (slot)
                        key_store_drop(s, slot);
                return cluster_key_write(s->state_directory, key, err);
        }
        if (!slot || slot->state != KEY_NEW || memcmp(&slot->key, key, sizeof(*key)) != 0) {
                slot = key_store_take(s, key->number);
                if (!slot)
                        return error_set(err, -ENOSPC, "more than %d cluster keys at once", KEY_STORE_SLOTS);
                slot->key = *key;
                slot->state = KEY_NEW;
        }
        key_store_next(s);
        if (slot->failed && s->busy != slot)
                return error_set(err, -ENOKEY, "%s", slot->message);
        return error_set(err, -EAGAIN, "the cluster key is being sealed");
}

uint64_t key_store_unsealed(const KeyStore *s, bool *ret_on_disk) {
        for (size_t i = 0; s->form != SEAL_WITH_NO && i < KEY_STORE_SLOTS; i++) {
                const KeySlot *slot = &s->slots[i];

                if (!slot->failed || !(slot->state == KEY_NEW || (slot->state == KEY_OPEN && slot->rewrite)))
                        continue;
                *ret_on_disk = slot->state == KEY_OPEN;
                return slot->key.number;
        }
        return 0;
}

int key_store_delete_below(KeyStore *s, uint64_t first, Error *err) {
        for (size_t i = 0; i < KEY_STORE_SLOTS; i++)
                if (s->slots[i].key.number < first)
                        key_store_drop(s, &s->slots[i]);
        return cluster_key_delete_below(s->state_directory, first, err);
}

/* -- Lifetime -- */

int key_store_new(KeyStore **ret, const ComponentHost *host, void (*changed)(void *userdata),
                  void *userdata) {
        KeyStore *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        _cleanup_free_ uint64_t *numbers = NULL;
        size_t n = 0;

        if (s == MAP_FAILED)
                return -ENOMEM;
        /* Without these, the keys are as safe as other memory of this process. */
        (void) mlock(s, sizeof(*s));
        (void) madvise(s, sizeof(*s), MADV_DONTDUMP);
        s->loop = host->io.loop;
        s->sealer = host->io.sealer;
        s->form = s->sealer ? host->settings->seal_with : SEAL_WITH_NO;
        s->state_directory = host->settings->state_directory;
        s->changed = changed;
        s->userdata = userdata;
        *ret = s;
        /* A failure is reported by those who need the key. */
        (void) cluster_key_list(s->state_directory, &numbers, &n, NULL);
        for (size_t i = n > KEY_STORE_SLOTS ? n - KEY_STORE_SLOTS : 0; s->sealer && i < n; i++) {
                _cleanup_cluster_key_ ClusterKey key = {};

                (void) key_store_read(s, numbers[i], &key, NULL);
        }
        return 0;
}

KeyStore *key_store_free(KeyStore *s) {
        if (!s)
                return NULL;
        for (size_t i = 0; i < KEY_STORE_SLOTS; i++)
                key_store_drop(s, &s->slots[i]);
        explicit_bzero(s, sizeof(*s));
        (void) munmap(s, sizeof(*s));
        return NULL;
}
