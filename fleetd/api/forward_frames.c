#include "fleetd/api/forward_frames.h"

#include "peers/handshake.h"

enum { IS_OPERATOR = 1, READS = 2, WRITES = 4 };

static void write_bytes(Writer *w, KvBytes bytes) {
        write_blob(w, bytes.data, bytes.size);
}

static KvBytes read_bytes(Reader *r, size_t max) {
        size_t size;
        const void *bytes = read_blob(r, max, &size);

        return (KvBytes) { bytes, size };
}

/* Read a text into an array of 'size' bytes. */
static void read_text(Reader *r, char *ret, size_t size) {
        KvBytes text = read_bytes(r, size - 1);

        ret[0] = 0;
        if (r->failed || (text.size > 0 && memchr(text.data, 0, text.size))) {
                r->failed = true;
                return;
        }
        if (text.size > 0)
                memcpy(ret, text.data, text.size);
        ret[text.size] = 0;
}

/* Return whether each byte can be one of a name of HTTP: no such name selects another field or route. */
static bool is_token(const char *s) {
        return s[0] &&
               strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == strlen(s);
}

/* -- Requests -- */

static void write_rights(Writer *w, const RightList *rights) {
        size_t n = rights ? rights->n : 0;

        write_varint(w, n);
        for (size_t i = 0; i < n; i++) {
                write_string(w, right_name(rights->items[i].right));
                write_bytes(w, rights->items[i].prefix);
        }
}

static int read_rights(Reader *r, RightList **ret) {
        uint64_t n = read_varint(r);
        int e = 0;

        for (uint64_t i = 0; i < n && e == 0 && !r->failed; i++) {
                char name[32];
                KvBytes prefix;

                read_text(r, name, sizeof(name));
                prefix = read_bytes(r, KV_KEY_MAX);
                if (r->failed || n > RIGHTS_MAX)
                        return -EBADMSG;
                e = right_list_add(ret, name, prefix.size > 0 ? &prefix : NULL, NULL);
        }
        return e == -ENOMEM ? -ENOMEM : e < 0 || r->failed ? -EBADMSG : 0;
}

static void write_sender(Writer *w, const ForwardSender *sender) {
        char text[PRINCIPAL_TEXT_SIZE];

        write_u8(w, sender->listener);
        write_u8(w, (sender->is_operator ? IS_OPERATOR : 0) | (sender->reads ? READS : 0) |
                            (sender->writes ? WRITES : 0));
        write_string(w, principal_text(&sender->principal, text));
        write_string(w, sender->user);
        write_rights(w, sender->granted);
}

static int read_sender(Reader *r, ForwardSender *ret) {
        uint8_t listener = read_u8(r), flags = read_u8(r);
        KvBytes principal = read_bytes(r, PRINCIPAL_TEXT_SIZE - 1), user;

        user = read_bytes(r, HISTORY_USER_SIZE - 1);
        if (r->failed || flags > (IS_OPERATOR | READS | WRITES) ||
            principal_parse(principal.data, principal.size, &ret->principal) < 0)
                return -EBADMSG;
        ret->listener = listener;
        ret->is_operator = flags & IS_OPERATOR;
        ret->reads = flags & READS;
        ret->writes = flags & WRITES;
        printable_copy(ret->user, sizeof(ret->user), user.data, user.size);
        return read_rights(r, &ret->granted);
}

static void write_parameters(Writer *w, const HttpParameters *parameters) {
        write_varint(w, parameters->n);
        for (size_t i = 0; i < parameters->n; i++) {
                write_string(w, parameters->items[i].name);
                write_blob(w, parameters->items[i].value, parameters->items[i].value_size);
        }
}

/* As http_parameters_parse(): one allocation for name and value. */
static int read_parameter(Reader *r, HttpParameters *p) {
        KvBytes name = read_bytes(r, FORWARD_VALUE_MAX), value = read_bytes(r, FORWARD_VALUE_MAX);
        HttpParameter *parameter = &p->items[p->n];

        if (r->failed || (name.size > 0 && memchr(name.data, 0, name.size)))
                return -EBADMSG;
        parameter->name = calloc(1, name.size + value.size + 2);
        if (!parameter->name)
                return -ENOMEM;
        parameter->value = parameter->name + name.size + 1;
        parameter->value_size = value.size;
        if (name.size > 0)
                memcpy(parameter->name, name.data, name.size);
        if (value.size > 0)
                memcpy(parameter->value, value.data, value.size);
        p->n++;
        return 0;
}

static int read_parameters(Reader *r, HttpParameters *p) {
        uint64_t n = read_varint(r);
        int e = 0;

        if (r->failed || n > FORWARD_PARAMETERS_MAX || n > r->left / 2)
                return -EBADMSG;
        p->items = NEW0(HttpParameter, n + 1);
        if (!p->items)
                return -ENOMEM;
        p->capacity = n + 1;
        for (uint64_t i = 0; i < n && e == 0; i++)
                e = read_parameter(r, p);
        return e;
}

void forward_request_begin(uint32_t number, uint64_t lineage, uint64_t bound, Writer *w) {
        write_u8(w, FORWARD_VERSION);
        write_u32(w, number);
        write_u64(w, lineage);
        write_u64(w, bound);
}

void forward_request_write(const ForwardRequest *request, Writer *w) {
        write_sender(w, &request->sender);
        write_string(w, request->method);
        write_bytes(w, request->path);
        write_parameters(w, &request->parameters);
        write_string(w, request->content_type);
        write_u32(w, request->n_content_types);
        write_bytes(w, request->body);
}

static int request_read(Reader *r, ForwardRequest *ret) {
        if (read_u8(r) != FORWARD_VERSION)
                return -EBADMSG;
        ret->number = read_u32(r);
        ret->lineage = read_u64(r);
        ret->bound = read_u64(r);
        TRY(read_sender(r, &ret->sender));
        read_text(r, ret->method, sizeof(ret->method));
        ret->path = read_bytes(r, FORWARD_PATH_MAX);
        TRY(read_parameters(r, &ret->parameters));
        read_text(r, ret->content_type, sizeof(ret->content_type));
        ret->n_content_types = read_u32(r);
        ret->body = read_bytes(r, FORWARD_BODY_MAX);
        return reader_end(r) < 0 || !is_token(ret->method) || ret->path.size == 0 ? -EBADMSG : 0;
}

int forward_request_read(const void *bytes, size_t size, ForwardRequest *ret) {
        Reader r = reader_over(bytes, size);
        ForwardRequest request = {};
        int e;

        e = request_read(&r, &request);
        if (e < 0)
                forward_request_done(&request);
        else
                *ret = request;
        return e;
}

void forward_request_done(ForwardRequest *request) {
        right_list_unref(request->sender.granted);
        http_parameters_done(&request->parameters);
        *request = (ForwardRequest) {};
}

/* -- Answers -- */

void forward_head_write(const ForwardHead *head, Writer *w) {
        size_t n = 0;

        while (head->fields[n].name)
                n++;
        write_u8(w, FORWARD_VERSION);
        write_u32(w, head->number);
        write_u16(w, head->status);
        write_u8(w, head->streams);
        write_u64(w, head->size);
        write_u8(w, head->has_type);
        write_string(w, head->type);
        write_u8(w, n);
        for (size_t i = 0; i < n; i++) {
                write_string(w, head->fields[i].name);
                write_string(w, head->fields[i].value);
        }
}

/* The fields that describe the connection are this host's own. */
static bool field_is_allowed(const char *name) {
        static const char *const names[] = { "Allow", "Location", "Retry-After", "Server" };

        return is_token(name) && (starts_with(name, "X-") || IS_AMONG(name, names));
}

static void read_fields(Reader *r, ForwardHead *head) {
        size_t n = read_u8(r), pair = 2 * FORWARD_FIELD_SIZE;

        if (n > FORWARD_FIELDS_MAX) {
                r->failed = true;
                return;
        }
        for (size_t i = 0; i < n && !r->failed; i++) {
                char *name = head->texts + i * pair, *value = name + FORWARD_FIELD_SIZE;

                read_text(r, name, FORWARD_FIELD_SIZE);
                read_text(r, value, FORWARD_FIELD_SIZE);
                if (!field_is_allowed(name))
                        r->failed = true;
                head->fields[i] = (HttpField) { name, value };
        }
}

int forward_head_read(const void *bytes, size_t size, ForwardHead *ret) {
        Reader r = reader_over(bytes, size);
        ForwardHead head = {};
        uint8_t version = read_u8(&r);

        head.texts = calloc(FORWARD_FIELDS_MAX, 2 * FORWARD_FIELD_SIZE);
        if (!head.texts)
                return -ENOMEM;
        head.number = read_u32(&r);
        head.status = read_u16(&r);
        head.streams = read_u8(&r);
        head.size = read_u64(&r);
        head.has_type = read_u8(&r);
        read_text(&r, head.type, sizeof(head.type));
        read_fields(&r, &head);
        if (reader_end(&r) < 0 || version != FORWARD_VERSION || head.status < 200 || head.status > 599 ||
            head.size > FORWARD_ANSWER_MAX) {
                free(head.texts);
                return -EBADMSG;
        }
        *ret = head;
        return 0;
}

void forward_chunk_write(uint32_t number, const void *bytes, size_t size, Writer *w) {
        write_u32(w, number);
        write_raw(w, bytes, size);
}

int forward_chunk_read(const void *bytes, size_t size, KvBytes *ret) {
        Reader r = reader_over(bytes, size);

        (void) read_u32(&r);
        if (r.failed || r.left > FORWARD_CHUNK)
                return -EBADMSG;
        *ret = (KvBytes) { (const char *) r.bytes, r.left };
        return 0;
}

void forward_end_write(const ForwardEnding *ending, Writer *w) {
        write_u32(w, ending->number);
        write_u8(w, ending->end);
        write_u64(w, ending->index);
        write_string(w, ending->reason);
}

int forward_end_read(const void *bytes, size_t size, ForwardEnding *ret) {
        Reader r = reader_over(bytes, size);
        ForwardEnding ending = { .number = read_u32(&r) };
        uint8_t end = read_u8(&r);
        KvBytes reason;

        ending.index = read_u64(&r);
        reason = read_bytes(&r, FORWARD_REASON_SIZE - 1);
        if (reader_end(&r) < 0 || end >= _FORWARD_END_MAX)
                return -EBADMSG;
        ending.end = end;
        printable_copy(ending.reason, sizeof(ending.reason), reason.data, reason.size);
        *ret = ending;
        return 0;
}
