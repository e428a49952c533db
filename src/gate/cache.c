/* Vouchers prepared ahead: a bounded, short-lived list that each leaves at most once (R9). */
#include <gate/ahead.h>

#include <base/cbor.h>
#include <base/crypto.h>
#include <gate/gate.h>

static clv_status put_pcrs(clv_buf *out, const clv_pcrs *pcrs, clv_error *err)
{
    CLV_TRY(clv_cbor_put_map(out, (size_t)__builtin_popcount(pcrs->present), err));
    for (unsigned i = 0; i < CLV_PCR_COUNT; i++) {
        if ((pcrs->present >> i & 1) == 0)
            continue;
        CLV_TRY(clv_cbor_put_uint(out, i, err));
        CLV_TRY(clv_cbor_put_bytes(out, CLV_BYTES(pcrs->value[i], CLV_PCR_SIZE), err));
    }
    return CLV_OK;
}

clv_status clv_cache_id(const clv_identity *identity, const clv_operation *operation,
                        uint8_t id[CLV_AHEAD_ID_SIZE], clv_error *err)
{
    clv_auto(clv_buf) both = CLV_BUF_INIT;
    CLV_TRY(put_pcrs(&both, &identity->pcrs, err));
    CLV_TRY(clv_operation_encode(operation, &both, err));
    return clv_sha384(clv_buf_bytes(&both), id, err);
}

/* With the lock. The voucher is the caller's. */
static clv_voucher *remove_at(clv_ahead *ahead, size_t i)
{
    clv_voucher *voucher = ahead->entry[i].voucher;
    ahead->entry_count--;
    memmove(&ahead->entry[i], &ahead->entry[i + 1],
            (ahead->entry_count - i) * sizeof ahead->entry[0]);
    return voucher;
}

size_t clv_cache_sweep(clv_ahead *ahead)
{
    for (size_t i = 0; i < ahead->entry_count;) {
        if (clv_voucher_half_spent(ahead->entry[i].voucher)) {
            clv_voucher *old = remove_at(ahead, i);
            clv_voucher_free(&old);
        } else
            i++;
    }
    return ahead->entry_count;
}

clv_voucher *clv_cache_take(clv_ahead *ahead, const uint8_t id[CLV_AHEAD_ID_SIZE])
{
    clv_voucher *found = NULL;
    pthread_mutex_lock(&ahead->lock);
    clv_cache_sweep(ahead);
    for (size_t i = 0; i < ahead->entry_count && found == NULL; i++) {
        if (memcmp(ahead->entry[i].id, id, CLV_AHEAD_ID_SIZE) == 0)
            found = remove_at(ahead, i);
    }
    pthread_mutex_unlock(&ahead->lock);
    return found;
}

void clv_cache_put(clv_ahead *ahead, const uint8_t id[CLV_AHEAD_ID_SIZE], clv_voucher **voucher)
{
    clv_voucher *old = NULL;
    pthread_mutex_lock(&ahead->lock);
    if (clv_cache_sweep(ahead) >= ahead->entry_max && ahead->entry_count > 0)
        old = remove_at(ahead, 0);
    if (ahead->entry_count < ahead->entry_max) {
        struct clv_ahead_entry *entry = &ahead->entry[ahead->entry_count++];
        memcpy(entry->id, id, CLV_AHEAD_ID_SIZE);
        entry->voucher = clv_voucher_move(voucher);
    }
    pthread_mutex_unlock(&ahead->lock);
    clv_voucher_free(&old);
    clv_voucher_free(voucher);
}
