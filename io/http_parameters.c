/* Parsing of targets and forms, with the error texts of Go's net/url, as in etcd. */
#include <strings.h>

#include "base/parse.h"
#include "io/http.h"

enum { HTTP_PARAMETERS_MAX = 1024, MEDIA_PARAMETERS_MAX = 32 };

/* Quote the first three bytes of an invalid escape as Go's %q does. */
static int bad_escape(const char *s, size_t size, Error *err) {
        static const char named[] = "\aa\bb\ff\nn\rr\tt\vv";
        char quoted[3 * 4 + 1], *p = quoted;

        size = MIN(size, (size_t) 3);
        for (size_t i = 0; i < size; i++) {
                unsigned char c = s[i];
                const char *name = c ? strchr(named, c) : NULL;

                if (name && c < ' ') {
                        *p++ = '\\';
                        *p++ = name[1];
                } else if (c == '"' || c == '\\') {
                        *p++ = '\\';
                        *p++ = c;
                } else if (c >= ' ' && c < 0x7f)
                        *p++ = c;
                else if ((c & 0xe0) == 0xc0 && c > 0xc2 && i + 1 < size &&
                         ((unsigned char) s[i + 1] & 0xc0) == 0x80) {
                        *p++ = c; /* a complete character of two bytes */
                        *p++ = s[++i];
                } else {
                        memcpy(p,
                               (char[]) { '\\', 'x', "0123456789abcdef"[c >> 4], "0123456789abcdef"[c & 15] },
                               4);
                        p += 4;
                }
        }
        *p = 0;
        return error_set(err, -EINVAL, "invalid URL escape \"%s\"", quoted);
}

/* Return the size of the prefix that needs no decoding; usually all. */
static size_t plain_size(const char *s, size_t size, bool plus_is_space) {
        const char *end = memchr(s, '%', size);

        size = end ? (size_t) (end - s) : size;
        end = plus_is_space ? memchr(s, '+', size) : NULL;
        return end ? (size_t) (end - s) : size;
}

/* Decode into 'ret', which has a size of at least 'size' bytes. */
static int decode(const char *s, size_t size, bool plus_is_space, char *ret, size_t *ret_size, Error *err) {
        size_t n = plain_size(s, size, plus_is_space);

        memcpy(ret, s, n);
        for (size_t i = n; i < size; i++) {
                if (s[i] != '%') {
                        ret[n++] = s[i] == '+' && plus_is_space ? ' ' : s[i];
                        continue;
                }
                if (i + 2 >= size || hex_digit(s[i + 1]) < 0 || hex_digit(s[i + 2]) < 0)
                        return bad_escape(s + i, size - i, err);
                ret[n++] = hex_digit(s[i + 1]) << 4 | hex_digit(s[i + 2]);
                i += 2;
        }
        *ret_size = n;
        return 0;
}

void http_parameters_done(HttpParameters *p) {
        for (size_t i = 0; i < p->n; i++)
                free(p->items[i].name); /* of one allocation with the value */
        free(p->items);
        *p = (HttpParameters) {};
}

/* Name and value share one allocation, each terminated. */
static int append_pair(HttpParameters *p, const char *s, size_t size, Error *err) {
        const char *equals = memchr(s, '=', size);
        size_t name_size = equals ? (size_t) (equals - s) : size,
               value_size = equals ? size - name_size - 1 : 0;
        _cleanup_free_ char *name = malloc(size + 2);
        char *value;

        if (p->n == HTTP_PARAMETERS_MAX)
                return error_set(err, -E2BIG, "too many parameters");
        if (!name || GROW(p->items, p->capacity, p->n + 1) < 0)
                return error_set(err, -ENOMEM, "out of memory");

        TRY(decode(s, name_size, true, name, &name_size, err));
        for (char *nul; (nul = memchr(name, 0, name_size)); *nul = 1)
                ; /* "wait%00" must not equal "wait" */
        name[name_size] = 0;
        value = name + name_size + 1;
        TRY(decode(equals ? equals + 1 : "", value_size, true, value, &value_size, err));
        value[value_size] = 0;
        p->items[p->n++] = (HttpParameter) { .name = TAKE_PTR(name),
                                             .value = value,
                                             .value_size = value_size };
        return 0;
}

/* As in Go: invalid pairs are skipped and the first one is reported, but a semicolon takes precedence. */
int http_parameters_parse(HttpParameters *p, const char *s, size_t size, Error *err) {
        bool semicolon = false;
        int r = 0;

        while (size > 0) {
                const char *end = memchr(s, '&', size);
                size_t n = end ? (size_t) (end - s) : size;

                if (memchr(s, ';', n)) {
                        if (!semicolon) /* report it once, not for each pair */
                                r = error_set(err, -EINVAL, "invalid semicolon separator in query");
                        semicolon = true;
                } else if (n > 0) {
                        int k = append_pair(p, s, n, r == 0 ? err : NULL);

                        if (k == -ENOMEM || k == -E2BIG)
                                return k;
                        if (r == 0)
                                r = k;
                }
                s += end ? n + 1 : n;
                size -= end ? n + 1 : n;
        }
        return r;
}

const HttpParameter *http_parameter(const HttpParameters *p, const char *name) {
        for (size_t i = 0; i < p->n; i++)
                if (streq(p->items[i].name, name))
                        return &p->items[i];
        return NULL;
}

bool http_parameter_is_text(const HttpParameter *p) {
        return strlen(p->value) == p->value_size;
}

/* -- Media types: the grammar of RFC 2045, as lenient as Go -- */

static bool is_special(char c) {
        return c && strchr("()<>@,;:\\\"/[]?=", c);
}

static size_t token_size(const char *s) {
        size_t n = 0;

        while (s[n] > ' ' && s[n] < 0x7f && !is_special(s[n]))
                n++;
        return n;
}

static const char *skip_spaces(const char *s) {
        return s + strspn(s, " \t\n\v\f\r");
}

/* Return the position after a parameter's value, or NULL. */
static const char *skip_value(const char *s) {
        size_t n = token_size(s);

        if (*s != '"')
                return n > 0 ? s + n : NULL;
        for (s++; *s && *s != '"'; s++)
                if (*s == '\\' && is_special(s[1]))
                        s++;
        return *s ? s + 1 : NULL;
}

int http_media_type(const char *s, size_t *ret_size, Error *err) {
        struct {
                const char *name;
                size_t size;
        } seen[MEDIA_PARAMETERS_MAX];
        const char *type = skip_spaces(s), *rest = type + token_size(type);
        size_t n = 0, size;

        if (rest == type)
                return error_set(err, -EINVAL, "mime: no media type");
        if (*rest == '/' && token_size(rest + 1) == 0)
                return error_set(err, -EINVAL, "mime: expected token after slash");
        if (*rest == '/')
                rest += 1 + token_size(rest + 1);
        size = rest - type;
        rest = skip_spaces(rest);
        if (*rest && *rest != ';')
                return error_set(err, -EINVAL,
                                 memchr(type, '/', size) ? "mime: unexpected content after media subtype" :
                                                           "mime: expected slash after first token");

        while (*rest) {
                const char *name = skip_spaces(rest + 1), *end = name + token_size(name),
                           *value = skip_spaces(end);

                if (*rest == ';' && !*name)
                        break;
                value = *rest == ';' && end > name && *value == '=' ? skip_value(skip_spaces(value + 1)) :
                                                                      NULL;
                if (!value || n == MEDIA_PARAMETERS_MAX)
                        return error_set(err, -EINVAL, "mime: invalid media parameter");
                for (size_t i = 0; i < n; i++)
                        if (seen[i].size == (size_t) (end - name) &&
                            strncasecmp(seen[i].name, name, seen[i].size) == 0)
                                return error_set(err, -EINVAL, "mime: duplicate parameter name");
                seen[n].name = name;
                seen[n++].size = end - name;
                rest = skip_spaces(value);
        }
        *ret_size = size;
        return 0;
}

int http_target_split(const char *target, char **ret_path, size_t *ret_path_size, const char **ret_query) {
        size_t size = strcspn(target, "?");
        _cleanup_free_ char *path = malloc(size + 1);

        if (!path)
                return -ENOMEM;
        TRY(decode(target, size, false, path, ret_path_size, NULL));
        path[*ret_path_size] = 0;
        *ret_path = TAKE_PTR(path);
        *ret_query = target[size] == '?' ? target + size + 1 : "";
        return 0;
}
