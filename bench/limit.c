/*
 * An NBD server that does as little as possible: one file, one client at a time, one thread, reads
 * and writes only, no checks. Its throughput is about the most that the client and the kernel allow
 * any server with one thread. nbd.mjs --limit runs it beside the real servers. It trusts its
 * client: do not use it for anything else.
 *
 * cc -O2 -o limit limit.c; ./limit FILE PORT|/SOCKET
 *
 * Specification: doc/proto.md of github.com/NetworkBlockDevice/nbd; fixed newstyle handshake,
 * structured replies.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PACKED __attribute__((packed))
enum { REQUEST = 28, LONG = 128 << 10, PIECE = 256 << 10, IN = 1 << 20, OUT = 1 << 19, SPINS = 100000 };

struct PACKED option_reply { uint64_t magic; uint32_t option, type, length; };
struct PACKED reply { uint32_t magic; uint16_t flags, type; uint64_t cookie; uint32_t length; uint64_t offset; };

static int fd, client, structured;
static uint64_t size;
static char in[IN], piece[PIECE], out[OUT];
static size_t filled;

/* The client is gone, or something is wrong: ends the connection's process. */
static void done(void) { _exit(0); }

static void put(const void *bytes, size_t length)
{
	for (const char *p = bytes; length > 0;) {
		ssize_t n = send(client, p, length, MSG_NOSIGNAL);
		if (n <= 0) done();
		p += n;
		length -= n;
	}
}

static void get(void *bytes, size_t length)
{
	if (length > 0 && recv(client, bytes, length, MSG_WAITALL) != (ssize_t)length) done();
}

static void flush(void)
{
	put(out, filled);
	filled = 0;
}

/* A reply's header; `length` of data follow where it is a read's. */
static void header(int read, uint64_t cookie, uint32_t length, uint64_t offset)
{
	struct reply r = { htobe32(0x67446698), 0, 0, cookie, htobe32(length + 8), htobe64(offset) };
	size_t bytes = 16;
	if (structured && read) {
		r.magic = htobe32(0x668e33ef);
		r.flags = htobe16(1);
		r.type = htobe16(1);
		bytes = sizeof r;
	}
	if (filled + bytes > OUT) flush();
	memcpy(out + filled, &r, bytes);
	filled += bytes;
}

static void handshake(void)
{
	struct PACKED { uint64_t magic, option; uint16_t flags; } hello = {
		htobe64(0x4e42444d41474943), htobe64(0x49484156454F5054), htobe16(3) };
	uint32_t flags;
	put(&hello, sizeof hello);
	get(&flags, 4);
	for (;;) {
		struct PACKED { uint64_t magic; uint32_t option, length; } o;
		char data[4096];
		get(&o, sizeof o);
		uint32_t length = be32toh(o.length), option = be32toh(o.option);
		if (length > sizeof data) done();
		get(data, length);
		struct option_reply r = { htobe64(0x3e889045565a9), o.option, htobe32(1), 0 };
		if (option == 6 || option == 7) { /* NBD_OPT_INFO, NBD_OPT_GO */
			struct PACKED { uint16_t type; uint64_t size; uint16_t flags; } info = { 0, htobe64(size), htobe16(5) };
			struct option_reply i = { r.magic, r.option, htobe32(3), htobe32(sizeof info) };
			put(&i, sizeof i);
			put(&info, sizeof info);
		} else if (option == 8 && length == 0) structured = 1;
		else r.type = htobe32(0x80000001);
		put(&r, sizeof r);
		if (option == 7) return;
		if (option == 2) done();
	}
}

static ssize_t receive(char *into, size_t length)
{
	for (int i = 0;; i++) {
		ssize_t n = recv(client, into, length, i < SPINS ? MSG_DONTWAIT : 0);
		if (n < 0 && errno == EAGAIN) continue;
		if (n <= 0) done();
		return n;
	}
}

static void read_file(uint64_t cookie, uint64_t offset, uint32_t length)
{
	header(1, cookie, length, offset);
	if (length >= LONG) {
		flush();
		off_t at = offset;
		for (size_t left = length; left > 0;) {
			ssize_t n = sendfile(client, fd, &at, left);
			if (n <= 0) done();
			left -= n;
		}
		return;
	}
	if (filled + length > OUT) flush();
	if (pread(fd, out + filled, length, offset) != length) done();
	filled += length;
}

/* Handles a write of which `there` bytes have arrived, and writes the rest as it arrives. Returns
 * how many of the `there` bytes belonged to it. */
static size_t write_file(uint64_t cookie, uint64_t offset, uint32_t length, const char *data, size_t there)
{
	size_t used = there < length ? there : length;
	if (used > 0 && pwrite(fd, data, used, offset) != (ssize_t)used) done();
	for (size_t at = used; at < length;) {
		ssize_t n = receive(piece, length - at < PIECE ? length - at : PIECE);
		if (pwrite(fd, piece, n, offset + at) != n) done();
		at += n;
	}
	header(0, cookie, 0, 0);
	return used;
}

static void serve(void)
{
	handshake();
	for (size_t have = 0;;) {
		have += receive(in + have, IN - have);
		size_t at = 0;
		while (have - at >= REQUEST) {
			struct PACKED { uint32_t magic; uint16_t flags, type; uint64_t cookie, offset; uint32_t length; } r;
			memcpy(&r, in + at, REQUEST);
			uint64_t offset = be64toh(r.offset);
			uint32_t length = be32toh(r.length);
			int type = be16toh(r.type);
			at += REQUEST;
			if (type == 0) read_file(r.cookie, offset, length);
			else if (type == 1) at += write_file(r.cookie, offset, length, in + at, have - at);
			else if (type == 3 && fdatasync(fd) == 0) header(0, r.cookie, 0, 0);
			else done();
		}
		memmove(in, in + at, have - at);
		have -= at;
		flush();
	}
}

int main(int count, char **arguments)
{
	struct stat stat;
	if (count != 3 || (fd = open(arguments[1], O_RDWR)) < 0 || fstat(fd, &stat) != 0) return 1;
	size = stat.st_size;
	int one = 1, room = 4 << 20, local = arguments[2][0] == '/';
	int listener = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in tcp = { AF_INET, htons(atoi(arguments[2])), { htonl(INADDR_LOOPBACK) }, { 0 } };
	struct sockaddr_un path = { AF_UNIX, { 0 } };
	if (local) strncpy(path.sun_path, arguments[2], sizeof path.sun_path - 1);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, local ? (void *)&path : (void *)&tcp, local ? sizeof path : sizeof tcp) != 0) return 1;
	if (listen(listener, 8) != 0) return 1;
	for (;;) {
		client = accept(listener, NULL, NULL);
		if (client < 0) return 1;
		if (!local) setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		else setsockopt(client, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
		structured = 0;
		/* In a child, whose processor time is this process's when it has ended. */
		pid_t pid = fork();
		if (pid == 0) serve();
		close(client);
		if (pid > 0) waitpid(pid, NULL, 0);
	}
}
