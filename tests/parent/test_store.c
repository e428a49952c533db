/* The parent's store: compare-and-swap, durability across processes, and what it refuses to open.
 */
#include "../check.h"

#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <base/file.h>
#include <parent/store.h>

static char address[160];
#define PATH (address + strlen("sqlite:"))

static void remove_files(void)
{
    static const char *const suffix[] = {"", "-wal", "-shm"};
    char path[200];
    for (size_t i = 0; i < ROWS(suffix); i++) {
        snprintf(path, sizeof path, "%s%s", PATH, suffix[i]);
        unlink(path);
    }
}

static void expect_state(clv_store *store, const char *name, int64_t generation, const char *blob)
{
    clv_auto(clv_buf) found = CLV_BUF_INIT;
    int64_t found_generation = 0;
    assert_ok(clv_store_get(store, name, &found_generation, &found, err));
    assert_int_equal(found_generation, generation);
    assert_true(clv_bytes_equal(clv_buf_bytes(&found), clv_bytes_of(blob)));
}

static void a_put_needs_the_generation_before_it(void **state)
{
    (void)state;
    clv_auto_ptr(clv_store) store = NULL;
    assert_ok(clv_store_open(address, &store, err));
    assert_code(clv_store_put(store, "a", 2, clv_bytes_of("2"), err), CLV_STATE_CONFLICT);
    assert_ok(clv_store_put(store, "a", 1, clv_bytes_of("1"), err));
    assert_code(clv_store_put(store, "a", 1, clv_bytes_of("x"), err), CLV_STATE_CONFLICT);
    assert_code(clv_store_put(store, "a", 3, clv_bytes_of("x"), err), CLV_STATE_CONFLICT);
    expect_state(store, "a", 1, "1");
    assert_ok(clv_store_put(store, "a", 2, clv_bytes_of("2"), err));
    expect_state(store, "a", 2, "2");
}

static void a_delete_needs_the_generation_that_is_there(void **state)
{
    (void)state;
    clv_auto_ptr(clv_store) store = NULL;
    clv_auto(clv_buf) blob = CLV_BUF_INIT;
    int64_t generation;
    assert_ok(clv_store_open(address, &store, err));
    assert_ok(clv_store_put(store, "a", 1, clv_bytes_of("1"), err));
    assert_code(clv_store_delete(store, "a", 2, err), CLV_STATE_CONFLICT);
    assert_code(clv_store_delete(store, "b", 1, err), CLV_STATE_NOT_FOUND);
    expect_state(store, "a", 1, "1");
    assert_ok(clv_store_delete(store, "a", 1, err));
    assert_code(clv_store_get(store, "a", &generation, &blob, err), CLV_STATE_NOT_FOUND);
    assert_ok(clv_store_put(store, "a", 1, clv_bytes_of("again"), err));
}

static void a_list_holds_the_names_with_the_prefix_alone(void **state)
{
    (void)state;
    static const char *const name[] = {"k/a", "k/ab", "k%a", "l/a"};
    clv_auto_ptr(clv_store) store = NULL;
    clv_auto(clv_json) list = NULL;
    assert_ok(clv_store_open(address, &store, err));
    for (size_t i = 0; i < ROWS(name); i++)
        assert_ok(clv_store_put(store, name[i], 1, clv_bytes_of("xyz"), err));
    assert_ok(clv_store_list(store, "k/", "", 10, &list, err));
    assert_int_equal(json_array_size(list), 2);
    json_t *first = json_array_get(list, 0);
    assert_string_equal(json_string_value(json_object_get(first, "name")), "k/a");
    assert_int_equal(json_integer_value(json_object_get(first, "generation")), 1);
    assert_int_equal(json_integer_value(json_object_get(first, "size")), 3);
}

static void a_key_is_never_overwritten(void **state)
{
    (void)state;
    clv_auto_ptr(clv_store) store = NULL;
    clv_auto(clv_buf) blob = CLV_BUF_INIT;
    assert_ok(clv_store_open(address, &store, err));
    assert_code(clv_store_key_get(store, "k", &blob, err), CLV_STATE_NOT_FOUND);
    assert_ok(clv_store_key_put(store, "k", clv_bytes_of("one"), err));
    assert_code(clv_store_key_put(store, "k", clv_bytes_of("two"), err), CLV_STATE_CONFLICT);
    assert_ok(clv_store_key_get(store, "k", &blob, err));
    assert_bytes(clv_buf_bytes(&blob), "one");
}

/* The child acknowledges each put through a pipe; it is killed in the middle of its work. */
static void what_was_acknowledged_outlives_kill_9(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        int pipe_fd[2];
        remove_files();
        assert_int_equal(pipe(pipe_fd), 0);
        pid_t child = fork();
        assert_int_not_equal(child, -1);
        if (child == 0) {
            clv_store *store = NULL;
            if (clv_store_open(address, &store, NULL) != CLV_OK)
                _exit(1);
            for (uint8_t g = 1; clv_store_put(store, "a", g, clv_bytes_of("x"), NULL) == CLV_OK;
                 g++) {
                if (write(pipe_fd[1], &g, 1) != 1)
                    _exit(1);
            }
            _exit(1);
        }
        close(pipe_fd[1]);
        uint8_t acknowledged = 0, next;
        while (acknowledged < 3 + round && read(pipe_fd[0], &next, 1) == 1)
            acknowledged = next;
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(pipe_fd[0], &next, 1) == 1)
            acknowledged = next;
        close(pipe_fd[0]);

        clv_auto_ptr(clv_store) store = NULL;
        clv_auto(clv_buf) blob = CLV_BUF_INIT;
        int64_t generation = 0;
        assert_true(acknowledged >= 3);
        assert_ok(clv_store_open(address, &store, err));
        assert_ok(clv_store_get(store, "a", &generation, &blob, err));
        assert_in_range(generation, acknowledged, acknowledged + 1);
    }
}

static void a_file_that_is_no_store_stays_untouched(void **state)
{
    (void)state;
    clv_auto_ptr(clv_store) store = NULL;
    clv_auto(clv_buf) content = CLV_BUF_INIT;
    assert_ok(
        clv_file_write(PATH, clv_bytes_of("this is somebody's letter, not a database"), 0600, err));
    assert_code(clv_store_open(address, &store, err), CLV_STORE_FAILED);
    assert_null(store);
    assert_ok(clv_file_read(PATH, 100, &content, err));
    assert_bytes(clv_buf_bytes(&content), "this is somebody's letter, not a database");
}

static void another_programs_database_is_refused_and_stays_untouched(void **state)
{
    (void)state;
    clv_auto_ptr(clv_store) store = NULL;
    clv_auto(clv_buf) before = CLV_BUF_INIT;
    clv_auto(clv_buf) after = CLV_BUF_INIT;
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(PATH, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE state (x)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_ok(clv_file_read(PATH, 1 << 20, &before, err));
    assert_code(clv_store_open(address, &store, err), CLV_STORE_FAILED);
    assert_ok(clv_file_read(PATH, 1 << 20, &after, err));
    assert_true(clv_bytes_equal(clv_buf_bytes(&before), clv_buf_bytes(&after)));
}

/* Each opens the file that nobody has made yet, all at once, and puts a state of its own. */
static int open_and_put(int start, int which)
{
    clv_store *store = NULL;
    char name[8], go;
    snprintf(name, sizeof name, "p%d", which);
    if (read(start, &go, 1) != 0)
        return 1;
    clv_error err = {.code = CLV_OK};
    if (clv_store_open(address, &store, &err) != CLV_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 2;
    }
    return clv_store_put(store, name, 1, clv_bytes_of(name), NULL) == CLV_OK ? 0 : 3;
}

static void processes_that_find_no_file_share_the_one_they_make(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        int start[2];
        pid_t child[8];
        remove_files();
        assert_int_equal(pipe(start), 0);
        for (int i = 0; i < (int)ROWS(child); i++) {
            child[i] = fork();
            assert_int_not_equal(child[i], -1);
            if (child[i] == 0) {
                close(start[1]);
                _exit(open_and_put(start[0], i));
            }
        }
        close(start[0]);
        close(start[1]);
        for (size_t i = 0; i < ROWS(child); i++) {
            int status = -1;
            waitpid(child[i], &status, 0);
            assert_int_equal(status, 0);
        }
        clv_auto_ptr(clv_store) store = NULL;
        clv_auto(clv_json) list = NULL;
        assert_ok(clv_store_open(address, &store, err));
        assert_ok(clv_store_list(store, "", "", 10, &list, err));
        assert_int_equal(json_array_size(list), ROWS(child));
    }
}

static void addresses_of_no_store_are_usage_errors(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "sqlite:", "file:/x", "/x", "etcd"};
    clv_auto_ptr(clv_store) store = NULL;
    for (size_t i = 0; i < ROWS(bad); i++)
        assert_code(clv_store_open(bad[i], &store, err), CLV_USAGE);
}

static int fresh(void **state)
{
    (void)state;
    remove_files();
    return 0;
}

static int make_directory(void **state)
{
    (void)state;
    static char directory[] = "/tmp/claviger-store-XXXXXX";
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(address, sizeof address, "sqlite:%s/store.db", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    remove_files();
    *strrchr(address, '/') = '\0';
    return rmdir(PATH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_put_needs_the_generation_before_it, fresh),
        cmocka_unit_test_setup(a_delete_needs_the_generation_that_is_there, fresh),
        cmocka_unit_test_setup(a_list_holds_the_names_with_the_prefix_alone, fresh),
        cmocka_unit_test_setup(a_key_is_never_overwritten, fresh),
        cmocka_unit_test_setup(what_was_acknowledged_outlives_kill_9, fresh),
        cmocka_unit_test_setup(a_file_that_is_no_store_stays_untouched, fresh),
        cmocka_unit_test_setup(another_programs_database_is_refused_and_stays_untouched, fresh),
        cmocka_unit_test_setup(processes_that_find_no_file_share_the_one_they_make, fresh),
        cmocka_unit_test_setup(addresses_of_no_store_are_usage_errors, fresh),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
