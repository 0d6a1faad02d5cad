/* Configurations as bytes: libraft's own encoding, because the engine decodes configuration entries itself.
 * They are checked before they reach the engine: version 1, u64 count, then per server u64 ID, terminated
 * address, u8 role; padded to 8. */

#include "kvstore/raft/core_internal.h"

int raft_errno(int rv) {
        static const int table[] = {
                [RAFT_NOMEM] = -ENOMEM,        [RAFT_BADID] = -EINVAL,
                [RAFT_DUPLICATEID] = -EEXIST,  [RAFT_DUPLICATEADDRESS] = -EEXIST,
                [RAFT_BADROLE] = -EINVAL,      [RAFT_MALFORMED] = -EBADMSG,
                [RAFT_NOTLEADER] = -EREMOTE,   [RAFT_LEADERSHIPLOST] = -ECONNABORTED,
                [RAFT_SHUTDOWN] = -ESHUTDOWN,  [RAFT_CANTBOOTSTRAP] = -ENOTEMPTY,
                [RAFT_CANTCHANGE] = -EBUSY,    [RAFT_CORRUPT] = -EUCLEAN,
                [RAFT_CANCELED] = -ECANCELED,  [RAFT_NAMETOOLONG] = -ENAMETOOLONG,
                [RAFT_TOOBIG] = -EFBIG,        [RAFT_NOCONNECTION] = -ENOTCONN,
                [RAFT_BUSY] = -EAGAIN,         [RAFT_IOERR] = -EIO,
                [RAFT_NOTFOUND] = -ENOENT,     [RAFT_INVALID] = -EINVAL,
                [RAFT_UNAUTHORIZED] = -EACCES, [RAFT_NOSPACE] = -ENOSPC,
                [RAFT_TOOMANY] = -EMFILE,
        };

        if (rv == 0)
                return 0;
        return rv > 0 && rv < (int) ELEMENTS(table) ? table[rv] : -EIO;
}

void raft_servers_done(RaftServers *servers) {
        for (size_t i = 0; i < servers->n; i++)
                free(servers->items[i].address);
        free(servers->items);
        *servers = (RaftServers) {};
}

static_assert((int) RAFT_ROLE_STANDBY == (int) RAFT_STANDBY && (int) RAFT_ROLE_VOTER == (int) RAFT_VOTER &&
                      (int) RAFT_ROLE_SPARE == (int) RAFT_SPARE,
              "roles are the engine's");

int raft_servers_copy(const struct raft_configuration *conf, RaftServers *ret) {
        RaftServers servers = {};

        servers.items = NEW0(RaftServer, conf->n + 1);
        if (!servers.items)
                return -ENOMEM;

        for (unsigned i = 0; i < conf->n; i++) {
                servers.items[i] = (RaftServer) {
                        .id = conf->servers[i].id,
                        .address = strdup(conf->servers[i].address),
                        .role = (RaftServerRole) conf->servers[i].role,
                };
                servers.n++;
                if (!servers.items[i].address) {
                        raft_servers_done(&servers);
                        return -ENOMEM;
                }
        }

        *ret = servers;
        return 0;
}

int raft_configuration_check(const void *bytes, size_t size) {
        Reader r = reader_over(bytes, size);
        uint64_t n;

        if (read_u8(&r) != 1)
                return -EBADMSG;

        n = read_u64(&r);
        if (n == 0 || n > RAFT_SERVERS_MAX) /* also where bytes are missing */
                return -EBADMSG;

        for (uint64_t i = 0; i < n; i++) {
                uint64_t id = read_u64(&r);
                const uint8_t *end = memchr(r.bytes, 0, r.left);

                if (r.failed || id == 0 || !end || end == r.bytes || end - r.bytes > RAFT_ADDRESS_MAX)
                        return -EBADMSG;

                (void) read_raw(&r, (size_t) (end - r.bytes) + 1);
                if (read_u8(&r) > RAFT_SPARE || r.failed)
                        return -EBADMSG;
        }
        return r.left < 8 ? 0 : -EBADMSG;
}

int raft_configuration_read(const void *bytes, size_t size, struct raft_configuration *ret) {
        struct raft_buffer buffer = { .base = (void *) bytes, .len = size };

        TRY(raft_configuration_check(bytes, size));

        raft_configuration_init(ret);
        return raft_errno(raft_configuration_decode(&buffer, ret));
}

int raft_configuration_decode_servers(const void *bytes, size_t size, RaftServers *ret) {
        struct raft_configuration conf;
        int r;

        TRY(raft_configuration_read(bytes, size, &conf));

        r = raft_servers_copy(&conf, ret);
        raft_configuration_close(&conf);
        return r;
}

int raft_configuration_write(const struct raft_configuration *conf, void **ret, size_t *ret_size) {
        struct raft_buffer buffer;
        void *bytes;

        TRY(raft_errno(raft_configuration_encode(conf, &buffer)));

        bytes = malloc(buffer.len);
        if (bytes)
                memcpy(bytes, buffer.base, buffer.len);
        raft_free(buffer.base);
        if (!bytes)
                return -ENOMEM;

        *ret = bytes;
        *ret_size = buffer.len;
        return 0;
}

int raft_configuration_encode_servers(const RaftServers *servers, void **ret, size_t *ret_size) {
        struct raft_configuration conf;
        int r = 0;

        if (servers->n == 0 || servers->n > RAFT_SERVERS_MAX)
                return -EINVAL;

        raft_configuration_init(&conf);
        for (size_t i = 0; i < servers->n && r == 0; i++) {
                const RaftServer *s = &servers->items[i];
                size_t length = s->address ? strlen(s->address) : 0;

                if (s->id == 0 || length == 0 || length > RAFT_ADDRESS_MAX || s->role > RAFT_ROLE_SPARE)
                        r = -EINVAL;
                else
                        r = raft_errno(raft_configuration_add(&conf, s->id, s->address, (int) s->role));
        }
        if (r == 0)
                r = raft_configuration_write(&conf, ret, ret_size);
        raft_configuration_close(&conf);
        return r;
}

int core_read_info(const RaftStateInfo *info, struct raft_snapshot_metadata *ret) {
        ret->index = info->index;
        ret->term = info->term;
        ret->configuration_index = info->configuration_index;
        return raft_configuration_read(info->configuration, info->configuration_size, &ret->configuration);
}

const struct raft_server *raft_configuration_find(const struct raft_configuration *conf, uint64_t id) {
        for (unsigned i = 0; i < conf->n; i++)
                if (conf->servers[i].id == id)
                        return &conf->servers[i];
        return NULL;
}

unsigned raft_configuration_voters(const struct raft_configuration *conf) {
        unsigned n = 0;

        for (unsigned i = 0; i < conf->n; i++)
                n += conf->servers[i].role == RAFT_VOTER;
        return n;
}
