#include "units/revision.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "units/json_record.h"

const char *const revision_how_names[_REVISION_HOW_MAX] = {
        [REVISION_SUBMITTED] = "submitted",
        [REVISION_DIRECTORY] = "directory",
        [REVISION_REVERTED] = "reverted",
};

void revisions_done(Revisions *revisions) {
        free(revisions->former);
        *revisions = (Revisions) {};
}

uint64_t revisions_wanted(const Revisions *revisions) {
        return MAX(revisions->wanted.number, (uint64_t) 1);
}

const Revision *revisions_find(const Revisions *revisions, uint64_t number, const char *hash) {
        for (size_t i = 0; i < revisions->n_former; i++)
                if (number > 0 ? revisions->former[i].number == number :
                                 streq(revisions->former[i].hash, hash))
                        return &revisions->former[i];
        return NULL;
}

uint64_t revision_parse_number(const char *text) {
        uint64_t number;

        return text[0] >= '1' && text[0] <= '9' && strlen(text) < REVISION_NUMBER_SIZE - 1 &&
                               parse_u64(text, &number) >= 0 && number <= INT64_MAX ?
                       number :
                       0;
}

const char *revision_print_number(uint64_t number, char ret[static REVISION_NUMBER_SIZE]) {
        snprintf(ret, REVISION_NUMBER_SIZE, "%" PRIu64, number);
        return ret;
}

static uint64_t revisions_highest(const Revisions *revisions) {
        uint64_t highest = revisions_wanted(revisions);

        for (size_t i = 0; i < revisions->n_former; i++)
                highest = MAX(highest, revisions->former[i].number);
        return highest;
}

static void revisions_drop_oldest(Revisions *revisions, size_t n) {
        revisions->n_former -= n;
        memmove(revisions->former, revisions->former + n, revisions->n_former * sizeof(Revision));
}

void revisions_drop_older_half(Revisions *revisions) {
        revisions_drop_oldest(revisions, (revisions->n_former + 1) / 2);
}

int revisions_next(const Revisions *all, const char *wanted_hash, const char *hash, size_t keep,
                   Revisions *ret) {
        const Revision *same = revisions_find(all, 0, hash);
        _cleanup_revisions_ Revisions next = { .wanted = all->wanted };

        next.wanted.number = revisions_wanted(all);
        next.former = NEW0(Revision, all->n_former + 1);
        if (!next.former)
                return -ENOMEM;
        for (size_t i = 0; i < all->n_former; i++)
                if (&all->former[i] != same)
                        next.former[next.n_former++] = all->former[i];
        if (!streq(wanted_hash, hash)) {
                snprintf(next.wanted.hash, UNIT_HASH_SIZE, "%s", wanted_hash);
                next.former[next.n_former++] = next.wanted;
                next.wanted = (Revision) { .number = same ? same->number : revisions_highest(all) + 1 };
        }
        if (next.n_former >= keep)
                revisions_drop_oldest(&next, next.n_former - (keep - 1));

        *ret = TAKE_STRUCT(next);
        return 0;
}

static const JsonWords how_words = { revision_how_names, _REVISION_HOW_MAX, -EBADMSG };

static const JsonField wanted_fields[] = {
        { "by", JSON_FIELD_CHARS_CUT, offsetof(Revision, by), .size = REVISION_BY_SIZE },
        { "canary", JSON_FIELD_CHARS_SKIPPED, offsetof(Revision, update.canary), .size = UPDATE_WORD_SIZE },
        { "how", JSON_FIELD_WORD, offsetof(Revision, how), .words = &how_words },
        { "onFailure", JSON_FIELD_CHARS_SKIPPED, offsetof(Revision, update.on_failure),
          .size = UPDATE_WORD_SIZE },
        { "rev", JSON_FIELD_U64, offsetof(Revision, number) },
        { "since", JSON_FIELD_U64, offsetof(Revision, since_ms) },
};

static const JsonField former_fields[] = {
        { "by", JSON_FIELD_CHARS_CUT, offsetof(Revision, by), .size = REVISION_BY_SIZE },
        { "hash", JSON_FIELD_CHARS, offsetof(Revision, hash), true, .size = UNIT_HASH_SIZE },
        { "how", JSON_FIELD_WORD, offsetof(Revision, how), .words = &how_words },
        { "rev", JSON_FIELD_U64, offsetof(Revision, number), true },
        { "since", JSON_FIELD_U64, offsetof(Revision, since_ms) },
};

void revisions_write(Text *t, const Revisions *revisions) {
        json_add_u64(t, "rev", revisions->wanted.number);
        if (revisions->n_former > 0) {
                json_open(t, "revs", '[');
                for (size_t i = 0; i < revisions->n_former; i++)
                        json_write_object(t, JSON_FIELDS(former_fields), &revisions->former[i]);
                json_close(t, ']');
        }
        json_add_u64(t, "since", revisions->wanted.since_ms);
}

static int revisions_read_former(const JsonValue *array, Revisions *ret, Error *err) {
        size_t n = json_value_count(array);

        if (array && (json_value_type(array) != JSON_VALUE_ARRAY || n > REVISIONS_KEPT_MAX))
                return error_set(err, -EBADMSG, "revs: expected a list of at most %d objects",
                                 REVISIONS_KEPT_MAX);
        ret->former = n > 0 ? NEW0(Revision, n) : NULL;
        if (n > 0 && !ret->former)
                return -ENOMEM;
        for (; ret->n_former < n; ret->n_former++) {
                const JsonValue *item = json_value_item(array, ret->n_former);
                int r;

                if (json_value_type(item) != JSON_VALUE_OBJECT)
                        return error_set(err, -EBADMSG, "revs: expected objects");
                r = json_read_fields(item, JSON_FIELDS(former_fields), &ret->former[ret->n_former], err);
                if (r < 0)
                        return r;
        }
        return 0;
}

int revisions_read(const JsonValue *object, Revisions *ret, Error *err) {
        int r;

        *ret = (Revisions) {};
        r = json_read_fields(object, JSON_FIELDS(wanted_fields), &ret->wanted, err);
        return r < 0 ? r : revisions_read_former(json_value_member(object, "revs"), ret, err);
}
