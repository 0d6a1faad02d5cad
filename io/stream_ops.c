/* Common part of all streams: calls of the implementation, shared bytes. */
#include "io/stream.h"

const char *stream_events_name(const Stream *s) {
        return s->events && s->events->name ? s->events->name : "stream";
}

void stream_set_events(Stream *s, const StreamEvents *events, void *userdata) {
        s->events = events;
        s->userdata = userdata;
}

int stream_write(Stream *s, const void *bytes, size_t size) {
        return size == 0 ? 0 : s->ops->write(s, bytes, size, NULL);
}

int stream_write_shared(Stream *s, Shared *shared) {
        return shared->size == 0 ? 0 : s->ops->write(s, shared->bytes, shared->size, shared);
}

size_t stream_held(const Stream *s) {
        return s->held + (s->inner ? stream_held(s->inner) : 0);
}

size_t stream_queued(const Stream *s) {
        size_t queued = s->ops->queued ? s->ops->queued(s) : s->held;

        return queued + (s->inner ? stream_queued(s->inner) : 0);
}

void stream_pause(Stream *s, bool paused) {
        s->ops->pause(s, paused);
}

void stream_close(Stream *s) {
        s->ops->close(s);
}

void stream_finish(Stream *s) {
        s->ops->finish(s);
}

uint64_t stream_kernel_silent_ms(const Stream *s) {
        if (s->ops->kernel_silent_ms)
                return s->ops->kernel_silent_ms(s);
        return s->inner ? stream_kernel_silent_ms(s->inner) : UINT64_MAX;
}

int stream_peer_uid(const Stream *s, uid_t *ret) {
        if (s->ops->peer_uid)
                return s->ops->peer_uid(s, ret);
        return s->inner ? stream_peer_uid(s->inner, ret) : -ENOTSUP;
}

int stream_peer_groups(const Stream *s, gid_t **ret, size_t *ret_n) {
        if (s->ops->peer_groups)
                return s->ops->peer_groups(s, ret, ret_n);
        return s->inner ? stream_peer_groups(s->inner, ret, ret_n) : -ENOTSUP;
}

const char *stream_peer_address(const Stream *s) {
        return s->peer_address;
}

Shared *shared_new(const void *bytes, size_t size) {
        Shared *shared;

        if (size > SIZE_MAX - sizeof(Shared))
                return NULL;
        shared = malloc(sizeof(Shared) + size);
        if (!shared)
                return NULL;
        shared->refs = 1;
        shared->size = size;
        if (size > 0)
                memcpy(shared->bytes, bytes, size);
        return shared;
}

Shared *shared_ref(Shared *shared) {
        shared->refs++;
        return shared;
}

Shared *shared_unref(Shared *shared) {
        if (!shared)
                return NULL;

        assert(shared->refs > 0);
        if (--shared->refs == 0)
                free(shared);
        return NULL;
}
