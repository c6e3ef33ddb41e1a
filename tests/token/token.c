/* A security key in software, for ssh-keygen's SSH_SK_PROVIDER (PROTOCOL.u2f and sk-api.h of OpenSSH 8.9 and later).
 *
 *   cc -shared -fPIC -o token.so token.c -lcrypto
 *
 * Its key handle is the private key. It is touched each time, unless TOKEN_FLAGS (hexadecimal) says what the signature
 * claims instead; TOKEN_ABSENT makes it a key that is not plugged in.
 */
#include <openssl/evp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ED25519 = 0x01, GENERAL = -1, UNSUPPORTED = -2, NOT_FOUND = -4, KEY_BYTES = 32, SIGNATURE_BYTES = 64, HASH_BYTES = 32 };

struct sk_enroll_response {
    uint8_t flags;
    uint8_t *public_key;
    size_t public_key_len;
    uint8_t *key_handle;
    size_t key_handle_len;
    uint8_t *signature;
    size_t signature_len;
    uint8_t *attestation_cert;
    size_t attestation_cert_len;
    uint8_t *authdata;
    size_t authdata_len;
};

struct sk_sign_response {
    uint8_t flags;
    uint32_t counter;
    uint8_t *sig_r;
    size_t sig_r_len;
    uint8_t *sig_s;
    size_t sig_s_len;
};

uint32_t sk_api_version(void) { return 0x000a0000; }

int sk_load_resident_keys(const char *pin, void *options, void ***keys, size_t *count) {
    (void)pin, (void)options, (void)keys, (void)count;
    return UNSUPPORTED;
}

int sk_enroll(uint32_t alg, const uint8_t *challenge, size_t challenge_len, const char *application, uint8_t flags,
              const char *pin, void *options, struct sk_enroll_response **made) {
    (void)challenge, (void)challenge_len, (void)application, (void)pin, (void)options;
    if (getenv("TOKEN_ABSENT")) return NOT_FOUND;
    if (alg != ED25519) return UNSUPPORTED;
    struct sk_enroll_response *response = calloc(1, sizeof *response);
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    if (!response || !key) return GENERAL;
    response->flags = flags;
    response->public_key_len = response->key_handle_len = KEY_BYTES;
    response->public_key = malloc(KEY_BYTES);
    response->key_handle = malloc(KEY_BYTES);
    response->signature = calloc(1, 1);
    if (EVP_PKEY_get_raw_public_key(key, response->public_key, &response->public_key_len) != 1 ||
        EVP_PKEY_get_raw_private_key(key, response->key_handle, &response->key_handle_len) != 1)
        return GENERAL;
    EVP_PKEY_free(key);
    *made = response;
    return 0;
}

/* What is signed: SHA-256 of the application, flags, counter, SHA-256 of the data. */
int sk_sign(uint32_t alg, const uint8_t *data, size_t data_len, const char *application, const uint8_t *key_handle,
            size_t key_handle_len, uint8_t flags, const char *pin, void *options, struct sk_sign_response **made) {
    (void)pin, (void)options;
    const char *claimed = getenv("TOKEN_FLAGS");
    uint8_t message[HASH_BYTES + 1 + 4 + HASH_BYTES] = {0};
    size_t length = SIGNATURE_BYTES;
    if (getenv("TOKEN_ABSENT")) return NOT_FOUND;
    if (alg != ED25519 || key_handle_len != KEY_BYTES) return UNSUPPORTED;
    struct sk_sign_response *response = calloc(1, sizeof *response);
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, key_handle, key_handle_len);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (!response || !key || !context) return GENERAL;
    response->flags = claimed ? (uint8_t)strtoul(claimed, NULL, 16) : flags;
    response->counter = 7;
    response->sig_r = malloc(SIGNATURE_BYTES);
    message[HASH_BYTES] = response->flags;
    message[HASH_BYTES + 4] = (uint8_t)response->counter;
    if (!EVP_Q_digest(NULL, "SHA256", NULL, application, strlen(application), message, NULL) ||
        !EVP_Q_digest(NULL, "SHA256", NULL, data, data_len, message + HASH_BYTES + 5, NULL) ||
        EVP_DigestSignInit(context, NULL, NULL, NULL, key) != 1 ||
        EVP_DigestSign(context, response->sig_r, &length, message, sizeof message) != 1)
        return GENERAL;
    response->sig_r_len = length;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    *made = response;
    return 0;
}
