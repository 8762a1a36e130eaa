/* A streaming server whose own send log is the truth: it answers chat completions with paced tokens and writes down when it sent each.
 *
 *   truth_server PORT LOG [CERT KEY]
 *
 * With AWAKE=1 in its environment it never sleeps. Whoever sends to one that sleeps on another core pays for waking it (8 us a request), which nobody
 * pays whose peer is another host.
 *
 * The plan of an answer stands in the query: ?ttft=US&itl=US&tokens=N. itl=0 sends as fast as the socket takes it, bare=1 one token at once. The stream's number is read
 * from the header "tracestate: latprof=S.T". One thread, epoll, a timerfd and a heap of the instants at which streams are due.
 * On SIGTERM the log is written: records of (uint32 stream, uint32 token, uint64 CLOCK_MONOTONIC ns just before send); token 0xFFFFFFFF is the
 * instant at which the whole request had been read.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

enum { IN_BYTES = 1 << 16, OUT_BYTES = 1 << 16, MOST = 8192, ARRIVED = -1 };

typedef struct {
    int fd, in_heap, want_out, shaken;
    uint32_t stream;
    uint64_t due_ns, itl_ns;
    long sent, tokens;
    size_t have, out_from, out_to;
    char *in, *out;
#ifdef WITH_TLS
    SSL *tls;
#endif
} Conn;

typedef struct { uint32_t stream, token; uint64_t at_ns; } Row;

static Conn *conns[MOST];
static Conn *heap[MOST];
static int heaped;
static Row *rows;
static size_t row_count, row_room;
static int poller, timer;
static volatile sig_atomic_t over;
#ifdef WITH_TLS
static SSL_CTX *context;
#endif

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void note(uint32_t stream, uint32_t token, uint64_t at_ns) {
    if (row_count == row_room) {
        row_room = row_room ? row_room * 2 : 1 << 20;
        rows = realloc(rows, row_room * sizeof *rows);
        if (!rows) exit(3);
    }
    rows[row_count++] = (Row){stream, token, at_ns};
}

/* --- the heap ----------------------------------------------------------------------------------------------------------------------- */

static void swap(int a, int b) { Conn *c = heap[a]; heap[a] = heap[b]; heap[b] = c; }

static void push(Conn *c) {
    int i = heaped++;
    heap[i] = c;
    c->in_heap = 1;
    for (; i && heap[(i - 1) / 2]->due_ns > heap[i]->due_ns; i = (i - 1) / 2) swap(i, (i - 1) / 2);
}

static Conn *pop(void) {
    Conn *top = heap[0];
    heap[0] = heap[--heaped];
    for (int i = 0;;) {
        int least = i, left = 2 * i + 1, right = left + 1;
        if (left < heaped && heap[left]->due_ns < heap[least]->due_ns) least = left;
        if (right < heaped && heap[right]->due_ns < heap[least]->due_ns) least = right;
        if (least == i) break;
        swap(i, least);
        i = least;
    }
    top->in_heap = 0;
    return top;
}

/* --- one connection ----------------------------------------------------------------------------------------------------------------- */

static void drop(Conn *c) {
    conns[c->fd] = NULL;
    if (c->in_heap) { /* rare: rebuild */
        int n = heaped;
        heaped = 0;
        for (int i = 0; i < n; i++) if (heap[i] != c) push(heap[i]);
    }
#ifdef WITH_TLS
    if (c->tls) SSL_free(c->tls);
#endif
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static void watch(Conn *c, int want_out) {
    if (c->want_out == want_out) return;
    c->want_out = want_out;
    struct epoll_event e = {.events = EPOLLIN | (want_out ? EPOLLOUT : 0), .data.fd = c->fd};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

static ssize_t put(Conn *c, const char *from, size_t n) {
#ifdef WITH_TLS
    if (c->tls) {
        int sent = SSL_write(c->tls, from, (int)n);
        if (sent > 0) return sent;
        int why = SSL_get_error(c->tls, sent);
        errno = why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ ? EAGAIN : EPIPE;
        return -1;
    }
#endif
    return send(c->fd, from, n, MSG_NOSIGNAL);
}

/* 0: gone. */
static int flush(Conn *c) {
    while (c->out_from < c->out_to) {
        ssize_t n = put(c, c->out + c->out_from, c->out_to - c->out_from);
        if (n < 0 && errno == EAGAIN) { watch(c, 1); return 1; }
        if (n < 0) { drop(c); return 0; }
        c->out_from += (size_t)n;
    }
    c->out_from = c->out_to = 0;
    watch(c, 0);
    return 1;
}

static void say(Conn *c, const char *text, size_t n) {
    memcpy(c->out + c->out_to, text, n);
    c->out_to += n;
}

static void say_event(Conn *c, const char *event, int n) {
    char head[16];
    int m = snprintf(head, sizeof head, "%x\r\n", n);
    say(c, head, (size_t)m);
    say(c, event, (size_t)n);
    say(c, "\r\n", 2);
}

static void say_token(Conn *c) {
    static const char *const words[] = {" the", " latency", ",", " of", " a token", " is", " what", " you", " measure", "."};
    char event[512];
    int n = snprintf(event, sizeof event,
        "data: {\"id\":\"chatcmpl-%08x\",\"object\":\"chat.completion.chunk\",\"created\":1763700000,\"model\":\"truth\",\"choices\":"
        "[{\"index\":0,\"delta\":{\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
        c->stream, words[c->sent % 10]);
    say_event(c, event, n);
}

static void say_end(Conn *c) {
    char event[512];
    int n = snprintf(event, sizeof event,
        "data: {\"id\":\"chatcmpl-%08x\",\"object\":\"chat.completion.chunk\",\"created\":1763700000,\"model\":\"truth\",\"choices\":[],"
        "\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":%ld,\"total_tokens\":%ld}}\n\n",
        c->stream, c->tokens, c->tokens + 8);
    say_event(c, event, n);
    say_event(c, "data: [DONE]\n\n", 14);
    say(c, "0\r\n\r\n", 5);
}

/* The smallest answer that is one: a token with the reason for its end, and the end mark, in one segment of known length. */
static void say_bare(Conn *c) {
    static const char body[] =
        "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"yes\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    char head[128];
    int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %zu\r\n\r\n", sizeof body - 1);
    note(c->stream, 0, now_ns());
    say(c, head, (size_t)n);
    say(c, body, sizeof body - 1);
    flush(c);
}

/* What is due now; the stream goes back into the heap while it has more to say. */
static void go_on(Conn *c) {
    if (c->itl_ns) {
        if (OUT_BYTES - c->out_to < 2048) { drop(c); return; } /* the client has not read for long */
        note(c->stream, (uint32_t)c->sent, now_ns());
        say_token(c);
        c->sent++;
        c->due_ns += c->itl_ns;
        if (c->sent == c->tokens) say_end(c);
        if (flush(c) && c->sent < c->tokens) push(c);
        return;
    }
    while (c->sent < c->tokens && !c->want_out) { /* as fast as the socket takes it, in batches */
        uint64_t at = now_ns();
        for (int i = 0; i < 40 && c->sent < c->tokens; i++) {
            note(c->stream, (uint32_t)c->sent, at);
            say_token(c);
            c->sent++;
        }
        if (c->sent == c->tokens) say_end(c);
        if (!flush(c)) return;
    }
}

static long number(const char *text, const char *key, long otherwise) {
    const char *at = strstr(text, key);
    return at ? atol(at + strlen(key)) : otherwise;
}

static void answer(Conn *c, char *head) {
    uint64_t at = now_ns();
    c->stream = (uint32_t)number(head, "latprof=", 0);
    c->tokens = number(head, "tokens=", 16);
    c->itl_ns = (uint64_t)number(head, "itl=", 0) * 1000;
    c->sent = 0;
    c->due_ns = at + (uint64_t)number(head, "ttft=", 0) * 1000;
    note(c->stream, (uint32_t)ARRIVED, at);
    if (strstr(head, "bare=1")) { say_bare(c); return; }
    static const char ok[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    say(c, ok, sizeof ok - 1);
    if (c->due_ns > at) {
        if (flush(c)) push(c);
    } else {
        go_on(c);
    }
}

static void hear(Conn *c) {
#ifdef WITH_TLS
    if (c->tls && !c->shaken) {
        int done = SSL_accept(c->tls);
        if (done != 1) {
            int why = SSL_get_error(c->tls, done);
            if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) drop(c);
            return;
        }
        c->shaken = 1;
    }
#endif
    for (;;) {
        ssize_t n;
#ifdef WITH_TLS
        if (c->tls) {
            n = SSL_read(c->tls, c->in + c->have, (int)(IN_BYTES - 1 - c->have));
            if (n <= 0) {
                int why = SSL_get_error(c->tls, (int)n);
                if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) drop(c);
                return;
            }
        } else
#endif
        {
            n = recv(c->fd, c->in + c->have, IN_BYTES - 1 - c->have, 0);
            if (n < 0 && errno == EAGAIN) return;
            if (n <= 0) { drop(c); return; }
        }
        c->have += (size_t)n;
        c->in[c->have] = 0;
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end) continue;
        char *length = strcasestr(c->in, "content-length:");
        size_t whole = (size_t)(end + 4 - c->in) + (length && length < end ? (size_t)atol(length + 15) : 0);
        if (whole > IN_BYTES - 1) { drop(c); return; }
        if (c->have < whole) continue;
        *end = 0;
        c->have = 0;
        int fd = c->fd;
        answer(c, c->in);
        if (conns[fd] != c) return;
    }
}

/* --- the loop ----------------------------------------------------------------------------------------------------------------------- */

static void stop(int signal) { (void)signal; over = 1; }

static void take(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
        if (fd < 0) return;
        if (fd >= MOST) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Conn *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->in = malloc(IN_BYTES);
        c->out = malloc(OUT_BYTES);
        conns[fd] = c;
#ifdef WITH_TLS
        if (context) {
            c->tls = SSL_new(context);
            SSL_set_fd(c->tls, fd);
        }
#endif
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
}

int main(int count, char **words) {
    if (count != 3 && count != 5) return 2;
    signal(SIGTERM, stop);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1);
#ifdef WITH_TLS
    if (count == 5) {
        context = SSL_CTX_new(TLS_server_method());
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        if (SSL_CTX_use_certificate_file(context, words[3], SSL_FILETYPE_PEM) != 1) return 2;
        if (SSL_CTX_use_PrivateKey_file(context, words[4], SSL_FILETYPE_PEM) != 1) return 2;
    }
#endif
    struct rlimit files = {MOST, MOST};
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (struct sockaddr *)&where, sizeof where) || listen(listener, 4096)) { perror("listen"); return 2; }
    socklen_t size = sizeof where;
    getsockname(listener, (struct sockaddr *)&where, &size);
    poller = epoll_create1(EPOLL_CLOEXEC);
    int awake = getenv("AWAKE") != NULL;
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int always[] = {listener, timer};
    for (int i = 0; i < 2; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.fd = always[i]};
        epoll_ctl(poller, EPOLL_CTL_ADD, always[i], &e);
    }
    printf("%d\n", ntohs(where.sin_port));
    fflush(stdout);
    struct epoll_event events[256];
    while (!over) {
        if (heaped) {
            uint64_t due = heap[0]->due_ns;
            struct itimerspec at = {.it_value = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
        }
        int n = epoll_wait(poller, events, 256, awake || (heaped && heap[0]->due_ns <= now_ns()) ? 0 : 1000);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) { take(listener); continue; }
            if (fd == timer) { uint64_t times; if (read(timer, &times, sizeof times) < 0) continue; continue; }
            Conn *c = conns[fd];
            if (!c) continue;
            if (events[i].events & EPOLLOUT) {
                if (!flush(c)) continue;
                if (!c->itl_ns && c->sent < c->tokens) go_on(c);
                if (conns[fd] != c) continue;
            }
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) hear(c);
        }
        while (heaped && heap[0]->due_ns <= now_ns()) go_on(pop());
    }
    FILE *log = fopen(words[2], "wb");
    if (!log || fwrite(rows, sizeof *rows, row_count, log) != row_count || fclose(log)) return 3;
    return 0;
}
