/* RSA keys for vouchers: one for each, made ahead where the gate works ahead. */
#include <gate/ahead.h>

#include <openssl/rsa.h>

#include <base/crypto.h>

/* The only size that KMS is known to take (3072 and 4096 are not confirmed). */
#define RSA_BITS 2048

clv_status clv_key_make(EVP_PKEY **out, clv_error *err)
{
    *out = EVP_RSA_gen(RSA_BITS);
    return *out != NULL ? CLV_OK : clv_fail_openssl(err, CLV_INTERNAL, "no RSA key");
}

clv_status clv_key_take(clv_ahead *ahead, bool *pooled, EVP_PKEY **out, clv_error *err)
{
    pthread_mutex_lock(&ahead->lock);
    *pooled = ahead->key_count > 0;
    if (*pooled) {
        *out = ahead->key[--ahead->key_count];
        ahead->key[ahead->key_count] = NULL;
    }
    pthread_cond_signal(&ahead->wake);
    pthread_mutex_unlock(&ahead->lock);
    return *pooled ? CLV_OK : clv_key_make(out, err);
}
