#include <enclave/roots.h>

void clv_roots_init(clv_roots *roots)
{
    *roots = (clv_roots){.known = {false}};
    pthread_mutex_init(&roots->lock, NULL);
}

void clv_roots_drop(clv_roots *roots)
{
    pthread_mutex_destroy(&roots->lock);
}

clv_status clv_roots_check(clv_roots *roots, size_t key_index, const uint8_t id[CLV_DERIVE_ROOT_ID],
                           clv_error *err)
{
    pthread_mutex_lock(&roots->lock);
    bool known = roots->known[key_index];
    bool same = known && memcmp(roots->id[key_index], id, CLV_DERIVE_ROOT_ID) == 0;
    if (!known) {
        roots->known[key_index] = true;
        memcpy(roots->id[key_index], id, CLV_DERIVE_ROOT_ID);
    }
    pthread_mutex_unlock(&roots->lock);
    if (known && !same)
        return clv_fail(err, CLV_ROOT_CHANGED,
                        "expected the root that this key had before, found that the parent gave "
                        "another");
    return CLV_OK;
}
