/*
 * ajphello - the least an AJP/1.3 server can do, as a reference for the limit
 * of a machine.  One thread, one epoll loop, no checks worth the name: not a
 * server to use, only one to compare with.
 *
 *   ajphello [PORT | SOCKET PATH [PACKET SIZE]]    (127.0.0.1, port 8009, 8192)
 *
 * It serves the paths of benchapp.py: a GET whose path ends in /NNN (a number,
 * such as /102400 or /file/102400) gives a body of that length, any other GET
 * gives 'Hello, World!', and a request with a body is read to its end and
 * answered with the length.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LARGEST 65536                   /* the largest packet there is */

struct conn {
	int fd;
	uint8_t in[65540];
	size_t in_len;
	uint8_t out[4 * LARGEST];
	size_t out_at, out_len;
	uint64_t body_out;              /* bulk body bytes not yet put in out */
	uint64_t body_in, body_want;    /* request body bytes read, announced */
	bool reading;                   /* a request body is being read */
	bool watch_out;
};

static int epfd;
static size_t packet_size = 8192;
static uint8_t chunk[LARGEST];          /* a SEND_BODY_CHUNK packet */

static unsigned be16(const uint8_t *p) { return (unsigned)p[0] << 8 | p[1]; }

static size_t put_string(uint8_t *p, const char *s)
{
	size_t n = strlen(s);
	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
	memcpy(p + 2, s, n + 1);
	return n + 3;
}

static size_t packet(uint8_t *p, size_t len)
{
	p[0] = 'A';
	p[1] = 'B';
	p[2] = (uint8_t)(len >> 8);
	p[3] = (uint8_t)len;
	return 4 + len;
}

static void add(struct conn *c, const void *data, size_t n)
{
	memcpy(c->out + c->out_len, data, n);
	c->out_len += n;
}

static void add_headers(struct conn *c, uint64_t length)
{
	uint8_t p[128];
	char digits[24];
	size_t n = 4;
	p[n++] = 4;
	p[n++] = 0, p[n++] = 200;
	n += put_string(p + n, "OK");
	p[n++] = 0, p[n++] = 2;
	p[n++] = 0xA0, p[n++] = 1;
	n += put_string(p + n, "text/plain");
	p[n++] = 0xA0, p[n++] = 3;
	snprintf(digits, sizeof digits, "%llu", (unsigned long long)length);
	n += put_string(p + n, digits);
	add(c, p, packet(p, n - 4));
}

static void add_body(struct conn *c, const char *s)
{
	uint8_t p[64];
	p[4] = 3;
	add(c, p, packet(p, 1 + put_string(p + 5, s)));
}

static void add_end(struct conn *c) { add(c, "AB\0\2\5\1", 6); }

static const uint8_t *skip_string(const uint8_t *p, const char **s)
{
	unsigned n = be16(p);
	*s = n == 0xFFFF ? "" : (const char *)p + 2;
	return p + (n == 0xFFFF ? 2 : 3 + n);
}

static void add_length(struct conn *c)
{
	char digits[24];
	snprintf(digits, sizeof digits, "%llu", (unsigned long long)c->body_in);
	add_headers(c, strlen(digits));
	add_body(c, digits);
	add_end(c);
	c->reading = false;
}

static void on_request(struct conn *c, const uint8_t *p)
{
	const char *uri, *s;
	p = skip_string(p + 1, &s);             /* the method; protocol */
	p = skip_string(p, &uri);
	p = skip_string(p, &s);                 /* remote_addr, remote_host, server_name */
	p = skip_string(p, &s);
	p = skip_string(p, &s);
	unsigned count = be16(p + 3);
	p += 5;
	c->body_in = c->body_want = 0;
	while (count--) {
		bool is_length = p[0] == 0xA0 && p[1] == 8;
		p = p[0] == 0xA0 ? p + 2 : skip_string(p, &s);
		p = skip_string(p, &s);
		if (is_length)
			c->body_want = strtoull(s, NULL, 10);
	}
	if (c->body_want) {
		c->reading = true;
		return;
	}
	uint64_t n = strtoull(strrchr(uri, '/') + 1, NULL, 10);
	add_headers(c, n ? n : 13);
	if (n) {
		c->body_out = n;                /* flush() adds it, and the end */
	} else {
		add_body(c, "Hello, World!");
		add_end(c);
	}
}

static void on_body(struct conn *c, const uint8_t *p, size_t len)
{
	c->body_in += len >= 2 ? be16(p) : 0;
	if (c->body_in >= c->body_want || len < 2 || be16(p) == 0)
		add_length(c);
	else
	{
		uint8_t get[] = "AB\0\3\6..";
		get[5] = (uint8_t)((packet_size - 6) >> 8);
		get[6] = (uint8_t)(packet_size - 6);
		add(c, get, 7);                 /* GET_BODY_CHUNK */
	}
}

/* Add bulk body packets while there is room for them. */
static void fill(struct conn *c)
{
	size_t room = packet_size < LARGEST / 4 ? LARGEST : sizeof c->out;
	while (c->body_out && room - c->out_len > 2 * packet_size) {
		size_t most = packet_size - 8;
		size_t n = c->body_out < most ? c->body_out : most;
		size_t size = packet(chunk, n + 4);
		chunk[4] = 3;
		chunk[5] = (uint8_t)(n >> 8);
		chunk[6] = (uint8_t)n;
		add(c, chunk, size - 1);
		add(c, "", 1);                  /* the NUL after the data */
		if (!(c->body_out -= n))
			add_end(c);
	}
}

/* Write what is there; false if the connection broke. */
static bool flush(struct conn *c)
{
	bool blocked = false;
	for (fill(c); c->out_at < c->out_len && !blocked; fill(c)) {
		ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			return false;
		blocked = n < 0;
		c->out_at += n > 0 ? (size_t)n : 0;
		if (c->out_at == c->out_len)
			c->out_at = c->out_len = 0;
	}
	if (blocked != c->watch_out) {
		struct epoll_event e = { .events = EPOLLIN | (blocked ? EPOLLOUT : 0), .data.ptr = c };
		epoll_ctl(epfd, EPOLL_CTL_MOD, c->fd, &e);
		c->watch_out = blocked;
	}
	return true;
}

static bool readable(struct conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, sizeof c->in - c->in_len, 0);
	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	c->in_len += (size_t)n;
	const uint8_t *p = c->in, *end = p + c->in_len;
	while (end - p >= 4 && end - p >= 4 + be16(p + 2)) {
		size_t len = be16(p + 2);
		if (p[0] != 0x12 || p[1] != 0x34)
			return false;
		if (c->reading)
			on_body(c, p + 4, len);
		else if (p[4] == 2)
			on_request(c, p + 5);
		else if (p[4] == 10)
			add(c, "AB\0\1\x9", 5);     /* CPING: CPONG */
		p += 4 + len;
	}
	c->in_len = (size_t)(end - p);
	memmove(c->in, p, c->in_len);
	return flush(c);
}

static int listen_on(const char *where)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				  .sin_port = htons((uint16_t)atoi(where)) };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int path = strchr(where, '/') != NULL, one = 1;
	int fd = socket(path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	strncpy(un.sun_path, where, sizeof un.sun_path - 1);
	if (path)
		unlink(where);
	if (bind(fd, path ? (void *)&un : (void *)&in, path ? sizeof un : sizeof in) < 0 ||
	    listen(fd, 1024) < 0) {
		perror(where);
		exit(1);
	}
	return fd;
}

int main(int argc, char **argv)
{
	int listener = listen_on(argc > 1 ? argv[1] : "8009"), one = 1;
	struct epoll_event ev[256], e = { .events = EPOLLIN };
	if (argc > 2)
		packet_size = (size_t)atoi(argv[2]);
	if (packet_size < 8192 || packet_size > LARGEST) {
		fprintf(stderr, "packet size: expected 8192 to %d\n", LARGEST);
		return 2;
	}
	memset(chunk, 'x', sizeof chunk);
	epfd = epoll_create1(0);
	epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &e);
	for (;;) {
		int n = epoll_wait(epfd, ev, 256, -1);
		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;
			if (!c) {
				int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
				if (fd < 0 || !(c = calloc(1, sizeof *c)))
					continue;
				setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
				c->fd = fd;
				e = (struct epoll_event){ .events = EPOLLIN, .data.ptr = c };
				epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &e);
			} else if (!((ev[i].events & EPOLLOUT ? flush(c) : true) &&
				     (ev[i].events & ~EPOLLOUT ? readable(c) : true))) {
				close(c->fd);
				free(c);
			}
		}
	}
}
