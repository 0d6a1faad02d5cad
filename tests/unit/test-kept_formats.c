/* Files and frames that a former version has written, kept as they were (tests/formats/state-1: a host that
 * has joined by a token, while the root of its cluster is rotated). This version reads them. */
#include "tests/lib/test.h"
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <sys/stat.h>

#include "base/base64.h"
#include "fleetd/identity/authority_internal.h"
#include "fleetd/identity/identity.h"
#include "tests/lib/scratch.h"

#define MACHINE "00000000000000000000000000000002"
#define CLUSTER UINT64_C(0x144821faa9a0b5f4)
#define TIME_MS UINT64_C(1795420700000) /* when the certificate was valid */

static char *kept(const char *name, size_t *ret_size) {
        const char *top = getenv("srcdir");
        _cleanup_free_ char *path = NULL;
        static char bytes[65536];
        FILE *file;

        assert_true(asprintf(&path, "%s/tests/%s", top ?: ".", name) > 0);
        file = fopen(path, "r");
        if (!file)
                fail_msg("%s cannot be opened", path);
        *ret_size = fread(bytes, 1, sizeof(bytes) - 1, file);
        bytes[*ret_size] = 0;
        assert_int_equal(fclose(file), 0);
        return memcpy(malloc(*ret_size + 1), bytes, *ret_size + 1);
}

/* A repository keeps no modes: make a state directory as fleetd has written it. */
static char *state_directory(void) {
        static const char *const names[] = { "identity/key", "identity/certificate.pem", "identity/roots.pem",
                                             "secrets/key.1" };
        char *scratch = scratch_new();

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_free_ char *name = NULL, *path = scratch_path(scratch, names[i]), *text = NULL;
                _cleanup_free_ char *folder = strndup(path, (size_t) (strrchr(path, '/') - path));
                size_t size;

                assert_true(asprintf(&name, "formats/state-1/%s", names[i]) > 0);
                text = kept(name, &size);
                assert_true(mkdir(folder, 0700) == 0 || errno == EEXIST);
                scratch_write(path, text);
                assert_int_equal(chmod(path, 0600), 0);
        }
        return scratch;
}

static void know_replica(void *userdata, TlsRole role, const char *subject, TlsKnown *ret) {
        const TlsPin *pin = userdata;

        assert_int_equal(role, TLS_ROLE_REPLICA);
        assert_string_equal(subject, MACHINE);
        *ret = (TlsKnown) { .state = TLS_KNOWN, .replica = true, .n_pins = 1, .pins = { *pin } };
}

static void know_nothing(void *userdata, TlsRole role, const char *subject, TlsKnown *ret) {
        *ret = (TlsKnown) { .state = TLS_UNKNOWN, .chain_counts = true };
}

static void the_identity_of_a_host_is_read(void **state) {
        char *directory = state_directory();
        _cleanup_(tls_credentials_freep) TlsCredentials *credentials = NULL;
        _cleanup_identity_ HostIdentity identity = {};
        _cleanup_(tls_roots_freep) TlsRoots *roots = NULL;
        TlsCertificate certificate;
        TlsVerified verified;
        TlsCheck check = { .cluster_id = CLUSTER,
                           .roles = 1u << TLS_ROLE_REPLICA,
                           .now_ms = TIME_MS,
                           .known = know_replica,
                           .userdata = &certificate.pin };
        gnutls_datum_t der = {};
        Error err = {};

        if (identity_read(directory, &identity, &err) < 0 ||
            identity_read_credentials(directory, &credentials, &err) < 0 ||
            tls_roots_read(identity.roots, strlen(identity.roots), &roots, &err) < 0 ||
            tls_certificate_read(identity.certificate, strlen(identity.certificate), &certificate, &err) < 0)
                fail_msg("%s", err.message);
        assert_string_equal(certificate.uri.subject, MACHINE);
        assert_int_equal(identity_check_machine(directory, MACHINE, &err), 0);
        assert_int_equal(identity_check_machine(directory, "0123456789abcdef0123456789abcdef", &err), -EPERM);
        assert_non_null(strstr(err.message, "/identity belongs to machine "));
        assert_int_equal(gnutls_pem_base64_decode2("CERTIFICATE",
                                                   &(gnutls_datum_t) { (void *) identity.certificate,
                                                                       strlen(identity.certificate) },
                                                   &der),
                         0);
        check.roots = roots;
        if (tls_verify(&(TlsDer) { der.data, der.size }, 1, &check, &verified, &err) < 0)
                fail_msg("%s", err.message);
        assert_true(verified.by_pin);
        check.known = know_nothing;
        if (tls_verify(&(TlsDer) { der.data, der.size }, 1, &check, &verified, &err) < 0)
                fail_msg("%s", err.message);
        assert_false(verified.by_pin);
        gnutls_free(der.data);
        scratch_free(directory);
}

static void the_cluster_key_opens_the_private_key_of_each_root(void **state) {
        char *directory = state_directory();
        _cleanup_(ca_roots_record_done) CaRoots roots = {};
        _cleanup_(ca_keys_record_done) CaKeys keys = {};
        _cleanup_cluster_key_ ClusterKey key = {};
        _cleanup_free_ char *text = NULL, *keys_text = NULL;
        size_t size, keys_size;
        Error err = {};

        text = kept("formats/state-1/ca-roots.json", &size);
        keys_text = kept("formats/state-1/ca-key.json", &keys_size);
        if (stored_ca_roots_read(text, size, &roots, &err) < 0 ||
            stored_ca_keys_read(keys_text, keys_size, &keys, &err) < 0 ||
            cluster_key_read(directory, 1, &key, &err) < 0)
                fail_msg("%s", err.message);
        assert_int_equal(roots.n, 2);
        assert_int_equal(roots.items[1].state, CA_ROOT_NEXT);
        for (size_t i = 0; i < roots.n; i++) {
                const CaKey *sealed = ca_keys_find(&keys, roots.items[i].id);
                char context[CA_CONTEXT_SIZE], *pem, id[DIGEST_SIZE];
                _cleanup_(tls_private_key_freep) TlsPrivateKey *private_key = NULL;
                _cleanup_free_ char *bytes = NULL;
                TlsPin pin;

                assert_non_null(sealed);
                assert_int_equal(sealed->cluster_key, 1);
                assert_int_equal(base64_decode(sealed->sealed, strlen(sealed->sealed), &bytes, &size), 0);
                keys_ca_context(CLUSTER, sealed->root, context);
                assert_int_equal(unseal(key.bytes, context, strlen(context), bytes, size, &pem, &size), 0);
                assert_int_equal(tls_private_key_read(pem, size, &private_key, &err), 0);
                tls_secret_free(pem, size);
                tls_private_key_pin(private_key, &pin);
                tls_pin_print(&pin, id);
                assert_string_equal(id, sealed->root);
        }
        scratch_free(directory);
}

/* The frames are those of the fuzz corpus, without their first byte. */
static void a_request_to_join_is_read_and_written_as_it_was(void **state) {
        static const char *const names[] = { "fuzz/corpus/enter_message/request",
                                             "fuzz/corpus/enter_message/request-exposed" };

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_enter_request_ EnterRequest request = {};
                _cleanup_free_ char *bytes = NULL;
                _cleanup_writer_ Writer w = {};
                size_t size;
                Error err = {};

                bytes = kept(names[i], &size);
                if (enter_request_read(bytes + 1, size - 1, &request, &err) < 0)
                        fail_msg("%s: %s", names[i], err.message);
                assert_string_equal(request.token, "0123456789ab");
                assert_int_equal(request.exposed, i);
                enter_request_write(&request, &w);
                assert_int_equal(w.size, size - 1);
                assert_memory_equal(w.bytes, bytes + 1, size - 1);
        }
}

static void an_answer_to_it_is_read_and_written_as_it_was(void **state) {
        static const char *const names[] = { "fuzz/corpus/enter_message/accepted",
                                             "fuzz/corpus/enter_message/rejected" };

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_enter_answer_ EnterAnswer answer = {};
                _cleanup_free_ char *bytes = NULL;
                _cleanup_writer_ Writer w = {};
                size_t size;
                Error err = {};

                bytes = kept(names[i], &size);
                if (enter_answer_read(bytes + 1, size - 1, &answer, &err) < 0)
                        fail_msg("%s: %s", names[i], err.message);
                assert_int_equal(answer.refusal != NULL, i);
                enter_answer_write(&answer, &w);
                assert_int_equal(w.size, size - 1);
                assert_memory_equal(w.bytes, bytes + 1, size - 1);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_identity_of_a_host_is_read),
                cmocka_unit_test(the_cluster_key_opens_the_private_key_of_each_root),
                cmocka_unit_test(a_request_to_join_is_read_and_written_as_it_was),
                cmocka_unit_test(an_answer_to_it_is_read_and_written_as_it_was),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
