/*
 * The user land of GNU Mach as a guest: one bootstrap task that takes commands from Mach's console,
 * and reads and writes disks through Mach's own drivers. It is a multiboot module beside the
 * unmodified kernel. Its argument d=${device-port}, filled in by gnumach's boot script, is the name
 * of its right to the device master port.
 *
 *   size DISK                            its sectors
 *   hash DISK FIRST COUNT                the SHA-256 of sectors
 *   fill DISK FIRST COUNT SEED           writes sectors, made of SEED and the sector's number
 *   copy DISK FIRST DISK FIRST COUNT     from one disk, or place, to another
 *
 * The last two print the SHA-256 of the sectors that they wrote. Each prompt has its own number, so
 * that a reader of the screen can tell one from the next.
 *
 * Specification: messages and traps of GNU Mach 1.8's public interface (<mach/message.h>,
 * <mach/syscall_sw.h>, <device/device.defs>, <device/device_types.h>), laid out by hand as MIG does
 * for i386. Not here: flush, which Mach's device interface lacks; a libc.
 */
#include "sha256.h"

/* <mach/syscall_sw.h>: the trap's number is in eax, its arguments are on the stack. */
__asm__(".globl _start\n_start: movl %esp, %eax; andl $-16, %esp; subl $12, %esp; pushl %eax; call serve\n"
        "mach_msg: movl $-25, %eax; lcall $7, $0; ret\n"
        "mach_reply_port: movl $-26, %eax; lcall $7, $0; ret\n"
        "mach_task_self: movl $-28, %eax; lcall $7, $0; ret\n"
        "vm_deallocate: movl $-66, %eax; lcall $7, $0; ret\n");
u32 mach_msg(void *message, u32 option, u32 send_size, u32 receive_size, u32 receive_name, u32 timeout, u32 notify);
u32 mach_reply_port(void);
u32 mach_task_self(void);
u32 vm_deallocate(u32 task, void *address, u32 size);

/* mach_msg_header_t, and a body of type descriptors and values. */
struct message {
    u32 bits, size, remote, local, sequence;
    int id;
    u32 body[64];
};

enum {
    send_and_receive = 3,                   /* MACH_SEND_MSG | MACH_RCV_MSG */
    copy_send = 19, make_send_once = 21,    /* MACH_MSG_TYPE_* */
    /* mach_msg_type_t: name, size in bits, number, inline, long form */
    integer = 2 | 32 << 8 | 1 << 16 | 1 << 28,
    characters = 8 | 8 << 8 | 1 << 28,      /* their number is to be added */
    long_inline = 3 << 28, long_out_of_line = 2 << 28,
    /* device.defs: subsystem 2800, in order */
    device_open = 2800, device_close, device_write, device_write_inband, device_read, device_read_inband,
    device_get_status = 2811,
    read_and_write = 3,                     /* D_READ | D_WRITE */
    get_records = 1,                        /* DEV_GET_RECORDS: number and size in bytes */
};

enum { sector = 512, piece = 128 * sector, line_size = 128, inband = 128 };

static u32 reply, master, console;
static u8 buffer[piece];

/* Sends a request and overwrites it with its answer. Returns its RetCode, or mach_msg's error. */
static u32 call(struct message *message, u32 port, int id, u32 words, int complex) {
    u32 size = 24 + 4 * words;
    message->bits = copy_send | make_send_once << 8 | (complex ? 1u << 31 : 0);
    message->size = size;
    message->remote = port;
    message->local = reply;
    message->id = id;
    u32 failed = mach_msg(message, send_and_receive, size, sizeof *message, reply, 0, 0);
    if (failed) return failed;
    return message->id == id + 100 ? message->body[1] : ~0u;
}

static u32 open_device(const char *name, u32 mode, u32 *port) {
    /* 12: MACH_MSG_TYPE_STRING_C */
    struct message message = {.body = {integer, mode, long_inline, 12 | 1024 << 16, 1}};
    char *to = (char *)&message.body[5];
    for (int i = 0; i < 127 && name[i]; i++) to[i] = name[i];
    u32 failed = call(&message, master, device_open, 5 + 128 / 4, 0);
    *port = message.body[3];
    return failed;
}

static void close_device(u32 port) {
    struct message message;
    call(&message, port, device_close, 0, 0);
}

/* Reads into `buffer`. */
static u32 read_piece(u32 port, u32 first, u32 bytes) {
    struct message message = {.body = {integer, 0, integer, first, integer, bytes}};
    u32 failed = call(&message, port, device_read, 6, 0);
    if (failed) return failed;
    u32 got = message.body[4];
    u8 *data = (u8 *)message.body[5];
    for (u32 i = 0; i < got && i < bytes; i++) buffer[i] = data[i];
    vm_deallocate(mach_task_self(), data, got);
    return got == bytes ? 0 : ~0u;
}

/* Writes from `buffer`. */
static u32 write_piece(u32 port, u32 first, u32 bytes) {
    struct message message = {
        /* 9: MACH_MSG_TYPE_INTEGER_8 */
        .body = {integer, 0, integer, first, long_out_of_line, 9 | 8 << 16, bytes, (u32)buffer}};
    u32 failed = call(&message, port, device_write, 8, 1);
    if (failed) return failed;
    return message.body[3] == bytes ? 0 : ~0u;
}

static u32 count_sectors(u32 port, u32 *sectors) {
    struct message message = {.body = {integer, get_records, integer, 2}};
    u32 failed = call(&message, port, device_get_status, 4, 0);
    *sectors = message.body[3];
    return failed;
}

static void print(const char *text) {
    while (*text) {
        struct message message = {.body = {integer, 0, integer, 0}};
        u8 *to = (u8 *)&message.body[5];
        u32 length = 0;
        while (text[length] && length < inband) to[length] = text[length], length++;
        message.body[4] = characters | length << 16;
        if (call(&message, console, device_write_inband, 5 + (length + 3) / 4, 0)) return;
        text += length;
    }
}

static void print_number(u32 number) {
    char digits[11];
    char *at = digits + 10;
    *at = 0;
    do *--at = '0' + number % 10;
    while (number /= 10);
    print(at);
}

static void print_sha256(struct sha256 *hash) {
    u8 digest[32];
    char text[65] = {0};
    sha256_end(hash, digest);
    for (int i = 0; i < 64; i++) text[i] = "0123456789abcdef"[digest[i / 2] >> (i % 2 ? 0 : 4) & 15];
    print(text);
}

/* Fills a sector: Knuth's and Lewis's generator, started with seed + sector number * 2654435761. */
static void pattern(u8 *to, u32 seed, u32 number) {
    u32 value = seed + number * 2654435761u;
    for (int i = 0; i < sector; i++) {
        value = value * 1664525 + 1013904223;
        to[i] = value >> 24;
    }
}

/* Handles `count` sectors: reads them from `from`, or makes them of `seed` if `from` is no right;
 * writes them to `to` if that is a right; adds them to `hash`. */
static u32 move(u32 from, u32 from_first, u32 to, u32 to_first, u32 count, u32 seed, struct sha256 *hash) {
    for (u32 done = 0, now; done < count; done += now) {
        now = count - done < piece / sector ? count - done : piece / sector;
        u32 failed = 0;
        if (from) failed = read_piece(from, from_first + done, now * sector);
        else for (u32 i = 0; i < now; i++) pattern(buffer + i * sector, seed, to_first + done + i);
        if (!failed && to) failed = write_piece(to, to_first + done, now * sector);
        if (failed) return failed;
        sha256_add(hash, buffer, now * sector);
    }
    return 0;
}

static int equal(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

static u32 number_of(const char *text) {
    u32 number = 0;
    while (*text >= '0' && *text <= '9') number = number * 10 + *text++ - '0';
    return number;
}

static void report(u32 failed, struct sha256 *hash) {
    if (!failed) print_sha256(hash);
    else print("error "), print_number(failed);
    print("\r\n");
}

static void obey(char **word, int words) {
    struct sha256 hash;
    sha256_begin(&hash);
    u32 from = 0, to = 0, failed;
    if (equal(word[0], "size") && words == 2) {
        u32 sectors = 0;
        failed = open_device(word[1], read_and_write, &from);
        if (!failed) failed = count_sectors(from, &sectors);
        if (failed) report(failed, &hash);
        else print_number(sectors), print(" sectors\r\n");
    } else if (equal(word[0], "hash") && words == 4) {
        failed = open_device(word[1], read_and_write, &from);
        report(failed ? failed : move(from, number_of(word[2]), 0, 0, number_of(word[3]), 0, &hash), &hash);
    } else if (equal(word[0], "fill") && words == 5) {
        failed = open_device(word[1], read_and_write, &to);
        report(failed ? failed : move(0, 0, to, number_of(word[2]), number_of(word[3]), number_of(word[4]), &hash), &hash);
    } else if (equal(word[0], "copy") && words == 6) {
        failed = open_device(word[1], read_and_write, &from);
        if (!failed) failed = open_device(word[3], read_and_write, &to);
        report(failed ? failed : move(from, number_of(word[2]), to, number_of(word[4]), number_of(word[5]), 0, &hash), &hash);
    } else {
        print("size DISK, hash DISK FIRST COUNT, fill DISK FIRST COUNT SEED, copy DISK FIRST DISK FIRST COUNT\r\n");
    }
    if (from) close_device(from);
    if (to) close_device(to);
}

/* A line from the console, which neither echoes nor edits. */
static int read_line(char *line) {
    for (int length = 0;;) {
        struct message message = {.body = {integer, 0, integer, 0, integer, 1}};
        u32 failed = call(&message, console, device_read_inband, 6, 0);
        if (failed) return 0;
        char got[2] = {*(char *)&message.body[3], 0};
        if (got[0] == '\r' || got[0] == '\n') {
            line[length] = 0;
            print("\r\n");
            return 1;
        }
        if (got[0] == '\b' || got[0] == 127) {
            if (length > 0) length--, print("\b \b");
        } else if (got[0] >= ' ' && length < line_size - 1) {
            line[length++] = got[0];
            print(got);
        }
    }
}

/* `stack`: the number of arguments, and pointers to them. */
__attribute__((used, noreturn)) void serve(u32 *stack) {
    for (u32 i = 1; i <= stack[0]; i++) {
        const char *argument = (const char *)stack[i];
        if (argument[0] == 'd' && argument[1] == '=') master = number_of(argument + 2);
    }
    reply = mach_reply_port();
    open_device("console", read_and_write, &console);
    print("\r\nThe disks of Mach: sd0, sd1 ... (AHCI), hd0 ... (IDE)\r\n");
    char line[line_size];
    for (u32 prompt = 1;; prompt++) {
        print_number(prompt);
        print("> ");
        if (!read_line(line)) continue;
        char *word[6] = {0};
        int words = 0;
        for (char *at = line; *at && words < 6;) {
            while (*at == ' ') *at++ = 0;
            if (*at) word[words++] = at;
            while (*at && *at != ' ') at++;
        }
        if (words > 0) obey(word, words);
    }
}
