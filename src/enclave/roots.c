#include <enclave/roots.h>

void clv_roots_init(clv_roots *roots)
{
    *roots = (clv_roots){.known = {false}};
    pthread_mutex_init(&roots->lock, NULL);
}

void clv_roots_drop(clv_roots *roots)
{
    for (size_t i = 0; i < CLV_POLICY_KEYS_MAX; i++)
        clv_buf_drop(&roots->blob[i]);
    pthread_mutex_destroy(&roots->lock);
}

clv_status clv_roots_find(clv_roots *roots, size_t key_index, clv_buf *blob, clv_error *err)
{
    pthread_mutex_lock(&roots->lock);
    clv_status status = clv_buf_append(blob, clv_buf_bytes(&roots->blob[key_index]), err);
    pthread_mutex_unlock(&roots->lock);
    return status;
}

clv_status clv_roots_check(clv_roots *roots, size_t key_index, clv_bytes blob,
                           const uint8_t id[CLV_DERIVE_ROOT_ID], clv_error *err)
{
    clv_status status = CLV_OK;
    pthread_mutex_lock(&roots->lock);
    bool known = roots->known[key_index];
    bool same = known && memcmp(roots->id[key_index], id, CLV_DERIVE_ROOT_ID) == 0;
    if (!known)
        status = clv_buf_append(&roots->blob[key_index], blob, err);
    if (!known && status == CLV_OK) {
        roots->known[key_index] = true;
        memcpy(roots->id[key_index], id, CLV_DERIVE_ROOT_ID);
    }
    pthread_mutex_unlock(&roots->lock);
    if (known && !same)
        return clv_fail(err, CLV_ROOT_CHANGED,
                        "expected the root that this key had before, found that the parent gave "
                        "another");
    return status;
}
