#include "fleetd/identity/opening.h"

#include "fleetd/identity/cluster_file.h"
#include "fleetd/identity/identity.h"

struct Opening {
        Authority *authority;
        const char *state_directory, *cluster_file; /* "": the address is set elsewhere */
        char *key;                                  /* PEM */
        EnteringResult result;
        EnteringDone *done;
        void *userdata;
};

/* The identity is written first: with an address and without an identity, a start would be refused. */
static int opening_store(Opening *o, const EnterAnswer *answer, Error *err) {
        _cleanup_text_ Text file = {};
        int r;

        cluster_file_print(&file, o->result.listen, "");
        if (file.error < 0)
                return file.error;
        r = identity_store_first(o->state_directory, o->key, answer->certificate, answer->roots, err);
        if (r == -EEXIST) /* of a former attempt, with the same key */
                r = identity_renew(o->state_directory, answer->certificate, answer->roots, err);
        if (r < 0 || !o->cluster_file[0])
                return r;
        r = cluster_file_write(o->cluster_file, file.chars);
        return r < 0 ? error_set(err, r, "Failed to write %s: %s", o->cluster_file, strerror(-r)) : 0;
}

static void opening_on_issued(void *userdata, int error, const char *message, const AuthorityResult *result) {
        Opening *o = userdata;
        Error err = {};
        int r;

        if (!result) {
                o->done(o->userdata, error, message, NULL);
                return;
        }
        r = opening_store(o, result->answer, &err);
        o->result.cluster_id = result->answer->cluster_id;
        o->done(o->userdata, r, r < 0 ? error_text(&err, r) : "", r < 0 ? NULL : &o->result);
}

static int opening_begin(Opening *o, Error *err) {
        _cleanup_(tls_private_key_freep) TlsPrivateKey *key = NULL;
        _cleanup_text_ Text request = {};
        int r;

        TRY(cluster_file_check(o->cluster_file, err));
        TRY(identity_key(o->state_directory, &o->key, &key, err));
        r = tls_request_create(key, &request, err);
        return r < 0 ? r : authority_enroll(o->authority, request.chars, opening_on_issued, o, err);
}

int opening_new(Opening **ret, const ComponentHost *host, const char *listen, EnteringDone *done,
                void *userdata, Error *err) {
        Opening *o = NEW0(Opening, 1);
        int r;

        if (!o)
                return -ENOMEM;
        *o = (Opening) { .authority = host->authority,
                         .state_directory = host->settings->state_directory,
                         .cluster_file = peers_self(host->peers)->address[0] ? "" :
                                                                               host->settings->cluster_file,
                         .done = done,
                         .userdata = userdata };
        snprintf(o->result.listen, sizeof(o->result.listen), "%s", listen);
        r = opening_begin(o, err);
        if (r < 0) {
                opening_free(o);
                return r;
        }
        *ret = o;
        return 0;
}

Opening *opening_free(Opening *o) {
        if (!o)
                return NULL;

        authority_cancel(o->authority, o);
        identity_wipe(o->key);
        free(o);
        return NULL;
}
