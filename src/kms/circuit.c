#include <kms/circuit.h>

#include <inttypes.h>

void clv_circuit_init(clv_circuit *circuit)
{
    *circuit = (clv_circuit){.failures = 0};
    pthread_mutex_init(&circuit->lock, NULL);
}

void clv_circuit_drop(clv_circuit *circuit)
{
    pthread_mutex_destroy(&circuit->lock);
}

static clv_status check_locked(const clv_circuit *circuit, uint64_t now_ms, clv_error *err)
{
    if (circuit->wait_ms == 0)
        return CLV_OK;
    if (now_ms < circuit->open_until_ms)
        return clv_fail(err, CLV_KMS_CIRCUIT,
                        "KMS failed %u times in a row: not tried again for %" PRIu64 " ms",
                        circuit->failures, circuit->open_until_ms - now_ms);
    if (circuit->probing)
        return clv_fail(err, CLV_KMS_CIRCUIT,
                        "KMS failed %u times in a row: another call is trying it now",
                        circuit->failures);
    return CLV_OK;
}

clv_status clv_circuit_check(clv_circuit *circuit, uint64_t now_ms, clv_error *err)
{
    pthread_mutex_lock(&circuit->lock);
    clv_status status = check_locked(circuit, now_ms, err);
    pthread_mutex_unlock(&circuit->lock);
    return status;
}

clv_status clv_circuit_enter(clv_circuit *circuit, uint64_t now_ms, bool *probe, clv_error *err)
{
    pthread_mutex_lock(&circuit->lock);
    clv_status status = check_locked(circuit, now_ms, err);
    *probe = status == CLV_OK && circuit->wait_ms > 0;
    circuit->probing = circuit->probing || *probe;
    pthread_mutex_unlock(&circuit->lock);
    return status;
}

void clv_circuit_read(clv_circuit *circuit, uint64_t now_ms, clv_circuit_state *out)
{
    pthread_mutex_lock(&circuit->lock);
    bool open = circuit->wait_ms > 0 && now_ms < circuit->open_until_ms;
    *out = (clv_circuit_state){circuit->failures, open ? circuit->open_until_ms - now_ms : 0};
    pthread_mutex_unlock(&circuit->lock);
}

static uint64_t next_wait(uint64_t wait_ms)
{
    if (wait_ms == 0)
        return CLV_CIRCUIT_WAIT_MIN_MS;
    return wait_ms * 2 < CLV_CIRCUIT_WAIT_MAX_MS ? wait_ms * 2 : CLV_CIRCUIT_WAIT_MAX_MS;
}

void clv_circuit_leave(clv_circuit *circuit, uint64_t now_ms, bool probe, bool answered)
{
    pthread_mutex_lock(&circuit->lock);
    circuit->probing = circuit->probing && !probe;
    if (answered) {
        circuit->failures = 0;
        circuit->wait_ms = 0;
    } else {
        circuit->failures++;
        /* Calls that were under way when it opened do not lengthen the wait. */
        if (probe || (circuit->wait_ms == 0 && circuit->failures >= CLV_CIRCUIT_FAILURES)) {
            circuit->wait_ms = next_wait(circuit->wait_ms);
            circuit->open_until_ms = now_ms + circuit->wait_ms;
        }
    }
    pthread_mutex_unlock(&circuit->lock);
}
