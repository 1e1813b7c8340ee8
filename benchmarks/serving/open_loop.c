/* Open-loop load over HTTP/1.1: a request is sent when it is due, however slowly the server answers.

       open_loop PORT GRACE_S < PLAN > LEDGER

   PLAN: streams, one behind the other, in the machine's own byte order. Each is a `struct header`, the moments at which
   its requests are due (double, seconds, rising), the sizes of its messages (int64) and their bytes. Messages are sent
   in turn. A stream has connections of its own, at most so many; one that is not kept carries one request. A request
   that finds none free waits for one, but not for longer than MAX_LATE_S.

   LEDGER: a `struct entry` for each request, in the same order. The load ends GRACE_S after its last request is due. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_LATE_S 0.5 /* what a client waits for a connection: a quarter of its deadline in overload.py */
#define HEAD_BYTES 16384
#define EVENTS 256

enum { BROKEN = 1, UNANSWERED = 2, NOT_SENT = 3 }; /* statuses that are not HTTP's; see open_loop.py */

struct header { int64_t requests, messages, connections, kept; };
struct entry { double sent, done; int32_t status, retry_after; };

struct stream {
    struct header h;
    double *due;
    int64_t *sizes;
    char **messages;
    struct entry *entries;
    int64_t next;             /* the first request that is not sent */
    int64_t open;             /* connections */
    struct connection **free; /* a ring of them: the one that was free for longest is used first */
    int64_t free_first, free_count;
};

struct connection {
    int fd;
    struct stream *stream;
    int64_t request; /* -1: none */
    int64_t sent; /* bytes of its message */
    int64_t size; /* all of them */
    const char *message;
    bool writes; /* waits for room to write */
    bool closes; /* the server closes after this response */
    bool in_body;
    int64_t body_left; /* -1: the body ends with the connection */
    int64_t have;      /* bytes of the head */
    char head[HEAD_BYTES + 1];
};

static struct sockaddr_in server;
static int epoll, timer;
static double began_s;
static int64_t left; /* requests that have not ended */

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9 - began_s;
}

static void *take(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) die("memory");
    return memory;
}

/* Requests and connections */

static void end(struct stream *s, int64_t request, int status, bool retry_after) {
    struct entry *entry = &s->entries[request];
    entry->done = status == NOT_SENT ? NAN : now();
    entry->status = status;
    entry->retry_after = retry_after;
    left--;
}

static void watch(struct connection *c, int operation) {
    struct epoll_event event = {.events = EPOLLIN | (c->writes ? EPOLLOUT : 0), .data.ptr = c};
    if (epoll_ctl(epoll, operation, c->fd, &event) < 0) die("epoll_ctl");
}

/* NULL if there is no descriptor or no port for it. */
static struct connection *open_connection(struct stream *s) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) return NULL;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS) {
        close(fd);
        return NULL;
    }
    struct connection *c = take(1, sizeof *c);
    c->fd = fd;
    c->stream = s;
    c->request = -1;
    s->open++;
    watch(c, EPOLL_CTL_ADD);
    return c;
}

static void close_connection(struct connection *c) {
    struct stream *s = c->stream;
    for (int64_t i = 0; i < s->free_count; i++) { /* rare: a free one is closed by the server */
        int64_t place = (s->free_first + i) % s->h.connections;
        if (s->free[place] != c) continue;
        for (; i + 1 < s->free_count; i++, place = (place + 1) % s->h.connections)
            s->free[place] = s->free[(place + 1) % s->h.connections];
        s->free_count--;
    }
    if (c->request >= 0) end(s, c->request, BROKEN, false);
    close(c->fd);
    free(c);
    s->open--;
}

/* Write what there is room for; the rest follows when there is more. Errors show when the connection is read. */
static void write_more(struct connection *c) {
    while (c->sent < c->size) {
        ssize_t n = send(c->fd, c->message + c->sent, c->size - c->sent, MSG_NOSIGNAL);
        if (n < 0) break;
        c->sent += n;
    }
    bool writes = c->sent < c->size && (errno == EAGAIN || errno == ENOTCONN);
    if (writes != c->writes) {
        c->writes = writes;
        watch(c, EPOLL_CTL_MOD);
    }
}

static void ask(struct connection *c, int64_t request) {
    struct stream *s = c->stream;
    int64_t turn = request % s->h.messages;
    c->request = request;
    c->message = s->messages[turn];
    c->size = s->sizes[turn];
    c->sent = c->have = 0;
    c->in_body = c->closes = false;
    s->entries[request].sent = now();
    s->entries[request].status = UNANSWERED;
    write_more(c);
}

/* Whether the next request that is due was sent, or has ended. */
static bool advance(struct stream *s) {
    int64_t request = s->next;
    if (now() - s->due[request] > MAX_LATE_S) {
        s->next++;
        end(s, request, NOT_SENT, false);
        return true;
    }
    struct connection *c = NULL;
    if (s->free_count) {
        c = s->free[s->free_first];
        s->free_first = (s->free_first + 1) % s->h.connections;
        s->free_count--;
    } else if (s->open < s->h.connections && !(c = open_connection(s))) {
        s->next++;
        end(s, request, BROKEN, false);
        return true;
    }
    if (!c) return false;
    s->next++;
    ask(c, request);
    return true;
}

/* Responses */

/* The value of a field in a head, NULL if it is not there. */
static const char *field(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, name, length) && line[2 + length] == ':') {
            const char *value = line + 3 + length;
            return value + strspn(value, " \t");
        }
    return NULL;
}

static void complete(struct connection *c) {
    struct stream *s = c->stream;
    end(s, c->request, atoi(c->head + 9), field(c->head, "retry-after"));
    c->request = -1;
    if (c->closes || !s->h.kept || c->sent < c->size)
        close_connection(c);
    else
        s->free[(s->free_first + s->free_count++) % s->h.connections] = c;
}

/* Take what of the head has come; how many of the last n bytes belong to the body. */
static int64_t take_head(struct connection *c, int64_t n) {
    c->have += n;
    c->head[c->have] = 0;
    char *blank = strstr(c->head, "\r\n\r\n");
    if (!blank) return 0;
    int64_t beyond = c->have - (blank + 4 - c->head);
    blank[2] = 0;
    const char *length = field(c->head, "content-length"), *connection = field(c->head, "connection");
    c->body_left = length ? atoll(length) : -1;
    c->closes = c->body_left < 0 || (connection && !strncasecmp(connection, "close", 5));
    c->in_body = true;
    return beyond;
}

static void read_response(struct connection *c) {
    static char body[1 << 16];
    for (;;) {
        if (!c->in_body && c->have == HEAD_BYTES) return close_connection(c);
        char *to = c->in_body ? body : c->head + c->have;
        size_t room = c->in_body ? sizeof body : (size_t)(HEAD_BYTES - c->have);
        ssize_t n = c->request < 0 ? recv(c->fd, body, 1, 0) : recv(c->fd, to, room, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n == 0 && c->request >= 0 && c->in_body && c->body_left < 0) return complete(c);
        if (n <= 0 || c->request < 0) return close_connection(c);
        if (!c->in_body) n = take_head(c, n);
        if (!c->in_body) continue;
        if (c->body_left < 0) continue;
        c->body_left -= n;
        if (c->body_left <= 0) return complete(c);
        if ((size_t)n < room) return; /* no more has come: epoll tells */
    }
}

/* Plan and ledger */

static void read_all(void *to, size_t size) {
    if (fread(to, 1, size, stdin) != size) die("plan");
}

static bool read_stream(struct stream *s) {
    if (fread(&s->h, sizeof s->h, 1, stdin) != 1) return false;
    s->due = take(s->h.requests, sizeof *s->due);
    read_all(s->due, s->h.requests * sizeof *s->due);
    s->sizes = take(s->h.messages, sizeof *s->sizes);
    read_all(s->sizes, s->h.messages * sizeof *s->sizes);
    s->messages = take(s->h.messages, sizeof *s->messages);
    for (int64_t i = 0; i < s->h.messages; i++) read_all(s->messages[i] = take(s->sizes[i], 1), s->sizes[i]);
    s->free = take(s->h.connections, sizeof *s->free);
    s->entries = take(s->h.requests, sizeof *s->entries);
    for (int64_t i = 0; i < s->h.requests; i++)
        s->entries[i] = (struct entry){.sent = NAN, .done = NAN, .status = NOT_SENT};
    return true;
}

/* Kept connections are there before the load begins, so that opening them is no part of it. */
static void open_kept(struct stream *s) {
    for (int64_t i = 0; s->h.kept && i < s->h.connections; i++) {
        struct connection *c = open_connection(s);
        if (!c) die("connection");
        s->free[s->free_count++] = c;
        if (i % 64 == 63) usleep(2000);
    }
}

/* Wake up when the first of those is due that do not wait for a connection. */
static void set_timer(struct stream *streams, int64_t count, double until) {
    double first = until;
    for (struct stream *s = streams; s < streams + count; s++)
        if (s->next < s->h.requests && s->due[s->next] < first && (s->free_count || s->open < s->h.connections))
            first = s->due[s->next];
    double at = began_s + first;
    struct itimerspec spec = {.it_value = {.tv_sec = (time_t)at, .tv_nsec = (long)(1e9 * (at - (double)(time_t)at))}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &spec, NULL);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    server = (struct sockaddr_in){AF_INET, htons((uint16_t)atoi(argv[1])), {htonl(INADDR_LOOPBACK)}, {0}};
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct stream streams[16];
    int64_t count = 0;
    double until = 0;
    epoll = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event);
    memset(streams, 0, sizeof streams);
    while (count < 16 && read_stream(&streams[count])) {
        struct stream *s = &streams[count++];
        left += s->h.requests;
        open_kept(s);
        if (s->h.requests && s->due[s->h.requests - 1] > until) until = s->due[s->h.requests - 1];
    }
    until += atof(argv[2]);
    began_s = now();
    while (left && now() < until) {
        for (struct stream *s = streams; s < streams + count; s++)
            while (s->next < s->h.requests && s->due[s->next] <= now() && advance(s)) {}
        set_timer(streams, count, until);
        struct epoll_event events[EVENTS];
        int n = left ? epoll_wait(epoll, events, EVENTS, -1) : 0;
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            uint64_t expired;
            if (!c) {
                if (read(timer, &expired, sizeof expired) < 0 && errno != EAGAIN) die("timer");
                continue;
            }
            if (events[i].events & EPOLLOUT) write_more(c);
            if (events[i].events & ~EPOLLOUT) read_response(c);
        }
    }
    for (struct stream *s = streams; s < streams + count; s++)
        if (fwrite(s->entries, sizeof *s->entries, s->h.requests, stdout) != (size_t)s->h.requests) die("ledger");
    return fflush(stdout) ? 1 : 0;
}
