#include "fleetd/directory/seen_files.h"

#include <errno.h>
#include <stdio.h>

#include "units/json.h"
#include "units/name.h"

void seen_files_clear(SeenFile **table) {
        SeenFile *f, *next;

        HASH_ITER(hh, *table, f, next) {
                HASH_DEL(*table, f);
                free(f);
        }
}

bool seen_files_add(SeenFile **table, const char *name) {
        SeenFile *f;

        HASH_FIND_STR(*table, name, f);
        if (f)
                f->there = true;
        if (f || !(f = NEW0(SeenFile, 1)))
                return false;
        f->there = true;
        snprintf(f->name, sizeof(f->name), "%s", name);
        HASH_ADD_STR(*table, name, f);
        if (TABLE_ADDED(f))
                return true;
        free(f);
        return false;
}

int seen_files_read(const char *json, size_t size, uint64_t *ret_device, uint64_t *ret_inode,
                    SeenFile **table) {
        _cleanup_json_ JsonValue *root = NULL;
        uint64_t device = 0, inode = 0;
        const JsonValue *names;

        if (json_value_parse(json, size, &root, NULL) < 0 ||
            json_read_u64(root, "device", &device, NULL) < 0 ||
            json_read_u64(root, "inode", &inode, NULL) < 0)
                return -EBADMSG;
        names = json_value_member(root, "names");
        for (size_t i = 0; i < json_value_count(names); i++) {
                const char *name = json_value_string(json_value_item(names, i));

                if (name && unit_name_check(name, NULL) == 0)
                        (void) seen_files_add(table, name);
        }
        *ret_device = device;
        *ret_inode = inode;
        return 0;
}

void seen_files_write(Text *t, uint64_t device, uint64_t inode, const SeenFile *table) {
        json_open(t, NULL, '{');
        json_add_u64(t, "device", device);
        json_add_u64(t, "inode", inode);
        json_open(t, "names", '[');
        for (const SeenFile *f = table; f; f = f->hh.next)
                json_add_item(t, f->name);
        json_close(t, ']');
        json_close(t, '}');
}
