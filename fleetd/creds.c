#include "fleetd/creds.h"

#include <sys/mman.h>

#include "io/child_uv.h"
#include "units/inputs.h"

enum {
        CREDS_MS = 20000, /* a TPM may need seconds */
        CREDS_MESSAGE_MAX = 4096,
};

static_assert((int) SEALER_MAX >= (int) SECRET_SIZE_MAX && (int) SEALER_NAME_MAX >= (int) SECRET_NAME_MAX,
              "each secret can be sealed");

typedef struct Creds {
        Sealer base;
        UvLoop *loop;
        Child *child;              /* NULL: no call is in flight */
        int input_fd, messages_fd; /* files in memory; -1: none */
        size_t input_size;
        Timer timeout;
        char *output; /* of a call, wiped after it; NULL: none */
        size_t size, capacity;
        bool too_large;
        SealerDone *done;
        void *userdata;
} Creds;

/* Return a file in memory, at its begin, or a negative errno. */
static int creds_memory_file(const void *bytes, size_t size) {
        _cleanup_close_ int fd = memfd_create("fleetd-creds", MFD_CLOEXEC);

        if (fd < 0)
                return -errno;
        TRY(write_all(fd, bytes, size));
        return lseek(fd, 0, SEEK_SET) < 0 ? -errno : TAKE_FD(fd);
}

/* The last line that the child has written for people, without the path of the program. */
static void creds_read_message(int fd, char *ret, size_t ret_size) {
        char text[CREDS_MESSAGE_MAX + 1];
        ssize_t n = pread(fd, text, CREDS_MESSAGE_MAX, 0);
        char *line;

        if (n < 0)
                n = 0;
        while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
                n--;
        text[n] = 0;
        line = strrchr(text, '\n');
        snprintf(ret, ret_size, "%s", line ? line + 1 : text);
        for (char *c = ret; *c; c++)
                if ((unsigned char) *c < ' ')
                        *c = ' ';
}

static void creds_wipe_input(Creds *c) {
        const char zeroes[256] = {};

        if (c->input_fd < 0)
                return;
        for (size_t at = 0; at < c->input_size; at += sizeof(zeroes))
                (void) pwrite_all(c->input_fd, zeroes, MIN(c->input_size - at, sizeof(zeroes)), at);
        close(c->input_fd);
        c->input_fd = -1;
}

static void creds_wipe_output(char *output, size_t capacity) {
        if (output)
                explicit_bzero(output, capacity);
        free(output);
}

static void creds_wipe(Creds *c) {
        timer_stop(&c->timeout);
        c->child = NULL;
        creds_wipe_input(c);
        if (c->messages_fd >= 0)
                close(c->messages_fd);
        c->messages_fd = -1;
        creds_wipe_output(c->output, c->capacity);
        c->output = NULL;
        c->size = 0;
        c->too_large = false;
}

/* End the call. The output is taken, because 'done' may begin the next one. */
static void creds_end(Creds *c, int error, const char *message) {
        char *output = TAKE_PTR(c->output);
        size_t size = c->size, capacity = c->capacity;

        creds_wipe(c);
        c->done(c->userdata, error, message, error < 0 ? NULL : output, error < 0 ? 0 : size);
        creds_wipe_output(output, capacity);
}

static void creds_on_output(void *userdata, const void *bytes, size_t size) {
        Creds *c = userdata;

        c->too_large |= size > c->capacity - c->size;
        if (c->too_large)
                return;
        memcpy(c->output + c->size, bytes, size);
        c->size += size;
}

static void creds_on_exit(void *userdata, int status) {
        char said[256] = "", message[sizeof(said) + 64];
        Creds *c = userdata;

        if (status == 0 && c->size > 0 && !c->too_large) {
                creds_end(c, 0, "");
                return;
        }
        if (status < 0) {
                snprintf(message, sizeof(message), "Failed to run systemd-creds: %s", strerror(-status));
                creds_end(c, status, message);
                return;
        }
        creds_read_message(c->messages_fd, said, sizeof(said));
        snprintf(message, sizeof(message), "systemd-creds: %s", said[0] ? said : "no message");
        creds_end(c, -EIO, message);
}

static const ChildEvents creds_events = { .on_output = creds_on_output, .on_exit = creds_on_exit };

static void creds_on_timeout(void *userdata) {
        Creds *c = userdata;

        c->child = child_kill(c->child);
        creds_end(c, -ETIMEDOUT, "systemd-creds did not end within 20 s");
}

static int creds_begin(Creds *c, const char *const argv[], const void *input, size_t size, Error *err) {
        int r;

        if (size > SEALER_MAX)
                return error_set(err, -EFBIG, "it is too large");
        /* Of a fixed size, so that no copy is left. What is sealed becomes base64: four bytes of three. */
        c->capacity = MAX((size_t) SEALED_MAX, 2 * size);
        c->output = malloc(c->capacity);
        if (!c->output)
                return error_set(err, -ENOMEM, "%s", strerror(ENOMEM));
        c->input_size = size;
        c->input_fd = creds_memory_file(input, size);
        c->messages_fd = c->input_fd < 0 ? c->input_fd : creds_memory_file("", 0);
        if (c->messages_fd < 0)
                return error_set(err, c->messages_fd, "Failed to create a file in memory: %s",
                                 strerror(-c->messages_fd));
        /* Without the cluster key this host is none of the cluster, and without a credential a unit does not
         * start: however busy it is, it gets them. */
        r = child_spawn(&c->child, loop_uv_base(c->loop), argv,
                        &(ChildOptions) { .class = CHILD_NEEDED,
                                          .files = &(ChildFiles) { .input_fd = c->input_fd,
                                                                   .messages_fd = c->messages_fd } },
                        &creds_events, c, err);
        return r < 0 ? r : timer_start(&c->timeout, loop_uv_base(c->loop), CREDS_MS);
}

static int creds_run(Sealer *s, const char *const argv[], const SealerCall *call, Error *err) {
        Creds *c = (Creds *) s;
        int r;

        assert(strlen(call->name) <= SEALER_NAME_MAX);
        c->done = call->done;
        c->userdata = call->userdata;
        r = creds_begin(c, argv, call->bytes, call->size, err);
        if (r < 0) {
                c->child = child_kill(c->child);
                creds_wipe(c);
        }
        return r;
}

static int creds_seal(Sealer *s, const SealerCall *call, Error *err) {
        char key[32], name[SEALER_NAME_MAX + 8];
        const char *const argv[] = { "systemd-creds", "encrypt", key, name, "-", "-", NULL };

        snprintf(key, sizeof(key), "--with-key=%s", seal_with_to_string(call->form));
        snprintf(name, sizeof(name), "--name=%s", call->name);
        return creds_run(s, argv, call, err);
}

static int creds_open(Sealer *s, const SealerCall *call, Error *err) {
        char name[SEALER_NAME_MAX + 8];
        const char *const argv[] = { "systemd-creds", "decrypt", name, "-", "-", NULL };

        snprintf(name, sizeof(name), "--name=%s", call->name);
        return creds_run(s, argv, call, err);
}

static void creds_cancel(Sealer *s) {
        Creds *c = (Creds *) s;

        c->child = child_kill(c->child);
        creds_wipe(c);
}

static const SealerOps creds_ops = { .seal = creds_seal, .open = creds_open, .cancel = creds_cancel };

int creds_new(Sealer **ret, UvLoop *loop) {
        Creds *c = NEW0(Creds, 1);

        if (!c)
                return -ENOMEM;
        *c = (Creds) {
                .base = { .ops = &creds_ops },
                .loop = loop,
                .input_fd = -1,
                .messages_fd = -1,
        };
        c->timeout = TIMER(creds_on_timeout, c);
        *ret = &c->base;
        return 0;
}

Sealer *creds_free(Sealer *s) {
        if (!s)
                return NULL;
        creds_cancel(s);
        free(s);
        return NULL;
}

/* -- Without a loop -- */

typedef struct Opened {
        UvLoop *loop;
        ClusterKey *key;
        Error *err;
        int error;
} Opened;

static void creds_on_opened(void *userdata, int error, const char *message, const void *bytes, size_t size) {
        Opened *o = userdata;

        o->error = error;
        if (error >= 0 && !cluster_key_parse(bytes, size, o->key->bytes)) {
                o->error = -EBADMSG;
                message = "its content is not a cluster key";
        }
        if (o->error < 0)
                (void) error_set(o->err, o->error, "%s", message);
        loop_uv_stop(o->loop);
}

int creds_open_file(const ClusterKeyFile *file, ClusterKey *ret, Error *err) {
        _cleanup_cluster_key_ ClusterKey key = { .number = file->key.number };
        Opened opened = { .key = &key, .err = err };
        char name[CLUSTER_KEY_SEALED_NAME];
        Sealer *sealer = NULL;
        int r;

        cluster_key_sealed_name(file->key.number, name);
        r = loop_uv_new(&opened.loop);
        if (r < 0)
                return error_set(err, r, "Failed to create the loop: %s", strerror(-r));
        r = creds_new(&sealer, opened.loop);
        if (r >= 0)
                r = creds_open(sealer,
                               &(SealerCall) { .name = name,
                                               .bytes = file->text + file->head_size,
                                               .size = file->size - file->head_size,
                                               .done = creds_on_opened,
                                               .userdata = &opened },
                               err);
        if (r >= 0)
                r = loop_uv_run(opened.loop);
        if (r >= 0)
                r = opened.error;
        (void) creds_free(sealer);
        (void) loop_uv_free(opened.loop);
        if (r < 0)
                return error_prefix(err, r, "Failed to open the sealed key.%llu",
                                    (unsigned long long) key.number);
        *ret = key;
        return 0;
}
