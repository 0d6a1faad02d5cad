#include "fleetd/features/inputs/content_bytes.h"

enum { INPUT_COPY_VERSION = 1, INPUT_COPY_HEAD = 5 /* version and CRC */ };

static bool variable_name_is_valid(const char *name) {
        return *name && !(*name >= '0' && *name <= '9') &&
               name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] == 0;
}

/* Reserve what the content needs, as content_write() writes it, and 'more' bytes. */
static void content_reserve(const Content *c, size_t more, Writer *w) {
        enum { NUMBERS = 20 }; /* bytes of two sizes */
        size_t size = more + sizeof(c->digest) + CONTENT_LISTS * NUMBERS;

        for (size_t l = 0; l < CONTENT_LISTS; l++)
                for (size_t i = 0; i < c->n[l]; i++)
                        size += strlen(c->lists[l][i].name) + c->lists[l][i].size + NUMBERS;
        (void) text_reserve(w, size);
}

static void content_write(const Content *c, bool secrets, Writer *w) {
        write_string(w, c->digest);
        for (size_t l = 0; l < CONTENT_LISTS; l++) {
                write_varint(w, c->n[l]);
                for (size_t i = 0; i < c->n[l]; i++) {
                        const ContentItem *item = &c->lists[l][i];

                        write_string(w, item->name);
                        write_blob(w, item->value, l == 0 && !secrets ? 0 : item->size);
                }
        }
}

static int content_read_list(Reader *r, size_t l, Content *ret) {
        static bool (*const is_valid[CONTENT_LISTS])(
                const char *name) = { secret_name_is_valid, variable_name_is_valid, input_file_is_valid };
        uint64_t n = read_varint(r);

        if (n > r->left || n > INPUT_FILES_MAX)
                return -EBADMSG;
        ret->lists[l] = NEW0(ContentItem, n + 1);
        if (!ret->lists[l])
                return -ENOMEM;
        while (ret->n[l] < n) {
                ContentItem *item = &ret->lists[l][ret->n[l]++];

                item->name = read_string(r, INPUT_FILE_PATH_MAX);
                item->value = read_blob(r, INPUT_FILES_SIZE_MAX, &item->size);
                if (r->failed || !is_valid[l](item->name))
                        return -EBADMSG;
        }
        return 0;
}

/* Read all that is left. The caller calls content_done(), also after a failure. */
static int content_read(Reader *r, Content *ret) {
        _cleanup_free_ char *digest = read_string(r, sizeof(ret->digest) - 1);

        snprintf(ret->digest, sizeof(ret->digest), "%s", digest ?: "");
        for (size_t l = 0; l < CONTENT_LISTS; l++)
                TRY(content_read_list(r, l, ret));
        return reader_end(r);
}

/* -- Answers -- */

void inputs_answer_write(InputsStatus status, const Resolved *resolved, Writer *w) {
        _cleanup_text_ Text problem = {};

        if (status == INPUTS_RESOLVED)
                content_reserve(&resolved->content, 2 * VERDICT_ARGS_SIZE, w);
        write_u8(w, status);
        if (status != INPUTS_RESOLVED)
                return;
        verdict_append_code(&problem, &resolved->content.problem);
        write_u64(w, resolved->index);
        write_string(w, text_chars(&problem));
        content_write(&resolved->content, true, w);
        w->error = MIN(w->error, problem.error);
}

int inputs_answer_read(const void *bytes, size_t size, InputsStatus *ret_status, Resolved *ret) {
        _cleanup_free_ char *problem = NULL;
        Reader r = reader_over(bytes, size);
        uint8_t status = read_u8(&r);
        int e;

        *ret = (Resolved) {};
        if (r.failed || status >= _INPUTS_STATUS_MAX)
                return -EBADMSG;
        *ret_status = status;
        if (status != INPUTS_RESOLVED)
                return reader_end(&r);
        ret->index = read_u64(&r);
        problem = read_string(&r, 2 * VERDICT_ARGS_SIZE);
        e = content_read(&r, &ret->content);
        if (e < 0)
                content_done(&ret->content);
        else
                verdict_set_code(&ret->content.problem, problem);
        return e;
}

/* -- Copies -- */

void input_copy_write(const InputCopy *copy, Writer *w) {
        uint32_t crc = 0;

        write_u8(w, INPUT_COPY_VERSION);
        write_u32(w, crc);
        write_u64(w, copy->number);
        write_u64(w, copy->version);
        content_write(&copy->content, false, w);
        if (w->error < 0)
                return;
        crc = htole32(crc32c(0, w->bytes + INPUT_COPY_HEAD, w->size - INPUT_COPY_HEAD));
        memcpy(w->bytes + 1, &crc, sizeof(crc));
}

int input_copy_read(const void *bytes, size_t size, InputCopy *ret) {
        Reader r = reader_over(bytes, size);
        uint8_t version = read_u8(&r);
        uint32_t crc = read_u32(&r);
        int e;

        *ret = (InputCopy) {};
        if (r.failed || version != INPUT_COPY_VERSION || crc != crc32c(0, r.bytes, r.left))
                return -EBADMSG;
        ret->number = read_u64(&r);
        ret->version = read_u64(&r);
        e = content_read(&r, &ret->content);
        if (e < 0)
                content_done(&ret->content);
        return e;
}
