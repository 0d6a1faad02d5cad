#include "tests/lib/fake_sealer.h"

static void fake_sealer_on_timer(void *userdata) {
        FakeSealer *s = userdata;
        SealerDone *done = s->done;

        s->done = NULL;
        done(s->userdata, s->error, s->error < 0 ? "it is broken" : "", s->error < 0 ? NULL : s->bytes,
             s->error < 0 ? 0 : s->size);
}

static int fake_sealer_begin(FakeSealer *s, const SealerCall *call) {
        assert(!s->done);
        s->done = call->done;
        s->userdata = call->userdata;
        s->timer = TIMER(fake_sealer_on_timer, s);
        return timer_start(&s->timer, s->loop, s->delay_ms);
}

static int fake_sealer_seal(Sealer *base, const SealerCall *call, Error *err) {
        FakeSealer *s = container_of(base, FakeSealer, base);
        const uint8_t *secret = call->bytes;
        int head = snprintf(s->bytes, sizeof(s->bytes), "%s %s\n", call->name,
                            seal_with_to_string(call->form));

        s->sealed++;
        s->error = s->broken ? -EIO : 0;
        s->size = (size_t) head + call->size;
        assert(s->size <= sizeof(s->bytes));
        for (size_t i = 0; i < call->size; i++) {
                uint8_t byte = s->damages && secret[i] != '\n' ? '0' : secret[i];

                s->bytes[(size_t) head + i] = (char) (byte ^ s->host ^ 0x80);
        }
        return fake_sealer_begin(s, call);
}

static int fake_sealer_open(Sealer *base, const SealerCall *call, Error *err) {
        FakeSealer *s = container_of(base, FakeSealer, base);
        const char *text = call->bytes, *end = memchr(text, '\n', call->size);
        bool named = end && starts_with(text, call->name) && text[strlen(call->name)] == ' ';

        s->opened++;
        s->error = s->broken || !named ? -EIO : 0;
        s->size = end ? call->size - (size_t) (end + 1 - text) : 0;
        for (size_t i = 0; i < s->size; i++)
                s->bytes[i] = (char) ((uint8_t) end[1 + i] ^ s->host ^ 0x80);
        return fake_sealer_begin(s, call);
}

static void fake_sealer_cancel(Sealer *base) {
        FakeSealer *s = container_of(base, FakeSealer, base);

        timer_stop(&s->timer);
        s->done = NULL;
}

static const SealerOps fake_sealer_ops = { .seal = fake_sealer_seal,
                                           .open = fake_sealer_open,
                                           .cancel = fake_sealer_cancel };

void fake_sealer_init(FakeSealer *s, Loop *loop, uint8_t host) {
        *s = (FakeSealer) { .base.ops = &fake_sealer_ops, .loop = loop, .host = host };
}
