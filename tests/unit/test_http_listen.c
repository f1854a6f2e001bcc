// SPDX-License-Identifier: BSD-3-Clause
// Where the server listens, and what a user is told who asks for the impossible. TLS if it was built in.
#include <sys/stat.h>

#include "http_harness.h"

#ifdef PR_HAVE_TLS
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#endif

#define HOST "Host: a\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/http_listen_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"s", "file", "a.pem", "a.key", "b.pem", "b.key"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(in_folder(names[i]));
    return rmdir(folder);
}

static void no_request(void *context, pr_http_exchange *exchange) { (void)context, (void)exchange; }

static void refused(pr_http_params params, pr_status expected, const char *words)
{
    pr_http_server *server;
    params.request = params.aborted = no_request;
    pr_error_capture_begin();
    pr_status status = pr_http_server_create(&params, &server);
    pr_error_capture_end();
    if (status != expected || !strstr(pr_error_text(), words))
        fail_msg("%s instead of %s", pr_error_text(), words);
}

// ---- TCP ----

static void try_host(const char *host, int family, const void *address, socklen_t bytes)
{
    harness *h = harness_begin((pr_http_params){.host = host});
    struct sockaddr_storage to = {0};
    memcpy(&to, address, bytes);
    client c = {.descriptor = socket(family, SOCK_STREAM, 0)};
    in_port_t port = htons((uint16_t)pr_http_server_port(h->server));
    if (family == AF_INET)
        ((struct sockaddr_in *)&to)->sin_port = port;
    else
        ((struct sockaddr_in6 *)&to)->sin6_port = port;
    assert_int_equal(connect(c.descriptor, (struct sockaddr *)&to, bytes), 0);
    client_send(&c, GET("/hello"));
    expect_reply(&c, 200, "hello");
    client_close(&c);
    harness_end(h);
}

static void hosts_are_names_and_addresses_of_both_kinds(void **state)
{
    (void)state;
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    try_host(NULL, AF_INET, &four, sizeof four);
    try_host("", AF_INET, &four, sizeof four);
    try_host("localhost", AF_INET, &four, sizeof four);
    try_host("127.0.0.1", AF_INET, &four, sizeof four);
    try_host("0.0.0.0", AF_INET, &four, sizeof four);
    int probe = socket(AF_INET6, SOCK_STREAM, 0);
    bool has_six = probe >= 0 && bind(probe, (struct sockaddr *)&six, sizeof six) == 0;
    close(probe);
    if (!has_six)
        return;
    try_host("::1", AF_INET6, &six, sizeof six);
    try_host("[::1]", AF_INET6, &six, sizeof six);
    try_host("::", AF_INET6, &six, sizeof six);
    try_host("::", AF_INET, &four, sizeof four);
}

static void impossible_addresses_are_told(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){0});
    int32_t port = pr_http_server_port(h->server);
    char words[64];
    assert_in_range(port, 1, 65535);
    snprintf(words, sizeof words, "port %d on 127.0.0.1 is in use: choose another", (int)port);
    refused((pr_http_params){.port = port}, PR_ERR_RESOURCE, words);
    refused((pr_http_params){.port = port}, PR_ERR_RESOURCE, "--port");
    harness_end(h);
    refused(
        (pr_http_params){.host = "no.such.host.invalid"}, PR_ERR_ARGUMENT, "cannot be resolved");
    refused(
        (pr_http_params){.host = "192.0.2.1"}, PR_ERR_ARGUMENT, "not an address of this machine");
    refused((pr_http_params){.port = 65536}, PR_ERR_ARGUMENT, "0..65535");
    refused((pr_http_params){.port = -1}, PR_ERR_ARGUMENT, "0..65535");
}

static void a_port_can_be_taken_again_at_once(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){0});
    int32_t port = pr_http_server_port(h->server);
    client c;
    client_open(&c, h);
    client_send(&c, "GET /hello HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    expect_reply(&c, 200, "hello");
    client_close(&c);
    harness_end(h);
    harness_end(harness_begin((pr_http_params){.port = port}));
}

// ---- Unix socket ----

static void unix_sockets_serve_and_replace_only_what_is_dead(void **state)
{
    (void)state;
    const char *path = in_folder("s");
    harness *h = harness_begin((pr_http_params){.uds = path});
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat file;
    strcpy(address.sun_path, path);
    assert_int_equal(pr_http_server_port(h->server), 0);
    assert_int_equal(lstat(path, &file), 0);
    assert_int_equal(file.st_mode & 0777, 0600);
    client c = {.descriptor = socket(AF_UNIX, SOCK_STREAM, 0)};
    assert_int_equal(connect(c.descriptor, (struct sockaddr *)&address, sizeof address), 0);
    client_send(&c, GET("/hello"));
    expect_reply(&c, 200, "hello");
    client_close(&c);
    refused((pr_http_params){.uds = path}, PR_ERR_RESOURCE, "in use by another server");
    harness_end(h);
    assert_int_equal(lstat(path, &file), -1);

    // What a killed server leaves.
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(dead, (struct sockaddr *)&address, sizeof address), 0);
    close(dead);
    assert_int_equal(lstat(path, &file), 0);
    harness_end(harness_begin((pr_http_params){.uds = path}));

    // A file that took the place of ours is not removed.
    h = harness_begin((pr_http_params){.uds = path});
    unlink(path);
    fclose(fopen(path, "w"));
    harness_end(h);
    assert_int_equal(lstat(path, &file), 0);
    refused((pr_http_params){.uds = path}, PR_ERR_ARGUMENT, "is not a socket");
    unlink(path);
}

static void socket_paths_have_107_bytes_at_most(void **state)
{
    (void)state;
    char path[120];
    int fixed = snprintf(path, sizeof path, "%s/", folder);
    memset(path + fixed, 'x', sizeof path - (size_t)fixed);
    path[108] = '\0';
    refused((pr_http_params){.uds = path}, PR_ERR_ARGUMENT, "this one has 108");
    path[107] = '\0';
    harness_end(harness_begin((pr_http_params){.uds = path}));
    refused((pr_http_params){.uds = ""}, PR_ERR_ARGUMENT, "1 to 107 bytes");
    refused((pr_http_params){.uds = "/nonexistent/s"}, PR_ERR_IO, "cannot listen");
}

// ---- TLS ----

#ifdef PR_HAVE_TLS
// A self-signed certificate NAME.pem and its key NAME.key.
static void make_certificate(const char *name)
{
    char file_name[32];
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    X509 *certificate = X509_new();
    assert_non_null(key);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(
        subject, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(certificate, subject);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    snprintf(file_name, sizeof file_name, "%s.pem", name);
    FILE *file = fopen(in_folder(file_name), "w");
    assert_int_equal(PEM_write_X509(file, certificate), 1);
    fclose(file);
    snprintf(file_name, sizeof file_name, "%s.key", name);
    file = fopen(in_folder(file_name), "w");
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

typedef struct tls_client {
    client wire;
    SSL_CTX *context;
    SSL *ssl;
} tls_client;

static void tls_open(tls_client *t, const harness *h)
{
    client_open(&t->wire, h);
    t->context = SSL_CTX_new(TLS_client_method());
    t->ssl = SSL_new(t->context);
    SSL_set_fd(t->ssl, t->wire.descriptor);
    assert_int_equal(SSL_connect(t->ssl), 1);
}

static void tls_close(tls_client *t)
{
    SSL_free(t->ssl);
    SSL_CTX_free(t->context);
    client_close(&t->wire);
}

static void tls_send(tls_client *t, const char *data, size_t bytes)
{
    assert_int_equal(SSL_write(t->ssl, data, (int)bytes), (int)bytes);
}

// Reads until `bytes` have come or the other side ends; returns how many.
static size_t tls_read(tls_client *t, char *data, size_t bytes)
{
    size_t got = 0;
    while (got < bytes) {
        int more = SSL_read(t->ssl, data + got, (int)(bytes - got));
        if (more <= 0)
            break;
        got += (size_t)more;
    }
    return got;
}

static harness *tls_begin(pr_http_params params)
{
    static char certificate[128], key[128];
    strcpy(certificate, in_folder("a.pem"));
    strcpy(key, in_folder("a.key"));
    params.certificate = certificate;
    params.key = key;
    return harness_begin(params);
}

static void replies_and_streams_go_over_tls(void **state)
{
    (void)state;
    make_certificate("a");
    harness *h = tls_begin((pr_http_params){0});
    tls_client t;
    static char data[8192];
    tls_open(&t, h);
    const char *ask = GET("/none");
    for (int i = 0; i < 3; i++) {
        tls_send(&t, ask, strlen(ask));
        size_t got = 0;
        while (!memmem(data, got, "\r\n\r\n", 4)) {
            size_t more = tls_read(&t, data + got, 1);
            assert_int_equal(more, 1);
            got += more;
        }
        assert_memory_equal(data, "HTTP/1.1 204", 12);
    }
    ask = "GET /events?100 HTTP/1.1\r\n" HOST "Connection: close\r\nX-Id: 9\r\n\r\n";
    tls_send(&t, ask, strlen(ask));
    assert_true(wait_for(&h->open, 1));
    for (int step = 1; step <= 100; step++) {
        atomic_store(&h->step, step);
        pr_http_server_wake(h->server);
        if (step % 10 == 0)
            usleep(1000);
    }
    size_t got = tls_read(&t, data, sizeof data - 1);
    data[got] = '\0';
    assert_int_equal(SSL_get_error(t.ssl, 0), SSL_ERROR_ZERO_RETURN);
    const char *at = data;
    for (int i = 0; i < 100; i++) {
        char event[64];
        snprintf(event, sizeof event, "data: stream 9 event %d\n\n", i);
        at = strstr(at, event);
        assert_non_null(at);
    }
    assert_string_equal(data + got - 5, "0\r\n\r\n");
    tls_close(&t);
    harness_end(h);
}

static void large_bodies_go_both_ways_over_tls(void **state)
{
    (void)state;
    enum { BIG = 2000000 };
    harness *h = tls_begin((pr_http_params){0});
    tls_client t;
    char *body = malloc(BIG), *back = malloc(BIG + 1024);
    for (size_t i = 0; i < BIG; i++)
        body[i] = pattern(i * 5);
    tls_open(&t, h);
    const char *ask =
        "POST /echo HTTP/1.1\r\n" HOST "Connection: close\r\nContent-Length: 2000000\r\n\r\n";
    tls_send(&t, ask, strlen(ask));
    tls_send(&t, body, BIG);
    size_t got = tls_read(&t, back, BIG + 1024);
    assert_true(got > BIG);
    assert_memory_equal(back, "HTTP/1.1 200", 12);
    assert_memory_equal(back + got - BIG, body, BIG);
    free(body);
    free(back);
    tls_close(&t);
    harness_end(h);
}

static void who_leaves_or_does_not_speak_tls_is_let_go(void **state)
{
    (void)state;
    harness *h = tls_begin((pr_http_params){.read_timeout_ms = 200});
    tls_client t;
    tls_open(&t, h);
    const char *ask = GET("/hold");
    tls_send(&t, ask, strlen(ask));
    assert_true(wait_for(&h->open, 1));
    tls_close(&t);
    assert_true(wait_for(&h->aborted, 1));
    tls_open(&t, h);
    ask = GET("/flood");
    tls_send(&t, ask, strlen(ask));
    assert_true(wait_for(&h->open, 1));
    for (int i = 0; i < 1000 && atomic_load(&h->aborted) == 1; i++) {
        pr_http_server_wake(h->server);
        usleep(1000);
    }
    assert_int_equal(atomic_load(&h->aborted), 2);
    tls_close(&t);
    client c;
    client_open(&c, h);
    client_send(&c, GET("/hello"));
    while (client_fill(&c))
        continue;
    client_close(&c);
    // A handshake that never begins is cut by time.
    client_open(&c, h);
    assert_true(client_at_end(&c));
    client_close(&c);
    assert_int_equal(atomic_load(&h->requests), 2);
    harness_end(h);
}

static void wrong_certificates_are_told(void **state)
{
    (void)state;
    char certificate[128], key[128], other[128], file[128];
    make_certificate("b");
    strcpy(certificate, in_folder("a.pem"));
    strcpy(key, in_folder("a.key"));
    strcpy(other, in_folder("b.key"));
    strcpy(file, in_folder("file"));
    FILE *nonsense = fopen(file, "w");
    fputs("nonsense\n", nonsense);
    fclose(nonsense);
    refused(
        (pr_http_params){.certificate = certificate, .key = other}, PR_ERR_ARGUMENT,
        "does not belong to");
    refused(
        (pr_http_params){.certificate = "/nonexistent", .key = key}, PR_ERR_IO,
        "cannot read --ssl-certfile");
    refused(
        (pr_http_params){.certificate = certificate, .key = "/nonexistent"}, PR_ERR_IO,
        "cannot read --ssl-keyfile");
    refused((pr_http_params){.certificate = file, .key = key}, PR_ERR_FORMAT, "no PEM certificate");
    refused((pr_http_params){.certificate = certificate, .key = file}, PR_ERR_FORMAT, "no PEM key");
    refused((pr_http_params){.certificate = certificate}, PR_ERR_ARGUMENT, "given together");
    refused((pr_http_params){.key = key}, PR_ERR_ARGUMENT, "given together");
}
#else
static void without_openssl_it_is_told(void **state)
{
    (void)state;
    refused((pr_http_params){.certificate = "a", .key = "b"}, PR_ERR_UNSUPPORTED, "OpenSSL");
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_are_names_and_addresses_of_both_kinds),
        cmocka_unit_test(impossible_addresses_are_told),
        cmocka_unit_test(a_port_can_be_taken_again_at_once),
        cmocka_unit_test(unix_sockets_serve_and_replace_only_what_is_dead),
        cmocka_unit_test(socket_paths_have_107_bytes_at_most),
#ifdef PR_HAVE_TLS
        cmocka_unit_test(replies_and_streams_go_over_tls),
        cmocka_unit_test(large_bodies_go_both_ways_over_tls),
        cmocka_unit_test(who_leaves_or_does_not_speak_tls_is_let_go),
        cmocka_unit_test(wrong_certificates_are_told),
#else
        cmocka_unit_test(without_openssl_it_is_told),
#endif
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
