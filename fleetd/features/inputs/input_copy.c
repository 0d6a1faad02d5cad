#include "fleetd/features/inputs/input_copy.h"

#include <limits.h>

#include "units/inputs.h"

enum {
        INPUT_COPY_VERSION = 1,
        INPUT_COPY_ENVIRONMENT_MAX = 4 * INPUT_VARIABLES_SIZE_MAX, /* with quotes and escapes */
};

bool input_name_is_below(const char *name) {
        if (strlen(name) >= PATH_MAX)
                return false;
        for (size_t n;; name += n + 1) {
                n = strcspn(name, "/");
                if (n == 0 || n > INPUT_FILE_NAME_MAX ||
                    (*name == '.' && (n == 1 || (n == 2 && name[1] == '.'))))
                        return false;
                if (!name[n])
                        return true;
        }
}

static void copy_write_text(Writer *w, const char *s) {
        write_blob(w, s, strlen(s) + 1);
}

void input_copy_write(Writer *w, const InputFileSet *set) {
        uint32_t crc;
        size_t head;

        write_u8(w, INPUT_COPY_VERSION);
        head = w->size;
        write_u32(w, 0);
        write_u64(w, set->number);
        copy_write_text(w, set->digest);
        copy_write_text(w, set->environment);
        write_varint(w, set->n_credentials);
        for (size_t i = 0; i < set->n_credentials; i++)
                copy_write_text(w, set->credentials[i].name);
        write_varint(w, set->n_files);
        for (size_t i = 0; i < set->n_files; i++) {
                copy_write_text(w, set->files[i].name);
                write_blob(w, set->files[i].value, set->files[i].size);
        }
        if (w->error < 0)
                return;
        crc = htole32(crc32c(0, w->bytes + head + sizeof(crc), w->size - head - sizeof(crc)));
        memcpy(w->bytes + head, &crc, sizeof(crc));
}

/* Return a text of less than 'max' bytes, or "" with r->failed. */
static const char *copy_read_text(Reader *r, size_t max) {
        size_t size;
        const char *s = read_blob(r, max, &size);

        if (s && size > 0 && memchr(s, 0, size) == s + size - 1)
                return s;
        r->failed = true;
        return "";
}

/* Return a number of items, each of which takes at least two bytes. */
static size_t copy_read_count(Reader *r, size_t max) {
        uint64_t n = read_varint(r);

        if (n > max || n > r->left / 2)
                r->failed = true;
        return r->failed ? 0 : n;
}

static void copy_read_files(Reader *r, InputFile *files, size_t n) {
        for (size_t i = 0; i < n; i++) {
                files[i].name = copy_read_text(r, PATH_MAX);
                files[i].value = read_blob(r, INPUT_FILES_SIZE_MAX, &files[i].size);
                r->failed |= !input_name_is_below(files[i].name);
        }
}

int input_copy_read(const void *bytes, size_t size, InputFileSet *ret, InputFile **ret_items) {
        _cleanup_free_ InputFile *items = NEW0(InputFile, INPUT_SECRETS_MAX + INPUT_FILES_MAX);
        Reader r = reader_over(bytes, size);
        uint8_t version = read_u8(&r);
        uint32_t crc = read_u32(&r);
        InputFileSet set = {};

        if (!items)
                return -ENOMEM;
        if (r.failed || version != INPUT_COPY_VERSION || crc != crc32c(0, r.bytes, r.left))
                return -EBADMSG;
        set.number = read_u64(&r);
        set.digest = copy_read_text(&r, UNIT_HASH_SIZE);
        set.environment = copy_read_text(&r, INPUT_COPY_ENVIRONMENT_MAX);
        set.credentials = items;
        set.n_credentials = copy_read_count(&r, INPUT_SECRETS_MAX);
        for (size_t i = 0; i < set.n_credentials; i++) {
                items[i].name = copy_read_text(&r, SECRET_NAME_MAX + 1);
                r.failed |= !secret_name_is_valid(items[i].name);
        }
        set.files = items + set.n_credentials;
        set.n_files = copy_read_count(&r, INPUT_FILES_MAX);
        copy_read_files(&r, items + set.n_credentials, set.n_files);
        TRY(reader_end(&r));
        *ret = set;
        *ret_items = TAKE_PTR(items);
        return 0;
}
