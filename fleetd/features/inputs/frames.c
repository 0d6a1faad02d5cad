#include "fleetd/features/inputs/frames.h"

enum { INPUTS_FRAMES_VERSION = 1, ANSWER_DIGEST_MAX = UNIT_HASH_SIZE - 1, ANSWER_ITEM_HEAD = 8 };

/* -- Requests -- */

void inputs_request_write(const InputsRequest *request, Writer *w) {
        write_u8(w, INPUTS_FRAMES_VERSION);
        write_u32(w, request->number);
        write_string(w, request->unit);
        write_string(w, request->hash);
        write_u64(w, request->index);
}

int inputs_request_read(const void *bytes, size_t size, InputsRequest *ret) {
        Reader r = reader_over(bytes, size);
        uint8_t version = read_u8(&r);

        *ret = (InputsRequest) { .number = read_u32(&r) };
        ret->unit = read_string(&r, UNIT_NAME_MAX);
        ret->hash = read_string(&r, ANSWER_DIGEST_MAX);
        ret->index = read_u64(&r);
        return version == INPUTS_FRAMES_VERSION ? reader_end(&r) : -EBADMSG;
}

void inputs_request_done(InputsRequest *request) {
        free(request->unit);
        free(request->hash);
        *request = (InputsRequest) {};
}

/* -- Parts -- */

void inputs_part_write(const InputsPart *part, Writer *w) {
        write_u8(w, INPUTS_FRAMES_VERSION);
        write_u32(w, part->number);
        write_u32(w, part->left);
        write_raw(w, part->bytes.data, part->bytes.size);
}

int inputs_part_read(const void *bytes, size_t size, InputsPart *ret) {
        Reader r = reader_over(bytes, size);
        uint8_t version = read_u8(&r);

        *ret = (InputsPart) { .number = read_u32(&r), .left = read_u32(&r) };
        ret->bytes = (KvBytes) { r.bytes, r.left };
        return version == INPUTS_FRAMES_VERSION && !r.failed && r.left > 0 && r.left <= INPUTS_PART_MAX ?
                       0 :
                       -EBADMSG;
}

/* -- Answers -- */

static bool answer_credential_is_valid(const char *name) {
        return *name && !strchr(name, '/') && !streq(name, ".") && !streq(name, "..");
}

static bool answer_variable_is_valid(const char *name) {
        return *name && !(*name >= '0' && *name <= '9') &&
               name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] == 0;
}

static bool answer_file_is_valid(const char *name) {
        for (;;) {
                size_t n = strcspn(name, "/");

                if (n == 0 || n > INPUT_FILE_NAME_MAX || (n <= 2 && strspn(name, ".") >= n))
                        return false;
                if (!name[n])
                        return true;
                name += n + 1;
        }
}

/* The lists of a content, in their order in an answer. */
static const struct AnswerList {
        size_t items, n; /* offsets in Content */
        size_t n_max, name_max, value_max, size_max;
        bool (*name_is_valid)(const char *name);
} answer_lists[] = {
        { offsetof(Content, credentials), offsetof(Content, n_credentials), INPUT_SECRETS_MAX,
          INPUT_FILE_NAME_MAX, SECRET_SIZE_MAX, INPUT_SECRETS_SIZE_MAX, answer_credential_is_valid },
        { offsetof(Content, variables), offsetof(Content, n_variables), INPUT_VARIABLES_MAX, KV_KEY_MAX,
          INPUT_VARIABLE_SIZE_MAX, INPUT_VARIABLES_SIZE_MAX, answer_variable_is_valid },
        { offsetof(Content, files), offsetof(Content, n_files), INPUT_FILES_MAX, KV_KEY_MAX,
          INPUT_FILES_SIZE_MAX, INPUT_FILES_SIZE_MAX, answer_file_is_valid },
};

static ContentItem **answer_items(Content *content, const struct AnswerList *list) {
        return (ContentItem **) ((char *) content + list->items);
}

static size_t *answer_count(Content *content, const struct AnswerList *list) {
        return (size_t *) ((char *) content + list->n);
}

void inputs_answer_write(InputsStatus status, const Resolved *resolved, Writer *w) {
        Content content = resolved ? resolved->content : (Content) {}; /* borrowed */
        size_t size = 2 * VERDICT_ARGS_SIZE + UNIT_HASH_SIZE;
        _cleanup_text_ Text problem = {};

        for (size_t l = 0; l < ELEMENTS(answer_lists); l++)
                for (size_t i = 0; i < *answer_count(&content, &answer_lists[l]); i++) {
                        const ContentItem *item = &(*answer_items(&content, &answer_lists[l]))[i];

                        size += strlen(item->name) + item->size + ANSWER_ITEM_HEAD;
                }
        (void) text_reserve(w, size);
        write_u8(w, status);
        if (status != INPUTS_RESOLVED)
                return;
        verdict_append_code(&problem, &content.problem);
        w->error = MIN(w->error, problem.error);
        write_u64(w, resolved->index);
        write_string(w, content.digest);
        write_string(w, text_chars(&problem));
        write_u8(w, content.waits);
        for (size_t l = 0; l < ELEMENTS(answer_lists); l++) {
                const ContentItem *items = *answer_items(&content, &answer_lists[l]);
                size_t n = *answer_count(&content, &answer_lists[l]);

                write_varint(w, n);
                for (size_t i = 0; i < n; i++) {
                        write_string(w, items[i].name);
                        write_blob(w, items[i].value, items[i].size);
                }
        }
}

static int answer_read_list(Reader *r, const struct AnswerList *list, Content *ret) {
        size_t n = read_varint(r), sum = 0, *n_read = answer_count(ret, list);
        ContentItem *items;

        if (n > list->n_max || n > r->left)
                return -EBADMSG;
        items = *answer_items(ret, list) = n > 0 ? NEW0(ContentItem, n) : NULL;
        if (n > 0 && !items)
                return -ENOMEM;
        while (*n_read < n) {
                ContentItem *item = &items[(*n_read)++];

                item->name = read_string(r, list->name_max);
                item->value = read_blob(r, list->value_max, &item->size);
                sum += item->size;
                if (r->failed || sum > list->size_max || !list->name_is_valid(item->name))
                        return -EBADMSG;
        }
        return 0;
}

static int answer_read(Reader *r, Resolved *ret) {
        _cleanup_free_ char *digest = NULL, *problem = NULL;

        ret->index = read_u64(r);
        digest = read_string(r, ANSWER_DIGEST_MAX);
        problem = read_string(r, 2 * VERDICT_ARGS_SIZE);
        ret->content.waits = read_u8(r);
        if (r->failed)
                return -EBADMSG;
        snprintf(ret->content.digest, sizeof(ret->content.digest), "%s", digest);
        verdict_set_code(&ret->content.problem, problem);
        for (size_t l = 0; l < ELEMENTS(answer_lists); l++)
                TRY(answer_read_list(r, &answer_lists[l], &ret->content));
        return reader_end(r);
}

int inputs_answer_read(const void *bytes, size_t size, InputsStatus *ret_status, Resolved *ret) {
        Reader r = reader_over(bytes, size);
        uint8_t status = read_u8(&r);
        int e;

        *ret = (Resolved) {};
        if (r.failed || status >= _INPUTS_STATUS_MAX)
                return -EBADMSG;
        *ret_status = status;
        e = status == INPUTS_RESOLVED ? answer_read(&r, ret) : reader_end(&r);
        if (e < 0)
                content_done(&ret->content);
        return e;
}
