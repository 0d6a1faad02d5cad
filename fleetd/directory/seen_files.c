#include "fleetd/directory/seen_files.h"

#include "fleetd/directory/scan.h"

bool seen_files_add(Named **table, const char *name) {
        bool is_new = !named_find(*table, name);
        SeenFile *f = named_get(table, name, sizeof(SeenFile));

        if (f)
                f->there = true;
        return f && is_new;
}

int seen_files_read(const char *json, size_t size, uint64_t *ret_device, uint64_t *ret_inode, Named **table) {
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

                if (name && (unit_name_check(name, NULL) == 0 || directory_folder_name_is_misspelt(name)))
                        (void) seen_files_add(table, name);
        }
        *ret_device = device;
        *ret_inode = inode;
        return 0;
}

void seen_files_write(Text *t, uint64_t device, uint64_t inode, const Named *table) {
        json_open(t, NULL, '{');
        json_add_u64(t, "device", device);
        json_add_u64(t, "inode", inode);
        json_open(t, "names", '[');
        for (const Named *f = table; f; f = f->hh.next)
                json_add_item(t, f->name);
        json_close(t, ']');
        json_close(t, '}');
}
