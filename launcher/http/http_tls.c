// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/http/http_tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"

#ifdef PR_HAVE_TLS
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

struct pr_http_tls {
    SSL_CTX *context;
};

// An encrypted key would make OpenSSL ask on the terminal.
static int no_password(char *buffer, int size, int writing, void *user)
{
    (void)buffer, (void)size, (void)writing, (void)user;
    return 0;
}

static int choose_protocol(
    SSL *ssl,
    const unsigned char **out,
    unsigned char *out_bytes,
    const unsigned char *in,
    unsigned int in_bytes,
    void *user)
{
    static const unsigned char ours[] = "\x08http/1.1";
    (void)ssl, (void)user;
    unsigned char *chosen;
    int code = SSL_select_next_proto(&chosen, out_bytes, ours, sizeof ours - 1, in, in_bytes);
    *out = chosen;
    return code == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

static pr_status load(SSL_CTX *context, const char *certificate, const char *key)
{
    if (access(certificate, R_OK) != 0)
        return pr_fail(
            PR_ERR_IO, "cannot read --ssl-certfile %s: %s", certificate, strerror(errno));
    if (access(key, R_OK) != 0)
        return pr_fail(PR_ERR_IO, "cannot read --ssl-keyfile %s: %s", key, strerror(errno));
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
        return pr_fail(
            PR_ERR_FORMAT, "--ssl-certfile %s holds no PEM certificate that can be used",
            certificate);
    SSL_CTX_set_default_passwd_cb(context, no_password);
    if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1)
        return PR_OK;
    unsigned long code = ERR_peek_last_error();
    if (ERR_GET_LIB(code) == ERR_LIB_X509 && ERR_GET_REASON(code) == X509_R_KEY_VALUES_MISMATCH)
        return pr_fail(
            PR_ERR_ARGUMENT, "--ssl-keyfile %s does not belong to --ssl-certfile %s", key,
            certificate);
    return pr_fail(
        PR_ERR_FORMAT,
        "--ssl-keyfile %s holds no PEM key that can be used (an encrypted one must be decrypted)",
        key);
}

pr_status pr_http_tls_open(const char *certificate, const char *key, pr_http_tls **tls)
{
    if (!certificate || !key)
        return pr_fail(PR_ERR_ARGUMENT, "--ssl-certfile and --ssl-keyfile are given together");
    pr_http_tls *made = malloc(sizeof *made);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!made || !context) {
        free(made);
        SSL_CTX_free(context);
        return pr_fail(PR_ERR_RESOURCE, "no memory for TLS");
    }
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    // A client that closes without close_notify is gone, not in error.
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    pr_status status = load(context, certificate, key);
    ERR_clear_error();
    if (status != PR_OK) {
        SSL_CTX_free(context);
        free(made);
        return status;
    }
    made->context = context;
    *tls = made;
    return PR_OK;
}

void pr_http_tls_close(pr_http_tls *tls)
{
    if (!tls)
        return;
    SSL_CTX_free(tls->context);
    free(tls);
}

struct bufferevent *
pr_http_tls_accept(const pr_http_tls *tls, struct event_base *base, int descriptor)
{
    SSL *ssl = SSL_new(tls->context);
    if (!ssl)
        return NULL;
    // Callbacks are deferred, so that a write never calls back into its caller.
    struct bufferevent *wire = bufferevent_openssl_socket_new(
        base, descriptor, ssl, BUFFEREVENT_SSL_ACCEPTING,
        BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    if (!wire)
        SSL_free(ssl);
    return wire;
}

void pr_http_tls_say_end(struct bufferevent *wire)
{
    SSL *ssl = bufferevent_openssl_get_ssl(wire);
    if (ssl && SSL_is_init_finished(ssl))
        SSL_shutdown(ssl);
    ERR_clear_error();
}

#else
struct pr_http_tls {
    int none;
};

pr_status pr_http_tls_open(const char *certificate, const char *key, pr_http_tls **tls)
{
    (void)certificate, (void)key, (void)tls;
    return pr_fail(
        PR_ERR_UNSUPPORTED, "TLS needs OpenSSL, which was not found when this program was built");
}

void pr_http_tls_close(pr_http_tls *tls) { (void)tls; }

struct bufferevent *
pr_http_tls_accept(const pr_http_tls *tls, struct event_base *base, int descriptor)
{
    (void)tls, (void)base, (void)descriptor;
    return NULL;
}

void pr_http_tls_say_end(struct bufferevent *wire) { (void)wire; }
#endif
