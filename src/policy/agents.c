/* The policy's section "agents", and what it allows: default deny (R22). */
#include <policy/policy.h>

#include <inttypes.h>
#include <stdio.h>

/* Every verb that an agent can be given. Those that take a name may end in "/pattern". */
static const char *const verb_table[] = {
    "seal", "unseal", "delete",  "derive",   "public",  "sign",
    "hmac", "attest", "decrypt", "generate", "witness",
};

static bool is_verb(clv_bytes verb)
{
    for (size_t i = 0; i < sizeof verb_table / sizeof verb_table[0]; i++) {
        if (clv_bytes_equal(verb, clv_bytes_of(verb_table[i])))
            return true;
    }
    return false;
}

/* "verb:key" or "verb:key/pattern", the key being one of the policy. */
static clv_status check_capability(const clv_policy *policy, const char *text, const char *path,
                                   clv_error *err)
{
    const char *colon = strchr(text, ':');
    if (colon == NULL || strlen(text) > CLV_CAPABILITY_MAX ||
        !is_verb(CLV_BYTES(text, (size_t)(colon - text))))
        return clv_fail(err, CLV_POLICY_FORMAT,
                        "%s: expected VERB:KEY or VERB:KEY/PATTERN, VERB one of seal, unseal, "
                        "delete, derive, public, sign, hmac, attest, decrypt, generate, witness; "
                        "found \"%.60s\"",
                        path, text);
    char key[CLV_POLICY_NAME_MAX + 1];
    size_t n = strcspn(colon + 1, "/");
    snprintf(key, sizeof key, "%.*s", (int)(n < sizeof key ? n : 0), colon + 1);
    if (clv_policy_find_key(policy, key) == NULL)
        return clv_fail(err, CLV_POLICY_FORMAT,
                        "%s: expected a key of this policy, found \"%.80s\"", path, colon + 1);
    const char *star = strchr(colon + 1 + n, '*');
    if (colon[1 + n] == '/' && (colon[2 + n] == '\0' || (star != NULL && star[1] != '\0')))
        return clv_fail(err, CLV_POLICY_FORMAT,
                        "%s: expected a pattern with \"*\" at its end alone, found \"%.80s\"", path,
                        text);
    return CLV_OK;
}

static clv_status read_may(const clv_policy *policy, const json_t *list, const char *path,
                           clv_policy_agent *out, clv_error *err)
{
    if (!json_is_array(list) || json_array_size(list) > CLV_CAPABILITIES_MAX)
        return clv_fail(
            err, CLV_JSON_TYPE, "%s.may: expected a list of at most %d capabilities, found %s",
            path, CLV_CAPABILITIES_MAX, json_is_array(list) ? "more" : clv_json_type_name(list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        char at[64];
        const char *text = json_string_value(json_array_get(list, i));
        snprintf(at, sizeof at, "%s.may[%zu]", path, i);
        if (text == NULL)
            return clv_fail(err, CLV_JSON_TYPE, "%s: expected a string, found %s", at,
                            clv_json_type_name(json_array_get(list, i)));
        CLV_TRY(check_capability(policy, text, at, err));
        CLV_TRY(clv_text_dup(clv_bytes_of(text), &out->may[out->may_count], err));
        out->may_count++;
    }
    return CLV_OK;
}

static clv_status read_agent(const clv_policy *policy, size_t index, const json_t *json,
                             clv_policy_agent *out, clv_error *err)
{
    clv_json_reader r;
    char path[32];
    int64_t uid = -1, gid = -1;
    const char *exe = NULL;
    json_t *may;
    snprintf(path, sizeof path, "agents[%zu]", index);
    CLV_TRY(clv_json_open(&r, json, path, err));
    CLV_TRY(clv_json_integer(&r, "uid", 0, UINT32_MAX - 1, &uid, err));
    CLV_TRY(clv_json_integer(&r, "gid", 0, UINT32_MAX - 1, &gid, err));
    CLV_TRY(clv_json_text(&r, "exe_sha256", &exe, err));
    CLV_TRY(clv_json_need_value(&r, "may", &may, err));
    CLV_TRY(read_may(policy, may, path, out, err));
    CLV_TRY(clv_json_done(&r, err));
    if (uid < 0 && gid < 0)
        return clv_fail(err, CLV_JSON_MISSING, "%s: expected uid or gid, found neither", path);
    out->any_uid = uid < 0;
    out->any_gid = gid < 0;
    out->any_exe = exe == NULL;
    out->uid = (uint32_t)uid;
    out->gid = (uint32_t)gid;
    if (exe == NULL)
        return CLV_OK;
    clv_status status =
        clv_hex_decode_exact(clv_bytes_of(exe), out->exe_sha256, CLV_EXE_DIGEST_SIZE, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "%s.exe_sha256", path);
}

clv_status clv_policy_read_agents(const json_t *agents, clv_policy *out, clv_error *err)
{
    if (!json_is_array(agents) || json_array_size(agents) > CLV_POLICY_AGENTS_MAX)
        return clv_fail(err, CLV_JSON_TYPE, "agents: expected a list of at most %d, found %s",
                        CLV_POLICY_AGENTS_MAX,
                        json_is_array(agents) ? "more" : clv_json_type_name(agents));
    for (size_t i = 0; i < json_array_size(agents); i++) {
        clv_policy_agent *agent = &out->agent[out->agent_count++];
        CLV_TRY(read_agent(out, i, json_array_get(agents, i), agent, err));
    }
    return CLV_OK;
}

static bool matches_name(const char *pattern, const char *name)
{
    size_t n = strlen(pattern);
    if (n > 0 && pattern[n - 1] == '*')
        return strncmp(pattern, name, n - 1) == 0;
    return strcmp(pattern, name) == 0;
}

/* Whether one capability covers the verb, the key and the name; NULL: some name. */
static bool covers(const char *capability, const char *verb, const char *key, const char *name)
{
    size_t verb_size = strlen(verb), key_size = strlen(key);
    if (strncmp(capability, verb, verb_size) != 0 || capability[verb_size] != ':')
        return false;
    const char *rest = capability + verb_size + 1;
    if (strncmp(rest, key, key_size) != 0)
        return false;
    rest += key_size;
    return *rest == '\0' || (*rest == '/' && (name == NULL || matches_name(rest + 1, name)));
}

static bool has_ids(const clv_policy_agent *agent, uint32_t uid, uint32_t gid)
{
    return (agent->any_uid || agent->uid == uid) && (agent->any_gid || agent->gid == gid);
}

bool clv_policy_is_agent(const clv_policy_agent *agent, const clv_caller *caller)
{
    if (!has_ids(agent, caller->uid, caller->gid))
        return false;
    return agent->any_exe ||
           (caller->exe_sha256 != NULL &&
            memcmp(agent->exe_sha256, caller->exe_sha256, CLV_EXE_DIGEST_SIZE) == 0);
}

const clv_policy_agent *clv_policy_exe_row(const clv_policy *policy, uint32_t uid, uint32_t gid)
{
    for (size_t i = 0; i < policy->agent_count; i++) {
        if (!policy->agent[i].any_exe && has_ids(&policy->agent[i], uid, gid))
            return &policy->agent[i];
    }
    return NULL;
}

/* What a denial says of the executable, where the table asks for one: ", executable 12ab…". */
static void describe_exe(const clv_policy *policy, const clv_caller *caller, char *out, size_t size)
{
    out[0] = '\0';
    if (clv_policy_exe_row(policy, caller->uid, caller->gid) == NULL)
        return;
    if (caller->exe_sha256 == NULL) {
        snprintf(out, size, ", executable not measurable");
        return;
    }
    int n = snprintf(out, size, ", executable ");
    for (size_t i = 0; i < CLV_EXE_DIGEST_SIZE; i++)
        n += snprintf(out + n, size - (size_t)n, "%02x", caller->exe_sha256[i]);
}

clv_status clv_policy_allow(const clv_policy *policy, const clv_caller *caller, const char *verb,
                            const char *key, const char *name, clv_error *err)
{
    bool known = false;
    char exe[96];
    for (size_t i = 0; i < policy->agent_count; i++) {
        const clv_policy_agent *agent = &policy->agent[i];
        if (!clv_policy_is_agent(agent, caller))
            continue;
        known = true;
        for (size_t k = 0; k < agent->may_count; k++) {
            if (covers(agent->may[k], verb, key, name))
                return CLV_OK;
        }
    }
    describe_exe(policy, caller, exe, sizeof exe);
    bool named = name != NULL && name[0] != '\0';
    if (!known)
        return clv_fail(err, CLV_AGENT_UNKNOWN,
                        "expected an agent of the policy, found uid %" PRIu32 ", gid %" PRIu32 "%s",
                        caller->uid, caller->gid, exe);
    return clv_fail(err, CLV_CAPABILITY_MISSING, "the agent lacks the capability %s:%s%s%s%s", verb,
                    key, named ? "/" : "", named ? name : "", exe);
}
